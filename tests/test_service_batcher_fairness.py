"""Who gets which place of a batch: large jobs hold nobody up, small ones starve nobody, and groups share the engine."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.batch_events import Arrive, BatchDone, Leave, Run, Supply
from service.batcher import Batcher

every_size_of_batch = pytest.mark.parametrize("max_batch", [1, 2, 3, 4, 7, 8])
either_turn = pytest.mark.parametrize("before", [0, 1])  # an even or an odd number of batches


class Queue:
    """A batcher whose engine runs one batch at a time. The items of a job are its name."""

    def __init__(self, max_batch: int) -> None:
        self.batcher = Batcher(max_batch=max_batch, max_persons=10**6)
        self.batches: list[tuple[str, ...]] = []  # that have begun

    @property
    def places(self) -> list[str]:
        return [job for batch in self.batches for job in batch]

    def join(self, job: str, persons: int = 1, group: object = None) -> None:
        self.step(Arrive(job, persons, group=group))
        self.step(Supply(job, [job] * persons))

    def step(self, event) -> None:
        self.batches += [effect.items for effect in self.batcher.step(event, 0.0) if isinstance(effect, Run)]

    def end_batch(self) -> None:
        self.step(BatchDone(self.batches[-1]))


def busy(max_batch: int, before: int = 0) -> Queue:
    """A queue that runs a batch, of group None and with one person, so that others can gather; some ran before."""
    queue = Queue(max_batch)
    for number in range(before):
        queue.join(f"before {number}")
        queue.end_batch()
    queue.join("now")
    del queue.batches[:-1]
    return queue


def all_places(queue: Queue) -> str:
    while queue.batcher.running:
        queue.end_batch()
    return "".join(queue.places[1:])


def test_a_large_job_and_singles_share_the_places():
    queue = busy(8)
    queue.join("A", 40)
    for single in "bcdefghij":
        queue.join(single)
    assert all_places(queue) == "AAbAcAdA" + "AeAfAgAh" + "iAjA" + "A" * 29


def test_what_the_oldest_job_leaves_goes_to_those_that_have_had_least():
    queue = busy(6)
    for job in "ABC":
        queue.join(job, 6)
    assert all_places(queue) == "AABACA" + "ABACBC" + "BBCBCC"


@every_size_of_batch
@either_turn
@pytest.mark.parametrize("persons", [1, 3, 40])
def test_the_oldest_job_gets_at_least_every_other_place_whoever_else_waits(max_batch, before, persons):
    queue = busy(max_batch, before)
    queue.join("A", 40)
    for number in range(50):
        queue.join(f"other {number}", persons)
    while len(queue.places) < 90 and queue.batcher.running:
        queue.end_batch()
    places = queue.places[1:]
    shares = [places[: end + 1].count("A") for end in range(len(places))]
    assert all(had >= min(40, (end + 1) // 2) for end, had in enumerate(shares)), shares


@every_size_of_batch
@either_turn
@pytest.mark.parametrize("persons", [1, 5, 40])
def test_an_endless_supply_of_singles_does_not_starve_a_large_job(max_batch, before, persons):
    """As the oldest it has at least every other place: twice as many places as it has persons are enough."""
    queue = busy(max_batch, before)
    queue.join("A", persons)
    for number in range(math.ceil(2 * persons / max_batch)):
        for single in range(2 * max_batch):  # more than can run
            queue.join(f"single {number}.{single}")
        queue.end_batch()
    assert queue.places.count("A") == persons


@every_size_of_batch
@either_turn
def test_an_endless_supply_of_large_jobs_does_not_hold_a_single_one_up(max_batch, before):
    """Every other place goes to who has had least: the third of these is its own, after those of A and B."""
    queue = busy(max_batch, before)
    queue.join("A", 40)
    queue.join("B", 40)
    queue.join("single")
    for number in range(math.ceil(2 * 3 / max_batch)):
        queue.join(f"large {number}", 40)
        queue.end_batch()
    assert "single" in queue.places


@every_size_of_batch
@either_turn
@pytest.mark.parametrize("at_a_time", [1, 2, 3, 8])
def test_an_endless_supply_of_another_group_does_not_starve_a_large_job(max_batch, before, at_a_time):
    """Every other batch is of the group of the oldest job, and nobody else is in that one."""
    queue = busy(max_batch, before)
    queue.join("A", 20, group="with flip test")
    for number in range(2 * math.ceil(20 / max_batch)):
        for single in range(at_a_time):
            queue.join(f"single {number}.{single}", group="without")
        queue.end_batch()
    assert queue.places.count("A") == 20


@every_size_of_batch
@either_turn
def test_large_jobs_of_another_group_do_not_hold_a_single_one_up(max_batch, before):
    """Every other batch is of the group of the job that has had least: of these, the second after that of A."""
    queue = busy(max_batch, before)
    queue.join("A", 400, group="with flip test")
    queue.join("single", group="without")
    for number in range(4):
        queue.join(f"large {number}", 400, group="with flip test")
        queue.end_batch()
    assert "single" in queue.places


@settings(deadline=None)
@given(st.data(), st.integers(1, 9))
def test_single_persons_of_one_group_run_in_the_order_in_which_they_came(data, max_batch):
    queue = Queue(max_batch)
    jobs = [f"job {number}" for number in range(data.draw(st.integers(1, 40)))]
    leaving = data.draw(st.sets(st.sampled_from(jobs)))
    for job in jobs:
        queue.join(job)
        if data.draw(st.booleans()):
            queue.end_batch()
        if job in leaving:
            queue.step(Leave(job))
    while queue.batcher.running:
        queue.end_batch()
    ran = queue.places
    assert ran == [job for job in jobs if job in ran]
    assert set(jobs) - leaving <= set(ran)
