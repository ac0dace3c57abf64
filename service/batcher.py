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

- Eager. Whenever the engine is free, it gets what is there, up to `max_batch` persons, and never waits for more.
- Persons of different jobs share a batch; all have the same `group` (what may run together).
- Fair. The places of a batch go in turn to the oldest job and to the job that has had least, so that a large job holds
  nobody up, and many small ones cannot starve it: the oldest job always gets every other place. Batches begin in turn
  with the one and with the other, who decides the group: so no group holds up or starves another.
- Bounded. At most `max_persons` are admitted and unanswered. A job that does not fit is refused, or, if it is patient,
  waits for room, before all that come later.
- A job is answered once, with as many results as it has persons, or not at all.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
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
    Result,
    Run,
    Supply,
)


@dataclass
class _Job(Generic[Item, Result]):
    arrived: Arrive
    number: int  # in the order of arrival
    items: Sequence[Item] = ()  # empty until supplied
    taken: int = 0  # persons that ran or run
    results: dict[int, Result] = field(default_factory=dict)  # by index of the item

    @property
    def untaken(self) -> int:
        return self.arrived.persons - self.taken


class Batcher(Generic[Item, Result]):
    """The state of the queue.

    Args:
        max_batch: the most persons that run together.
        max_persons: the most persons that are admitted and unanswered.
    """

    def __init__(self, *, max_batch: int, max_persons: int) -> None:
        if max_batch < 1 or max_persons < 1:
            raise ValueError(f"max_batch is {max_batch}, max_persons {max_persons}; allowed: at least 1 each")
        self.max_batch = max_batch
        self.max_persons = max_persons
        self.persons = 0  # admitted and unanswered: being decoded, waiting or running
        self._jobs: dict[JobId, _Job[Item, Result]] = {}  # admitted, in order of arrival
        self._patient: deque[Arrive] = deque()  # not admitted yet
        self._running: list[tuple[JobId, int]] | None = None  # job and index of each item in the engine
        self._arrivals = 0
        self._oldest_first = True  # whose turn the first place of the next batch is

    @property
    def waiting(self) -> int:
        """Persons that are ready to run and do not run yet."""
        return sum(job.untaken for job in self._jobs.values() if job.items)

    @property
    def running(self) -> int:
        """Persons in the engine."""
        return len(self._running or ())

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
            case BatchDone(results):
                effects += self._batch_done(results)
            case BatchFailed():
                effects += self._batch_failed()
        effects += self._admit_patient()
        effects += self._run()
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
            case BatchDone() | BatchFailed() if self._running is None:
                raise ValueError("a batch ended, but none runs")
            case BatchDone(results) if len(results) != self.running:
                raise ValueError(f"{len(results)} results for a batch of {self.running}")

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
        self._jobs[event.job] = _Job(event, self._arrivals)
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

    def _batch_done(self, results: Sequence[Result]) -> Iterable[Effect[Item, Result]]:
        for (job_id, index), result in zip(self._end_batch(), results, strict=True):
            if (job := self._jobs.get(job_id)) is None:
                continue  # it left meanwhile
            job.results[index] = result
            if len(job.results) == len(job.items):
                self._forget(job_id, "answered")
                yield Answered(job_id, tuple(job.results[index] for index in range(len(job.items))))

    def _batch_failed(self) -> Iterable[Effect[Item, Result]]:
        for job_id in dict.fromkeys(job_id for job_id, _ in self._end_batch()):
            if job_id in self._jobs:
                yield Failed(job_id)
                yield self._forget(job_id, "failed")

    def _end_batch(self) -> list[tuple[JobId, int]]:
        batch, self._running = self._running, None
        return batch or []

    def _drop_late(self, now_s: float) -> Iterable[Dropped]:
        for event in [one for one in self._patient if one.deadline_s <= now_s]:
            self._patient.remove(event)
            yield Dropped(event.job, 0, "late")
        for job_id in [job_id for job_id, job in self._jobs.items() if job.arrived.deadline_s <= now_s]:
            yield self._forget(job_id, "late")

    def _run(self) -> Iterable[Run[Item]]:
        if self._running is not None:
            return
        batch: list[tuple[JobId, int]] = []
        items: list[Item] = []
        started: list[JobId] = []
        group: Hashable = None
        for job in self._in_turn():
            if not batch:
                group = job.arrived.group
            if not job.taken:
                started.append(job.arrived.job)
            batch.append((job.arrived.job, job.taken))
            items.append(job.items[job.taken])
            job.taken += 1
            if len(batch) == self.max_batch:
                break
        if batch:
            self._running = batch
            yield Run(tuple(items), group, tuple(started))

    def _in_turn(self) -> Iterator[_Job[Item, Result]]:
        """Whose person takes the next place: in turn the oldest job's, and that of the job that has had least.

        Whoever takes a person of the job raises its `taken` before asking for the next. The first job decides the
        group of all, so that whose turn it is must change from batch to batch, however many places these have.
        """
        ready = [job for job in self._jobs.values() if job.items and job.untaken]
        if not ready:
            return
        oldest_next, self._oldest_first = self._oldest_first, not self._oldest_first
        first = ready[0] if oldest_next else min(ready, key=lambda job: (job.taken, job.number))
        oldest = deque(job for job in ready if job.arrived.group == first.arrived.group)
        least = [(job.taken, job.number, job) for job in oldest]
        heapq.heapify(least)
        while oldest:
            yield oldest[0] if oldest_next else _least(least)
            oldest_next = not oldest_next
            while oldest and not oldest[0].untaken:
                oldest.popleft()


def _least(heap: list[tuple[int, int, _Job[Item, Result]]]) -> _Job[Item, Result]:
    """The job with untaken persons that has had least. Entries (taken, number, job) may be of the past: mends them."""
    while True:
        taken, number, job = heap[0]
        if not job.untaken:
            heapq.heappop(heap)
        elif taken != job.taken:
            heapq.heapreplace(heap, (job.taken, number, job))
        else:
            return job
