"""`answer_in_order` on its own: the order of the answers, the bound on the work, and what is left after a failure."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.grpc_stream import answer_in_order


class Stream:
    """Frames 0, 1, 2, ... of which a test finishes the work, and lets the answers be written, when it likes."""

    def __init__(self, frames: int, limit: int, *, goes_on: bool = False) -> None:
        self.frames = frames
        self.limit = limit
        self.read = 0
        self.written: list[str] = []
        self.at_work: dict[int, asyncio.Future[None]] = {}
        self.writing: asyncio.Future[None] | None = None
        self.cancelled: set[int] = set()
        self.reading: asyncio.Future[None] | None = None
        self._goes_on = goes_on  # there is no end after the last frame: reading waits

    async def run(self) -> None:
        await answer_in_order(self._read, self._answer, self._write, limit=self.limit)

    async def _read(self) -> int | None:
        if self.read < self.frames:
            self.read += 1
            return self.read - 1
        if self._goes_on:
            self.reading = asyncio.get_running_loop().create_future()
            await self.reading
        return None

    async def _answer(self, frame: int) -> str:
        work = self.at_work[frame] = asyncio.get_running_loop().create_future()
        try:
            await work
        except asyncio.CancelledError:
            self.cancelled.add(frame)
            raise
        finally:
            del self.at_work[frame]
        return f"answer {frame}"

    async def _write(self, answer: str) -> None:
        self.writing = asyncio.get_running_loop().create_future()
        try:
            await self.writing
        finally:
            self.writing = None
        self.written.append(answer)

    @property
    def possible(self) -> list[Callable[[], None]]:
        """What may happen next: the work on some frame ends, or an answer has been taken."""
        works = [work for work in self.at_work.values() if not work.done()]
        writing = [] if self.writing is None else [self.writing]
        return [lambda happens=happens: happens.set_result(None) for happens in (*works, *writing)]


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


def others() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


@given(frames=st.integers(0, 12), limit=st.integers(1, 5), chance=st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_in_whatever_order_work_and_writing_end_answers_are_in_order_and_the_bound_is_used_and_kept(
    frames: int, limit: int, chance: random.Random
) -> None:
    stream = Stream(frames, limit)

    async def play() -> None:
        running = asyncio.create_task(stream.run())
        await settle()
        while not running.done():
            unwritten = stream.read - len(stream.written)
            assert unwritten == min(limit, frames - len(stream.written))
            assert len(stream.at_work) <= unwritten
            chance.choice(stream.possible)()
            await settle()
        await running
        assert not others()

    asyncio.run(play())
    assert stream.written == [f"answer {number}" for number in range(frames)]


def test_who_does_not_take_answers_is_read_no_further():
    stream = Stream(100, limit=3)

    async def play() -> None:
        running = asyncio.create_task(stream.run())
        await settle()
        while stream.at_work:
            next(iter(stream.at_work.values())).set_result(None)
            await settle()
        assert (stream.read, stream.written) == (3, [])
        stream.possible[0]()  # one answer is taken, one frame is read
        await settle()
        assert (stream.read, stream.written) == (4, ["answer 0"])
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(play())


def reading_fails(running: asyncio.Task[None], stream: Stream) -> None:
    assert stream.reading is not None
    stream.reading.set_exception(OSError("the line is dead"))


def writing_fails(running: asyncio.Task[None], stream: Stream) -> None:
    assert stream.writing is not None
    stream.writing.set_exception(OSError("the line is dead"))


def it_is_cancelled(running: asyncio.Task[None], stream: Stream) -> None:
    running.cancel()


@pytest.mark.parametrize("happens", [reading_fails, writing_fails, it_is_cancelled])
def test_after_a_failure_or_cancellation_the_work_at_hand_is_cancelled_and_no_task_is_left(happens):
    stream = Stream(4, limit=5, goes_on=True)

    async def play() -> None:
        running = asyncio.create_task(stream.run())
        await settle()
        stream.at_work[0].set_result(None)
        await settle()
        assert set(stream.at_work) == {1, 2, 3}
        happens(running, stream)
        with pytest.raises(asyncio.CancelledError if happens is it_is_cancelled else OSError):
            await running
        assert not others()

    asyncio.run(play())
    assert stream.cancelled == {1, 2, 3}
    assert stream.reading is not None
    assert stream.reading.done()
    assert stream.written == []
