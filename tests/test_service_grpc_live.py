"""Streams that keep up with a camera: the newest frame is answered, and the others are told of."""

from __future__ import annotations

import asyncio

import pytest

from fakes import make_service
from grpc_clients import HeldBack, Served, ask, frame, refused, until
from service.grpc_stream import REMEMBERED, Dropped, Newest, answer_newest
from service.metrics import Metrics
from service.pb import pose_pb2 as pb


def live(frame_id: int, **fields: object) -> pb.StreamPosesRequest:
    message = frame(frame_id, **fields)
    message.options.pace = pb.STREAM_PACE_LIVE
    return message


def told(answer: pb.StreamPosesResponse) -> tuple[int, int, list[int]]:
    return answer.frame_id, answer.dropped_frames, list(answer.dropped_frame_ids)


def test_while_a_frame_is_worked_on_only_the_newest_of_the_others_is_kept():
    estimator, metrics = HeldBack(), Metrics()

    async def talk(to: Served) -> list[pb.StreamPosesResponse]:
        estimator.gate.clear()
        entered = estimator.entered
        call = to.poses.StreamPoses()
        await call.write(live(1))
        await until(lambda: estimator.entered > entered)
        for number in (2, 3, 4, 5):
            await call.write(frame(number))
        await until(lambda: 'dropped_total{pace="live"} 3.0' in metrics.exposition("")[0].decode())
        estimator.gate.set()
        first, second = await call.read(), await call.read()
        await call.write(frame(6))
        await call.done_writing()
        return [first, second, await call.read()]

    answers = ask(make_service(estimator), talk, observer=metrics)
    assert [told(answer) for answer in answers] == [(1, 0, []), (5, 3, [2, 3, 4]), (6, 0, [])]
    assert all(answer.age_seconds > 0 for answer in answers)
    text = metrics.exposition("")[0].decode()
    assert 'btranspose_stream_frame_age_seconds_count{pace="live"} 3.0' in text
    assert 'btranspose_stream_frame_age_seconds_count{pace="every_frame"} 0.0' in text


def test_a_bad_frame_of_a_live_stream_is_answered_with_its_error_and_the_stream_goes_on():
    async def talk(to: Served) -> list[tuple[int, str]]:
        call = to.poses.StreamPoses()
        answers = []
        for message in (live(1, image=b"nothing"), frame(2)):
            await call.write(message)
            answers.append(await call.read())
        await call.done_writing()
        return [(answer.frame_id, answer.error.reason) for answer in answers]

    assert ask(make_service(), talk) == [(1, "not_an_image"), (2, "")]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda options: setattr(options, "pace", 9), "options.pace is 9"),
        (lambda options: setattr(options, "detect_every", 0), "detect_every is 0"),
        (lambda options: setattr(options.smoothing, "min_cutoff_hz", -1.0), "min_cutoff_hz is -1"),
        (lambda options: setattr(options.smoothing, "beta", float("nan")), "beta is nan"),
    ],
)
def test_options_that_mean_nothing_end_the_stream_with_words(spoil, words: str):
    async def talk(to: Served) -> str:
        message = frame(1)
        spoil(message.options)
        call = to.poses.StreamPoses()
        await call.write(message)
        error = await refused(call.read())
        assert error.code().name == "INVALID_ARGUMENT"
        return error.details()

    assert words in ask(make_service(), talk)


def test_raw_pixels_give_the_poses_of_the_same_picture_and_wrong_ones_an_error():
    async def talk(to: Served) -> None:
        from pictures import encoded, square
        from service.images import ImageLimits, decode_image

        picture = encoded(square(center=(20, 60)), "PNG")
        pixels = decode_image(picture, ImageLimits())
        height, width = pixels.shape[:2]
        raw = pb.RawImage(width=width, height=height, rgb=pixels.tobytes())
        messages = [
            pb.StreamPosesRequest(frame_id=1, image=picture),
            pb.StreamPosesRequest(frame_id=2, raw=raw),
            pb.StreamPosesRequest(frame_id=3, raw=pb.RawImage(width=width, height=height, rgb=b"short")),
            pb.StreamPosesRequest(frame_id=4, image=picture, raw=raw),
            pb.StreamPosesRequest(frame_id=5, raw=pb.RawImage()),
        ]
        call = to.poses.StreamPoses(iter(messages))
        answers = [answer async for answer in call]
        assert answers[0].poses[0].keypoints == answers[1].poses[0].keypoints
        assert [answer.error.reason for answer in answers[2:]] == ["invalid_parameter"] * 3
        assert f"raw.rgb has 5 bytes; allowed of {width} x {height} pixels: {3 * width * height}" in (
            answers[2].error.message
        )

    ask(make_service(), talk)


def test_of_many_dropped_frames_the_last_are_named():
    async def talk() -> tuple[int, Dropped] | None:
        newest: Newest[int] = Newest(lambda frame: frame, lambda: None)
        for number in range(REMEMBERED + 10):
            newest.put(number)
        return await newest.take()

    taken = asyncio.run(talk())
    assert taken is not None
    frame_id, dropped = taken
    assert (frame_id, dropped.frames) == (REMEMBERED + 9, REMEMBERED + 9)
    assert dropped.last_ids == tuple(range(9, REMEMBERED + 9))


@pytest.mark.parametrize("broken", ["read", "write"])
def test_when_reading_or_writing_fails_the_work_at_hand_is_given_up(broken: str):
    cancelled: list[int] = []

    async def talk() -> None:
        frames = iter([1, 2])

        async def read() -> int | None:
            if (number := next(frames, None)) is None:
                raise ConnectionError("gone")
            return number

        async def answer(number: int, _: Dropped) -> int:
            if broken == "write":
                return number
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                cancelled.append(number)
                raise
            return number

        async def write(_: int) -> None:
            raise ConnectionError("gone")

        with pytest.raises(ConnectionError):
            await answer_newest(read, answer, write, id_of=int, on_dropped=lambda: None)

    asyncio.run(asyncio.wait_for(talk(), 5))
    assert cancelled == ([2] if broken == "read" else [])
