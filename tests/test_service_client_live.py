"""Streams as the client asks for them: raw frames, options, capture times, and live ones that drop frames."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from client_blocking import opened
from client_servers import http_stand_in
from service.client import Frame, Smoothing, StreamOptions
from service.client_errors import UnexpectedAnswer
from service.client_frames import MAX_AHEAD_LIVE
from service.client_newest import Newest
from service.errors import InvalidParameter, Unavailable
from service.pb import pose_pb2 as pb
from stream_servers import Streams, pixels_of, stream_server
from videos import picture

LIVE = StreamOptions(pace="live")


@pytest.fixture
def server() -> Iterator[Streams]:
    with stream_server() as streams:
        yield streams


@pytest.fixture(params=["sync", "async"])
def surface(request) -> str:
    return request.param


def address(server: Streams) -> str:
    return f"grpc://{server.host_port}"


def frames(count: int, *, every_s: float = 0.0) -> Iterator[Frame]:
    for number in range(count):
        time.sleep(every_s)
        yield Frame(number, raw=picture(number), captured_us=1000 * number)


def test_raw_frames_arrive_as_they_are_with_their_times_and_are_answered(server, surface):
    with opened(surface, address(server)) as client:
        answers = list(client.stream(frames(3)))
    for number, message in enumerate(server.sent[0]):
        assert (pixels_of(message) == picture(number)).all()
        assert (message.image, message.captured_us, message.HasField("options")) == (b"", 1000 * number, False)
    assert [answer.frame_id for answer in answers] == [0, 1, 2]
    assert all((answer.detected, answer.age_s, answer.dropped_frames) == (True, 0.002, 0) for answer in answers)
    assert answers[0].result.poses[0].track_id == 1


def test_a_part_of_an_array_may_be_sent(server):
    wide = np.zeros((64, 200, 3), dtype=np.uint8)
    wide[:, 100:196] = picture(5)
    with opened("sync", address(server)) as client:
        list(client.stream([Frame(5, raw=wide[:, 100:196])]))
    assert (pixels_of(server.sent[0][0]) == picture(5)).all()


def test_options_are_in_the_first_frame_only(server, surface):
    options = StreamOptions(pace="live", smoothing=Smoothing(min_cutoff_hz=0.5), detect_every=7)
    with opened(surface, address(server)) as client:
        list(client.stream(frames(4, every_s=0.01), options=options))
        list(client.stream(frames(1), options=StreamOptions(plain=True)))
    first, *others = server.sent[0]
    smoothing = pb.Smoothing(min_cutoff_hz=0.5)
    assert first.options == pb.StreamOptions(pace=pb.STREAM_PACE_LIVE, smoothing=smoothing, detect_every=7)
    assert not any(one.HasField("options") for one in others)
    assert server.sent[1][0].options == pb.StreamOptions(plain=True, pace=pb.STREAM_PACE_EVERY_FRAME)


def test_each_live_frame_is_answered_or_told_as_dropped_and_the_last_is_answered(server, surface):
    server.hold_until = 6
    with opened(surface, address(server)) as client:
        answers = list(client.stream(frames(60, every_s=0.002), options=LIVE))
    told = [number for answer in answers for number in (*answer.dropped_frame_ids, answer.frame_id)]
    assert told == list(range(60))
    assert all(len(answer.dropped_frame_ids) == answer.dropped_frames for answer in answers)
    assert len(answers) < 40


def test_a_live_source_that_is_faster_than_the_service_does_not_pile_up(server):
    server.silent = True
    taken = threading.Event()

    def endless() -> Iterator[Frame]:
        for number in range(10 * MAX_AHEAD_LIVE):
            time.sleep(0)
            yield Frame(number, raw=picture(number))
        taken.set()

    with opened("sync", address(server)) as client:
        stream = client.stream(endless(), options=LIVE)
        threading.Thread(target=lambda: (taken.wait(30), setattr(server, "silent", False))).start()
        first = next(stream)
        assert taken.is_set(), "the source was not held back"
        sent_before_an_answer = len(server.sent[0])
        assert sent_before_an_answer <= MAX_AHEAD_LIVE + 2  # those that the first answer made room for
        told = [first, *stream]
    assert [number for one in told for number in (*one.dropped_frame_ids, one.frame_id)] == list(
        range(10 * MAX_AHEAD_LIVE)
    )


def test_what_a_live_source_raises_comes_after_its_last_frame(server, surface):
    def broken() -> Iterator[Frame]:
        yield from frames(3)
        raise ZeroDivisionError("the camera fell down")

    answers = []
    with opened(surface, address(server)) as client, pytest.raises(ZeroDivisionError, match="camera"):  # noqa: PT012
        for answer in client.stream(broken(), options=LIVE):
            answers.append(answer.frame_id)  # noqa: PERF401 (the loop ends with an error)
    assert answers[-1] == 2


def test_a_live_stream_whose_service_dies_is_unavailable(server, surface):
    server.then = lambda answered: server.die() if answered == 3 else None
    with opened(surface, address(server)) as client, pytest.raises(Unavailable):
        list(client.stream(frames(1000, every_s=0.005), options=LIVE))


def test_a_live_stream_that_is_left_early_reads_no_further(server):
    taken: list[int] = []
    left = threading.Event()

    def camera() -> Iterator[Frame]:
        for frame in frames(10_000, every_s=0.001):
            if frame.frame_id == 500:
                left.wait(30)
            taken.append(frame.frame_id)
            yield frame

    with opened("sync", address(server)) as client:
        stream = client.stream(camera(), options=LIVE)
        next(stream)
        (reads,) = (thread for thread in threading.enumerate() if thread.name == "newest-frame")
        stream.close()
    left.set()
    reads.join(30)
    assert not reads.is_alive()
    assert len(taken) < 1000


@pytest.mark.parametrize("told", [{"frame_id": 5}, {"frame_id": 0, "dropped_frames": 3}])
def test_an_answer_to_what_was_not_sent_is_unexpected(server, surface, monkeypatch, told):
    monkeypatch.setattr("stream_servers._Servicer._answer", lambda *_: pb.StreamPosesResponse(**told))
    with opened(surface, address(server)) as client, pytest.raises(UnexpectedAnswer, match="frame"):
        list(client.stream(frames(1)))


def test_the_newest_frame_takes_the_place_of_those_that_waited():
    go_on, read = threading.Event(), threading.Event()

    def source() -> Iterator[Frame]:
        yield from (Frame(number, b"") for number in range(4))
        read.set()
        go_on.wait(30)
        yield Frame(9, b"")

    newest = Newest(source())
    first, skipped = next(newest)
    assert (*skipped, first.frame_id)[0] == 0
    read.wait(30)
    go_on.set()
    rest = [number for frame, skipped in newest for number in (*skipped, frame.frame_id)]
    assert [*skipped, first.frame_id, *rest] == [0, 1, 2, 3, 9]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (StreamOptions(), "is not offered over HTTP"),
        (LIVE, "pace='live'.* is not offered over HTTP"),
        (StreamOptions(detect_every=3), "allowed there: None, or StreamOptions"),
    ],
)
def test_http_says_what_it_does_not_offer(surface, options, said):
    with http_stand_in() as server, opened(surface, server.address) as client:
        with pytest.raises(InvalidParameter, match=said):
            list(client.stream([Frame(1, b"picture")], options=options))
        with pytest.raises(InvalidParameter, match="raw pixels, which are not offered over HTTP"):
            list(client.stream([Frame(1, raw=picture(1))]))
        assert len(list(client.stream([Frame(1, b"picture")], options=StreamOptions(plain=True)))) == 1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Frame(1), "frame 1 has neither image nor raw; allowed: one of them"),
        (lambda: Frame(1, b"x", raw=picture(0)), "frame 1 has both image and raw"),
        (lambda: Frame(1, raw=picture(0).astype(float)), r"raw is float64 of shape \(64, 96, 3\); allowed: a uint8"),
        (lambda: Frame(1, raw=picture(0)[..., 0]), r"raw is uint8 of shape \(64, 96\)"),
        (lambda: Frame(1, raw=picture(0)[:0]), r"shape \(0, 96, 3\)"),
        (lambda: Frame(1, raw=[[0, 0, 0]]), "raw is list; allowed"),
        (lambda: Frame(1, b"x", captured_us=-1), r"captured_us is -1; allowed: 0 to 2\*\*64 - 1"),
        (lambda: StreamOptions(pace="fast"), "pace is 'fast'; allowed: every_frame, live"),
        (lambda: StreamOptions(detect_every=0), "detect_every is 0; allowed: 1 to"),
        (lambda: StreamOptions(plain=True, detect_every=2), "plain is True; allowed with"),
        (lambda: Smoothing(min_cutoff_hz=0), "min_cutoff_hz is 0; allowed: hertz above 0"),
        (lambda: Smoothing(derivative_cutoff_hz=float("nan")), "derivative_cutoff_hz is nan"),
        (lambda: Smoothing(beta=-1), "beta is -1; allowed: 0 or more"),
    ],
)
def test_what_cannot_be_sent_is_refused_where_it_is_made(make, said):
    with pytest.raises(InvalidParameter, match=said):
        make()
