"""Runs the network for many requests: one worker thread, off the event loop, with bounded work waiting.

This is the place of the batcher: `PoseService` only knows `Engine.estimate`. Knows nothing of images or protocols.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np

from model.crop import Pixels
from model.estimator import Keypoints
from service.errors import EngineFailed, Overloaded

log = logging.getLogger(__name__)


class Estimator(Protocol):
    """What the engine needs of `model.estimator.PoseEstimator`: keypoints for each crop, in the same order."""

    def estimate(self, crops: Sequence[Pixels], *, flip_test: bool = False) -> list[Keypoints]: ...


class Engine:
    """Runs an estimator in its own thread, in the order in which the work came.

    Args:
        estimator: called from one thread only.
        max_batch: the most crops that one call of the estimator gets.
        max_waiting: the most crops that may wait or run; more are refused.
    """

    def __init__(self, estimator: Estimator, *, max_batch: int, max_waiting: int) -> None:
        self._estimator = estimator
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._waiting = 0
        self.failing = False  # the last run of the network failed
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")

    async def estimate(self, crops: Sequence[Pixels], *, flip_test: bool) -> list[Keypoints]:
        """Keypoints of each crop, in the crop frame and in order.

        Raises Overloaded if too much is waiting, EngineFailed if the estimator raises or answers with another number.
        """
        if self._waiting + len(crops) > self._max_waiting:
            raise Overloaded(
                f"{self._waiting} persons are waiting and this request has {len(crops)}; "
                f"allowed: at most {self._max_waiting} together. Try again later"
            )
        self._waiting += len(crops)
        try:
            found: list[Keypoints] = []
            loop = asyncio.get_running_loop()
            for start in range(0, len(crops), self._max_batch):
                batch = crops[start : start + self._max_batch]
                # In pieces, so that other requests get their turn between the batches of a large one.
                found += await loop.run_in_executor(self._thread, self._run, batch, flip_test)
            return found
        finally:
            self._waiting -= len(crops)

    def close(self) -> None:
        """Wait for the work that runs, and end the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _run(self, batch: Sequence[Pixels], flip_test: bool) -> list[Keypoints]:
        try:
            found = self._run_checked(batch, flip_test)
        except EngineFailed:
            self.failing = True
            raise
        self.failing = False
        return found

    def _run_checked(self, batch: Sequence[Pixels], flip_test: bool) -> list[Keypoints]:
        try:
            found = self._estimator.estimate(batch, flip_test=flip_test)
        except Exception as error:
            log.exception("the network failed on %d crops", len(batch))
            raise EngineFailed("the network could not be run on this picture") from error
        if len(found) != len(batch):
            log.error("the network answered %d crops with %d poses", len(batch), len(found))
            raise EngineFailed("the network could not be run on this picture")
        if not all(np.isfinite(pose.points).all() and np.isfinite(pose.scores).all() for pose in found):
            log.error("the network answered with numbers that are not finite")
            raise EngineFailed("the network could not be run on this picture")
        return found
