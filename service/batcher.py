"""Which persons run together, and when: the rules, without threads, clocks or promises.

Everything that happens is an event given to `Batcher.step`, the one place where the state changes; what must be done
about it comes back as effects, and doing it is `service.engine`'s part. So each rule can be tested without waiting.

The life of a job (the persons of one picture):

    Arrive ----> Admitted ----> Supply ----> its persons run, in one batch or several ----> Answered
       |             ^             |                       |
       |   room      |             | Leave, Late           | Leave, Late, BatchFailed
       `-> waiting --'             v                       v
       `-> Refused             forgotten; persons that were not taken yet are never computed

Rules:

- Eager. Whenever a lane of the engine is free, it gets what is there, up to `max_batch` persons, and never waits for
  more. Each lane runs one batch at a time.
- Persons of different jobs share a batch; all have the same `group` (what may run together).
- Fair: see `service.turns`.
- Bounded. At most `max_persons` are admitted and unanswered. A job that does not fit is refused, or, if it is patient,
  waits for room, before all that come later.
- A job is answered once, with as many results as it has persons, or not at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from typing import Generic

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
    Item,
    JobId,
    Leave,
    Refused,
    Rested,
    Result,
    Run,
    Supply,
)
from service.turns import Job, Turns


class Batcher(Generic[Item, Result]):
    """The state of the queue.

    Args:
        max_batch: the most persons that run together.
        max_persons: the most persons that are admitted and unanswered.
        lanes: how many batches run at a time.
    """

    def __init__(self, *, max_batch: int, max_persons: int, lanes: int = 1) -> None:
        if max_batch < 1 or max_persons < 1 or lanes < 1:
            raise ValueError(
                f"max_batch is {max_batch}, max_persons {max_persons}, lanes {lanes}; allowed: at least 1 each"
            )
        self.max_batch = max_batch
        self.max_persons = max_persons
        self.persons = 0  # admitted and unanswered: being decoded, waiting or running
        self._jobs: dict[JobId, Job[Item, Result]] = {}  # admitted, in order of arrival
        self._patient: deque[Arrive] = deque()  # not admitted yet
        self._free = list(range(lanes))  # lanes without a batch, the one that waits longest first
        self._running: dict[int, list[tuple[JobId, int]]] = {}  # by lane: job and index of each item of its batch
        self._resting: set[int] = set()  # lanes
        self._arrivals = 0
        self._turns: Turns[Item, Result] = Turns()

    @property
    def waiting(self) -> int:
        """Persons that are ready to run and do not run yet."""
        return sum(job.untaken for job in self._jobs.values() if job.items)

    @property
    def running(self) -> int:
        """Persons in the engine."""
        return sum(map(len, self._running.values()))

    @property
    def resting(self) -> int:
        """Lanes that rest."""
        return len(self._resting)

    def step(self, event: Event[Item, Result], now_s: float) -> list[Effect[Item, Result]]:
        """Take one event in, and say what is to be done, in this order.

        Raises ValueError for an event that cannot be: a job that arrives twice or has no persons, is supplied without
        having been admitted or with another number of items, a batch that ends though none runs. Nothing has changed
        then.
        """
        self._check(event)
        effects: list[Effect[Item, Result]] = [*self._drop_late(now_s)]
        match event:
            case Arrive():
                effects += self._arrive(event, now_s)
            case Supply(job, items):
                self._supply(job, items)
            case Leave(job):
                effects += self._leave(job)
            case BatchDone(results, lane):
                effects += self._batch_done(results, lane)
            case BatchFailed(lane, rests):
                effects += self._batch_failed(lane, rests=rests)
            case Rested(lane):
                self._resting.remove(lane)
                self._free.append(lane)
        effects += self._admit_patient()
        while self._free and (run := self._next_batch(self._free[0])) is not None:
            self._free.pop(0)
            effects.append(run)
        return effects

    def _check(self, event: Event[Item, Result]) -> None:
        match event:
            case Arrive(job, persons):
                if persons < 1 or job in self._jobs or self._is_patient(job):
                    raise ValueError(f"job {job} arrived with {persons} persons; allowed: once, with at least 1")
            case Supply(job, items):
                if self._is_patient(job):
                    raise ValueError(f"job {job} was supplied before it was admitted; allowed: afterwards")
                known = self._jobs.get(job)  # None: it was late, or left, while its items were made
                if known is not None and (known.items or len(items) != known.arrived.persons):
                    raise ValueError(
                        f"job {job} was supplied {len(items)} items; allowed: {known.arrived.persons}, once"
                    )
            case BatchDone(lane=lane) | BatchFailed(lane=lane) if lane not in self._running:
                raise ValueError(f"a batch ended in lane {lane}, but none runs there")
            case BatchDone(results, lane) if len(results) != len(self._running[lane]):
                raise ValueError(f"{len(results)} results for a batch of {len(self._running[lane])}")
            case Rested(lane) if lane not in self._resting:
                raise ValueError(f"lane {lane} has rested, but did not rest")

    def _is_patient(self, job_id: JobId) -> bool:
        return any(job_id == one.job for one in self._patient)

    def _arrive(self, event: Arrive, now_s: float) -> Iterable[Effect[Item, Result]]:
        if event.deadline_s <= now_s:
            yield Dropped(event.job, 0, "late")  # as a patient one: it was not admitted
        elif event.persons <= self.max_persons and event.patient:
            self._patient.append(event)  # admitted in this same step if there is room
        elif self._patient or self.persons + event.persons > self.max_persons:
            yield Refused(event.job, self.persons)
        else:
            yield self._admit(event)

    def _admit(self, event: Arrive) -> Admitted:
        self._jobs[event.job] = Job(event, self._arrivals)
        self._arrivals += 1
        self.persons += event.persons
        return Admitted(event.job)

    def _admit_patient(self) -> Iterable[Admitted]:
        while self._patient and self.persons + self._patient[0].persons <= self.max_persons:
            yield self._admit(self._patient.popleft())

    def _supply(self, job_id: JobId, items: Sequence[Item]) -> None:
        if (job := self._jobs.get(job_id)) is not None:
            job.items = items

    def _leave(self, job_id: JobId) -> Iterable[Dropped]:
        self._patient = deque(one for one in self._patient if one.job != job_id)
        if job_id in self._jobs:
            yield self._forget(job_id, "gone")

    def _forget(self, job_id: JobId, because: str) -> Dropped:
        job = self._jobs.pop(job_id)
        self.persons -= job.arrived.persons
        return Dropped(job_id, job.untaken, because)

    def _batch_done(self, results: Sequence[Result], lane: int) -> Iterable[Effect[Item, Result]]:
        self._free.append(lane)
        for (job_id, index), result in zip(self._running.pop(lane), results, strict=True):
            if (job := self._jobs.get(job_id)) is None:
                continue  # it left meanwhile
            job.results[index] = result
            if len(job.results) == len(job.items):
                self._forget(job_id, "answered")
                yield Answered(job_id, tuple(job.results[index] for index in range(len(job.items))))

    def _batch_failed(self, lane: int, *, rests: bool) -> Iterable[Effect[Item, Result]]:
        if rests:
            self._resting.add(lane)
        else:
            self._free.append(lane)
        for job_id in dict.fromkeys(job_id for job_id, _ in self._running.pop(lane)):
            if job_id in self._jobs:
                yield Failed(job_id)
                yield self._forget(job_id, "failed")

    def _drop_late(self, now_s: float) -> Iterable[Dropped]:
        for event in [one for one in self._patient if one.deadline_s <= now_s]:
            self._patient.remove(event)
            yield Dropped(event.job, 0, "late")
        for job_id in [job_id for job_id, job in self._jobs.items() if job.arrived.deadline_s <= now_s]:
            yield self._forget(job_id, "late")

    def _next_batch(self, lane: int) -> Run[Item] | None:
        """What a free lane is to run now, if anything."""
        batch: list[tuple[JobId, int]] = []
        items: list[Item] = []
        started: list[JobId] = []
        group: Hashable = None
        for job in self._turns.order(self._jobs.values()):
            if not batch:
                group = job.arrived.group
            if not job.taken:
                started.append(job.arrived.job)
            batch.append((job.arrived.job, job.taken))
            items.append(job.items[job.taken])
            job.taken += 1
            if len(batch) == self.max_batch:
                break
        if not batch:
            return None
        self._running[lane] = batch
        return Run(tuple(items), group, tuple(started), lane)
