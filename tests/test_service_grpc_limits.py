"""gRPC calls that are too many, too large or too late, and callers who leave: nothing is kept, the server lives on."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import grpc
import pytest

from fakes import make_admission, make_engine, make_service
from grpc_clients import HeldBack, Served, ask, estimate_request, refused, trailing, until
from service import grpc_server
from service.grpc_server import BOXES_BYTES, MAX_METADATA_BYTES
from service.images import ImageLimits
from service.pb import pose_pb2 as pb
from service.record import RequestRecord

WHOLE = estimate_request()


def assert_reason(error: grpc.aio.AioRpcError, code: str, reason: str | None, words: str) -> None:
    assert (error.code().name, trailing(error).get("reason")) == (code, reason), error
    assert words in str(error.details())


def test_a_full_queue_refuses_and_says_when_to_try_again():
    estimator = HeldBack()
    engine = make_engine(estimator, max_waiting=1)

    async def talk(to: Served) -> grpc.aio.AioRpcError:
        first = await estimator.hold(to)
        error = await refused(to.poses.EstimatePose(WHOLE))
        estimator.gate.set()
        assert len((await first).poses) == 1
        assert len((await to.poses.EstimatePose(WHOLE)).poses) == 1
        return error

    error = ask(make_service(engine=engine), talk)
    assert_reason(error, "RESOURCE_EXHAUSTED", "overloaded", "1 persons are being worked on; allowed: at most 1")
    assert int(trailing(error)["retry-after-ms"]) >= 100


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"max_requests": 1}, "1 requests are being worked on; allowed: at most 1"),
        ({"max_held_bytes": 3 * len(WHOLE.image) // 2}, f"pictures of {len(WHOLE.image)} bytes are being worked on"),
    ],
)
def test_too_many_calls_or_bytes_at_a_time_are_refused(limit, words):
    estimator = HeldBack()
    engine = make_engine(estimator)

    async def talk(to: Served) -> grpc.aio.AioRpcError:
        first = await estimator.hold(to)
        error = await refused(to.poses.EstimatePose(WHOLE))
        estimator.gate.set()
        await first
        assert len((await to.poses.EstimatePose(WHOLE)).poses) == 1  # what the first held is given back
        return error

    error = ask(make_service(engine=engine, admission=make_admission(**limit)), talk)
    assert_reason(error, "RESOURCE_EXHAUSTED", "overloaded", words)
    assert trailing(error)["retry-after-ms"] == "1000"


def test_calls_beyond_what_the_server_lets_in_are_refused_by_grpc_itself(monkeypatch):
    monkeypatch.setattr(grpc_server, "SPARE_RPCS", 0)
    estimator = HeldBack()
    engine = make_engine(estimator)

    async def talk(to: Served) -> grpc.aio.AioRpcError:
        first = await estimator.hold(to)
        error = await refused(to.poses.EstimatePose(WHOLE))
        estimator.gate.set()
        await first
        assert len((await to.poses.EstimatePose(WHOLE)).poses) == 1
        return error

    error = ask(make_service(engine=engine), talk, max_requests=1)
    assert_reason(error, "RESOURCE_EXHAUSTED", None, "limit")


def test_before_the_warm_up_and_after_the_end_calls_are_unavailable():
    estimator = HeldBack()
    estimator.gate.clear()

    async def talk(to: Served) -> tuple[grpc.aio.AioRpcError, grpc.aio.AioRpcError]:
        early = await refused(to.poses.EstimatePose(WHOLE))
        estimator.gate.set()
        await until(lambda: to.service.admission.closed_because is None)
        await to.poses.EstimatePose(WHOLE)
        to.service.stop()
        return early, await refused(to.poses.EstimatePose(WHOLE))

    early, late = ask(make_service(estimator), talk, ready=False)
    assert_reason(early, "UNAVAILABLE", "unavailable", "not ready: the network is warming up")
    assert_reason(late, "UNAVAILABLE", "unavailable", "not ready: the service is shutting down")


def test_the_services_own_limit_on_time_holds_where_the_caller_gives_none():
    estimator = HeldBack()
    engine = make_engine(estimator)

    async def talk(to: Served) -> grpc.aio.AioRpcError:
        estimator.gate.clear()
        error = await refused(to.poses.EstimatePose(WHOLE))
        assert (to.service.admission.requests, engine.persons) == (0, 0)
        estimator.gate.set()
        return error

    service = make_service(engine=engine, admission=make_admission(timeout_s=1))
    assert_reason(ask(service, talk), "DEADLINE_EXCEEDED", "late", "there was no answer within 1 s")


def test_the_callers_deadline_holds_where_it_is_sooner_and_frees_the_work():
    estimator = HeldBack()
    engine = make_engine(estimator)
    records: list[RequestRecord] = []

    async def talk(to: Served) -> grpc.aio.AioRpcError:
        running = await estimator.hold(to)
        error = await refused(to.poses.EstimatePose(WHOLE, timeout=2))  # time enough to be seen
        await until(lambda: (to.service.admission.requests, engine.persons) == (1, 1))
        estimator.gate.set()
        await running
        await to.poses.EstimatePose(WHOLE, timeout=20)
        return error

    service = make_service(engine=engine, admission=make_admission(timeout_s=30, observers=[records.append]))
    assert ask(service, talk).code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert estimator.batches == [1, 1, 1]  # the warm-up, the first and the third: the late one was never computed
    allowed = sorted(record.deadline_s - record.started_s for record in records)
    assert allowed[0] < 2.7 < 10 < allowed[1] < 21 < allowed[2] == pytest.approx(30)


def test_what_a_caller_who_left_asked_for_is_never_computed():
    estimator = HeldBack()
    engine = make_engine(estimator)
    records: list[RequestRecord] = []

    async def talk(to: Served) -> None:
        running = await estimator.hold(to)
        waiting = to.poses.EstimatePose(estimate_request(boxes=[(0, 0, 20, 20)] * 3))
        await until(lambda: engine.waiting == 3)
        waiting.cancel()
        await until(lambda: (to.service.admission.requests, engine.persons) == (1, 1))
        estimator.gate.set()
        await running

    ask(make_service(engine=engine, admission=make_admission(observers=[records.append])), talk)
    assert estimator.batches == [1, 1]  # the warm-up, and the one that ran
    assert [record.outcome for record in records] == ["gone", "ok"]


def test_callers_who_leave_at_any_moment_leave_nothing_behind_and_nothing_in_the_log(caplog):
    estimator = HeldBack()
    engine = make_engine(estimator)
    records: list[RequestRecord] = []

    async def talk(to: Served) -> None:
        estimator.gate.clear()
        calls = [to.poses.EstimatePose(WHOLE) for _ in range(40)]
        await until(lambda: to.service.admission.requests > 10)
        for call in calls:
            call.cancel()
        await until(lambda: (to.service.admission.requests, engine.persons) == (0, 0))
        estimator.gate.set()
        await asyncio.gather(*(leave(to, after_s=0.0005 * number) for number in range(40)))
        await until(lambda: (to.service.admission.requests, engine.persons) == (0, 0))
        assert len((await to.poses.EstimatePose(WHOLE)).poses) == 1

    async def leave(to: Served, *, after_s: float) -> None:
        call = to.poses.EstimatePose(WHOLE)
        await asyncio.sleep(after_s)
        call.cancel()
        with suppress(asyncio.CancelledError):  # some are answered before
            await call

    ask(make_service(engine=engine, admission=make_admission(observers=[records.append])), talk)
    assert {record.outcome for record in records} == {"gone", "ok"}
    assert [line.getMessage() for line in caplog.records if line.levelno >= logging.WARNING] == []


def test_a_message_larger_than_the_server_takes_is_refused_and_the_server_lives_on():
    service = make_service(limits=ImageLimits(max_bytes=50_000))

    async def talk(to: Served) -> grpc.aio.AioRpcError:
        error = await refused(to.poses.EstimatePose(estimate_request(bytes(50_000 + BOXES_BYTES))))
        assert len((await to.poses.EstimatePose(WHOLE)).poses) == 1
        assert to.service.admission.requests == 0
        return error

    assert_reason(ask(service, talk), "RESOURCE_EXHAUSTED", None, "larger than max")


def test_the_largest_picture_that_is_taken_fits_into_a_message_with_many_boxes():
    service = make_service(limits=ImageLimits(max_bytes=50_000), max_persons=5000)
    padded = WHOLE.image + bytes(50_000 - len(WHOLE.image))  # what follows a JPEG is not looked at

    async def talk(to: Served) -> pb.EstimatePoseResponse:
        return await to.poses.EstimatePose(estimate_request(padded, [(1.5, 1.5, 2.5, 2.5)] * 250))

    assert len(ask(service, talk).poses) == 250


def test_an_endless_head_is_refused_and_the_server_lives_on():
    async def talk(to: Served) -> grpc.aio.AioRpcError:
        error = await refused(to.poses.EstimatePose(WHOLE, metadata=(("x-much", "x" * 2 * MAX_METADATA_BYTES),)))
        assert len((await to.poses.EstimatePose(WHOLE)).poses) == 1
        return error

    assert ask(make_service(), talk).code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_what_is_not_a_message_is_refused_and_the_server_lives_on():
    async def talk(to: Served) -> grpc.aio.AioRpcError:
        garbled = to.channel.unary_unary("/btranspose.v1.PoseService/EstimatePose")
        error = await refused(garbled(b"\xff\xff\xff"))
        assert len((await to.poses.EstimatePose(WHOLE)).poses) == 1
        assert to.service.admission.requests == 0
        return error

    error = ask(make_service(), talk)
    assert_reason(error, "UNKNOWN", None, "")


def test_methods_that_are_not_served_are_unimplemented():
    async def talk(to: Served) -> grpc.aio.AioRpcError:
        return await refused(to.channel.unary_unary("/btranspose.v1.PoseService/NoSuchMethod")(b""))

    assert ask(make_service(), talk).code() == grpc.StatusCode.UNIMPLEMENTED
