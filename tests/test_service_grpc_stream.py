"""Frames of a video on one call: order, numbers, and errors of single frames."""

from __future__ import annotations

import asyncio
import logging

import grpc
import pytest

from fakes import BrightestPixel, make_admission, make_service
from grpc_clients import (
    HeldBack,
    Served,
    ask,
    estimate_request,
    frame,
    outcomes,
    refused,
    stream_of,
    trailing,
    until,
)
from pictures import encoded, jpeg, square
from service.api_keys import ApiKeys
from service.images import ImageLimits
from service.pb import pose_pb2 as pb
from service.record import RequestRecord

KEY = "k-0123456789abcdef"


def test_each_frame_is_answered_in_order_under_the_id_that_it_was_sent_with():
    ids = [7, 7, 0, 2**64 - 1, 3, *range(100, 125)]
    answers = ask(make_service(), lambda to: stream_of(to, [frame(frame_id) for frame_id in ids]))
    assert [answer.frame_id for answer in answers] == ids
    assert all(len(answer.poses) == 1 and not answer.HasField("error") for answer in answers)


@pytest.mark.parametrize("plain", [True, False])
def test_a_frame_has_the_numbers_that_a_call_of_its_own_would_have(plain: bool):
    asked = [
        (image, boxes, flip_test)
        for image in (jpeg(), encoded(square(center=(20, 60))))
        for boxes in ([], [(5.5, 10.25, 50.0, 60.0), (0.0, 0.0, 40.0, 80.0)])
        for flip_test in (False, True)
    ]

    async def talk(to: Served) -> None:
        frames = [frame(number, image, boxes, flip_test=flip) for number, (image, boxes, flip) in enumerate(asked)]
        frames[0].options.plain = plain
        streamed = await stream_of(to, frames)
        for (image, boxes, flip_test), answer in zip(asked, streamed, strict=True):
            alone = await to.poses.EstimatePose(estimate_request(image, boxes, flip_test=flip_test))
            assert (sum(pose.track_id for pose in answer.poses) == 0) is plain
            for pose in answer.poses:
                pose.ClearField("track_id")
            assert (answer.image, list(answer.poses)) == (alone.image, list(alone.poses))

    ask(make_service(), talk)


def test_a_stream_without_frames_ends_well():
    assert ask(make_service(), lambda to: stream_of(to, [])) == []


def test_a_frame_that_is_answered_early_waits_for_those_before_it():
    estimator = HeldBack()

    async def talk(to: Served) -> list:
        estimator.gate.clear()
        call = to.poses.StreamPoses()
        for one in (frame(1), frame(2, b"nothing"), frame(3)):
            await call.write(one)
        await until(lambda: records)  # the second has failed
        first = asyncio.ensure_future(call.read())
        await asyncio.sleep(0.02)
        assert not first.done()
        estimator.gate.set()
        return [await first, await call.read(), await call.read()]

    records: list[RequestRecord] = []
    service = make_service(estimator, admission=make_admission(observers=[records.append]))
    assert outcomes(ask(service, talk)) == [(1, 0, ""), (2, 3, "not_an_image"), (3, 0, "")]


def test_a_bad_frame_is_answered_with_its_error_and_the_stream_goes_on():
    frames = [
        frame(1, b""),
        frame(2, jpeg()[:-200]),
        frame(3, bytes(70_000)),
        frame(4, encoded(square((200, 200)))),
        frame(5, boxes=[(500, 0, 9, 9)]),
        frame(6, boxes=[(0, 0, 9, 9)] * 5),
        frame(7),
    ]
    service = make_service(limits=ImageLimits(max_bytes=60_000, max_pixels=10_000), max_persons=4)
    answers = ask(service, lambda to: stream_of(to, frames))
    assert outcomes(answers) == [
        (1, 3, "not_an_image"),
        (2, 3, "not_an_image"),
        (3, 3, "too_large"),
        (4, 3, "too_large"),
        (5, 3, "invalid_parameter"),
        (6, 3, "invalid_parameter"),
        (7, 0, ""),
    ]
    assert "has 70000 bytes; allowed: at most 60000" in answers[2].error.message
    for answer in answers[:-1]:
        assert not answer.HasField("image")
        assert not answer.poses


def test_a_network_that_fails_and_a_defect_are_errors_of_the_frame(caplog):
    estimator = BrightestPixel()

    async def talk(to: Served) -> list:
        call = to.poses.StreamPoses(metadata=(("x-request-id", "video-1"),))

        async def answer_to(one: pb.StreamPosesRequest) -> pb.StreamPosesResponse:
            await call.write(one)
            return await call.read()

        estimator.fails_with = ValueError("secret")
        failed = await answer_to(frame(1))
        estimator.fails_with = None
        works, to.service.estimate = to.service.estimate, None  # calling it is a defect
        defect = await answer_to(frame(2))
        to.service.estimate = works
        return [failed, defect, await answer_to(frame(3))]

    answers = ask(make_service(estimator), talk)
    assert outcomes(answers) == [(1, 13, "engine_failed"), (2, 13, "internal"), (3, 0, "")]
    assert answers[1].error.message == "an internal error; the log has the details"
    assert not any("secret" in answer.error.message for answer in answers)
    assert "video-1/2" in "".join(line.getMessage() for line in caplog.records if line.levelno >= logging.ERROR)


def test_a_frame_that_takes_too_long_is_late_and_the_stream_is_not():
    estimator = HeldBack()

    async def talk(to: Served) -> list:
        call = to.poses.StreamPoses()
        estimator.gate.clear()
        await call.write(frame(1))
        late = await call.read()
        estimator.gate.set()
        await until(lambda: to.service._engine.persons == 0)
        await call.write(frame(2))
        return [late, await call.read()]

    service = make_service(estimator, admission=make_admission(timeout_s=0.1))
    answers = ask(service, talk)
    assert outcomes(answers)[0] == (1, 4, "late")
    assert answers[1].frame_id == 2


def test_pictures_that_would_be_too_much_to_hold_are_errors_of_their_frames():
    estimator = HeldBack()

    async def talk(to: Served) -> list:
        call = to.poses.StreamPoses()
        estimator.gate.clear()
        await call.write(frame(1))
        await until(lambda: to.service.admission._held_bytes > 0)
        await call.write(frame(2))
        await until(lambda: records)
        estimator.gate.set()
        return [await call.read(), await call.read()]

    records: list[RequestRecord] = []
    admission = make_admission(max_held_bytes=3 * len(jpeg()) // 2, observers=[records.append])
    answers = ask(make_service(estimator, admission=admission), talk)
    assert outcomes(answers) == [(1, 0, ""), (2, 8, "overloaded")]


def test_two_streams_share_batches():
    estimator = HeldBack()

    async def talk(to: Served) -> None:
        running = await estimator.hold(to)
        streams = [asyncio.ensure_future(stream_of(to, [frame(1), frame(2)])) for _ in range(2)]
        await until(lambda: to.service._engine.waiting == 4)
        estimator.gate.set()
        await asyncio.gather(running, *streams)

    ask(make_service(estimator), talk)
    assert estimator.batches == [1, 1, 4]


def test_a_stream_is_one_request_and_each_frame_is_one_under_its_name():
    records: list[RequestRecord] = []
    service = make_service(admission=make_admission(observers=[records.append], api_keys=ApiKeys([KEY])))

    async def talk(to: Served) -> grpc.aio.AioRpcError:
        metadata = (("x-request-id", "video-2"), ("x-api-key", KEY))
        await stream_of(to, [frame(5), frame(6)], metadata=metadata, timeout=20)
        return await refused(to.poses.StreamPoses(metadata=(("x-request-id", "video-3"),)).read())

    error = ask(service, talk)
    assert (error.code(), trailing(error)["x-request-id"]) == (grpc.StatusCode.UNAUTHENTICATED, "video-3")
    told = [(record.caller.method, record.caller.request_id, record.outcome, record.persons) for record in records]
    assert sorted(told[:2]) == [("frame", "video-2/5", "ok", 1), ("frame", "video-2/6", "ok", 1)]
    assert told[2:] == [("stream", "video-2", "ok", 0), ("stream", "video-3", "unauthenticated", 0)]
    # The deadline of the stream is not one of its frames.
    assert [record.deadline_s - record.started_s for record in records[:2]] == pytest.approx([30, 30])
