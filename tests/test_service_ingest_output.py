"""Files that an ingest writes: whole lines and videos that play, whatever cuts them off; and waits between tries."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest

from client_answers import MODEL
from service import ingest_video
from service.ingest_backoff import BackOff
from service.ingest_output import JsonLines, OutputFailed
from service.ingest_source import SourceFrame
from service.ingest_stream import Answered
from service.ingest_video import KEY_FRAME_EVERY, AnnotatedVideo
from service.poses import Pose
from videos import picture, read_video


def answered(number: int, *, size: tuple[int, int] = (96, 64), people: int = 1) -> Answered:
    frame = SourceFrame(number, number / 25, 0.0, av.VideoFrame.from_ndarray(picture(number, size), format="rgb24"))
    keypoints = tuple((20.0 + joint, 30.0 + joint, 0.9) for joint in range(17))
    poses = tuple(
        Pose(box_xywh=(15.0, 25.0, 30.0, 30.0), score=0.9, keypoints=keypoints, track_id=one + 1)
        for one in range(people)
    )
    return Answered(frame=frame, poses=poses, error=None, dropped=0, detected=True, age_s=0.04, service_age_s=0.03)


@contextmanager
def files_no_larger_than(limit: int) -> Iterator[None]:
    """As on a full disk, but for regular files."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_line_that_found_only_part_of_its_room_is_taken_back(tmp_path):
    path = tmp_path / "poses.jsonl"
    lines = JsonLines(path, tells_when=False)
    with files_no_larger_than(2000), pytest.raises(OutputFailed, match=r"poses\.jsonl: File too large"):  # noqa: PT012
        for number in range(10):
            lines.write(answered(number))
    lines.close()
    told = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["frame_id"] for line in told] == [0, 1, 2][: len(told)]
    assert len(told) > 1


def test_every_line_is_in_the_file_at_once(tmp_path):
    lines = JsonLines(tmp_path / "poses.jsonl", tells_when=True)
    lines.write(answered(7, people=2))
    (line,) = [json.loads(line) for line in (tmp_path / "poses.jsonl").read_text().splitlines()]
    lines.close()
    assert [one["track_id"] for one in line["annotations"]] == [1, 2]
    assert {"frame_id", "time_s", "width", "height", "dropped", "age_s", "read_at"} <= set(line)


def written(path: Path, frames: int, *, close: bool = True, **how) -> AnnotatedVideo:
    video = AnnotatedVideo(path, frame_rate=None, sample_aspect_ratio=None)
    for number in range(frames):
        video.write(answered(number, **how), MODEL)
    if close:
        video.close()
    return video


def frames_that_play(path: Path) -> int:
    """Up to where a file was cut off."""
    count = 0
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            try:
                count += len(packet.decode())
            except av.error.InvalidDataError:
                return count
    return count


def test_a_video_whose_writer_was_killed_plays_as_far_as_it_was_written(tmp_path):
    video = written(tmp_path / "out.mp4", 4 * KEY_FRAME_EVERY, close=False)
    (tmp_path / "copy.mp4").write_bytes((tmp_path / "out.mp4").read_bytes())
    assert frames_that_play(tmp_path / "copy.mp4") >= 2 * KEY_FRAME_EVERY
    video.close()
    assert frames_that_play(tmp_path / "out.mp4") == 4 * KEY_FRAME_EVERY


def test_a_video_on_a_full_disk_plays_as_far_as_it_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr(ingest_video, "KEY_FRAME_EVERY", 5)
    video = AnnotatedVideo(tmp_path / "out.mp4", frame_rate=None, sample_aspect_ratio=None)
    noise = np.random.default_rng(0)
    with files_no_larger_than(1_000_000):
        with pytest.raises(OutputFailed, match="File too large"):  # noqa: PT012
            for number in range(200):
                one = answered(number, size=(320, 240))
                one.frame.pixels[:] = noise.integers(0, 255, (240, 320, 3))
                video.write(one, MODEL)
        with pytest.raises(OutputFailed, match="File too large"):
            video.close()
    assert frames_that_play(tmp_path / "out.mp4") >= 5


def test_a_video_is_written_also_without_the_first_encoder(tmp_path, monkeypatch):
    monkeypatch.setattr(ingest_video, "ENCODERS", {"none": {}, **ingest_video.ENCODERS})
    del ingest_video.ENCODERS["libx264"]
    written(tmp_path / "out.mp4", 10)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
    assert read_video(tmp_path / "out.mp4")[0] == pytest.approx([number / 25 for number in range(10)], abs=1e-3)


def test_frames_of_another_size_than_the_first_are_scaled(tmp_path):
    video = written(tmp_path / "out.mp4", 2, close=False)
    video.write(answered(2, size=(192, 128)), MODEL)
    video.close()
    assert [one.shape for one in read_video(tmp_path / "out.mp4")[1]] == [(64, 96, 3)] * 3


def test_waits_double_up_to_the_longest_and_each_is_shortened_by_chance():
    back_off = BackOff(tries=0, first_s=1.0, most_s=8.0)
    waits_s = [back_off.wait_s() for _ in range(200)]
    for wait_s, most_s in zip(waits_s, [1, 2, 4, *[8] * 197], strict=True):
        assert most_s / 2 <= wait_s <= most_s
    assert len(set(waits_s)) > 190
    back_off.succeeded()
    assert back_off.wait_s() <= 1.0


def test_so_many_failures_in_a_row_are_the_end():
    back_off = BackOff(tries=3)
    assert back_off.wait_s() is not None
    back_off.succeeded()
    assert [back_off.wait_s() is None for _ in range(3)] == [False, False, True]
