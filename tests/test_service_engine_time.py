"""The engine and the time, which stands still here unless a test sets it: deadlines, patience, hints, what is told."""

from __future__ import annotations

import asyncio
import gc
from types import SimpleNamespace
from typing import Any

import pytest

import service.engine
import service.lane
from callers import Faulty, begin, columns_of, crops, play, raising, running
from fakes import BrightestPixel
from service.engine import EngineObserver
from service.errors import Late, Overloaded


@pytest.fixture
def clock(monkeypatch):
    time = SimpleNamespace(now_s=100.0)
    for module in (service.engine, service.lane):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: time.now_s))
    return time


def test_it_is_stalled_while_a_batch_takes_longer_than_it_ever_should(clock):
    async def scenario() -> None:
        estimator = Faulty()
        with running(estimator, stalled_after_s=60.0) as engine:
            clock.now_s += 1000
            assert not engine.stalled  # it had nothing to do
            callers = [await begin(engine, column) for column in (1, 2)]
            seen = []
            for caller in callers:
                clock.now_s += 60
                seen.append(engine.stalled)
                clock.now_s += 1
                seen.append(engine.stalled)
                estimator.gate.let()
                await caller
                seen.append(engine.stalled)
            assert seen == [False, True, False] * 2

    play(scenario)


def test_who_is_late_while_waiting_is_told_and_not_computed(clock):
    async def scenario() -> None:
        estimator = Faulty()
        with running(estimator) as engine:
            first = await begin(engine, 1)
            late = await begin(engine, 2, 3, deadline_s=clock.now_s + 5)
            in_time = await begin(engine, 4, deadline_s=clock.now_s + 6)
            clock.now_s += 5
            estimator.gate.let(2)
            assert await asyncio.gather(first, in_time) == [(1,), (4,)]
            with pytest.raises(Late, match="after the deadline"):
                await late
            assert estimator.batches == [1, 1]

    play(scenario)


def test_who_is_late_while_being_decoded_is_told_when_it_is_ready_to_run(clock):
    async def scenario() -> None:
        estimator = BrightestPixel()
        with running(estimator) as engine:
            async with engine.room(1, flip_test=False, deadline_s=clock.now_s + 5) as room:
                clock.now_s += 5
                with pytest.raises(Late):
                    await room.run(crops(1))
                assert engine.persons == 0
        assert estimator.batches == []

    play(scenario)


def test_who_leaves_when_it_is_late_already_leaves_as_others_do(clock):
    async def scenario() -> None:
        with running(BrightestPixel()) as engine:
            async with engine.room(1, flip_test=False, deadline_s=clock.now_s + 5):
                clock.now_s += 5
            assert engine.persons == 0

    play(scenario)


@pytest.mark.parametrize("patient", [False, True])
def test_who_comes_too_late_is_told_at_once(clock, patient):
    async def scenario() -> None:
        with running(BrightestPixel()) as engine:
            with pytest.raises(Late):
                await columns_of(engine, 1, deadline_s=clock.now_s, patient=patient)
            assert engine.persons == 0

    play(scenario)


def test_the_patient_wait_for_room_in_the_order_in_which_they_came_unless_they_leave_or_are_late(clock):
    async def scenario() -> None:
        estimator = Faulty()
        with running(estimator, max_waiting=2, max_batch=2) as engine:
            first = await begin(engine, 1, 2)
            leaves = await begin(engine, 3, patient=True)
            late = await begin(engine, 4, patient=True, deadline_s=clock.now_s + 5)
            stay = [await begin(engine, *columns, patient=True) for columns in ((5,), (6, 7), (8,))]
            assert engine.persons == 2
            leaves.cancel()
            clock.now_s += 5
            estimator.gate.set()
            assert await asyncio.gather(first, *stay) == [(1, 2), (5,), (6, 7), (8,)]
            with pytest.raises(Late):
                await late
            assert estimator.batches == [2, 1, 2, 1]

    play(scenario)


def test_who_is_refused_learns_when_to_try_again(clock):
    async def scenario() -> None:
        estimator = Faulty()
        takes_s = iter([6.0, 3.0, 3.0])  # for three persons

        def take_time(poses):
            clock.now_s += next(takes_s)
            return poses

        estimator.spoil = take_time
        with running(estimator, max_waiting=3) as engine:
            hints = []
            for _ in range(3):
                caller = await begin(engine, 1, 2, 3)
                with pytest.raises(Overloaded, match=r"^3 persons are .* allowed: at most 3 at a time") as error:
                    await columns_of(engine, 4)
                hints.append(error.value.retry_after_s)
                estimator.gate.let()
                await caller
            # Nothing is known before the first batch; then the newest counts a fifth.
            assert hints == pytest.approx([0.1, 3 * 2.0, 3 * (0.8 * 2.0 + 0.2 * 1.0)])

    play(scenario)


def test_who_is_told_and_left_does_not_fill_the_log_with_complaints(clock, caplog):
    async def scenario() -> None:
        with running(BrightestPixel(), max_waiting=1) as engine:
            for options in ({"deadline_s": clock.now_s}, {}):
                with pytest.raises((Late, Overloaded)):
                    await columns_of(engine, 1, 2, **options)

    play(scenario)
    gc.collect()  # promises that were broken, and nobody asked, complain at their end
    assert caplog.records == []


class Witness(EngineObserver):
    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def on_batch(self, persons, seconds):
        self.told.append(("batch", persons, seconds))

    def on_batch_failed(self, persons):
        self.told.append(("failed batch", persons))

    def on_dropped(self, persons, because):
        self.told.append((because, persons))


def test_the_observer_is_told_of_batches_and_of_all_that_is_not_computed(clock):
    async def scenario() -> None:
        estimator, witness = Faulty(), Witness()

        def take_time(poses):
            clock.now_s += 3
            return poses

        estimator.spoil = take_time
        with running(estimator, max_batch=2, observer=witness) as engine:
            first = await begin(engine, 1)
            gone = await begin(engine, *range(4))
            late = await begin(engine, *range(5), deadline_s=clock.now_s + 2)
            fails = await begin(engine, *range(6))
            gone.cancel()
            await asyncio.wait([gone])
            estimator.gate.let()
            await first
            assert witness.told == [("gone", 4), ("batch", 1, 3.0), ("late", 5)]
            estimator.spoil = raising
            estimator.gate.let()
            await asyncio.wait([late, fails])
            assert witness.told[3:] == [("failed batch", 2), ("failed", 4)]

    play(scenario)


def test_a_room_knows_when_its_first_person_began_to_run(clock):
    async def scenario() -> None:
        estimator = Faulty()
        with running(estimator, max_batch=2) as engine:
            first = await begin(engine, 1)
            async with engine.room(3, flip_test=False) as room:
                answer = asyncio.create_task(room.run(crops(2, 3, 4)))
                await asyncio.sleep(0)
                assert room.started_s is None
                clock.now_s = 200.0
                estimator.gate.let()
                await first
                clock.now_s = 300.0
                estimator.gate.let(2)
                assert len(await answer) == 3
                assert room.started_s == 200.0

    play(scenario)
