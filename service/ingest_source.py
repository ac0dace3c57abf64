"""Frames of a video: of a file, a camera, or a stream on the network, read by PyAV (FFmpeg).

Frames come upright and with their times. What cannot be decoded is left out and counted. Knows nothing of the service.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any, cast
from urllib.parse import urlsplit

import av
import numpy as np
from av.sidedata.sidedata import SideData, SideDataContainer, Type

from service.client_frames import RawPixels
from service.ingest_place import Place

WAIT_S = 10.0  # for a stream on the network to open, and for each of its packets
MAX_BROKEN = 1000  # in a row; then it is no video

Matrix = tuple[int, ...]  # of 3 x 3 numbers, as MP4 has them


class SourceFailed(Exception):
    """The video cannot be opened or read on. The text is for a person, and has no password in it."""


@dataclass(frozen=True, eq=False)
class SourceFrame:
    """One frame.

    number: of the frames of the source, from 0; those that were left out count.
    time_s: of the source's own clock, made to go forward; 0 is where the source begins.
    captured_s: when it was read, by `time.monotonic`.
    """

    number: int
    time_s: float
    captured_s: float
    picture: av.VideoFrame = field(repr=False)

    @cached_property
    def pixels(self) -> RawPixels:
        """[H, W, 3] uint8 RGB, upright."""
        stored = np.asarray(self.picture.to_ndarray(format="rgb24"), dtype=np.uint8)
        return np.ascontiguousarray(upright(stored, display_matrix(self.picture)))


class Video:
    """An opened video. Raises SourceFailed if it cannot be opened; to be closed by the thread that reads it.

    Args:
        place: where it is.
        options: for FFmpeg's demuxer, such as `video_size` of a camera.
        start_s: of a file; reading begins at the key frame before.
    """

    def __init__(self, place: Place, *, options: Mapping[str, str] | None = None, start_s: float = 0.0) -> None:
        self.place, self.broken = place, 0
        self._broken_in_a_row = 0
        defaults = {"rtsp_transport": "tcp"} if urlsplit(place.url).scheme in ("rtsp", "rtsps") else {}
        how: dict[str, Any] = {"options": {**defaults, **(options or {})}}
        if place.kind == "network":
            how["timeout"] = (WAIT_S, WAIT_S)
        try:
            self._container = av.open(place.url, "r", format=place.format, **how)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise _failed(place, error) from error
        if not self._container.streams.video:
            self.close()
            raise SourceFailed(f"{place.name} has no video")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "SLICE" if place.is_live else "AUTO"  # by frames is faster, and each comes later
        self._start_s = self._said_start_s()  # None: the first frame's
        if start_s > 0:
            self._start_s = self._start_s or 0.0
            self._seek(self._start_s + start_s)

    @property
    def frame_rate(self) -> Fraction | None:
        """Frames a second on the average; None where the video does not say."""
        rate: Fraction | None = self._stream.average_rate or self._stream.guessed_rate
        return rate

    @property
    def duration_s(self) -> float | None:
        """None where the video does not say."""
        if self._stream.duration is not None and self._stream.time_base is not None:
            return float(self._stream.duration * self._stream.time_base)
        return None if self._container.duration is None else self._container.duration / av.time_base

    @property
    def frame_count(self) -> int | None:
        """How many there should be; None where the video does not say."""
        said: int = self._stream.frames
        if said == 0 and self.duration_s is not None and self.frame_rate is not None:
            return round(self.duration_s * self.frame_rate)
        return said or None

    @property
    def sample_aspect_ratio(self) -> Fraction | None:
        """Width by height of one pixel as it is stored; None: square, or not said."""
        return self._stream.sample_aspect_ratio or None

    def pictures(self) -> Iterator[tuple[float | None, av.VideoFrame]]:
        """Each frame with its time in seconds since the video's begin; None where it has none.

        Raises SourceFailed where the video breaks off, or is broken for too long.
        """
        while True:
            try:
                for packet in self._container.demux(self._stream):
                    yield from self._decoded(packet)
            except av.error.EOFError:
                return
            except av.error.InvalidDataError as error:
                self._note_broken(error)
            except (av.FFmpegError, OSError) as error:
                raise _failed(self.place, error) from error
            else:
                return

    def close(self) -> None:
        """End reading; twice does no harm."""
        self._container.close()

    def _decoded(self, packet: av.Packet[Any]) -> Iterator[tuple[float | None, av.VideoFrame]]:
        try:
            pictures = packet.decode()
        except av.error.EOFError:
            return
        except av.error.InvalidDataError as error:
            self._note_broken(error)
            return
        for picture in pictures:
            self._broken_in_a_row = 0
            if picture.pts is None:
                yield None, picture
                continue
            if self._start_s is None:
                self._start_s = picture.time
            yield picture.time - self._start_s, picture

    def _note_broken(self, error: av.FFmpegError) -> None:
        self.broken += 1
        self._broken_in_a_row += 1
        if self._broken_in_a_row > MAX_BROKEN:
            raise _failed(self.place, error) from error

    def _said_start_s(self) -> float | None:
        """Where the clock of the video begins."""
        if self._stream.start_time is not None and self._stream.time_base is not None:
            return float(self._stream.start_time * self._stream.time_base)
        return None if self._container.start_time is None else self._container.start_time / av.time_base

    def _seek(self, clock_s: float) -> None:
        try:
            self._container.seek(round(clock_s * av.time_base))
        except av.FFmpegError as error:
            self.close()
            raise SourceFailed(f"{self.place.name} cannot be begun later: {error.strerror}") from error


class Timeline:
    """Times that go forward from frame to frame, whatever the clock of the source does."""

    def __init__(self) -> None:
        self._offset_s: float | None = 0.0
        self._last_s: float | None = None

    def time_of(self, source_s: float | None, *, frame_s: float) -> float:
        """The time of the next frame, in seconds.

        Args:
            source_s: as the source has it; None: it does not say.
            frame_s: from frame to frame on the average, for where the source's own time is of no use.
        """
        following_s = 0.0 if self._last_s is None else self._last_s + frame_s
        if source_s is None:
            time_s = following_s
        else:
            if self._offset_s is None:
                self._offset_s = following_s - source_s
            time_s = source_s + self._offset_s
            if self._last_s is not None and time_s <= self._last_s:
                time_s = following_s
                self._offset_s = following_s - source_s
        self._last_s = time_s
        return time_s

    def restart(self, *, gap_s: float = 0.0) -> None:
        """The source begins again, so much later."""
        self._offset_s = None
        if self._last_s is not None:
            self._last_s += gap_s


def display_matrix(picture: av.VideoFrame) -> Matrix | None:
    """How a frame is to be turned, as its file says; None: not at all."""
    # Not `picture.side_data`: frame and data then keep each other, and memory grows until cycles are looked for.
    found = SideDataContainer(picture)  # type: ignore[call-arg]  # its stub forgets it
    for one in cast("Iterable[SideData]", found):
        if one.type == Type.DISPLAYMATRIX:
            return struct.unpack("=9i", bytes(one)[:36])
    return None


def upright(stored: RawPixels, matrix: Matrix | None) -> RawPixels:
    """The picture as it is to be looked at: turned by quarters and mirrored, as the matrix says.

    Args:
        stored: [H, W, 3].
        matrix: of ISO/IEC 14496-12, 6.2.2: stored x, y lie at a x + c y, b x + d y; first and second rows a, b, u and
            c, d, v. Angles between quarters are taken for the nearest.
    """
    if matrix is None:
        return stored
    a, b, _, c, d = matrix[:5]
    is_turned = abs(b) > abs(a)
    across, down = (c, b) if is_turned else (a, d)
    turned = stored.swapaxes(0, 1) if is_turned else stored
    return turned[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]


def _failed(place: Place, error: Exception) -> SourceFailed:
    """In words without the address, which may have a password in it."""
    said = getattr(error, "strerror", None) or type(error).__name__
    return SourceFailed(f"{place.name} cannot be read: {said}")
