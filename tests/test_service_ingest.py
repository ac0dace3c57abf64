"""A video through the service and into files: order, reconnecting, dropping, stopping, and what is said of it."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import service.ingest_stream
from model.drawing import identity_rgb
from service import ingest_backoff
from service.ingest import main
from stream_servers import Streams, pixels_of, stream_server
from videos import SIZE, center, read_video, turn, write_video

FRAMES = 20


@pytest.fixture(autouse=True)
def _soon_again(monkeypatch):
    """Waits between connections that suit a test."""
    monkeypatch.setattr(ingest_backoff, "FIRST_S", 0.02)


@pytest.fixture
def server() -> Iterator[Streams]:
    with stream_server() as streams:
        yield streams


@pytest.fixture
def clip(tmp_path) -> Path:
    return write_video(tmp_path / "clip.mp4", FRAMES)


def run(clip: Path | str, server: Streams, *arguments: object) -> tuple[int, list[dict[str, Any]]]:
    """The exit code, and the lines."""
    lines = (clip.parent if isinstance(clip, Path) else Path(str(arguments[-1])).parent) / "poses.jsonl"
    code = main([str(clip), "--server", server.host_port, "--jsonl", str(lines), *map(str, arguments)])
    text = lines.read_text()
    assert text == "" or text.endswith("\n"), "only whole lines"
    return code, [json.loads(line) for line in text.splitlines()]


def middle(line: dict[str, Any]) -> tuple[float, float]:
    """Of the box of the one person of a line."""
    (annotation,) = line["annotations"]
    x, y, width, height = annotation["bbox"]
    return x + width / 2, y + height / 2


def numbers(lines: list[dict[str, Any]]) -> list[int]:
    return [line["frame_id"] for line in lines]


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
    assert "20 frames answered" in capfd.readouterr().err


def test_a_service_that_dies_loses_and_doubles_nothing_and_identities_stay_apart(server, clip, capfd):
    server.restart_after(7, away_s=0.1)
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


def test_a_service_that_falls_silent_is_left(server, clip, monkeypatch, capfd):
    monkeypatch.setattr(service.ingest_stream, "ANSWER_S", 0.3)
    server.silent = True
    server_tries = 2
    code, lines = run(clip, server, "--tries", server_tries)
    assert (code, lines) == (1, [])
    assert len(server.sent) == server_tries


def test_dropped_frames_of_a_live_source_are_accounted_for(server, tmp_path):
    clip = write_video(tmp_path / "clip.mp4", 40, rate=200)
    server.hold_until, server.answer_s = 8, 0.02
    code, lines = run(clip, server, "--live")
    assert code == 0
    told = numbers(lines)
    assert told == sorted(set(told))
    assert sum(line["dropped"] for line in lines) > 0
    assert sum(line["dropped"] + 1 for line in lines) == told[-1] + 1 == 40, "the last frame is always answered"
    assert all(middle(line) == pytest.approx(center(line["frame_id"]), abs=0.6) for line in lines)
    assert all("read_at" in line for line in lines)


def test_a_live_source_goes_on_with_its_newest_frame_when_the_service_is_back(server, tmp_path):
    clip = write_video(tmp_path / "clip.mp4", 60, rate=100)
    server.restart_after(5, away_s=0.1)
    code, lines = run(clip, server, "--live")
    assert code == 0
    told = numbers(lines)
    assert told == sorted(set(told))
    assert told[-1] == 59
    assert sum(line["dropped"] + 1 for line in lines) == 60
    assert server.numbers()[-1][0] > told[4] + 1, "frames from the time without a service are not sent"


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
def test_a_signal_leaves_whole_lines_and_a_video_that_plays(server, tmp_path, by, code):
    clip = write_video(tmp_path / "clip.mp4", 300)
    server.answer_s = 0.005
    server.then = lambda answered: os.kill(os.getpid(), by) if answered == 10 else None
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


def test_raw_frames_are_the_pixels_themselves(server, clip):
    run(clip, server, "--raw", "--plain")
    _, pictures = read_video(clip)
    assert server.sent[0][0].options.plain
    assert len(server.sent[0]) == FRAMES
    for message, expected in zip(server.sent[0], pictures, strict=True):
        assert not message.image
        assert (pixels_of(message) == expected).all()


def test_every_other_frame_of_a_part_of_the_file(server, tmp_path):
    clip = write_video(tmp_path / "clip.mp4", 50)
    _, lines = run(clip, server, "--every", 3, "--start", 0.4, "--duration", 0.8)
    assert numbers(lines) == list(range(0, 20, 3))
    assert [line["time_s"] for line in lines] == pytest.approx([0.4 + 0.12 * step for step in range(7)], abs=1e-3)
    assert [line["dropped"] for line in lines] == [0] * 7
    assert [one.captured_us for one in server.sent[0]] == [round(1e6 * line["time_s"]) for line in lines]


def test_a_loop_goes_on_counting_and_its_time_goes_forward(server, clip):
    server.then = lambda answered: os.kill(os.getpid(), signal.SIGINT) if answered == 3 * FRAMES else None
    code, lines = run(clip, server, "--loop")
    assert code == 130
    assert numbers(lines) == list(range(len(lines)))
    steps = np.diff([line["time_s"] for line in lines])
    assert steps == pytest.approx(np.full(len(steps), 0.04), abs=1e-3)


def test_a_frame_without_poses_has_its_error_in_its_line_and_in_the_exit_code(server, clip, capfd):
    server.bad_frames = frozenset({4})
    code, lines = run(clip, server, "--out", clip.parent / "out.mp4")
    assert code == 1
    assert len(lines) == FRAMES
    assert lines[4]["error"] == {"reason": "not_an_image", "message": "that is no picture"}
    assert lines[4]["annotations"] == []
    assert "error" not in lines[5]
    assert len(read_video(clip.parent / "out.mp4")[0]) == FRAMES
    assert "1 without poses (the last: not_an_image: that is no picture)" in capfd.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
@pytest.mark.parametrize("option", ["--jsonl", "--out"])
def test_a_full_disk_ends_it_with_a_word(server, clip, capfd, option):
    full = Path("/dev/full")
    if option == "--out":
        full = clip.parent / "full.mp4"
        full.symlink_to("/dev/full")
    assert main([str(clip), "--server", server.host_port, option, str(full)]) == 1
    assert f"error: {full}: No space left on device" in capfd.readouterr().err


def test_lines_may_go_to_the_standard_output(server, clip, capfd):
    assert main([str(clip), "--server", server.host_port, "--jsonl", "-"]) == 0
    said = capfd.readouterr()
    assert numbers([json.loads(line) for line in said.out.splitlines()]) == list(range(FRAMES))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{tmp}/none.mp4"], "none.mp4 is not a file; allowed: a file, camera:0, or a URL"),
        (["ftp://host/x.mp4"], "scheme of the video is 'ftp'; allowed: http, https, rtsp"),
        (["{tmp}/text.mp4"], "text.mp4 cannot be read: Invalid data"),
        (["rtsp://user:secret@127.0.0.1:1/x?token=secret"], "rtsp://127.0.0.1:1/x cannot be read: Connection refused"),
        (["{clip}", "--server", "http://localhost:8000"], "scheme 'http'; allowed: host:port, grpc://"),
        (["{clip}", "--out", "{tmp}/out.avi"], "allowed: a name that ends in .mp4"),
        (["{clip}", "--out", "{clip}"], "is the video itself"),
        (["{clip}", "--jsonl", "{tmp}/no/such/out"], "there is no such folder"),
        (["{clip}", "--raw", "--jpeg-quality", "80"], "--jpeg-quality does not go with --raw"),
        (["{clip}", "--jpeg-quality", "0"], "allowed: 1 to 100"),
        (["{clip}", "--beta", "1"], "go with --smooth"),
        (["{clip}", "--plain", "--smooth"], "plain is True; allowed with smoothing"),
        (["{clip}", "--live", "--pace", "fast"], "allowed with --live: source"),
        (["{clip}", "--every", "0"], "--every is 0; allowed: 1 or more"),
        (["{clip}", "--tries", "-1"], "--tries is -1; allowed: 0 or more"),
        (["{clip}", "--ca-cert", "{clip}"], "grpc:// does not use certificates"),
        (["{clip}", "--source-option", "fast"], "allowed: KEY=VALUE"),
        (["rtsp://127.0.0.1:1/x", "--loop"], "--loop goes with a file only"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_asked(clip, tmp_path, capfd, arguments, said):
    (tmp_path / "text.mp4").write_text("no video at all\n" * 100)
    filled = [one.format(tmp=tmp_path, clip=clip) for one in arguments]
    if "--server" not in filled:
        filled += ["--server", "127.0.0.1:1"]
    with pytest.raises(SystemExit) as ended:
        main(filled)
    error = capfd.readouterr().err
    assert ended.value.code == 2
    assert said in error
    assert "secret" not in error
