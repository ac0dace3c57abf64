"""Finds the persons of many requests' pictures: a detector in a thread of its own, a batch at a time.

Eager, as the engine is: when the detector is free it takes the pictures that wait, up to the largest batch, and never
waits for more. Knows nothing of how persons are found, or of what becomes of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from model.crop import Pixels
from model.detection import Detections, PersonDetector
from service.errors import EngineFailed
from service.telling import tell

log = logging.getLogger(__name__)

BLANK = 64  # pixels on a side of the picture that it is tried with

Waiting = tuple[Pixels, "asyncio.Future[Detections]"]


class DetectorObserver:
    """Is told what the detector does. Does nothing itself."""

    def on_detected(self, pictures: int, persons: int, seconds: float) -> None:
        """The detector has looked at pictures, and found so many persons in all."""

    def on_detector_failed(self) -> None:
        """The detector could not be run on a picture."""


class DetectorQueue:
    """Pictures that wait for one detector.

    Args:
        detector: used by this queue only.
        max_batch: the most pictures that one call of it gets.
        stalled_after_s: a batch that takes longer than this is not well.
        observer: is told of batches, on the event loop.
    """

    def __init__(
        self,
        detector: PersonDetector,
        *,
        max_batch: int,
        stalled_after_s: float = 60.0,
        observer: DetectorObserver | None = None,
    ) -> None:
        self._detector = detector
        self._max_batch = max_batch
        self._stalled_after_s = stalled_after_s
        self._observer = observer or DetectorObserver()
        self._waiting: deque[Waiting] = deque()
        self._running_since_s: float | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="detector")

    @property
    def name(self) -> str:
        """Which detector it is."""
        return self._detector.name

    @property
    def waiting(self) -> int:
        """Pictures that the detector has not come to."""
        return len(self._waiting)

    @property
    def stalled(self) -> bool:
        """Whether it has been at one batch for longer than it ever should."""
        return self._running_since_s is not None and time.monotonic() - self._running_since_s > self._stalled_after_s

    async def detect(self, image: Pixels) -> Detections:
        """The persons of a picture. Of a caller that is cancelled the picture is not looked at.

        Args:
            image: [H, W, 3] uint8 RGB, upright.

        Raises EngineFailed.
        """
        promise: asyncio.Future[Detections] = asyncio.get_running_loop().create_future()
        self._waiting.append((image, promise))
        self._run_next()
        return await promise

    async def answers(self) -> bool:
        """Whether the detector can be run at all."""
        try:
            await self.detect(np.zeros((BLANK, BLANK, 3), dtype=np.uint8))
        except EngineFailed:
            return False
        return True

    def close(self) -> None:
        """Take no more; the thread ends after what it is at."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _run_next(self) -> None:
        if self._running_since_s is not None:
            return
        batch: list[Waiting] = []
        while self._waiting and len(batch) < self._max_batch:
            image, promise = self._waiting.popleft()
            if not promise.done():
                batch.append((image, promise))
        if batch:
            self._running_since_s = time.monotonic()
            running = asyncio.get_running_loop().run_in_executor(
                self._thread, self._look, [image for image, _ in batch]
            )
            running.add_done_callback(partial(self._looked, [promise for _, promise in batch]))

    def _look(self, images: Sequence[Pixels]) -> list[Detections | None]:
        """In the thread. None for a picture on which the detector fails; of a batch each is then tried alone."""
        try:
            return list(_checked(self._detector.detect(images), len(images)))
        except Exception:
            if len(images) > 1:
                return [found for image in images for found in self._look([image])]
            log.exception("the detector failed on a picture of %s pixels", "x".join(map(str, images[0].shape[1::-1])))
            return [None]

    def _looked(
        self, promises: Sequence[asyncio.Future[Detections]], running: asyncio.Future[list[Detections | None]]
    ) -> None:
        seconds = time.monotonic() - (self._running_since_s or 0.0)
        self._running_since_s = None
        found = [None] * len(promises) if running.cancelled() else running.result()
        for promise, detections in zip(promises, found, strict=True):
            if detections is None:
                tell(self._observer.on_detector_failed)
            if promise.done():
                continue
            if detections is None:
                promise.set_exception(EngineFailed("the detector could not be run on this picture"))
            else:
                promise.set_result(detections)
        well = [detections for detections in found if detections is not None]
        if well:
            persons = sum(len(each.scores) for each in well)
            tell(lambda: self._observer.on_detected(len(well), persons, seconds))
        self._run_next()


def _checked(found: Sequence[Detections], pictures: int) -> Sequence[Detections]:
    """The same, if there is an answer for each picture and all numbers are finite; otherwise raises ValueError."""
    if len(found) != pictures:
        raise ValueError(f"the detector answered {pictures} pictures with {len(found)} answers")
    if not all(np.isfinite(each.boxes_xywh).all() and np.isfinite(each.scores).all() for each in found):
        raise ValueError("the detector answered with numbers that are not finite")
    return found
