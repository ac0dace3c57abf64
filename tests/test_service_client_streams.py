"""Streams of frames through the client: order, errors of frames and of streams, and bounded sending ahead."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from client_answers import StandIn, some_poses
from client_blocking import opened
from client_servers import grpc_stand_in, http_stand_in
from service.client import Frame, FrameAnswer, connect_async
from service.client_frames import MAX_AHEAD
from service.errors import (
    InvalidParameter,
    Late,
    NotAnImage,
    Overloaded,
    PoseServiceError,
    Unauthenticated,
    Unavailable,
)

BOXES = [(1.0, 2.0, 30.5, 40.0)]
STREAM_ERRORS = {"unauthenticated", "unavailable"}  # they end it; all others belong to a frame


@pytest.fixture(params=["http", "grpc"])
def server(request) -> Iterator[StandIn]:
    with (http_stand_in if request.param == "http" else grpc_stand_in)() as stand_in:
        yield stand_in


@pytest.fixture
def grpc_server() -> Iterator[StandIn]:
    with grpc_stand_in() as stand_in:
        yield stand_in


@pytest.fixture(params=["sync", "async"])
def surface(request) -> str:
    return request.param


def test_answers_come_in_the_order_of_the_frames(server, surface, tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(b"from a file")
    frames = [Frame(7, b"picture"), Frame(3, path, BOXES, flip_test=True), Frame(7, b"picture"), Frame(2**64 - 1, b"x")]
    with opened(surface, server.address, api_key="sesame") as client:
        answers = list(client.stream(frames, request_id="a-1"))
    assert answers == [
        FrameAnswer(7, some_poses(), None),
        FrameAnswer(3, some_poses(BOXES), None),
        FrameAnswer(7, some_poses(), None),
        FrameAnswer(2**64 - 1, some_poses(), None),
    ]
    second = server.asked[1]
    assert (second.image, second.boxes, second.flip_test) == (b"from a file", BOXES, True)
    assert (second.headers["x-api-key"], second.headers["x-request-id"]) == ("sesame", "a-1")


def test_a_stream_without_frames_has_no_answers(server, surface):
    with opened(surface, server.address) as client:
        assert list(client.stream([])) == []


def test_a_bad_frame_is_answered_with_its_error_and_the_stream_goes_on(server, surface):
    pictures = [b"picture", b"not_an_image", b"overloaded", b"picture"]
    with opened(surface, server.address) as client:
        answers = list(client.stream(Frame(number, image) for number, image in enumerate(pictures)))
    assert [answer.frame_id for answer in answers] == [0, 1, 2, 3]
    assert [type(answer.error) for answer in answers] == [type(None), NotAnImage, Overloaded, type(None)]
    assert [answer.result is None for answer in answers] == [False, True, True, False]
    assert str(answers[1].error) == "the picture is not_an_image"


@pytest.mark.parametrize("reason", sorted(STREAM_ERRORS))
def test_what_concerns_every_frame_ends_the_stream(server, surface, reason):
    taken: list[FrameAnswer] = []
    with opened(surface, server.address) as client, pytest.raises(PoseServiceError) as caught:
        taken.extend(client.stream([Frame(1, b"picture"), Frame(2, reason.encode()), Frame(3, b"picture")]))
    assert caught.value.reason == reason
    assert str(caught.value) == f"the picture is {reason}"


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_stream_to_nobody_is_unavailable(scheme, surface):
    with opened(surface, f"{scheme}://127.0.0.1:1") as client, pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        list(client.stream([Frame(1, b"picture")]))


def test_what_the_frames_raise_comes_after_the_answers_before_it(server, surface):
    def frames() -> Iterator[Frame]:
        yield Frame(1, b"picture")
        raise ZeroDivisionError("the camera fell down")

    answers = []
    with opened(surface, server.address) as client, pytest.raises(ZeroDivisionError, match="camera"):  # noqa: PT012
        for answer in client.stream(frames()):
            answers.append(answer.frame_id)  # noqa: PERF401 (the loop ends with an error)
    assert answers == [1]


def test_a_frame_whose_file_is_missing_ends_the_stream(server, surface, tmp_path):
    with opened(surface, server.address) as client, pytest.raises(FileNotFoundError):
        list(client.stream([Frame(1, tmp_path / "missing.jpg")]))


def test_a_stream_may_have_a_deadline(server, surface):
    def frames() -> Iterator[Frame]:
        yield Frame(0, b"picture")
        yield Frame(1, b"slow")
        yield Frame(2, b"picture")

    with opened(surface, server.address) as client, pytest.raises(Late, match=r"0\.2 s"):
        list(client.stream(frames(), timeout_s=0.2))


@pytest.mark.parametrize("surface", ["sync", "async"])
def test_no_more_frames_are_taken_than_may_be_unanswered(grpc_server, surface):
    grpc_server.hold_until = MAX_AHEAD  # the first is answered when so many have arrived
    answers: list[FrameAnswer] = []
    unanswered: list[int] = []

    def frames() -> Iterator[Frame]:
        for number in range(3 * MAX_AHEAD):
            unanswered.append(number + 1 - len(answers))
            yield Frame(number, b"picture")

    with opened(surface, grpc_server.address) as client:
        for answer in client.stream(frames()):
            answers.append(answer)  # noqa: PERF402 (the frames count them meanwhile)
    assert [answer.frame_id for answer in answers] == list(range(3 * MAX_AHEAD))
    assert max(unanswered) == MAX_AHEAD


def test_over_http_a_frame_is_taken_when_the_one_before_is_answered(surface):
    with http_stand_in() as server, opened(surface, server.address) as client:
        taken: list[int] = []

        def frames() -> Iterator[Frame]:
            for number in range(3):
                taken.append(number)
                yield Frame(number, b"picture")

        for answer in client.stream(frames()):
            assert taken[-1] == answer.frame_id


def test_a_stream_that_is_left_early_ends_on_the_server_too(grpc_server, surface):
    more = threading.Event()

    def frames() -> Iterator[Frame]:
        yield Frame(1, b"picture")
        more.wait(timeout=30)

    with opened(surface, grpc_server.address) as client:
        answers = client.stream(frames())
        assert next(answers).frame_id == 1
        answers.close()
        assert grpc_server.call_ended.wait(timeout=30)
        more.set()
        assert client.estimate(b"picture") == some_poses(), "the connection is still good"


def test_a_server_that_ends_a_stream_early_is_noticed(grpc_server, surface):
    grpc_server.frames_answered = 2
    with opened(surface, grpc_server.address) as client, pytest.raises(Unavailable, match="before every frame"):
        list(client.stream(Frame(number, b"picture") for number in range(100)))


def test_the_servers_error_is_told_also_when_it_meets_a_frame_on_its_way(grpc_server, surface):
    frames = [Frame(number, b"unauthenticated" if number == 2 else bytes(10_000)) for number in range(100)]
    with opened(surface, grpc_server.address) as client:
        for _ in range(20):  # grpc.aio would hide it every other time
            with pytest.raises(Unauthenticated, match="the picture is unauthenticated"):
                list(client.stream(frames))


def test_frames_may_be_asynchronous(server):
    async def frames() -> AsyncIterator[Frame]:
        for number in range(3):
            await asyncio.sleep(0)
            yield Frame(number, b"picture")

    async def ask() -> list[int]:
        async with connect_async(server.address) as client:
            return [answer.frame_id async for answer in client.stream(frames())]

    assert asyncio.run(ask()) == [0, 1, 2]


def test_streams_and_calls_share_a_client(server):
    async def ask() -> list[int]:
        async with connect_async(server.address) as client:

            async def stream(first: int) -> list[int]:
                frames = [Frame(first + number, b"picture") for number in range(5)]
                return [answer.frame_id async for answer in client.stream(frames)]

            one, other, result = await asyncio.gather(stream(0), stream(100), client.estimate(b"picture"))
            assert result == some_poses()
            return one + other

    assert asyncio.run(ask()) == [0, 1, 2, 3, 4, 100, 101, 102, 103, 104]


def test_a_cancelled_call_is_cancelled(server):
    async def ask() -> None:
        async with connect_async(server.address) as client:
            task = asyncio.create_task(client.estimate(b"slow"))
            while not server.asked:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("arguments", "allowed"), [((-1, b""), "0 to 2"), ((2**64, b""), "0 to 2"), ((1, b"", []), "boxes_xywh is empty")]
)
def test_a_frame_that_cannot_be_sent_is_refused_where_it_is_made(arguments, allowed):
    with pytest.raises(InvalidParameter, match=allowed):
        Frame(*arguments)
