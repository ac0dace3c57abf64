"""The thread that reads a video into the outbox.

At whose pace, which frames, and again from the beginning, or when a live source has broken off.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import av

from service.ingest_backoff import BackOff
from service.ingest_outbox import Outbox
from service.ingest_source import SourceFailed, SourceFrame, Timeline, Video

UNKNOWN_FRAME_S = 1 / 30  # where a video does not say how many frames it has a second


@dataclass(frozen=True, kw_only=True)
class Playing:
    """Which frames of a video are read, and when.

    every: each n-th. start_s: of a file. duration_s: of the video; None: to its end.
    loop: begin again at the end. at_own_pace: each frame when its time has come, as a camera would have it.
    is_endless: a camera, or a stream that is opened again when it breaks off.
    """

    every: int = 1
    start_s: float = 0.0
    duration_s: float | None = None
    loop: bool = False
    at_own_pace: bool = False
    is_endless: bool = False


class Reader(threading.Thread):
    """Reads until the video ends, or until the outbox wants no more; then it closes both.

    Args:
        video: opened by `reopen`.
        reopen: opens the same video again, for a loop, and when a live source has broken off.
        outbox: takes the frames.
        back_off: of live sources.
        stopped: ends waiting.
        tell: says a line to whoever looks on.
    """

    def __init__(
        self,
        video: Video,
        reopen: Callable[[], Video],
        playing: Playing,
        outbox: Outbox,
        *,
        back_off: BackOff,
        stopped: threading.Event,
        tell: Callable[[str], None],
    ) -> None:
        super().__init__(name="source", daemon=True)  # it may be asleep in a camera that has nothing to give
        self._video, self._reopen, self._playing, self._outbox = video, reopen, playing, outbox
        self._back_off, self._stopped, self._tell = back_off, stopped, tell
        self._timeline = Timeline()
        self._broken_before = 0

    @property
    def broken(self) -> int:
        """Packets that could not be decoded."""
        return self._broken_before + self._video.broken

    def run(self) -> None:
        failure: Exception | None = None
        try:
            for frame in self._frames():
                if not self._outbox.put(frame):
                    break
        except Exception as error:  # whatever it is, it is for the thread that has the answers to raise
            failure = error
        finally:
            self._outbox.close(failure)
            self._video.close()

    def _frames(self) -> Iterator[SourceFrame]:
        playing, begun_s = self._playing, time.monotonic()
        if playing.is_endless:
            self._timeline.restart()  # the clocks of live sources begin anywhere
        end_s = None if playing.duration_s is None else playing.start_s + playing.duration_s
        for number, (time_s, picture) in enumerate(self._pictures()):
            if end_s is not None and time_s >= end_s:
                return
            if playing.at_own_pace and self._stopped.wait(begun_s + time_s - playing.start_s - time.monotonic()):
                return
            if number % playing.every == 0:
                yield SourceFrame(number, time_s, time.monotonic(), picture)

    def _pictures(self) -> Iterator[tuple[float, av.VideoFrame]]:
        while True:
            yield from self._of_this_opening()
            if not self._begins_again():
                return

    def _of_this_opening(self) -> Iterator[tuple[float, av.VideoFrame]]:
        frame_s = float(1 / rate) if (rate := self._video.frame_rate) else UNKNOWN_FRAME_S
        try:
            for source_s, picture in self._video.pictures():
                if source_s is not None and source_s < self._playing.start_s and not self._playing.is_endless:
                    continue  # from the key frame on
                self._back_off.succeeded()
                yield self._timeline.time_of(source_s, frame_s=frame_s), picture
        except SourceFailed as error:
            if not self._playing.is_endless:
                raise
            self._tell(str(error))

    def _begins_again(self) -> bool:
        if not (self._playing.is_endless or self._playing.loop):
            return False
        self._broken_before += self._video.broken
        self._video.close()
        lost_s = time.monotonic()
        video = self._opened_again() if self._playing.is_endless else self._reopen()
        if video is None:
            return False
        self._video = video
        self._timeline.restart(gap_s=time.monotonic() - lost_s if self._playing.is_endless else 0.0)
        return True

    def _opened_again(self) -> Video | None:
        """None where there was a stop meanwhile. Raises SourceFailed when it is given up."""
        name = self._video.place.name
        while (wait_s := self._back_off.wait_s()) is not None:
            self._tell(f"{name} has broken off; it is opened again in {wait_s:.1f} s")
            if self._stopped.wait(wait_s):
                return None
            try:
                return self._reopen()
            except SourceFailed as error:
                self._tell(str(error))
        raise SourceFailed(f"{name} has broken off, and is given up after {self._back_off.tries} failures in a row")
