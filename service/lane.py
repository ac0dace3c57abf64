"""A thread that calls estimators: a lane of the engine. A device has one, or several that overlap."""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from model.crop import Pixels
from model.estimator import Keypoints
from service.work import Estimator, Work

log = logging.getLogger(__name__)

Told = Callable[[Sequence[Keypoints] | None, float], None]


class Lane:
    """Runs one batch after the other.

    Args:
        on_start: called once, in its thread, before anything else runs there.
    """

    def __init__(self, *, on_start: Callable[[], None] | None = None) -> None:
        self._running_since_s: float | None = None
        self.failures = 0  # batches in a row
        self.rests = False  # said by the engine: it gets no requests until a blank crop goes through it
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        if on_start is not None:
            self._orders.put(on_start)
        # A daemon: a network that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def began_before(self, before_s: float) -> bool:
        """Whether it is at a batch that began before this monotonic time."""
        return self._running_since_s is not None and self._running_since_s < before_s

    def run(self, estimator: Estimator, work: Work, crops: Sequence[Pixels], told: Told) -> None:
        """Run a batch; `told` gets the keypoints, or None if that failed, and the seconds, on this event loop.

        An estimator is to be given to one lane only, because only one thread may be in it.
        """
        self._running_since_s = time.monotonic()
        loop = asyncio.get_running_loop()
        self._orders.put(lambda: self._run(loop, estimator, work, crops, told))

    def end(self) -> None:
        """Take no more, and end the thread after what was ordered."""
        self._orders.put(None)

    def join(self, until_s: float) -> bool:
        """Wait for the end, not longer than until this monotonic time. False if that is too early."""
        self._thread.join(None if until_s == math.inf else max(0.0, until_s - time.monotonic()))
        return not self._thread.is_alive()

    def _work(self) -> None:
        """The thread."""
        while (order := self._orders.get()) is not None:
            order()
            del order  # while it waits for the next, it must not keep a network that no longer serves

    def _run(
        self, loop: asyncio.AbstractEventLoop, estimator: Estimator, work: Work, crops: Sequence[Pixels], told: Told
    ) -> None:
        started_s = time.monotonic()
        found: Sequence[Keypoints] | None
        try:
            found = work.do(estimator, crops)
        except Exception:
            log.exception("the network failed on %d crops", len(crops))
            found = None
        seconds = time.monotonic() - started_s
        with suppress(RuntimeError):  # the loop is gone, and with it all who waited
            loop.call_soon_threadsafe(self._finished, found, seconds, told)

    def _finished(self, found: Sequence[Keypoints] | None, seconds: float, told: Told) -> None:
        self._running_since_s = None
        self.failures = 0 if found is not None else self.failures + 1
        told(found, seconds)
