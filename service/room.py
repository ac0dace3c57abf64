"""What a caller of the engine holds while its persons are decoded, wait and run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from model.crop import Pixels
from model.estimator import Keypoints
from service.batch_events import Supply


class Room:
    """The place of one job's persons in the queue. Made by `Engine.room`, whose `step` it is given."""

    def __init__(self, step: Callable[[Supply[Pixels]], None], job: int) -> None:
        self._step = step
        self._job = job
        loop = asyncio.get_running_loop()
        self.admitted: asyncio.Future[None] = loop.create_future()
        self.answered: asyncio.Future[tuple[Keypoints, ...]] = loop.create_future()
        self.started_s: float | None = None  # monotonic time when the first person began to run

    async def run(self, crops: Sequence[Pixels]) -> tuple[Keypoints, ...]:
        """Keypoints of each crop, in the crop frame and in order. Raises EngineFailed or Late."""
        self._step(Supply(self._job, crops))
        return await self.answered

    def admit(self) -> None:
        """There is room now."""
        if not self.admitted.done():  # its caller may have been cancelled, and be about to leave
            self.admitted.set_result(None)

    def answer(self, results: tuple[Keypoints, ...]) -> None:
        """All persons have run."""
        if not self.answered.done():
            self.answered.set_result(results)

    def fail(self, error: Exception) -> None:
        """Tell whoever waits, in whichever of the two places."""
        for promise in (self.admitted, self.answered):
            if not promise.done():
                promise.set_exception(error)
                promise.exception()  # it is no mistake if nobody asks
