"""What the clients send and read over gRPC: requests to messages, messages to answers or errors. Does no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import grpc

from service.client_errors import ERROR_OF_REASON, UnexpectedAnswer, make_error, seconds_of
from service.client_frames import Frame, FrameAnswer, RawPixels, checked_boxes
from service.client_options import StreamOptions
from service.errors import (
    EngineFailed,
    InvalidParameter,
    Late,
    Overloaded,
    PoseServiceError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from service.grpc_words import (
    LEVEL_OF_NUMBER,
    MODE_OF_NUMBER,
    NUMBER_OF_FORMAT,
    NUMBER_OF_LEVEL,
    NUMBER_OF_MODE,
    NUMBER_OF_PACE,
)
from service.pb import pose_pb2 as pb
from service.poses import (
    AttentionShape,
    Box,
    DependencyMap,
    DependencyRequest,
    ModelInfo,
    Pose,
    PoseRequest,
    PoseResult,
    keypoint_word,
)

# For reasons that this client does not know.
ERROR_OF_CODE: dict[grpc.StatusCode, type[PoseServiceError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidParameter,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.DEADLINE_EXCEEDED: Late,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.INTERNAL: EngineFailed,
}
# What gRPC itself says, on this side or on the other, when it never comes to an answer with a reason.
ERROR_OF_BARE_CODE = ERROR_OF_CODE | {
    grpc.StatusCode.RESOURCE_EXHAUSTED: TooLarge,  # a message beyond the limits of either side
    grpc.StatusCode.CANCELLED: Unavailable,  # by closing the client, or the server
}
TOO_MANY_CALLS = "Concurrent RPC limit"  # gRPC's words for it: the code is that of a message that is too large
_CODE_OF_NUMBER: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def pose_message(request: PoseRequest) -> pb.EstimatePoseRequest:
    """A question about one picture."""
    return pb.EstimatePoseRequest(
        image=request.image, boxes=_box_messages(request.boxes_xywh), flip_test=request.flip_test
    )


def frame_message(frame: Frame) -> pb.StreamPosesRequest:
    """A question about one frame of a stream. Raises OSError if its image is a path that cannot be read."""
    image = frame.image.read_bytes() if isinstance(frame.image, Path) else frame.image
    return pb.StreamPosesRequest(
        frame_id=frame.frame_id,
        image=image,
        raw=None if frame.raw is None else _raw_message(frame.raw),
        boxes=_box_messages(checked_boxes(frame.boxes_xywh)),
        flip_test=frame.flip_test,
        captured_us=frame.captured_us,
    )


def options_message(options: StreamOptions) -> pb.StreamOptions:
    """What the first frame of a stream says of all."""
    smoothing = None if options.smoothing is None else pb.Smoothing(**asdict(options.smoothing))
    return pb.StreamOptions(
        plain=options.plain,
        pace=NUMBER_OF_PACE[options.pace],
        smoothing=smoothing,
        detect_every=options.detect_every,
    )


def read_poses(message: pb.EstimatePoseResponse | pb.StreamPosesResponse) -> PoseResult:
    """The poses of one picture."""
    poses = (
        Pose(
            box_xywh=(pose.bbox.x, pose.bbox.y, pose.bbox.width, pose.bbox.height),
            score=pose.score,
            keypoints=tuple((keypoint.x, keypoint.y, keypoint.score) for keypoint in pose.keypoints),
            track_id=pose.track_id,
        )
        for pose in message.poses
    )
    return PoseResult(width=message.image.width, height=message.image.height, poses=tuple(poses))


def dependency_message(request: DependencyRequest) -> pb.GetDependencyRequest:
    """A question about one keypoint."""
    box = request.box_xywh
    return pb.GetDependencyRequest(
        image=request.image,
        box=None if box is None else _box_message(box),
        keypoint=keypoint_word(request.keypoint),
        level=NUMBER_OF_LEVEL[request.level],
        layer=request.layer,
        head=request.head,
        mean_of_heads=request.mean_of_heads,
        mode=NUMBER_OF_MODE[request.mode],
        threshold=request.threshold,
        format=NUMBER_OF_FORMAT[request.as_picture],
        colormap=request.colormap,
    )


def read_dependency(message: pb.GetDependencyResponse) -> DependencyMap | bytes:
    """The map, or the picture. Raises UnexpectedAnswer for a map that is not whole."""
    if message.png:
        return message.png
    is_whole = 0 < len(message.attention) == message.height * message.width
    is_known = message.level in LEVEL_OF_NUMBER and message.mode in MODE_OF_NUMBER
    if not (is_whole and is_known and message.keypoint):
        raise UnexpectedAnswer(f"the service answered with a map of {message.keypoint!r} that this client cannot read")
    # Six digits were sent, in single precision; the same six digits are the numbers that HTTP has.
    values = iter([float(f"{value:.6g}") for value in message.attention])
    return DependencyMap(
        level=LEVEL_OF_NUMBER[message.level],
        layer=message.layer,
        head=message.head if message.HasField("head") else None,
        mode=MODE_OF_NUMBER[message.mode],
        keypoint=message.keypoint,
        query=(message.query_row, message.query_column),
        attention=tuple(tuple(islice(values, message.width)) for _ in range(message.height)),
        point=(message.point.x, message.point.y, message.point.score),
        region_xywh=(message.region.x, message.region.y, message.region.width, message.region.height),
        width=message.image.width,
        height=message.image.height,
    )


def read_model(message: pb.GetModelResponse) -> ModelInfo:
    """What is being served. Levels that this client does not know are left out."""
    return ModelInfo(
        variant=message.variant,
        label=message.label,
        parameters=message.parameters,
        input_hw=(message.input.height, message.input.width),
        checkpoint_sha256=message.checkpoint_sha256,
        runtime=message.runtime,
        device=message.device,
        precision=message.precision,
        keypoint_names=tuple(message.keypoints),
        skeleton=tuple((limb.first, limb.second) for limb in message.skeleton),
        detector=message.detector,
        attention={
            LEVEL_OF_NUMBER[one.level]: AttentionShape(layers=one.layers, heads=one.heads)
            for one in message.attention
            if one.level in LEVEL_OF_NUMBER
        },
    )


def read_frame(message: pb.StreamPosesResponse) -> FrameAnswer:
    """The answer to one frame of a stream."""
    failed = message.HasField("error")
    return FrameAnswer(
        message.frame_id,
        result=None if failed else read_poses(message),
        error=_frame_error(message.error) if failed else None,
        dropped_frames=message.dropped_frames,
        dropped_frame_ids=tuple(message.dropped_frame_ids),
        detected=message.detected,
        age_s=message.age_seconds,
    )


def _frame_error(error: pb.FrameError) -> PoseServiceError:
    kind = ERROR_OF_REASON.get(error.reason) or ERROR_OF_CODE.get(_CODE_OF_NUMBER.get(error.code, grpc.StatusCode.OK))
    return make_error(kind or UnexpectedAnswer, error.message)


def error_of_call(error: grpc.RpcError, address: str, timeout_s: float | None) -> PoseServiceError:
    """The error that the end of a call is.

    Args:
        error: as gRPC raised it.
        address: where the call went.
        timeout_s: how long it could take; None: without end.
    """
    code, details = error.code(), error.details() or "no details"
    metadata: Any = error.trailing_metadata()  # pairs, of different types with and without asyncio
    trailing = dict(metadata or ())
    if reason := trailing.get("reason"):
        kind = ERROR_OF_REASON.get(reason) or ERROR_OF_CODE.get(code, UnexpectedAnswer)
        return make_error(kind, details, retry_after_s=seconds_of(trailing.get("retry-after-ms"), unit_s=1e-3))
    kind = Overloaded if TOO_MANY_CALLS in details else ERROR_OF_BARE_CODE.get(code, UnexpectedAnswer)
    if kind is Late and timeout_s is not None:
        return Late(f"{address} did not answer within {timeout_s:g} s")
    return kind(f"{address} answered {code.name}: {details}")


def _raw_message(raw: RawPixels) -> pb.RawImage:
    return pb.RawImage(width=raw.shape[1], height=raw.shape[0], rgb=raw.tobytes())


def _box_messages(boxes: Sequence[Box] | None) -> list[pb.Box]:
    return [_box_message(box) for box in boxes or ()]


def _box_message(box: Box) -> pb.Box:
    return pb.Box(x=box[0], y=box[1], width=box[2], height=box[3])
