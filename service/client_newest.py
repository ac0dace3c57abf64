"""The newest frame of a source that does not wait: what a live stream sends. Knows nothing of how it is sent.

A source that is faster than the link must not pile up, so it is read at once, and a frame that was not sent yet gives
its place to the next one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Iterator

from service.client_frames import Frame

Turn = tuple[Frame, tuple[int, ...]]  # a frame, and the ids of those that gave way to it


class Newest:
    """Iterates over the newest frames of a source; a thread of its own reads it.

    At the end the last frame is given, however late; then what the source raised is raised.
    """

    def __init__(self, frames: Iterable[Frame]) -> None:
        self._frames = frames
        self._changed = threading.Condition()
        self._waiting: Frame | None = None
        self._skipped: list[int] = []
        self._reader: threading.Thread | None = None
        self._over = self._ended = False
        self._failure: Exception | None = None

    def __iter__(self) -> Iterator[Turn]:
        return self

    def __next__(self) -> Turn:
        if self._reader is None:
            # Nobody waits for it: it may be asleep in a source that has nothing to give.
            self._reader = threading.Thread(target=self._read, name="newest-frame", daemon=True)
            self._reader.start()
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._over or self._ended)
            if self._ended or self._waiting is None:
                if self._failure is not None and not self._ended:
                    raise self._failure
                raise StopIteration
            turn = self._waiting, tuple(self._skipped)
            self._waiting = None
            self._skipped.clear()
        return turn

    def end(self) -> None:
        """Read no further; the frame that is being read is not given."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _read(self) -> None:
        try:
            for frame in self._frames:
                with self._changed:
                    if self._ended:
                        break
                    if self._waiting is not None:
                        self._skipped.append(self._waiting.frame_id)
                    self._waiting = frame
                    self._changed.notify_all()
        except Exception as error:
            self._failure = error
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()


async def newest(frames: AsyncIterator[Frame]) -> AsyncIterator[Turn]:
    """`Newest` in an event loop: a task reads the frames. To be closed."""
    waiting: list[Frame] = []
    skipped: list[int] = []
    changed = asyncio.Event()

    async def read() -> None:
        try:
            async for frame in frames:
                skipped.extend(earlier.frame_id for earlier in waiting)
                waiting[:] = [frame]
                changed.set()
        finally:
            changed.set()

    reader = asyncio.create_task(read())
    try:
        while True:
            await changed.wait()
            changed.clear()
            if waiting:
                turn = waiting.pop(), tuple(skipped)
                skipped.clear()
                yield turn
                if reader.done():
                    changed.set()  # there is no more to come that would
            elif reader.done():
                await reader  # raises what the frames raised
                return
    finally:
        reader.cancel()
