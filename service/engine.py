"""Runs the network for many requests at a time: does what `service.batcher` decides, in one worker thread.

The event loop never waits for the network, and the state of the queue is only touched from it. Knows nothing of images
or protocols.
"""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from model.crop import Pixels
from model.estimator import Keypoints
from model.levels import Level
from service.batch_events import (
    Admitted,
    Answered,
    Arrive,
    BatchDone,
    BatchFailed,
    Dropped,
    Effect,
    Event,
    Failed,
    Leave,
    Refused,
    Run,
    Supply,
)
from service.batcher import Batcher
from service.errors import EngineFailed, Late, Overloaded
from service.work import Estimator, Work

log = logging.getLogger(__name__)

LATE = "the answer would come after the deadline"
FORGETTING = 0.2  # weight of the newest batch in the running mean of seconds a person


class EngineObserver:
    """Is told what the engine does. Does nothing itself."""

    def on_batch(self, persons: int, seconds: float) -> None:
        """A batch was run."""

    def on_batch_failed(self, persons: int) -> None:
        """A batch could not be run."""

    def on_dropped(self, persons: int, because: str) -> None:
        """Persons that were admitted will not be computed: their caller is `gone`, they are `late`, or `failed`."""


class Room:
    """The place of one job's persons in the queue. Made by `Engine.room`."""

    def __init__(self, engine: Engine, job: int) -> None:
        self._engine = engine
        self._job = job
        loop = asyncio.get_running_loop()
        self.admitted: asyncio.Future[None] = loop.create_future()
        self.answered: asyncio.Future[tuple[Keypoints, ...]] = loop.create_future()
        self.started_s: float | None = None  # monotonic time when the first person began to run

    async def run(self, crops: Sequence[Pixels]) -> tuple[Keypoints, ...]:
        """Keypoints of each crop, in the crop frame and in order. Raises EngineFailed or Late."""
        self._engine.step(Supply(self._job, crops))
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


class Engine:
    """Runs an estimator in its own thread, persons of different requests together.

    Args:
        estimator: called from one thread only.
        max_batch: the most crops that one call of the estimator gets.
        max_waiting: the most persons that are admitted and unanswered; more are refused.
        on_start: called once, in the worker thread, before anything else runs there.
        stalled_after_s: a batch that takes longer than this makes the engine unfit.
        observer: is told of batches and drops, on the event loop.
    """

    def __init__(
        self,
        estimator: Estimator,
        *,
        max_batch: int,
        max_waiting: int,
        on_start: Callable[[], None] | None = None,
        stalled_after_s: float = 60.0,
        observer: EngineObserver | None = None,
    ) -> None:
        self._estimator = estimator
        self._stalled_after_s = stalled_after_s
        self._observer = observer or EngineObserver()
        self._batcher: Batcher[Pixels, Keypoints] = Batcher(max_batch=max_batch, max_persons=max_waiting)
        self._rooms: dict[int, Room] = {}
        self._jobs = 0
        self._running_since_s: float | None = None
        self._seconds_a_person = 0.0  # running mean; 0 until the first batch
        self.failures = 0  # batches in a row
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # A daemon: a network that hangs must not keep the process from ending.
        if on_start is not None:
            self._orders.put(on_start)
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def persons(self) -> int:
        """Admitted and unanswered: being decoded, waiting or running."""
        return self._batcher.persons

    @property
    def waiting(self) -> int:
        """Persons that are ready to run and do not run yet."""
        return self._batcher.waiting

    @property
    def stalled(self) -> bool:
        """The network has been at one batch for longer than it ever should."""
        return self._running_since_s is not None and time.monotonic() - self._running_since_s > self._stalled_after_s

    @asynccontextmanager
    async def room(
        self,
        persons: int,
        *,
        flip_test: bool = False,
        levels: tuple[Level, ...] = (),
        deadline_s: float = math.inf,
        patient: bool = False,
    ) -> AsyncIterator[Room]:
        """Room for the persons of one request, from before they are decoded until they are answered.

        Leaving the context, for whatever reason, frees what has not been computed.

        Args:
            persons: how many there will be.
            flip_test: as `Estimator.estimate` has it.
            levels: where attention is collected; then the answers are `ExplainedKeypoints`.
            deadline_s: in `time.monotonic`; nothing of the request is started after it.
            patient: wait for room instead of being refused.

        Raises Overloaded, Late.
        """
        self._jobs += 1
        job = self._jobs
        room = self._rooms[job] = Room(self, job)
        try:
            work = Work(levels, flip_test)
            self.step(Arrive(job, persons, group=work, deadline_s=deadline_s, patient=patient))
            await room.admitted
            yield room
        finally:
            del self._rooms[job]
            self.step(Leave(job))

    def step(self, event: Event[Pixels, Keypoints]) -> None:
        """Tell the batcher, and do what it says. On the event loop only."""
        for effect in self._batcher.step(event, time.monotonic()):
            self._do(effect)

    def close(self, timeout_s: float | None = None) -> bool:
        """End the thread after the batch that runs. False if that took too long."""
        self._orders.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _do(self, effect: Effect[Pixels, Keypoints]) -> None:
        match effect:
            case Run(crops, group, started):
                self._running_since_s = time.monotonic()
                for job in started:
                    self._rooms[job].started_s = self._running_since_s
                loop = asyncio.get_running_loop()
                assert isinstance(group, Work)  # as it arrived
                self._orders.put(lambda: self._run(loop, crops, group))
            case Admitted(job):
                self._rooms[job].admit()
            case Refused(job, before):
                self._rooms[job].fail(self._overloaded(before))
            case Answered(job, results):
                self._rooms[job].answer(results)
            case Failed(job):
                self._rooms[job].fail(EngineFailed("the network could not be run on this picture"))
            case Dropped(job, persons, because):
                _tell(lambda: self._observer.on_dropped(persons, because))
                if because == "late" and job in self._rooms:  # not about to leave anyway
                    self._rooms[job].fail(Late(LATE))

    def _overloaded(self, before: int) -> Overloaded:
        return Overloaded(
            f"{before} persons are being worked on; allowed: at most {self._batcher.max_persons} at a time, with those "
            "of this request. Try again later",
            retry_after_s=max(0.1, before * self._seconds_a_person),
        )

    def _work(self) -> None:
        """The worker thread."""
        while (order := self._orders.get()) is not None:
            order()

    def _run(self, loop: asyncio.AbstractEventLoop, crops: Sequence[Pixels], work: Work) -> None:
        """Run one batch in the worker thread, and tell the event loop."""
        started_s = time.monotonic()
        found: Sequence[Keypoints] | None
        try:
            found = work.do(self._estimator, crops)
        except Exception:
            log.exception("the network failed on %d crops", len(crops))
            found = None
        seconds = time.monotonic() - started_s
        with suppress(RuntimeError):  # the loop is gone, and with it all who waited
            loop.call_soon_threadsafe(self._finished, found, len(crops), seconds)

    def _finished(self, found: Sequence[Keypoints] | None, persons: int, seconds: float) -> None:
        self._running_since_s = None
        if found is None:
            self.failures += 1
            _tell(lambda: self._observer.on_batch_failed(persons))
            self.step(BatchFailed())
            return
        self.failures = 0
        newest = seconds / persons
        self._seconds_a_person += (FORGETTING if self._seconds_a_person else 1.0) * (newest - self._seconds_a_person)
        _tell(lambda: self._observer.on_batch(persons, seconds))
        self.step(BatchDone(found))


def _tell(news: Callable[[], None]) -> None:
    """Who watches must not change what happens."""
    try:
        news()
    except Exception:
        log.exception("the observer of the engine failed")
