"""Frames of videos: upright, with times that go forward, past what is broken; and names without passwords."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from service.ingest_place import Place
from service.ingest_source import SourceFailed, SourceFrame, Timeline, Video, upright
from videos import SIZE, center, found, read_video, spoil, turn, write_video


def opened(path: Path, **how) -> Video:
    return Video(Place.read(str(path)), **how)


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "ts"])
def test_times_count_from_the_begin_of_the_video_whatever_its_clock_says(tmp_path, suffix):
    times_s = [5.0, 5.04, 5.2, 5.24, 6.0]
    video = opened(write_video(tmp_path / f"clip.{suffix}", times_s=times_s))
    assert [time_s for time_s, _ in video.pictures()] == pytest.approx([0, 0.04, 0.2, 0.24, 1.0], abs=2e-3)
    video.close()


def test_a_video_tells_its_rate_length_and_number_of_frames(tmp_path):
    video = opened(write_video(tmp_path / "clip.mp4", 50))
    assert (video.frame_rate, video.duration_s, video.frame_count) == (25, pytest.approx(2, abs=0.05), 50)
    video.close()
    unsaid = opened(write_video(tmp_path / "clip.mkv", 50))
    assert unsaid.frame_count == pytest.approx(50, abs=1), "from its length"
    unsaid.close()


def test_a_broken_packet_is_left_out_and_counted(tmp_path):
    clip = write_video(tmp_path / "clip.mp4", 30)
    spoil(clip, 11)
    video = opened(clip)
    times_s = [time_s for time_s, _ in video.pictures()]
    video.close()
    assert video.broken == 1
    assert len(times_s) == 29
    assert times_s[-1] == pytest.approx(29 / 25, abs=1e-3)


def test_a_file_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path):
    clip = write_video(tmp_path / "clip.mkv", 60)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    video = opened(clip)
    assert 10 < len(list(video.pictures())) < 60
    video.close()


@pytest.mark.parametrize(
    ("matrix", "place"),
    [
        ((0, 1, -1, 0), lambda x, y: (SIZE[1] - 1 - y, x)),  # clockwise
        ((0, -1, 1, 0), lambda x, y: (y, SIZE[0] - 1 - x)),
        ((-1, 0, 0, -1), lambda x, y: (SIZE[0] - 1 - x, SIZE[1] - 1 - y)),
        ((-1, 0, 0, 1), lambda x, y: (SIZE[0] - 1 - x, y)),  # mirrored
        ((0, 1, 1, 0), lambda x, y: (y, x)),  # mirrored and turned
    ],
)
def test_frames_come_upright(tmp_path, matrix, place):
    clip = write_video(tmp_path / "clip.mp4", 2)
    turn(clip, *matrix)
    video = opened(clip)
    (_, picture), *_ = video.pictures()
    frame = SourceFrame(0, 0.0, 0.0, picture)
    assert found(frame.pixels) == pytest.approx(place(*center(0)), abs=0.6)
    assert frame.pixels.flags.c_contiguous
    video.close()


def test_an_angle_between_quarters_is_taken_for_the_nearest():
    stored = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    half = round(0.6 * 2**16), round(0.8 * 2**16)
    turned = upright(stored, (half[0], half[1], 0, -half[1], half[0], 0, 0, 0, 1 << 30))
    assert (turned == np.rot90(stored, -1)).all()
    assert upright(stored, None) is stored


def test_pixels_are_those_of_the_file(tmp_path):
    clip = write_video(tmp_path / "clip.mp4", 3)
    _, expected = read_video(clip)
    video = opened(clip)
    assert all(
        (picture.to_ndarray(format="rgb24") == one).all()
        for (_, picture), one in zip(video.pictures(), expected, strict=True)
    )
    video.close()


def test_reading_may_begin_later(tmp_path):
    video = opened(write_video(tmp_path / "clip.mp4", 50), start_s=1.0)
    first_s, _ = next(video.pictures())
    assert first_s <= 1.0, "from the key frame before"
    video.close()


def test_times_go_forward_whatever_the_source_says():
    timeline = Timeline()
    told = [0.0, 0.1, 0.1, 0.05, 0.15, None, 0.4]
    times_s = [timeline.time_of(source_s, frame_s=0.1) for source_s in told]
    assert times_s == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65]), "a clock that is set back goes on from there"
    timeline.restart(gap_s=2.0)
    assert timeline.time_of(77.0, frame_s=0.1) == pytest.approx(2.75)
    assert timeline.time_of(77.5, frame_s=0.1) == pytest.approx(3.25)


@pytest.mark.skipif(sys.platform != "linux", reason="cameras have other names elsewhere")
@pytest.mark.parametrize("text", ["camera:3", "/dev/video3"])
def test_a_camera_has_a_number(text):
    place = Place.read(text)
    assert (place.url, place.kind, place.format, place.is_live) == ("/dev/video3", "camera", "v4l2", True)


@pytest.mark.parametrize(
    ("url", "name", "is_live"),
    [
        ("rtsp://user:secret@10.0.0.7:554/stream?key=secret", "rtsp://10.0.0.7:554/stream", True),
        ("https://example.org/clip.mp4", "https://example.org/clip.mp4", False),
    ],
)
def test_what_is_shown_of_an_address_has_no_password(url, name, is_live):
    place = Place.read(url)
    assert (place.url, place.name, place.kind, place.is_live) == (url, name, "network", is_live)


def test_a_file_without_video_is_refused(tmp_path):
    path = tmp_path / "sound.wav"
    path.write_bytes(
        b"RIFF"
        + (36).to_bytes(4, "little")
        + b"WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0data\0\0\0\0"
    )
    with pytest.raises(SourceFailed, match=r"sound\.wav has no video"):
        opened(path)


def test_a_frame_is_gone_when_it_is_let_go_without_a_search_for_cycles(tmp_path):
    video = opened(write_video(tmp_path / "clip.mp4", 3))
    picture = next(picture for _, picture in video.pictures())
    known = sys.getrefcount(picture)
    frame = SourceFrame(0, 0.0, 0.0, picture)
    assert frame.pixels.shape == (SIZE[1], SIZE[0], 3)
    del frame
    assert sys.getrefcount(picture) == known
    video.close()
