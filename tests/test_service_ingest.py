"""A video through the service and into files: order, reconnecting, dropping, stopping, and what is said of it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import service.ingest_stream
from ingest_runs import FRAMES, middle, numbers, run
from model.drawing import identity_rgb
from service.client_frames import MAX_AHEAD
from service.ingest_outbox import Outbox
from service.ingest_source import SourceFrame
from stream_servers import Streams, pixels_of, stream_server
from videos import SIZE, center, read_video, turn, write_video


@pytest.fixture
def server() -> Iterator[Streams]:
    with stream_server() as streams:
        yield streams


@pytest.fixture
def clip(tmp_path) -> Path:
    return write_video(tmp_path / "clip.mp4", FRAMES)


def test_every_frame_of_a_file_is_answered_in_order_and_with_its_own_poses(server, clip, capfd):
    code, lines = run(clip, server)
    assert code == 0
    assert numbers(lines) == list(range(FRAMES))
    assert [line["time_s"] for line in lines] == pytest.approx([number / 25 for number in range(FRAMES)], abs=1e-4)
    for number, line in enumerate(lines):
        assert middle(line) == pytest.approx(center(number), abs=0.6)
        assert (line["width"], line["height"], line["dropped"], line["detected"]) == (*SIZE, 0, True)
        assert 0 < line["service_age_s"] < line["age_s"]
        (annotation,) = line["annotations"]
        assert (annotation["image_id"], annotation["category_id"], annotation["track_id"]) == (number, 1, 1)
        assert len(annotation["keypoints"]) == 51
    told = capfd.readouterr().err
    assert "20 frames answered" in told
    assert "the service has no detector: the whole frame is taken for one person" in told  # the stand-in names none


def test_a_service_that_dies_loses_and_doubles_nothing_and_identities_stay_apart(server, clip, capfd):
    server.restart_after(7, until=partial(time.sleep, 0.1))
    code, lines = run(clip, server, "--detect-every", 4, "--smooth", "--min-cutoff-hz", 0.5, "--beta", 2)
    assert code == 0
    assert numbers(lines) == list(range(FRAMES))
    assert all(middle(line) == pytest.approx(center(line["frame_id"]), abs=0.6) for line in lines)
    first, *_, last = server.numbers()
    assert first[0] == 0
    assert last[0] > 0, "what was answered is not sent again"
    ids = [line["annotations"][0]["track_id"] for line in lines]
    assert ids == sorted(ids)
    assert set(ids) == {1, 2}, "the service counts from 1 again, and the file goes on"
    for stream in server.sent:
        told = [one.HasField("options") for one in stream]
        assert told == [True] + [False] * (len(stream) - 1)
        options = stream[0].options
        assert (options.detect_every, options.smoothing.min_cutoff_hz, options.smoothing.beta) == (4, 0.5, 2)
        assert not options.smoothing.HasField("derivative_cutoff_hz")
    said = capfd.readouterr().err
    assert "again in" in said
    assert "1 reconnection" in said


def test_a_service_that_is_not_ready_yet_is_waited_for(server, clip):
    server.refuse_models = 3
    assert numbers(run(clip, server)[1]) == list(range(FRAMES))


def test_a_service_that_is_never_there_is_given_up(clip, capfd):
    gone = Streams(port=1)
    code, lines = run(clip, gone, "--tries", 3)
    assert (code, lines) == (1, [])
    assert "given up after 3 failures in a row" in capfd.readouterr().err


def test_a_service_that_falls_silent_is_left(server, clip, monkeypatch):
    server.silent = True
    # It has been silent for long as soon as it has a frame.
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 61.0 * sum(map(bool, server.sent)))
    monkeypatch.setattr(service.ingest_stream, "time", clock)
    code, lines = run(clip, server, "--tries", 2, "--timeout-s", 60)
    assert (code, lines) == (1, [])
    assert len(server.sent) == 2


def test_a_second_signal_does_not_wait_for_answers(server, tmp_path, monkeypatch):
    monkeypatch.setattr(service.ingest_stream, "GRACE_S", 1000.0)
    clip = write_video(tmp_path / "clip.mp4", 100)

    def stop(answered: int) -> None:
        if answered == 5:
            server.silent = True
            # One more than may be ahead: a line has been written. None of the others is ever answered.
            while len(server.sent[0]) <= MAX_AHEAD:
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGINT)
            assert server.over.wait(30), "the first signal has been heard"
            os.kill(os.getpid(), signal.SIGTERM)

    server.then = stop
    code, lines = run(clip, server, "--out", tmp_path / "out.mp4")
    assert code == 130
    assert numbers(lines) == list(range(len(lines)))
    assert 1 <= len(lines) <= 5
    assert len(read_video(tmp_path / "out.mp4")[0]) == len(lines)


def test_dropped_frames_of_a_live_source_are_accounted_for(server, tmp_path):
    clip = write_video(tmp_path / "clip.mp4", 40, rate=200)
    server.hold_until = 8
    code, lines = run(clip, server, "--live")
    assert code == 0
    told = numbers(lines)
    assert told == sorted(set(told))
    assert sum(line["dropped"] for line in lines) > 0
    assert sum(line["dropped"] + 1 for line in lines) == told[-1] + 1 == 40, "the last frame is always answered"
    assert all(middle(line) == pytest.approx(center(line["frame_id"]), abs=0.6) for line in lines)
    assert all("read_at" in line for line in lines)


def test_a_live_source_goes_on_with_its_newest_frame_when_the_service_is_back(server, tmp_path, monkeypatch):
    clip = write_video(tmp_path / "clip.mp4", 60, rate=100)
    read = threading.Event()
    died = server.restart_after(1, until=partial(read.wait, 30))
    put = Outbox.put

    def in_step(outbox: Outbox, frame: SourceFrame) -> bool:
        """The camera goes on to frame 10 when the service has died, and to 40 when it is back."""
        if frame.number == 10:
            assert died.wait(30)
        if frame.number == 40:
            read.set()
            while len(server.sent) < 2:
                time.sleep(0.001)
        return put(outbox, frame)

    monkeypatch.setattr(Outbox, "put", in_step)
    code, lines = run(clip, server, "--live")
    assert code == 0
    told = numbers(lines)
    assert told == sorted(set(told))
    assert told[-1] == 59
    assert sum(line["dropped"] + 1 for line in lines) == 60
    assert server.numbers()[-1][0] >= 39, "frames from the time without a service are not sent"


def test_a_live_stream_that_breaks_off_is_opened_again_until_it_is_given_up(server, tmp_path, capfd):
    clip = write_video(tmp_path / "clip.mkv", FRAMES)
    asked: list[str] = []

    class Camera(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if len(asked) <= 2:
                super().do_GET()
            else:
                self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Camera, directory=tmp_path)) as camera:
        threading.Thread(target=camera.serve_forever, args=(0.01,)).start()
        url = f"http://user:secret@127.0.0.1:{camera.server_port}/{clip.name}"
        code, lines = run(url, server, "--live", "--tries", 3, "--out", tmp_path / "out.mp4")
        camera.shutdown()
    assert code == 1
    said = capfd.readouterr().err
    assert "has broken off, and is given up after 3 failures in a row" in said
    assert "secret" not in said
    told = numbers(lines)
    assert told == sorted(set(told))
    assert told[-1] == 2 * FRAMES - 1, "it goes on counting"
    assert (np.diff([line["time_s"] for line in lines]) > 0).all()
    assert len(read_video(tmp_path / "out.mp4")[0]) == len(lines)


@pytest.mark.parametrize(("by", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_whole_lines_and_a_video_that_plays(server, tmp_path, monkeypatch, by, code):
    monkeypatch.setattr(service.ingest_stream, "GRACE_S", 1000.0)
    clip = write_video(tmp_path / "clip.mp4", 300)

    def stop(answered: int) -> None:
        if answered == 10:
            os.kill(os.getpid(), by)
            assert server.over.wait(30), "it has been heard"

    server.then = stop
    ended, lines = run(clip, server, "--out", tmp_path / "out.mp4")
    assert ended == code
    assert numbers(lines) == list(range(len(lines)))
    assert 10 <= len(lines) < 100
    times_s, _ = read_video(tmp_path / "out.mp4")
    assert times_s == [pytest.approx(line["time_s"], abs=1e-3) for line in lines]


def test_the_video_has_the_sources_size_times_and_identities(server, tmp_path):
    times_s = [0.0, 0.04, 0.2, 0.24, 1.0]
    clip = write_video(tmp_path / "clip.mp4", times_s=times_s, size=(321, 201))
    assert run(clip, server, "--out", tmp_path / "out.mp4")[0] == 0
    told_s, pictures = read_video(tmp_path / "out.mp4")
    assert told_s == pytest.approx(times_s, abs=1e-3)
    for number, image in enumerate(pictures):
        assert image.shape == (202, 322, 3), "an odd side has its edge twice"
        x, y = (round(value) for value in center(number, (321, 201)))
        distances = np.abs(image[max(0, y - 40) : y + 9, max(0, x - 30) : x + 30].astype(int) - identity_rgb(1)).max(
            axis=2
        )
        assert (distances < 60).any(), "the colour of the identity is there"
        assert np.abs(image[150:, 250:].astype(int) - 100).max() < 12, "elsewhere the picture is as it was"


def test_a_turned_video_is_sent_and_written_upright(server, tmp_path):
    clip = write_video(tmp_path / "clip.mp4", 6)
    turn(clip, 0, 1, -1, 0)  # clockwise
    code, lines = run(clip, server, "--out", tmp_path / "out.mp4")
    assert code == 0
    for number, line in enumerate(lines):
        x, y = center(number)
        assert (line["width"], line["height"]) == (SIZE[1], SIZE[0])
        assert middle(line) == pytest.approx((SIZE[1] - 1 - y, x), abs=0.6)
    assert read_video(tmp_path / "out.mp4")[1][0].shape == (SIZE[0], SIZE[1], 3)


def test_frames_that_are_scaled_down_have_their_poses_in_the_sources_pixels(server, tmp_path):
    size = (192, 128)
    clip = write_video(tmp_path / "clip.mp4", 6, size=size)
    _, lines = run(clip, server, "--max-side", 96, "--raw")
    assert pixels_of(server.sent[0][0]).shape == (64, 96, 3)
    for number, line in enumerate(lines):
        x, y = center(number, size)
        annotation = line["annotations"][0]
        first = annotation["keypoints"][:2]  # two pixels left of and above the middle, as it was sent
        assert first == pytest.approx((x - 4, y - 4), abs=1.1)
        assert middle(line) == pytest.approx((x + 0.5, y + 0.5), abs=1.1), "edges scale, and centres lie between them"
        assert annotation["bbox"][2:] == [24, 24]
        assert (line["width"], line["height"]) == size
