"""PoseService from its start to its end: when it says that it is ready, and what it says when it is not."""

from __future__ import annotations

import asyncio

import pytest

from callers import Faulty, all_ready, ask, new_record, play, serving, start
from fakes import BrightestPixel, make_engine, make_service
from service import readiness
from service.core import PoseService
from service.errors import EngineFailed, Unavailable
from service.record import Caller

CALLER = Caller(protocol="test", method="pose")


async def fail(service: PoseService) -> None:
    with pytest.raises(EngineFailed):
        await ask(service)


def test_not_ready_until_warm_and_again_when_stopping():
    async def scenario() -> None:
        service = make_service()
        assert await service.why_not_ready() == "the network is warming up"
        with pytest.raises(Unavailable, match="warming up"), service.admission.stream(CALLER):
            pass
        await service.warm_up()
        assert await service.why_not_ready() is None
        with service.admission.stream(CALLER):
            service.stop()
        assert service.stopping.is_set()
        assert await service.why_not_ready() == "the service is shutting down"
        with pytest.raises(Unavailable, match="shutting down"), service.admission.stream(CALLER):
            pass
        assert service.close(timeout_s=30)

    play(scenario)


def test_stopping_while_warming_up_stays_stopped():
    async def scenario() -> None:
        estimator = BrightestPixel()
        estimator.gate.clear()
        service = make_service(estimator)
        warm_up = asyncio.create_task(service.warm_up())
        await asyncio.sleep(0)
        service.stop()
        estimator.gate.set()
        await warm_up
        assert await service.why_not_ready() == "the service is shutting down"
        assert service.close(timeout_s=30)

    play(scenario)


def test_a_failed_warm_up_stays_not_ready():
    async def scenario() -> None:
        estimator = BrightestPixel()
        estimator.fails_with = RuntimeError("no kernel image")
        async with serving(estimator) as service:
            estimator.fails_with = None
            assert await service.why_not_ready() == "the network failed its first run; see the log"
            with pytest.raises(Unavailable, match="failed its first run"), service.admission.stream(CALLER):
                pass

    play(scenario)


def test_a_network_that_hangs_does_not_keep_the_service_from_closing():
    async def scenario() -> None:
        estimator = Faulty()
        estimator.gate.let()
        async with serving(estimator) as service:
            caller = start(service, record=(record := new_record()))
            await all_ready([record])
            assert not service.close(timeout_s=0.01)
            caller.cancel()

    play(scenario)


def test_readiness_tells_how_often_the_network_failed_and_notices_when_it_recovers():
    async def scenario() -> None:
        estimator = BrightestPixel()
        async with serving(estimator) as service:
            estimator.fails_with = RuntimeError("device lost")
            await fail(service)
            await fail(service)
            # Each time it is tried again.
            assert await service.why_not_ready() == "the network failed the last 3 times; see the log"
            assert await service.why_not_ready() == "the network failed the last 4 times; see the log"
            estimator.fails_with = None
            assert await service.why_not_ready() is None
            batches = len(estimator.batches)
            assert await service.why_not_ready() is None
            assert len(estimator.batches) == batches  # a network that is well is left in peace

    play(scenario)


def test_readiness_recovers_with_a_request_that_is_answered():
    async def scenario() -> None:
        estimator = BrightestPixel()
        async with serving(estimator) as service:
            estimator.fails_with = RuntimeError("device lost")
            await fail(service)
            estimator.fails_with = None
            await ask(service)
            assert await service.why_not_ready() is None
            assert estimator.batches == [1, 1]

    play(scenario)


def test_it_is_not_ready_while_a_batch_takes_too_long():
    async def scenario() -> None:
        estimator = Faulty()
        estimator.gate.let()
        async with serving(estimator, engine=make_engine(estimator, stalled_after_s=-1.0)) as service:
            assert await service.why_not_ready() is None
            caller = start(service, record=(record := new_record()))
            await all_ready([record])
            assert await service.why_not_ready() == "the network has been at one batch for too long; see the log"
            estimator.gate.let()
            await caller
            assert await service.why_not_ready() is None

    play(scenario)


def test_a_health_check_of_a_network_that_hangs_is_answered_and_hangs_no_second_time(monkeypatch):
    async def scenario() -> None:
        estimator = BrightestPixel()
        engine = make_engine(estimator)
        async with serving(estimator, engine=engine) as service:
            estimator.fails_with = RuntimeError("device lost")
            await fail(service)
            estimator.fails_with = None
            estimator.gate.clear()
            with monkeypatch.context() as patched:
                patched.setattr(readiness, "PROBE_TIMEOUT_S", 0.001)
                for _ in range(5):
                    assert await service.why_not_ready() == "the network failed the last 1 times; see the log"
            assert engine.persons == 1  # all asked after the same run
            estimator.gate.set()
            assert await service.why_not_ready() is None
            assert estimator.batches == [1, 1]

    play(scenario)


@pytest.mark.parametrize("recovers", [False, True])
def test_many_health_checks_at_a_time_run_the_network_once(recovers):
    async def scenario() -> None:
        estimator = Faulty()
        estimator.gate.let()
        engine = make_engine(estimator)
        async with serving(estimator, engine=engine) as service:
            estimator.fails_with = RuntimeError("device lost")
            estimator.gate.let()
            await fail(service)
            checks = [asyncio.create_task(service.why_not_ready()) for _ in range(50)]
            await asyncio.sleep(0)
            checks.pop().cancel()  # the caller that asked first may leave, or any other
            checks.pop(0).cancel()
            if recovers:
                estimator.fails_with = None
            estimator.gate.let()
            answers = set(await asyncio.gather(*checks))
            assert answers == ({None} if recovers else {"the network failed the last 2 times; see the log"})
            assert engine.failures == (0 if recovers else 2)

    play(scenario)


def test_a_queue_that_is_full_is_no_failure():
    async def scenario() -> None:
        estimator = Faulty()
        estimator.gate.let()
        async with serving(estimator, engine=make_engine(estimator, max_waiting=1)) as service:
            estimator.fails_with = RuntimeError("device lost")
            estimator.gate.let()
            await fail(service)
            caller = start(service, record=(record := new_record()))
            await all_ready([record])
            assert await service.why_not_ready() is None  # how the work ends will tell
            estimator.gate.let()
            with pytest.raises(EngineFailed):
                await caller
            estimator.gate.let()
            assert await service.why_not_ready() == "the network failed the last 3 times; see the log"

    play(scenario)
