"""Frames of the outbox to the service and answers back, over as many connections as it takes.

A connection that fails is made again, with back-off. Of a file, frames that were not answered are sent again, and none
is lost or answered twice; a live source goes on with its newest frame. Knows nothing of files.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import cv2
import simplejpeg

from service.client_base import PoseClient
from service.client_errors import UnexpectedAnswer
from service.client_frames import Frame, FrameAnswer
from service.client_options import StreamOptions
from service.errors import EngineFailed, Late, Overloaded, PoseServiceError, Unavailable
from service.ingest_backoff import BackOff
from service.ingest_outbox import Outbox, Outgoing
from service.ingest_source import SourceFrame
from service.poses import DECIMALS, NO_DETECTOR, ModelInfo, Pose

MAY_PASS = (Unavailable, Overloaded, Late, EngineFailed)  # of a whole stream; anything else would be said again
GRACE_S = 5.0  # for answers to come when it is to stop
LOOK_S = 0.1  # how often that is looked at


class GaveUp(Exception):
    """The service could not be reached, or did not answer, so many times in a row."""


@dataclass(frozen=True, kw_only=True)
class Sending:
    """How frames are sent.

    jpeg_quality: 1 to 100; None: raw pixels. max_side: pixels; larger frames are scaled down to it; None: never.
    """

    jpeg_quality: int | None = 90
    max_side: int | None = None


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One frame of the source that was answered: with poses, or with the error that it met.

    poses: in pixels of the source's upright frame. A track_id is one person's for the whole run, over all connections.
    dropped: frames of the source before this one, after the answered one before, that have no answer.
    age_s: from reading the frame to having its answer.
    service_age_s: the part of it from the frame's arrival at the service to its answer.
    """

    frame: SourceFrame
    poses: tuple[Pose, ...]
    error: PoseServiceError | None
    dropped: int
    detected: bool
    age_s: float
    service_age_s: float


class Ingest:
    """One source's way through the service.

    Args:
        connect: makes a new client.
        options: of each stream.
        sending: how frames are sent.
        outbox: has the frames.
        every: the difference between the numbers of frames that follow each other.
        answer_s: without any answer, though frames wait for theirs, after which a connection is given up.
        back_off: of connections.
        stopped: set when what is sent is to be answered, and nothing more to be sent.
        tell: says a line to whoever looks on.
    """

    def __init__(
        self,
        connect: Callable[[], PoseClient],
        options: StreamOptions,
        sending: Sending,
        outbox: Outbox,
        *,
        every: int,
        answer_s: float,
        back_off: BackOff,
        stopped: threading.Event,
        tell: Callable[[str], None],
    ) -> None:
        self._connect, self._options, self._sending, self._outbox = connect, options, sending, outbox
        self._every, self._answer_s, self._back_off = every, answer_s, back_off
        self._stopped, self._tell = stopped, tell
        self._last_number = -every
        self._highest_id = 0
        self._heard_s = 0.0
        self._stopped_s: float | None = None
        self._hurried = False
        self.connections = 0
        self.model: ModelInfo | None = None

    def answers(self) -> Iterator[Answered]:
        """Each frame that is answered, in the source's order.

        Raises GaveUp, and of `service.errors` what would be the same at every try: Unauthenticated, UnexpectedAnswer.
        """
        failure: PoseServiceError | None = None
        while failure is None or not (self._stopped.wait(self._wait_s(failure)) or self._outbox.is_over):
            try:
                with self._connect() as client, _Watch(client, self._is_stuck):
                    yield from self._of_this_connection(client)
                return
            except MAY_PASS as error:
                failure = error

    def hurry(self) -> None:
        """After a stop: do not wait for the answers to what was sent."""
        self._hurried = True

    def _of_this_connection(self, client: PoseClient) -> Iterator[Answered]:
        self._heard_s = time.monotonic()
        self.model = client.model()
        if self.connections:
            self._tell("the service is there again")
        elif self.model.detector == NO_DETECTOR:
            self._tell("the service has no detector: the whole frame is taken for one person")
        self.connections += 1
        connection, before = self._outbox.connect(), self._highest_id
        for answer in client.stream(self._messages(connection), options=self._options):
            self._heard_s = time.monotonic()
            self._back_off.succeeded()
            yield self._answered(answer, before)
            self._heard_s = time.monotonic()  # what is done with answers is not the service's time

    def _messages(self, connection: int) -> Iterator[Frame]:
        while (outgoing := self._outbox.take(connection)) is not None:
            yield message_of(outgoing, self._sending)

    def _answered(self, answer: FrameAnswer, before: int) -> Answered:
        """`before`: the highest identity of earlier connections. The service counts from 1 on each."""
        frame = self._outbox.settle(answer.frame_id)
        dropped = (frame.number - self._last_number) // self._every - 1
        self._last_number = frame.number
        poses: tuple[Pose, ...] = ()
        if answer.result is not None:
            sent_hw = answer.result.height, answer.result.width
            expected_hw = scaled_hw(frame, self._sending.max_side)
            if sent_hw != expected_hw:
                raise UnexpectedAnswer(f"the service answered of a frame of {sent_hw}, and {expected_hw} was sent")
            poses = tuple(_in_source(pose, frame, sent_hw, before) for pose in answer.result.poses)
            self._highest_id = max(self._highest_id, *(pose.track_id for pose in poses), 0)
        return Answered(
            frame=frame,
            poses=poses,
            error=answer.error,
            dropped=dropped,
            detected=answer.detected,
            age_s=time.monotonic() - frame.captured_s,
            service_age_s=answer.age_s,
        )

    def _wait_s(self, failure: PoseServiceError) -> float:
        """How long to wait before the next connection."""
        if self._stopped.is_set() or self._outbox.is_over:
            return 0.0  # there will be none
        wait_s = self._back_off.wait_s()
        if wait_s is None:
            raise GaveUp(f"{failure} (given up after {self._back_off.failures} failures in a row)") from failure
        if isinstance(failure, Overloaded):
            wait_s = max(wait_s, failure.retry_after_s)
        self._tell(f"{failure}; again in {wait_s:.1f} s")
        return wait_s

    def _is_stuck(self) -> bool:
        now_s = time.monotonic()
        if self._stopped.is_set():
            self._stopped_s = self._stopped_s or now_s
            return self._hurried or now_s - self._stopped_s > GRACE_S
        return now_s - self._heard_s > self._answer_s and self._outbox.has_unanswered


class _Watch:
    """Closes a client, and so ends its calls, when it is stuck: a thread that waits for an answer cannot see it."""

    def __init__(self, client: PoseClient, is_stuck: Callable[[], bool]) -> None:
        self._client, self._is_stuck = client, is_stuck
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(LOOK_S):
            if self._is_stuck():
                self._client.close()
                return


def message_of(outgoing: Outgoing, sending: Sending) -> Frame:
    """A frame as it is sent; made once."""
    if outgoing.message is None:
        frame = outgoing.frame
        height, width = scaled_hw(frame, sending.max_side)
        pixels = frame.pixels
        if (height, width) != pixels.shape[:2]:
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        quality, captured_us = sending.jpeg_quality, max(0, round(frame.time_s * 1e6))
        if quality is None:
            outgoing.message = Frame(frame.number, raw=pixels, captured_us=captured_us)
        else:
            jpeg = simplejpeg.encode_jpeg(pixels, quality=quality, colorspace="RGB", colorsubsampling="420")
            outgoing.message = Frame(frame.number, jpeg, captured_us=captured_us)
    return outgoing.message


def scaled_hw(frame: SourceFrame, max_side: int | None) -> tuple[int, int]:
    """Height and width of a frame as it is sent, in pixels."""
    height, width = frame.pixels.shape[:2]
    scale = 1.0 if max_side is None else min(1.0, max_side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _in_source(pose: Pose, frame: SourceFrame, sent_hw: tuple[int, int], before: int) -> Pose:
    """A pose in pixels of the source's frame, its identity behind those of earlier connections."""
    track_id = pose.track_id and pose.track_id + before
    height, width = frame.pixels.shape[:2]
    if sent_hw == (height, width):
        return replace(pose, track_id=track_id)
    across, down = width / sent_hw[1], height / sent_hw[0]
    x, y, box_width, box_height = pose.box_xywh
    box = (x * across, y * down, box_width * across, box_height * down)
    # Pixel centres are at whole numbers in both frames, so the edges are what scales.
    keypoints = (((x + 0.5) * across - 0.5, (y + 0.5) * down - 0.5, score) for x, y, score in pose.keypoints)
    return replace(
        pose,
        track_id=track_id,
        box_xywh=tuple(round(number, DECIMALS) for number in box),
        keypoints=tuple((round(x, DECIMALS), round(y, DECIMALS), score) for x, y, score in keypoints),
    )
