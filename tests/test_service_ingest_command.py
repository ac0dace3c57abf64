"""The command of an ingest: what it is asked for, what it refuses, and what it says of trouble."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ingest_runs import FRAMES, numbers, run
from service.ingest import main
from stream_servers import Streams, pixels_of, stream_server
from videos import read_video, write_video


@pytest.fixture
def server() -> Iterator[Streams]:
    with stream_server() as streams:
        yield streams


@pytest.fixture
def clip(tmp_path) -> Path:
    return write_video(tmp_path / "clip.mp4", FRAMES)


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
