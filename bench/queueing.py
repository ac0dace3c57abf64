"""A model of the service under load: its own rules of batching (`service.batcher`), on times that were measured.

Pictures of one person arrive, are decoded by a few threads, wait, and run in batches whose time is a fixed part and a
part for each person. What is left out: that decoding and the network take cores from each other beyond what the
measured times have of it, the event loop's queue, the network between machines, and that a machine's speed wanders.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from service.batch_events import Admitted, Answered, Arrive, BatchDone, Event, Refused, Run, Supply
from service.batcher import Batcher
from service.pictures import MAX_DECODERS


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds of one replica. `other_s`: of a request outside of decoding, queue and network. `noise`: of each batch's
    time, the standard deviation of its logarithm.
    """

    fixed_s: float
    person_s: float
    decode_s: float
    other_s: float = 0.0
    noise: float = 0.0

    def saturation(self, max_batch: int) -> float:
        """Persons a second in full batches."""
        return max_batch / (self.fixed_s + max_batch * self.person_s)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a replica takes, as the settings of the service have it by default on a CPU."""

    max_batch: int = 16
    max_requests: int = 256
    max_waiting: int = 512
    decoders: int = MAX_DECODERS


@dataclass
class Outcome:
    """What came of the arrivals: the seconds that each answer took, refusals, when the last answer was, batch sizes."""

    taken: list[float] = field(default_factory=list)
    refused: int = 0
    lasted_s: float = 0.0
    batches: list[int] = field(default_factory=list)


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Moments of a Poisson process: the same as `load.open_loop` has by this seed."""
    rng = random.Random(seed)
    moments, now = [], 0.0
    while (now := now + rng.expovariate(rate)) < seconds:
        moments.append(now)
    return moments


def simulate(
    costs: Costs, moments: Sequence[float], *, limits: Limits | None = None, replicas: int = 1, seed: int = 0
) -> Outcome:
    """What comes of requests at these moments. Each goes to the replica that has fewest, as HAProxy's leastconn does.

    Raises ValueError for no replicas.
    """
    if replicas < 1:
        raise ValueError(f"replicas is {replicas}; allowed: at least 1")
    world = _World(costs, limits or Limits(), replicas, random.Random(seed))
    for job, moment in enumerate(moments):
        world.at(moment, "arrives", job)
    world.run()
    return world.outcome


@dataclass
class _Replica:
    batcher: Batcher[int, int]
    requests: int = 0
    decoding: int = 0
    undecoded: deque[int] = field(default_factory=deque)


class _World:
    """What is going to happen, in order of time."""

    def __init__(self, costs: Costs, limits: Limits, replicas: int, rng: random.Random) -> None:
        self.outcome = Outcome()
        self._costs, self._limits, self._rng = costs, limits, rng
        self._replicas = [
            _Replica(Batcher(max_batch=limits.max_batch, max_persons=limits.max_waiting)) for _ in range(replicas)
        ]
        self._of_job: dict[int, _Replica] = {}
        self._began: dict[int, float] = {}
        self._events: list[tuple[float, int, str, Any]] = []
        self._order = itertools.count()
        self._now = 0.0

    def at(self, moment: float, what: str, about: Any) -> None:
        heapq.heappush(self._events, (moment, next(self._order), what, about))

    def run(self) -> None:
        while self._events:
            self._now, _, what, about = heapq.heappop(self._events)
            getattr(self, f"_{what}")(about)

    def _arrives(self, job: int) -> None:
        replica = min(self._replicas, key=lambda one: one.requests)
        if replica.requests >= self._limits.max_requests:
            self.outcome.refused += 1
            return
        self._of_job[job], self._began[job] = replica, self._now
        replica.requests += 1
        self._step(replica, Arrive(job, 1))

    def _decoded(self, job: int) -> None:
        replica = self._of_job[job]
        replica.decoding -= 1
        if replica.undecoded:
            self._decode(replica, replica.undecoded.popleft())
        self._step(replica, Supply(job, (job,)))

    def _ran(self, done: tuple[_Replica, tuple[int, ...]]) -> None:
        replica, items = done
        self._step(replica, BatchDone(items))

    def _decode(self, replica: _Replica, job: int) -> None:
        if replica.decoding == self._limits.decoders:
            replica.undecoded.append(job)
            return
        replica.decoding += 1
        self.at(self._now + self._costs.decode_s, "decoded", job)

    def _step(self, replica: _Replica, event: Event[int, int]) -> None:
        for effect in replica.batcher.step(event, self._now):
            match effect:
                case Admitted(job):
                    self._decode(replica, job)
                case Refused(job):
                    self._leave(job)
                    self.outcome.refused += 1
                case Run(items):
                    self.outcome.batches.append(len(items))
                    taken_s = self._costs.fixed_s + len(items) * self._costs.person_s
                    noise = self._rng.lognormvariate(0.0, self._costs.noise) if self._costs.noise else 1.0
                    self.at(self._now + noise * taken_s, "ran", (replica, items))
                case Answered(job):
                    self.outcome.taken.append(self._leave(job) + self._costs.other_s)
                    self.outcome.lasted_s = self._now

    def _leave(self, job: int) -> float:
        """Seconds that it was there."""
        self._of_job.pop(job).requests -= 1
        return self._now - self._began.pop(job)
