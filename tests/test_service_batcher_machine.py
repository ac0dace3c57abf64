"""Random histories of the queue, checked step by step against a model that only counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.batch_events import (
    Admitted,
    Answered,
    Arrive,
    BatchDone,
    BatchFailed,
    Dropped,
    Failed,
    Leave,
    Refused,
    Rested,
    Run,
    Supply,
)
from service.batcher import Batcher

FOREVER = float("inf")


def pose_of(item: tuple[int, int]) -> str:
    return f"pose of {item}"


@dataclass
class Job:
    arrived: Arrive
    supplied: bool = False
    begun: int = 0  # items that are in a batch or were
    ended: int = 0

    @property
    def ready(self) -> int:
        return self.arrived.persons - self.begun if self.supplied else 0


@dataclass
class Model:
    """What must follow from each event, all but the choice of a batch; of that it knows what is allowed."""

    max_batch: int
    max_persons: int
    free: set[int]  # lanes
    outside: list[Arrive] = field(default_factory=list)  # patient, in order
    jobs: dict[int, Job] = field(default_factory=dict)  # admitted and unanswered, in order
    batches: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # by lane, those that run now
    resting: set[int] = field(default_factory=set)  # lanes
    batch_has_oldest: bool = True  # the last one had a person of the oldest job that was ready

    @property
    def persons(self) -> int:
        return sum(job.arrived.persons for job in self.jobs.values())

    @property
    def ready(self) -> int:
        return sum(job.ready for job in self.jobs.values())

    def end(self, number: int) -> int:
        """Forget a job; how many of its persons never began."""
        job = self.jobs.pop(number)
        return job.arrived.persons - job.begun

    def expected(self, event, now_s: float) -> list:
        effects = [Dropped(one.job, 0, "late") for one in self.outside if one.deadline_s <= now_s]
        self.outside = [one for one in self.outside if one.deadline_s > now_s]
        late = [number for number, job in self.jobs.items() if job.arrived.deadline_s <= now_s]
        effects += [Dropped(number, self.end(number), "late") for number in late]
        effects += self.of_the_event(event, now_s)
        while self.outside and self.persons + self.outside[0].persons <= self.max_persons:
            effects.append(self.admit(self.outside.pop(0)))
        return effects

    def of_the_event(self, event, now_s: float) -> list:
        match event:
            case Arrive():
                return self.arrive(event, now_s)
            case Supply(number) if number in self.jobs:
                self.jobs[number].supplied = True
            case Leave(number):
                self.outside = [one for one in self.outside if one.job != number]
                return [Dropped(number, self.end(number), "gone")] if number in self.jobs else []
            case BatchDone(lane=lane):
                return self.batch_done(lane)
            case Rested(lane):
                self.resting.remove(lane)
                self.free.add(lane)
            case BatchFailed(lane, rests):
                (self.resting if rests else self.free).add(lane)
                failed = {number for number, _ in self.batches.pop(lane)} & set(self.jobs)
                return [
                    one for number in failed for one in (Failed(number), Dropped(number, self.end(number), "failed"))
                ]
        return []

    def arrive(self, event: Arrive, now_s: float) -> list:
        if event.deadline_s <= now_s:
            return [Dropped(event.job, 0, "late")]
        if event.patient and event.persons <= self.max_persons:
            self.outside.append(event)
            return []
        if self.outside or self.persons + event.persons > self.max_persons:
            return [Refused(event.job, self.persons)]
        return [self.admit(event)]

    def admit(self, arrived: Arrive) -> Admitted:
        self.jobs[arrived.job] = Job(arrived)
        return Admitted(arrived.job)

    def batch_done(self, lane: int) -> list[Answered]:
        for number, _ in self.batches.pop(lane):
            if number in self.jobs:
                self.jobs[number].ended += 1
        self.free.add(lane)
        whole = [number for number, job in self.jobs.items() if job.ended == job.arrived.persons]
        return [
            Answered(number, tuple(pose_of((number, index)) for index in range(self.jobs.pop(number).ended)))
            for number in whole
        ]

    def begin(self, run: Run, now_s: float) -> None:
        """Check a batch against what is allowed, and note it."""
        assert run.lane in self.free, "two batches at a time in one lane, or one for a lane that rests"
        self.free.remove(run.lane)
        assert 1 <= len(run.items) <= self.max_batch
        oldest = next(number for number, job in self.jobs.items() if job.ready)
        oldest_ready = self.jobs[oldest].ready
        for number, index in run.items:
            assert number in self.jobs, f"job {number} left, or is late, or was answered"
            job = self.jobs[number]
            assert job.ready, f"job {number} has nothing to run"
            assert index == job.begun, f"job {number}: item {index} runs instead of item {job.begun}"
            assert job.arrived.deadline_s > now_s
            assert job.arrived.group == run.group
            job.begun += 1
        assert list(run.started) == [number for number, index in run.items if index == 0]
        of_group = sum(job.ready for job in self.jobs.values() if job.arrived.group == run.group)
        assert len(run.items) == self.max_batch or not of_group, "there was room for more"
        had = sum(number == oldest for number, _ in run.items)
        if run.group == self.jobs[oldest].arrived.group:
            assert had >= min(oldest_ready, len(run.items) // 2), "not every other place for the oldest"
        assert had or self.batch_has_oldest, "two batches without the oldest"
        self.batches[run.lane], self.batch_has_oldest = list(run.items), bool(had)


class AnyHistory(RuleBasedStateMachine):
    """Jobs come and go in any order, batches end well or not, and time passes."""

    @initialize(max_batch=st.integers(1, 5), max_persons=st.integers(1, 14), lanes=st.sampled_from([1, 1, 2, 3]))
    def begin(self, max_batch, max_persons, lanes):
        self.now_s = 0.0
        self.arrivals = 0
        self.endings: Counter[int] = Counter()
        self.model = Model(max_batch, max_persons, free=set(range(lanes)))
        self.batcher = Batcher(max_batch=max_batch, max_persons=max_persons, lanes=lanes)

    def step(self, event) -> None:
        known = {*self.model.jobs, *(one.job for one in self.model.outside)}
        expected = self.model.expected(event, self.now_s)
        effects = self.batcher.step(event, self.now_s)
        runs = [effect for effect in effects if isinstance(effect, Run)]
        others = [effect for effect in effects if not isinstance(effect, Run)]
        assert effects == [*others, *runs]
        assert sorted(others, key=repr) == sorted(expected, key=repr)
        assert [one for one in others if isinstance(one, Admitted)] == [
            one for one in expected if isinstance(one, Admitted)
        ]
        for run in runs:
            self.model.begin(run, self.now_s)
        self.endings.update(one.job for one in others if isinstance(one, Answered | Failed | Refused))
        self.endings.update(one.job for one in others if isinstance(one, Dropped) and one.because == "late")
        if isinstance(event, Leave) and event.job in known and not self.endings[event.job]:
            self.endings[event.job] += 1

    @rule(
        persons=st.integers(1, 15),
        group=st.booleans(),
        lasts_s=st.sampled_from([FOREVER, FOREVER, FOREVER, 6.0, 3.0, 1.0, 0.0, -1.0]),
        patient=st.booleans(),
        supplied=st.booleans(),
    )
    def arrive(self, persons: int, group: Hashable, lasts_s: float, patient: bool, supplied: bool):
        self.arrivals += 1
        self.step(Arrive(self.arrivals, persons, group, self.now_s + lasts_s, patient))
        if supplied and self.arrivals in self.model.jobs:
            self.supply_job(self.arrivals)

    @precondition(lambda self: self.unsupplied)
    @rule(data=st.data())
    def supply(self, data):
        self.supply_job(data.draw(st.sampled_from(self.unsupplied)))

    @precondition(lambda self: self.arrivals)
    @rule(data=st.data())
    def supply_too_late(self, data):
        number = data.draw(st.integers(1, self.arrivals))
        if number not in self.model.jobs and all(one.job != number for one in self.model.outside):
            self.step(Supply(number, [(number, 0)]))

    @rule(data=st.data())
    def leave(self, data):
        self.step(Leave(data.draw(st.integers(1, self.arrivals + 1))))

    @precondition(lambda self: self.model.batches)
    @rule(data=st.data())
    def batch_done(self, data):
        self.end_batch(data.draw(st.sampled_from(sorted(self.model.batches))))

    @precondition(lambda self: self.model.batches)
    @rule(data=st.data(), rests=st.booleans())
    def batch_failed(self, data, rests):
        self.step(BatchFailed(data.draw(st.sampled_from(sorted(self.model.batches))), rests))

    @precondition(lambda self: self.model.resting)
    @rule(data=st.data())
    def rested(self, data):
        self.step(Rested(data.draw(st.sampled_from(sorted(self.model.resting)))))

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0]))
    def time_passes(self, seconds):
        self.now_s += seconds

    @rule(data=st.data())
    def what_cannot_be(self, data):
        wrong = [Arrive(self.arrivals + 1, 0)]
        wrong += [Arrive(number, 1) for number in self.model.jobs]
        wrong += [Arrive(one.job, 1, patient=True) for one in self.model.outside]
        wrong += [Supply(one.job, [(one.job, index) for index in range(one.persons)]) for one in self.model.outside]
        wrong += [Supply(number, [(number, 0)] * (job.arrived.persons + 1)) for number, job in self.model.jobs.items()]
        wrong += [BatchDone([""] * (len(batch) + 1), lane) for lane, batch in self.model.batches.items()]
        for lane in {0, 1, 2, 3} - set(self.model.batches):
            wrong += [BatchDone([], lane), BatchFailed(lane)]
        wrong += [Rested(lane) for lane in {0, 1, 2, 3} - self.model.resting]
        with pytest.raises(ValueError, match=r"allowed|none runs|results|did not rest"):
            self.batcher.step(data.draw(st.sampled_from(wrong)), self.now_s)

    @property
    def unsupplied(self) -> list[int]:
        return [number for number, job in self.model.jobs.items() if not job.supplied]

    def end_batch(self, lane: int) -> None:
        self.step(BatchDone([pose_of(item) for item in self.model.batches[lane]], lane))

    def supply_job(self, number: int) -> None:
        persons = self.model.jobs[number].arrived.persons
        self.step(Supply(number, [(number, index) for index in range(persons)]))

    @invariant()
    def counts_are_right_and_within_bounds(self):
        assert self.batcher.persons == self.model.persons <= self.batcher.max_persons
        assert self.batcher.waiting == self.model.ready
        assert self.batcher.running == sum(map(len, self.model.batches.values()))
        assert self.batcher.resting == len(self.model.resting)

    @invariant()
    def no_lane_is_idle_while_persons_wait(self):
        assert not self.model.free or not self.model.ready

    @invariant()
    def no_job_ends_twice(self):
        assert not any(count > 1 for count in self.endings.values())

    def teardown(self):
        """Whatever happened, everybody is told once in the end, if the engine goes on and the decoders do."""
        for lane in sorted(self.model.resting):
            self.step(Rested(lane))
        while self.unsupplied or self.model.batches:
            if self.unsupplied:
                self.supply_job(self.unsupplied[0])
            else:
                self.end_batch(next(iter(self.model.batches)))
        assert self.endings == Counter(range(1, self.arrivals + 1))
        assert (self.batcher.persons, self.batcher.waiting, self.batcher.running) == (0, 0, 0)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
