"""Runs the network for many requests at a time: does what `service.batcher` decides, in the threads of its lanes.

The event loop never waits for the network, and the state of the queue is only touched from it. Another network can take
over at any time: requests that came before stay with theirs, and as persons run together only if they are of the same
group, which names the network, no batch has persons of both. Knows nothing of images or protocols.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

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
    Rested,
    Run,
)
from service.batcher import Batcher
from service.errors import EngineFailed, Late, Overloaded
from service.lane import Lane
from service.network import Group, Network
from service.room import Room
from service.telling import tell
from service.work import Work

log = logging.getLogger(__name__)

LATE = "the answer would come after the deadline"
FIRST_REST_S, LONGEST_REST_S = 1.0, 60.0  # before a lane that failed is tried again
FORGETTING = 0.2  # weight of the newest batch in the running mean of seconds a person


class EngineObserver:
    """Is told what the engine does. Does nothing itself."""

    def on_batch(self, persons: int, seconds: float) -> None:
        """A batch was run."""

    def on_batch_failed(self, persons: int) -> None:
        """A batch could not be run."""

    def on_dropped(self, persons: int, because: str) -> None:
        """Persons that were admitted will not be computed: their caller is `gone`, they are `late`, or `failed`."""


class Engine:
    """Runs persons of different requests together, a batch in each lane.

    A lane that fails while another is well rests, and must run a blank crop before it gets requests again: a device
    that has failed answers fast, and would otherwise draw most of the work to itself.

    Args:
        lanes: what runs the network; each is used by this engine only, and closed with it.
        network: what serves at first.
        max_batch: the most crops that one call of an estimator gets.
        max_waiting: the most persons that are admitted and unanswered; more are refused.
        stalled_after_s: a lane whose batch takes longer than this is not well.
        observer: is told of batches and drops, on the event loop.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        network: Network,
        *,
        max_batch: int,
        max_waiting: int,
        stalled_after_s: float = 60.0,
        observer: EngineObserver | None = None,
    ) -> None:
        self._lanes = tuple(lanes)
        self.network = network
        self._stalled_after_s = stalled_after_s
        self._observer = observer or EngineObserver()
        self._batcher: Batcher[Pixels, Keypoints] = Batcher(
            max_batch=max_batch, max_persons=max_waiting, lanes=len(self._lanes)
        )
        self._rooms: dict[int, Room] = {}
        self._jobs = 0
        self._seconds_a_person = 0.0  # running mean; 0 until the first batch

    @property
    def network(self) -> Network:
        """What serves requests that come now; for all lanes at once. Set it, on the event loop, to serve another."""
        return self._network

    @network.setter
    def network(self, network: Network) -> None:
        if len(network.estimators) != len(self._lanes):
            raise ValueError(f"the network has {len(network.estimators)} estimators; allowed: {len(self._lanes)}")
        self._network = network

    @property
    def failures(self) -> int:
        """Batches that failed in a row, in the lane where they are fewest: 0 if any is well."""
        return min(lane.failures for lane in self._lanes)

    @property
    def lanes(self) -> int:
        """Batches that run at a time, at most."""
        return len(self._lanes)

    @property
    def resting(self) -> int:
        """Lanes that failed and get no requests."""
        return self._batcher.resting

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
        """A lane has been at one batch for longer than it ever should, and every other one too, or it rests."""
        over = [self._is_over(lane) for lane in self._lanes]
        return any(over) and all(late or lane.rests for late, lane in zip(over, self._lanes, strict=True))

    def _is_over(self, lane: Lane) -> bool:
        return lane.began_before(time.monotonic() - self._stalled_after_s)

    @asynccontextmanager
    async def room(
        self,
        persons: int,
        *,
        network: Network | None = None,
        flip_test: bool = False,
        levels: tuple[Level, ...] = (),
        deadline_s: float = math.inf,
        patient: bool = False,
    ) -> AsyncIterator[Room]:
        """Room for the persons of one request, from before they are decoded until they are answered.

        Leaving the context, for whatever reason, frees what has not been computed.

        Args:
            persons: how many there will be.
            network: what runs them; None: what serves now.
            flip_test: as `Estimator.estimate` has it.
            levels: where attention is collected; then the answers are `ExplainedKeypoints`.
            deadline_s: in `time.monotonic`; nothing of the request is started after it.
            patient: wait for room instead of being refused.

        Raises Overloaded, Late.
        """
        self._jobs += 1
        job = self._jobs
        room = self._rooms[job] = Room(self.step, job)
        try:
            group = Group(network or self._network, Work(levels, flip_test))
            self.step(Arrive(job, persons, group=group, deadline_s=deadline_s, patient=patient))
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
        """End the threads after the batches that run. False if that took too long."""
        for lane in self._lanes:
            lane.end()
        end_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        return all(lane.join(end_s) for lane in self._lanes)

    def _do(self, effect: Effect[Pixels, Keypoints]) -> None:
        match effect:
            case Run(crops, group, started, lane):
                assert isinstance(group, Group)  # as it arrived
                estimator = group.network.estimators[lane]
                self._lanes[lane].run(estimator, group.work, crops, partial(self._finished, lane, crops))
                for job in started:
                    self._rooms[job].started_s = time.monotonic()
            case Admitted(job):
                self._rooms[job].admit()
            case Refused(job, before):
                self._rooms[job].fail(self._overloaded(before))
            case Answered(job, results):
                self._rooms[job].answer(results)
            case Failed(job):
                self._rooms[job].fail(EngineFailed("the network could not be run on this picture"))
            case Dropped(job, persons, because):
                tell(lambda: self._observer.on_dropped(persons, because))
                if because == "late" and job in self._rooms:  # not about to leave anyway
                    self._rooms[job].fail(Late(LATE))

    def _overloaded(self, before: int) -> Overloaded:
        return Overloaded(
            f"{before} persons are being worked on; allowed: at most {self._batcher.max_persons} at a time, with those "
            "of this request. Try again later",
            retry_after_s=max(0.1, before * self._seconds_a_person / max(1, self.lanes - self.resting)),
        )

    def _finished(self, lane: int, crops: Sequence[Pixels], found: Sequence[Keypoints] | None, seconds: float) -> None:
        """A lane is done with its batch; `found` is None if it failed."""
        if found is None:
            tell(lambda: self._observer.on_batch_failed(len(crops)))
            failed = self._lanes[lane]
            failed.rests = any(not (other.failures or other.rests or self._is_over(other)) for other in self._lanes)
            self.step(BatchFailed(lane, failed.rests))
            if failed.rests:
                self._try_later(lane, tries=0)
            return
        newest = seconds / len(crops)
        self._seconds_a_person += (FORGETTING if self._seconds_a_person else 1.0) * (newest - self._seconds_a_person)
        tell(lambda: self._observer.on_batch(len(crops), seconds))
        self.step(BatchDone(found, lane))

    def _try_later(self, lane: int, *, tries: int) -> None:
        """Run a blank crop in a lane that rests, again and again, ever more rarely, until that goes well."""
        wait_s = min(LONGEST_REST_S, FIRST_REST_S * 2 ** min(tries, 16))
        log.error("lane %d of the engine failed and rests; it is tried again in %g s", lane, wait_s)
        asyncio.get_running_loop().call_later(wait_s, self._try, lane, tries + 1)

    def _try(self, lane: int, tries: int) -> None:
        network = self._network  # what serves by now
        told = partial(self._tried, lane, tries)
        self._lanes[lane].run(network.estimators[lane], Work(), [network.blank()], told)

    def _tried(self, lane: int, tries: int, found: Sequence[Keypoints] | None, _: float) -> None:
        if found is None:
            self._try_later(lane, tries=tries)
            return
        self._lanes[lane].rests = False
        log.info("lane %d of the engine works again", lane)
        self.step(Rested(lane))
