"""Answers a stream of frames in order, with bounded work: every frame, or always the newest. Knows nothing of poses."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Frame = TypeVar("Frame")
Answer = TypeVar("Answer")

REMEMBERED = 1024  # ids of dropped frames


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


@dataclass(frozen=True)
class Dropped:
    """Frames that were dropped before one that was answered: how many, and the ids of the last, in their order."""

    frames: int = 0
    last_ids: tuple[int, ...] = ()


class Newest(Generic[Frame]):
    """Keeps the newest of the frames that come, and only the ids of those that it drops for it.

    Args:
        id_of: a frame's id.
        on_dropped: called for each frame that is dropped.
    """

    def __init__(self, id_of: Callable[[Frame], int], on_dropped: Callable[[], None]) -> None:
        self._id_of = id_of
        self._on_dropped = on_dropped
        self._frame: Frame | None = None
        self._dropped: deque[int] = deque(maxlen=REMEMBERED)
        self._count = 0
        self._ended = False
        self._news = asyncio.Event()

    def put(self, frame: Frame) -> None:
        """Take a frame in, and drop the one before it if nobody took that."""
        if self._frame is not None:
            self._dropped.append(self._id_of(self._frame))
            self._count += 1
            self._on_dropped()
        self._frame = frame
        self._news.set()

    def end(self) -> None:
        """No more will come."""
        self._ended = True
        self._news.set()

    async def take(self) -> tuple[Frame, Dropped] | None:
        """The newest frame, when there is one, and what was dropped since the last. None at the end."""
        while self._frame is None:
            if self._ended:
                return None
            self._news.clear()
            await self._news.wait()
        frame, self._frame = self._frame, None
        dropped = Dropped(self._count, tuple(self._dropped))
        self._dropped.clear()
        self._count = 0
        return frame, dropped


async def answer_newest(
    read: Callable[[], Awaitable[Frame | None]],
    answer: Callable[[Frame, Dropped], Awaitable[Answer]],
    write: Callable[[Answer], Awaitable[None]],
    *,
    id_of: Callable[[Frame], int],
    on_dropped: Callable[[], None],
) -> None:
    """Read frames as they come until there are no more; answer the newest, one at a time, and drop those before it.

    The last frame is always answered. A slow receiver holds up the answers, and more frames are dropped; whoever sends
    is never held up. If reading or writing fails, or this is cancelled, the work at hand is cancelled; the first error
    is raised.

    Args:
        read: the next frame; None at the end.
        answer: of a frame, and what was dropped before it; must not raise.
        write: sends one answer.
        id_of, on_dropped: as `Newest` has them.
    """
    newest = Newest(id_of, on_dropped)
    try:
        async with asyncio.TaskGroup() as tasks:

            async def read_all() -> None:
                while (frame := await read()) is not None:
                    newest.put(frame)
                newest.end()

            tasks.create_task(read_all())
            while (taken := await newest.take()) is not None:
                await write(await answer(*taken))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
