"""Whose turn it is: which of the jobs that wait gets the next place in a batch.

The places of a batch go in turn to the oldest job and to the job that has had least, so that a large job holds nobody
up, and many small ones cannot starve it: the oldest job always gets every other place. Batches begin in turn with the
one and with the other, who decides the group: so no group holds up or starves another.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic

from service.batch_events import Arrive, Item, Result


@dataclass
class Job(Generic[Item, Result]):
    """An admitted job."""

    arrived: Arrive
    number: int  # in the order of arrival
    items: Sequence[Item] = ()  # empty until supplied
    taken: int = 0  # persons that ran or run
    results: dict[int, Result] = field(default_factory=dict)  # by index of the item

    @property
    def untaken(self) -> int:
        """Persons that have not run and do not run."""
        return self.arrived.persons - self.taken


class Turns(Generic[Item, Result]):
    """Remembers whose turn the first place of the next batch is."""

    def __init__(self) -> None:
        self._oldest_first = True

    def order(self, jobs: Iterable[Job[Item, Result]]) -> Iterator[Job[Item, Result]]:
        """Whose person takes the next place: in turn the oldest job's, and that of the job that has had least.

        Whoever takes a person of the job raises its `taken` before asking for the next. The first job decides the
        group of all, so that whose turn it is must change from batch to batch, however many places these have.

        Args:
            jobs: all that are admitted, in the order of arrival.
        """
        ready = [job for job in jobs if job.items and job.untaken]
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


def _least(heap: list[tuple[int, int, Job[Item, Result]]]) -> Job[Item, Result]:
    """The job with untaken persons that has had least. Entries (taken, number, job) may be of the past: mends them."""
    while True:
        taken, number, job = heap[0]
        if not job.untaken:
            heapq.heappop(heap)
        elif taken != job.taken:
            heapq.heapreplace(heap, (job.taken, number, job))
        else:
            return job
