"""An engine of several lanes: who works beside whom, and what becomes of a lane that fails."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

import service.engine
from callers import Faulty, begin, columns_of, play, running, serving
from fakes import BrightestPixel, make_engine
from service.errors import EngineFailed


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(service.engine, "FIRST_REST_S", 0.0)


def broken() -> BrightestPixel:
    estimator = BrightestPixel()
    estimator.fails_with = RuntimeError("the device is lost")
    return estimator


async def settled(is_so) -> None:
    """Return when it is so."""
    while not is_so():
        await asyncio.sleep(0.001)


def test_two_lanes_work_at_the_same_time_and_each_answers_its_own():
    async def scenario() -> None:
        one, two = Faulty(), Faulty()
        with running(one, others=[two], max_batch=2) as engine:
            assert engine.lanes == 2
            first, second, third = [await begin(engine, *columns) for columns in ((1, 2), (3, 4), (5, 6))]
            assert engine.waiting == 2
            two.gate.let(2)  # its own, and the third
            assert await asyncio.gather(second, third) == [(3, 4), (5, 6)]
            assert not first.done()
            one.gate.let()
            assert await first == (1, 2)
            assert (one.batches, two.batches) == ([2], [2, 2])

    play(scenario)


def test_a_lane_that_fails_while_another_is_well_gets_no_more_requests_until_it_works():
    async def scenario() -> None:
        lost, well = broken(), BrightestPixel()
        with running(lost, others=[well]) as engine:
            with pytest.raises(EngineFailed):
                await columns_of(engine, 1)
            assert (engine.failures, engine.resting) == (0, 1)  # the other one is well
            for column in range(20):
                assert await columns_of(engine, column) == (column,)
            assert well.batches == [1] * 20
            lost.fails_with = None
            await settled(lambda: engine.resting == 0)
            answers = await asyncio.gather(*(columns_of(engine, column) for column in range(8)))
            assert answers == [(column,) for column in range(8)]

    play(scenario)


def test_what_a_resting_lane_is_tried_with_is_a_blank_crop_of_the_size_of_the_network():
    async def scenario() -> None:
        lost = broken()
        with running(lost, others=[BrightestPixel()]) as engine:
            seen = []
            estimate = lost.estimate

            def watched(crops, *, flip_test=False):
                seen.append([crop.copy() for crop in crops])
                return estimate(crops, flip_test=flip_test)

            lost.estimate = watched
            with pytest.raises(EngineFailed):
                await columns_of(engine, 7)
            await settled(lambda: len(seen) >= 3)
            (asked,), *tries = seen
            assert asked.any()
            assert all(len(crops) == 1 and not np.any(crops[0]) and crops[0].shape == (64, 48, 3) for crops in tries)
            lost.fails_with = None
            await settled(lambda: engine.resting == 0)

    play(scenario)


def test_the_last_lane_does_not_rest_so_that_requests_are_told_at_once():
    async def scenario() -> None:
        one, two = broken(), broken()
        with running(one, others=[two]) as engine:
            for _ in range(4):
                with pytest.raises(EngineFailed):
                    await columns_of(engine, 1)
            assert engine.resting == 1
            assert engine.failures > 0
            for estimator in (one, two):
                estimator.fails_with = None
            assert await columns_of(engine, 2) == (2,)
            await settled(lambda: (engine.resting, engine.failures) == (0, 0))

    play(scenario)


def test_it_is_stalled_only_when_every_lane_is():
    async def scenario() -> None:
        one, two = Faulty(), Faulty()
        with running(one, others=[two], stalled_after_s=-1.0) as engine:  # any batch takes too long
            first = await begin(engine, 1)
            assert not engine.stalled
            second = await begin(engine, 2)
            assert engine.stalled
            for estimator in (one, two):
                estimator.gate.set()
            await asyncio.gather(first, second)
            assert not engine.stalled

    play(scenario)


def test_closing_ends_all_lanes_and_tells_if_one_hangs():
    async def scenario() -> None:
        one, hangs = Faulty(), Faulty()
        engine = make_engine(one, others=[hangs])
        callers = [await begin(engine, column) for column in (1, 2)]
        one.gate.set()
        assert not engine.close(timeout_s=0.05)
        hangs.gate.set()
        assert engine.close(timeout_s=30)
        assert await asyncio.gather(*callers) == [(1,), (2,)]

    play(scenario)


def test_a_lane_that_failed_very_often_is_still_tried_again():
    async def scenario() -> None:
        lost, well = broken(), BrightestPixel()
        with running(lost, others=[well]) as engine:
            engine._lanes[0].failures = 2000
            with pytest.raises(EngineFailed):
                await columns_of(engine, 1)
            assert engine.resting == 1
            lost.fails_with = None
            await settled(lambda: engine.resting == 0)

    play(scenario)


def test_a_lane_does_not_rest_for_one_that_hangs():
    async def scenario() -> None:
        hangs, fails = Faulty(), broken()
        with running(hangs, others=[fails], stalled_after_s=0.0) as engine:
            stuck = await begin(engine, 1)
            await asyncio.sleep(0.01)
            for _ in range(3):
                with pytest.raises(EngineFailed):
                    await columns_of(engine, 2)
            assert engine.resting == 0
            hangs.gate.set()
            await stuck

    play(scenario)


def test_it_is_stalled_when_one_lane_hangs_and_the_others_rest():
    async def scenario() -> None:
        hangs, lost = Faulty(), broken()
        with running(lost, others=[hangs], stalled_after_s=0.05) as engine:
            with pytest.raises(EngineFailed):
                await columns_of(engine, 1)
            assert engine.resting == 1
            stuck = await begin(engine, 2)
            await settled(lambda: engine.stalled)
            lost.fails_with = None
            await settled(lambda: not engine.stalled)
            hangs.gate.set()
            await stuck

    play(scenario)


def test_warming_up_tries_the_other_lanes_when_one_fails():
    async def scenario() -> None:
        lost, well = broken(), BrightestPixel()
        async with serving(well, engine=make_engine(lost, others=[well])) as service:
            assert await service.why_not_ready() is None
            lost.fails_with = None

    play(scenario)
