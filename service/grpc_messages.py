"""Between the messages of proto/pose.proto and the service's own values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from model.levels import COLORMAPS
from service.errors import InvalidParameter
from service.following import FollowedFrame
from service.grpc_words import (
    IS_PICTURE_OF_NUMBER,
    LEVEL_OF_NUMBER,
    MODE_OF_NUMBER,
    NUMBER_OF_LEVEL,
    NUMBER_OF_MODE,
    PACE_OF_NUMBER,
)
from service.pb import pose_pb2 as pb
from service.poses import (
    Box,
    DependencyMap,
    DependencyRequest,
    ModelInfo,
    Pose,
    PoseRequest,
    PoseResult,
    RawPicture,
    read_keypoint,
)
from service.streaming import StreamSettings

Word = TypeVar("Word")


def pose_request(message: pb.EstimatePoseRequest | pb.StreamPosesRequest) -> PoseRequest:
    """What a call, or a frame of a stream, asks for."""
    boxes = [box_xywh(box) for box in message.boxes] or None
    return PoseRequest(image=message.image, raw=_raw(message), boxes_xywh=boxes, flip_test=message.flip_test)


def followed_frame(message: pb.StreamPosesRequest, *, arrived_s: float) -> FollowedFrame:
    """What a frame of a stream asks for, and when it was taken: at its arrival, if it does not say."""
    captured_s = message.captured_us / 1e6 if message.HasField("captured_us") else arrived_s
    return FollowedFrame(request=pose_request(message), captured_s=captured_s)


def stream_settings(options: pb.StreamOptions) -> StreamSettings:
    """How a stream is to be answered. Raises InvalidParameter for words and numbers that mean nothing."""
    return StreamSettings(
        plain=options.plain,
        pace=_word("options.pace", options.pace, PACE_OF_NUMBER),
        smoothing=_smoothing(options.smoothing) if options.HasField("smoothing") else None,
        detect_every=options.detect_every if options.HasField("detect_every") else None,
    )


def _smoothing(asked: pb.Smoothing) -> dict[str, float]:
    return {field.name: value for field, value in asked.ListFields()}


def _raw(message: pb.EstimatePoseRequest | pb.StreamPosesRequest) -> RawPicture | None:
    """The pixels of a frame that has them. Raises InvalidParameter if it has a file, too."""
    if not (isinstance(message, pb.StreamPosesRequest) and message.HasField("raw")):
        return None
    if message.image:
        raise InvalidParameter("both image and raw are there; allowed: one of them")
    return RawPicture(width=message.raw.width, height=message.raw.height, rgb=message.raw.rgb)


def box_xywh(box: pb.Box) -> Box:
    """The same box as a tuple."""
    return (box.x, box.y, box.width, box.height)


def estimate_pose_response(result: PoseResult) -> pb.EstimatePoseResponse:
    """The answer of EstimatePose."""
    return pb.EstimatePoseResponse(image=_size(result), poses=_poses(result.poses))


def frame_answer(frame_id: int, result: PoseResult) -> pb.StreamPosesResponse:
    """The answer to a frame that has poses."""
    return pb.StreamPosesResponse(
        frame_id=frame_id, image=_size(result), poses=_poses(result.poses), detected=result.detected
    )


def frame_error(frame_id: int, code: int, message: str, reason: str) -> pb.StreamPosesResponse:
    """The answer to a frame that has none."""
    error = pb.FrameError(code=code, message=message, reason=reason)
    return pb.StreamPosesResponse(frame_id=frame_id, error=error)


def dependency_request(message: pb.GetDependencyRequest) -> DependencyRequest:
    """What is asked. Raises InvalidParameter for words and numbers that mean nothing."""
    return DependencyRequest(
        image=message.image,
        box_xywh=box_xywh(message.box) if message.HasField("box") else None,
        keypoint=read_keypoint(message.keypoint),
        level=_word("level", message.level, LEVEL_OF_NUMBER),
        layer=message.layer if message.HasField("layer") else None,
        head=message.head if message.HasField("head") else None,
        mean_of_heads=message.mean_of_heads,
        mode=_word("mode", message.mode, MODE_OF_NUMBER),
        threshold=message.threshold,
        colormap=message.colormap or COLORMAPS[0],
        as_picture=_word("format", message.format, IS_PICTURE_OF_NUMBER),
    )


def dependency_response(found: DependencyMap | bytes) -> pb.GetDependencyResponse:
    """The answer of GetDependency."""
    if isinstance(found, bytes):
        return pb.GetDependencyResponse(png=found)
    x, y, score = found.point
    left, top, width, height = found.region_xywh
    return pb.GetDependencyResponse(
        height=len(found.attention),
        width=len(found.attention[0]),
        attention=[value for row in found.attention for value in row],
        query_row=found.query[0],
        query_column=found.query[1],
        layer=found.layer,
        level=NUMBER_OF_LEVEL[found.level],
        head=found.head,
        mode=NUMBER_OF_MODE[found.mode],
        keypoint=found.keypoint,
        point=pb.Keypoint(x=x, y=y, score=score),
        region=pb.Box(x=left, y=top, width=width, height=height),
        image=pb.ImageSize(width=found.width, height=found.height),
    )


def model_response(info: ModelInfo) -> pb.GetModelResponse:
    """The answer of GetModel."""
    return pb.GetModelResponse(
        variant=info.variant,
        label=info.label,
        parameters=info.parameters,
        input=pb.ImageSize(width=info.input_hw[1], height=info.input_hw[0]),
        checkpoint_sha256=info.checkpoint_sha256,
        runtime=info.runtime,
        device=info.device,
        precision=info.precision,
        keypoints=info.keypoint_names,
        skeleton=[pb.Limb(first=first, second=second) for first, second in info.skeleton],
        attention=[
            pb.LevelAttention(level=NUMBER_OF_LEVEL[level], layers=shape.layers, heads=shape.heads)
            for level, shape in info.attention.items()
        ],
        detector=info.detector,
    )


def _word(name: str, number: int, allowed: Mapping[int, Word]) -> Word:
    if number not in allowed:
        raise InvalidParameter(f"{name} is {number}; allowed: {', '.join(map(str, allowed))}")
    return allowed[number]


def _size(result: PoseResult) -> pb.ImageSize:
    return pb.ImageSize(width=result.width, height=result.height)


def _poses(poses: Iterable[Pose]) -> list[pb.Pose]:
    return [
        pb.Pose(
            bbox=pb.Box(x=pose.box_xywh[0], y=pose.box_xywh[1], width=pose.box_xywh[2], height=pose.box_xywh[3]),
            score=pose.score,
            keypoints=[pb.Keypoint(x=x, y=y, score=score) for x, y, score in pose.keypoints],
            track_id=pose.track_id,
        )
        for pose in poses
    ]
