"""Answers a stream of frames in order, with bounded work. Knows nothing of poses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

Frame = TypeVar("Frame")
Answer = TypeVar("Answer")


async def answer_in_order(
    read: Callable[[], Awaitable[Frame | None]],
    answer: Callable[[Frame], Awaitable[Answer]],
    write: Callable[[Answer], Awaitable[None]],
    *,
    limit: int,
) -> None:
    """Read frames until there are no more, answer up to `limit` at a time, write the answers in the frames' order.

    Nothing more is read while `limit` frames are unwritten, so that whoever sends is held back when the work is slow,
    and also when whoever receives is. If reading or writing fails, or this is cancelled, the work at hand is cancelled;
    the first error is raised.

    Args:
        read: the next frame; None at the end.
        answer: must not raise; what is wrong with a frame belongs in its answer.
        write: sends one answer.
        limit: the most frames that are read and unwritten.
    """
    places = asyncio.Semaphore(limit)
    answers: asyncio.Queue[asyncio.Task[Answer] | None] = asyncio.Queue()

    async def work(frame: Frame) -> Answer:
        return await answer(frame)

    try:
        async with asyncio.TaskGroup() as tasks:

            async def read_all() -> None:
                await places.acquire()
                while (frame := await read()) is not None:
                    answers.put_nowait(tasks.create_task(work(frame)))
                    await places.acquire()
                answers.put_nowait(None)

            tasks.create_task(read_all())
            while (next_answer := await answers.get()) is not None:
                await write(await next_answer)
                places.release()
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
