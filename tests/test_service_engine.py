"""The engine on a fake network: who shares a batch, who is told what, and what is never computed."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from callers import Faulty, begin, columns_of, play, raising, running
from fakes import BrightestPixel, make_engine, make_network
from service.engine import Engine, EngineObserver
from service.errors import EngineFailed
from service.lane import Lane


def test_callers_share_batches_and_each_gets_its_own_in_order():
    async def scenario() -> None:
        estimator = BrightestPixel()
        estimator.gate.clear()
        with running(estimator) as engine:
            asked = [(9,), (3, 1, 2), (5,), (8, 7)]
            callers = [await begin(engine, *columns) for columns in asked]
            assert (engine.persons, engine.waiting) == (7, 6)
            estimator.gate.set()
            assert await asyncio.gather(*callers) == asked
            assert estimator.batches == [1, 6]
            assert (engine.persons, engine.waiting) == (0, 0)

    play(scenario)


def test_an_answer_is_in_order_though_its_persons_ran_in_many_batches():
    async def scenario() -> None:
        estimator = BrightestPixel()
        with running(estimator, max_batch=4) as engine:
            columns = tuple(column * 17 % 63 for column in range(21))
            assert await columns_of(engine, *columns) == columns
            assert estimator.batches == [4, 4, 4, 4, 4, 1]

    play(scenario)


def test_those_with_a_flip_test_and_those_without_run_apart():
    async def scenario() -> None:
        estimator = BrightestPixel()
        estimator.gate.clear()
        with running(estimator) as engine:
            callers = [await begin(engine, column, flip_test=column % 2 == 1) for column in range(5)]
            estimator.gate.set()
            assert await asyncio.gather(*callers) == [(column,) for column in range(5)]
            assert sorted(zip(estimator.flip_tests, estimator.batches, strict=True)) == [
                (False, 1),
                (False, 2),
                (True, 2),
            ]

    play(scenario)


def test_the_network_is_run_in_one_thread_that_is_not_the_callers():
    async def scenario() -> None:
        estimator = Faulty()
        estimator.gate.set()
        threads = []
        estimator.spoil = lambda poses: threads.append(threading.current_thread()) or poses
        with running(estimator) as engine:
            for column in range(3):
                await columns_of(engine, column)
        assert len(set(threads)) == 1
        assert threading.current_thread() not in threads

    play(scenario)


def test_what_cancelled_callers_wanted_is_not_computed():
    async def scenario() -> None:
        estimator = BrightestPixel()
        estimator.gate.clear()
        with running(estimator, max_waiting=22) as engine:
            first = await begin(engine, 9)
            stays, *leave = [await begin(engine, *range(7)) for _ in range(3)]
            for caller in leave:
                caller.cancel()
            await asyncio.wait(leave)
            assert engine.persons == 8
            newcomer = await begin(engine, *range(14))  # there is room again
            estimator.gate.set()
            assert await asyncio.gather(first, stays, newcomer) == [(9,), tuple(range(7)), tuple(range(14))]
            assert sum(estimator.batches) == 1 + 7 + 14

    play(scenario)


def test_who_is_cancelled_while_its_batch_runs_disturbs_nobody_in_it():
    async def scenario() -> None:
        estimator = Faulty()
        with running(estimator) as engine:
            first, leaves, stays = [await begin(engine, *columns) for columns in ((1,), (2, 3), (4, 5))]
            estimator.gate.let()
            await first
            assert (engine.waiting, engine.persons) == (0, 4)  # both are in the second batch
            leaves.cancel()
            await asyncio.wait([leaves])
            assert leaves.cancelled()
            estimator.gate.let()
            assert await stays == (4, 5)
            assert estimator.batches == [1, 4]

    play(scenario)


@pytest.mark.parametrize("fails", [False, True])
def test_a_caller_may_be_cancelled_in_the_moment_in_which_its_answer_comes(fails):
    async def scenario() -> None:
        estimator = Faulty()
        with running(estimator) as engine:
            first, leaves, stays = [await begin(engine, column) for column in (1, 2, 3)]
            estimator.gate.let()
            await first
            estimator.fails_with = RuntimeError("device lost") if fails else None
            estimator.gate.let()
            engine.close()  # when the thread has ended, the event loop was told, and has not looked yet
            leaves.cancel()
            answers = await asyncio.gather(leaves, stays, return_exceptions=True)
            assert [type(answer) for answer in answers] == [asyncio.CancelledError, EngineFailed if fails else tuple]

    play(scenario)


def test_a_patient_caller_may_be_cancelled_in_the_moment_in_which_there_is_room():
    async def scenario() -> None:
        estimator = Faulty()
        admitted = []

        async def come_in(engine: Engine, name: str) -> None:
            async with engine.room(1, flip_test=False, patient=True):
                admitted.append(name)

        with running(estimator, max_waiting=2) as engine:
            first = await begin(engine, 1, 2)
            leaves, stays = [asyncio.create_task(come_in(engine, name)) for name in ("leaves", "stays")]
            await asyncio.sleep(0)
            estimator.gate.let()
            engine.close()  # as above
            leaves.cancel()
            assert await asyncio.gather(first, stays) == [(1, 2), None]
            assert admitted == ["stays"]

    play(scenario)


def test_who_goes_away_with_an_error_before_its_persons_run_leaves_no_trace():
    async def scenario() -> None:
        with running(BrightestPixel(), max_waiting=3) as engine:
            for _ in range(3):
                with pytest.raises(ZeroDivisionError):
                    async with engine.room(3, flip_test=False):
                        raise ZeroDivisionError
            assert engine.persons == 0
            assert await columns_of(engine, 1, 2, 3) == (1, 2, 3)

    play(scenario)


def infinite_point(poses):
    poses[-1].points[3, 1] = np.inf
    return poses


def nan_score(poses):
    poses[0].scores[-1] = np.nan
    return poses


FAULTS = [raising, infinite_point, nan_score, lambda poses: poses[1:], lambda poses: [*poses, *poses], lambda _: None]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_batch_that_fails_fails_for_those_in_it_only(fault):
    async def scenario() -> None:
        estimator = Faulty()
        with running(estimator, max_batch=2) as engine:
            first, fails, *after = [await begin(engine, *columns) for columns in ((1,), (2, 3, 4), (5,), (6,))]
            estimator.gate.let()
            assert await first == (1,)
            estimator.spoil = fault  # of the batch with 2 and 3
            estimator.gate.let()
            with pytest.raises(EngineFailed) as failed:
                await fails
            assert "CUDA" not in str(failed.value)
            estimator.spoil = list
            estimator.gate.let()
            assert await asyncio.gather(*after) == [(5,), (6,)]
            assert estimator.batches == [1, 2, 2]  # without 4

    play(scenario)


def test_failures_in_a_row_are_counted_until_a_batch_goes_well():
    async def scenario() -> None:
        estimator = Faulty()
        estimator.gate.set()
        with running(estimator) as engine:
            counted = []
            for error in (ValueError(), RuntimeError(), MemoryError(), None, ValueError()):
                estimator.fails_with = error
                await asyncio.gather(columns_of(engine, 1), return_exceptions=True)
                counted.append(engine.failures)
            assert counted == [1, 2, 3, 0, 1]

    play(scenario)


def test_closing_does_not_wait_longer_than_it_is_told_for_a_network_that_hangs():
    async def scenario() -> None:
        estimator = Faulty()
        engine = make_engine(estimator)
        caller = await begin(engine, 1)
        assert not engine.close(timeout_s=0.01)
        estimator.gate.let()
        assert await caller == (1,)
        assert engine.close(timeout_s=30)

    play(scenario)


class Unsteady(EngineObserver):
    def on_batch(self, persons, seconds):
        raise ZeroDivisionError

    def on_batch_failed(self, persons):
        raise ZeroDivisionError

    def on_dropped(self, persons, because):
        raise ZeroDivisionError


def test_an_observer_that_fails_changes_nothing():
    async def scenario() -> None:
        estimator = Faulty()
        with running(estimator, observer=Unsteady()) as engine:
            first, fails, gone = [await begin(engine, column) for column in range(3)]
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
            estimator.gate.let()
            assert await first == (0,)
            estimator.spoil = raising
            estimator.gate.let()
            with pytest.raises(EngineFailed):
                await fails
            assert engine.persons == 0

    play(scenario)


def test_an_event_loop_that_is_gone_before_the_batch_ends_does_not_break_the_thread(monkeypatch):
    broken = []
    monkeypatch.setattr(threading, "excepthook", broken.append)
    estimator = Faulty()
    engine = make_engine(estimator)

    async def scenario() -> None:
        await begin(engine, 1)  # cancelled with the loop

    play(scenario)
    estimator.gate.let()
    assert engine.close(timeout_s=30)
    assert estimator.batches == [1]
    assert broken == []


def test_what_is_to_be_done_at_the_start_is_done_once_in_the_thread_of_the_network():
    where: list[str] = []

    class Watched(BrightestPixel):
        def estimate(self, crops, *, flip_test=False):
            where.append(f"network in {threading.current_thread().name}")
            return super().estimate(crops, flip_test=flip_test)

    def start() -> None:
        where.append(f"start in {threading.current_thread().name}")

    async def run() -> None:
        engine = Engine([Lane(on_start=start)], make_network(Watched()), max_batch=8, max_waiting=8)
        for _ in range(2):
            async with engine.room(1, flip_test=False) as room:
                await room.run([np.zeros((64, 48, 3), dtype=np.uint8)])
        assert engine.close(timeout_s=10)

    asyncio.run(run())
    assert where == ["start in engine", "network in engine", "network in engine"]
