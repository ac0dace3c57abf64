"""A video through a running service: frames in, poses and identities out, over one call of StreamPoses."""

from __future__ import annotations

import asyncio
import io
import itertools
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict, dataclass, field

import grpc
import numpy as np
from frame_truth import Frame, FrameTruth
from PIL import Image
from tracking_measures import AnsweredPose

from service.pb import pose_pb2 as pb
from service.pb import pose_pb2_grpc

JPEG_QUALITY = 90
MAX_AHEAD = 32  # frames without an answer; the service works on 16 at a time


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One frame as it is sent: its truth, and the bytes of a JPEG."""

    truth: FrameTruth
    jpeg: bytes


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """Of the One-Euro filter (Casiez et al. 2012), as the wire contract has it. None: as the service is set."""

    min_cutoff_hz: float | None = None
    beta: float | None = None
    derivative_cutoff_hz: float | None = None


@dataclass(kw_only=True)
class Streamed:
    """What came back.

    answers: of each frame, in their order. sent: frames. seconds: from the first frame to the last answer. failed:
    frames that were answered with an error, which have no poses.
    """

    answers: list[list[AnsweredPose]] = field(default_factory=list)
    sent: int = 0
    seconds: float = 0.0
    failed: int = 0


def encode(frame: Frame) -> Shot:
    """The frame without its pixels, and these as a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(frame.image).save(buffer, "JPEG", quality=JPEG_QUALITY)
    truth = FrameTruth(index=frame.index, time_s=frame.time_s, size_wh=frame.size_wh, persons=frame.persons)
    return Shot(truth=truth, jpeg=buffer.getvalue())


def is_asked_for(shot: Shot) -> bool:
    """Whether anybody is visible; without a box the service would look for people itself."""
    return any(person.visible for person in shot.truth.persons)


def boxed_request(shot: Shot, number: int) -> pb.StreamPosesRequest:
    """The frame with the true boxes of its visible persons, in their order, each frame by itself.

    number: of the frame in the stream, from 0; the first carries the options of all.
    """
    boxes = [
        pb.Box(x=x, y=y, width=width, height=height)
        for x, y, width, height in (person.box_xywh.tolist() for person in shot.truth.persons if person.visible)
    ]
    options = pb.StreamOptions(plain=True) if number == 0 else None
    return pb.StreamPosesRequest(frame_id=number, image=shot.jpeg, boxes=boxes, options=options)


def followed_request(
    shot: Shot, number: int, time_s: float, *, smoothing: Smoothing | None, detect_every: int
) -> pb.StreamPosesRequest:
    """The frame without boxes: the service is to find people and to follow them. All that asks for it is here.

    Args:
        number: of the frame in the stream, from 0; the first carries the options of all.
        time_s: when it was taken.
        detect_every: frames from one detection to the next; 0: as the service is set.
    """
    options = None
    if number == 0:
        options = pb.StreamOptions(
            pace=pb.STREAM_PACE_EVERY_FRAME,
            smoothing=pb.Smoothing(**asdict(smoothing)) if smoothing else None,
            detect_every=detect_every or None,
        )
    return pb.StreamPosesRequest(frame_id=number, image=shot.jpeg, captured_us=round(1e6 * time_s), options=options)


def answered_poses(answer: pb.StreamPosesResponse) -> list[AnsweredPose]:
    """The poses of one answer."""
    return [
        AnsweredPose(np.array([[point.x, point.y] for point in pose.keypoints]), pose.track_id) for pose in answer.poses
    ]


async def stream(address: str, requests: Iterable[pb.StreamPosesRequest], *, keep_answers: bool = True) -> Streamed:
    """Send them as fast as they are answered. Errors of the call are gRPC's own."""
    found = Streamed()
    room = asyncio.Semaphore(MAX_AHEAD)  # connections hold thousands of small frames, which would all be answered late
    async with grpc.aio.insecure_channel(address) as channel:
        stub = pose_pb2_grpc.PoseServiceStub(channel)  # type: ignore[no-untyped-call]

        async def sent() -> AsyncIterator[pb.StreamPosesRequest]:
            for request in requests:
                await room.acquire()
                found.sent += 1
                yield request

        started = time.perf_counter()
        async for answer in stub.StreamPoses(sent()):
            room.release()
            if keep_answers:
                found.answers.append(answered_poses(answer))
            found.failed += answer.HasField("error")
        found.seconds = time.perf_counter() - started
    return found


async def with_boxes(address: str, shots: Sequence[Shot]) -> Streamed:
    """The poses of the visible persons of each frame, in the order of `boxed_request`; none where nobody is."""
    asked = [shot for shot in shots if is_asked_for(shot)]
    found = await stream(address, map(boxed_request, asked, itertools.count()))
    of_frame = dict(zip((shot.truth.index for shot in asked), found.answers, strict=True))
    found.answers = [of_frame.get(shot.truth.index, []) for shot in shots]
    return found


async def followed(address: str, shots: Sequence[Shot], *, smoothing: Smoothing | None, detect_every: int) -> Streamed:
    """What the service finds by itself."""
    requests = [
        followed_request(shot, number, shot.truth.time_s, smoothing=smoothing, detect_every=detect_every)
        for number, shot in enumerate(shots)
    ]
    return await stream(address, requests)
