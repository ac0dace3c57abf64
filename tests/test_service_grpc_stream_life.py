"""Streams that are held back, left by their clients, or ended by the service: nothing is lost, nothing stays behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

import grpc
import numpy as np
import pytest

from fakes import make_admission, make_engine, make_service
from grpc_clients import (
    HeldBack,
    Served,
    ask,
    estimate_request,
    frame,
    is_idle,
    outcomes,
    refused,
    stream_of,
    trailing,
    until,
)
from model.crop import Pixels
from model.estimator import Keypoints
from model.skeleton import COCO
from pictures import jpeg
from service.errors import Unavailable
from service.record import RequestRecord

MANY = [(0.0, 0.0, 60.0, 80.0)] * 100  # the answer has 50 kB


def test_a_full_queue_makes_a_stream_wait_where_a_single_call_is_refused():
    estimator = HeldBack()

    async def talk(to: Served) -> list:
        running = await estimator.hold(to)
        streaming = asyncio.ensure_future(stream_of(to, [frame(number) for number in range(3)]))
        await until(lambda: to.service.admission.requests == 2)
        error = await refused(to.poses.EstimatePose(estimate_request()))
        assert (error.code(), trailing(error)["reason"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "overloaded")
        assert not streaming.done()
        estimator.gate.set()
        await running
        return await streaming

    service = make_service(engine=make_engine(estimator, max_waiting=1))
    assert outcomes(ask(service, talk)) == [(0, 0, ""), (1, 0, ""), (2, 0, "")]


class Quick(HeldBack):
    """Looks at nothing, so that many persons cost little."""

    def estimate(self, crops: Sequence[Pixels], *, flip_test: bool = False) -> list[Keypoints]:
        self.gate.wait(timeout=30)
        return [Keypoints(np.zeros((len(COCO), 2)), np.ones(len(COCO))) for _ in crops]


async def settled(number: list[object]) -> int:
    """How long a list has become when it has stopped growing."""
    for _ in range(200):
        before = len(number)
        for _ in range(50):
            await asyncio.sleep(0.002)
        if len(number) == before:
            return before
    pytest.fail("it does not stop")


@pytest.mark.parametrize("held_back", ["network", "client"])
def test_who_sends_faster_than_is_answered_or_does_not_take_answers_is_held_back(held_back, monkeypatch, caplog):
    estimator = Quick()
    records: list[RequestRecord] = []
    service = make_service(estimator, admission=make_admission(observers=[records.append]))
    read: list[object] = []
    holds = service.admission.hold
    monkeypatch.setattr(service.admission, "hold", lambda record, size: (read.append(record), holds(record, size)))
    sent: list[int] = []

    async def talk(to: Served) -> None:
        call = to.poses.StreamPoses()
        big = jpeg() + bytes(50_000)

        async def send() -> None:
            for number in range(1000):
                await call.write(frame(number, big, MANY if held_back == "client" else ()))
                sent.append(number)

        if held_back == "network":
            estimator.gate.clear()
        sending = asyncio.ensure_future(send())
        await until(lambda: len(read) >= 4)
        if held_back == "network":
            assert (await settled(read), to.service._engine.persons) == (4, 4)
        else:
            assert await settled(read) < 500  # some answers fit into the buffers of the connection
        assert await settled(sent) < 900
        assert to.service.admission._held_bytes <= 4 * len(big)
        estimator.gate.set()
        call.cancel()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await until(lambda: is_idle(to))

    ask(service, talk, max_frames=4)
    assert records[-1].caller.method == "stream"
    assert records[-1].outcome == "gone"
    assert [line.getMessage() for line in caplog.records if line.levelno >= logging.WARNING] == []


def test_a_client_who_leaves_frees_everything(caplog):
    estimator = HeldBack()
    records: list[RequestRecord] = []

    async def talk(to: Served) -> None:
        running = await estimator.hold(to)
        call = to.poses.StreamPoses()
        for number in range(6):
            await call.write(frame(number))
        await until(lambda: to.service._engine.waiting == 4)
        call.cancel()
        await until(lambda: (to.service.admission.requests, to.service._engine.persons) == (1, 1))
        estimator.gate.set()
        await running
        await until(lambda: is_idle(to))

    ask(make_service(estimator, admission=make_admission(observers=[records.append])), talk, max_frames=4)
    assert estimator.batches == [1, 1]  # the warm-up and the one that ran: no frame was computed
    told = sorted((record.caller.method, record.outcome) for record in records)
    assert told == [("frame", "gone")] * 4 + [("pose", "ok"), ("stream", "gone")]
    assert [line.getMessage() for line in caplog.records if line.levelno >= logging.WARNING] == []


def test_clients_who_leave_at_any_moment_leave_nothing_behind_and_nothing_in_the_log(caplog):
    async def talk(to: Served) -> None:
        await asyncio.gather(*(leave(to, number) for number in range(40)))
        await until(lambda: is_idle(to))
        assert len(await stream_of(to, [frame(1)])) == 1

    async def leave(to: Served, number: int) -> None:
        call = to.poses.StreamPoses()
        moving = [asyncio.ensure_future(send(call))]
        if number % 2:
            moving.append(asyncio.ensure_future(call.read()))
        await asyncio.sleep(0.001 * number)
        call.cancel()
        for one in moving:
            one.cancel()
        await asyncio.gather(*moving, return_exceptions=True)

    async def send(call: grpc.aio.StreamStreamCall) -> None:
        for number in range(100):
            await call.write(frame(number))

    ask(make_service(), talk)
    assert [line.getMessage() for line in caplog.records if line.levelno >= logging.WARNING] == []


def test_when_the_service_stops_what_was_read_is_answered_and_the_stream_ends():
    estimator = HeldBack()

    async def talk(to: Served) -> tuple[list, grpc.aio.AioRpcError]:
        estimator.gate.clear()
        call = to.poses.StreamPoses()
        for number in range(3):
            await call.write(frame(number))
        await until(lambda: to.service._engine.persons == 3)
        to.service.stop()
        assert to.service.admission.requests == 1  # not over before its frames are
        estimator.gate.set()
        answers = [await call.read() for _ in range(3)]
        error = await refused(call.read())
        await until(lambda: is_idle(to))
        return answers, error

    answers, error = ask(make_service(estimator), talk)
    assert outcomes(answers) == [(0, 0, ""), (1, 0, ""), (2, 0, "")]
    assert (error.code(), trailing(error)["reason"]) == (grpc.StatusCode.UNAVAILABLE, Unavailable.reason)
    assert "send the other frames again" in error.details()


def test_an_idle_stream_ends_when_the_service_stops_and_a_new_one_is_refused():
    async def talk(to: Served) -> tuple[grpc.aio.AioRpcError, grpc.aio.AioRpcError]:
        call = to.poses.StreamPoses()
        await call.write(frame(1))
        await call.read()
        to.service.stop()
        return await refused(call.read()), await refused(to.poses.StreamPoses().read())

    for error in ask(make_service(), talk):
        assert (error.code(), trailing(error)["reason"]) == (grpc.StatusCode.UNAVAILABLE, Unavailable.reason)


async def one_and_no_end() -> AsyncIterator[object]:
    yield frame(1)
    await asyncio.Event().wait()


def test_the_deadline_of_a_stream_ends_it_and_frees_everything():
    estimator = HeldBack()

    async def talk(to: Served) -> grpc.aio.AioRpcError:
        estimator.gate.clear()
        error = await refused(to.poses.StreamPoses(one_and_no_end(), timeout=0.2).read())
        await until(lambda: is_idle(to))
        estimator.gate.set()
        return error

    assert ask(make_service(estimator), talk).code() == grpc.StatusCode.DEADLINE_EXCEEDED
