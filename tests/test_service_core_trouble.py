"""PoseService in trouble: networks that fail, too many callers, callers that leave."""

from __future__ import annotations

import asyncio
import time

import pytest

from callers import Faulty, all_ready, ask, new_record, play, serving, start
from fakes import BrightestPixel, make_admission, make_engine
from pictures import jpeg, square
from service.errors import EngineFailed, Late, Overloaded
from service.poses import PoseRequest
from service.record import Caller


def test_a_failing_network_fails_its_request_only_and_keeps_its_words_to_itself():
    async def scenario() -> None:
        estimator = BrightestPixel()
        async with serving(estimator) as service:
            estimator.fails_with = RuntimeError("CUDA error at 0x7f00")
            with pytest.raises(EngineFailed) as error:
                await ask(service)
            assert "CUDA" not in str(error.value)
            estimator.fails_with = None
            assert len((await ask(service)).poses) == 1

    play(scenario)


@pytest.mark.parametrize(("name", "value"), [("forgets", 1), ("score", float("nan"))])
def test_answers_that_are_too_few_or_not_finite_are_a_failure(name, value):
    async def scenario() -> None:
        estimator = BrightestPixel()
        async with serving(estimator) as service:
            setattr(estimator, name, value)
            with pytest.raises(EngineFailed):
                await ask(service, 3)

    play(scenario)


def test_more_than_may_wait_is_refused_and_the_rest_is_answered():
    async def scenario() -> None:
        estimator = Faulty()
        estimator.gate.let()  # the warm-up
        async with serving(estimator, engine=make_engine(estimator, max_waiting=5)) as service:
            first = start(service, 3)
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match="3 persons are being worked on; allowed: at most 5"):
                await ask(service, 3)
            patient = start(service, 3, patient=True)
            await asyncio.sleep(0)
            estimator.gate.let(2)
            assert [len(result.poses) for result in await asyncio.gather(first, patient)] == [3, 3]

    play(scenario)


def test_what_callers_wanted_who_left_is_not_computed():
    async def scenario() -> None:
        estimator = BrightestPixel()
        engine = make_engine(estimator)
        async with serving(estimator, engine=engine) as service:
            estimator.gate.clear()
            records = [new_record() for _ in range(201)]
            stays, *leave = [start(service, record=record) for record in records]
            await all_ready(records)
            assert engine.persons == 201
            for caller in leave:
                caller.cancel()
            await asyncio.wait(leave)
            assert all(caller.cancelled() for caller in leave)
            assert engine.persons == 1
            newcomer = start(service)
            estimator.gate.set()
            assert [len(result.poses) for result in await asyncio.gather(stays, newcomer)] == [1, 1]
            # The warm-up, the two who are answered, and at most one who ran when the others left.
            assert sum(estimator.batches) <= 1 + 2 + 1

    play(scenario)


def test_who_leaves_before_its_persons_run_was_never_in_the_engine():
    async def scenario() -> None:
        estimator = Faulty()
        estimator.gate.let()
        async with serving(estimator) as service:
            records = [new_record(), new_record()]
            first = start(service, record=records[0])
            await all_ready(records[:1])
            leaves = start(service, 2, record=records[1])
            await all_ready(records)
            leaves.cancel()
            await asyncio.wait([leaves])
            assert list(records[1].stages) == ["decode", "queue"]
            in_the_engine_s = time.monotonic()
            estimator.gate.let()
            await first
            assert list(records[0].stages) == ["decode", "queue", "engine"]
            assert records[0].stages["queue"][1] <= in_the_engine_s <= records[0].stages["engine"][1]

    play(scenario)


def test_who_has_no_more_time_is_told_though_the_network_hangs_and_what_waited_is_not_computed():
    async def scenario() -> None:
        estimator = Faulty()
        estimator.gate.let()
        admission, engine = make_admission(timeout_s=0.05), make_engine(estimator)

        async def ask_at_the_door(persons: int) -> None:
            async with admission.request(Caller(protocol="test", method="pose")) as record:
                await ask(service, persons, record)

        async with serving(estimator, admission=admission, engine=engine) as service:
            answers = await asyncio.gather(*map(ask_at_the_door, (1, 20, 30)), return_exceptions=True)
            assert [type(answer) for answer in answers] == [Late] * 3
            assert (admission.requests, engine.persons, engine.waiting) == (0, 0, 0)
            estimator.gate.let(2)
            assert len((await ask(service)).poses) == 1
            assert sum(estimator.batches) <= 1 + 8 + 1  # the warm-up, what ran when the time was over, the last one

    play(scenario)


def test_the_event_loop_stays_free_while_the_network_runs():
    async def scenario() -> None:
        estimator = Faulty()
        estimator.gate.let()
        async with serving(estimator) as service:
            image = jpeg(square((400, 300), (50, 60)))
            record = new_record()
            request = asyncio.create_task(service.estimate(PoseRequest(image=image), record))
            await all_ready([record])  # would never return if the network ran on the loop
            assert not request.done()
            estimator.gate.let()
            await request

    play(scenario)
