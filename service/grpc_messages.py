"""Between the messages of proto/pose.proto and the service's own values."""

from __future__ import annotations

from collections.abc import Iterable

from service.pb import pose_pb2 as pb
from service.poses import Box, Pose, PoseRequest, PoseResult


def pose_request(message: pb.EstimatePoseRequest | pb.StreamPosesRequest) -> PoseRequest:
    """What a call, or a frame of a stream, asks for."""
    boxes = [box_xywh(box) for box in message.boxes] or None
    return PoseRequest(image=message.image, boxes_xywh=boxes, flip_test=message.flip_test)


def box_xywh(box: pb.Box) -> Box:
    """The same box as a tuple."""
    return (box.x, box.y, box.width, box.height)


def estimate_pose_response(result: PoseResult) -> pb.EstimatePoseResponse:
    """The answer of EstimatePose."""
    return pb.EstimatePoseResponse(image=_size(result), poses=_poses(result.poses))


def frame_answer(frame_id: int, result: PoseResult) -> pb.StreamPosesResponse:
    """The answer to a frame that has poses."""
    return pb.StreamPosesResponse(frame_id=frame_id, image=_size(result), poses=_poses(result.poses))


def frame_error(frame_id: int, code: int, message: str, reason: str) -> pb.StreamPosesResponse:
    """The answer to a frame that has none."""
    error = pb.FrameError(code=code, message=message, reason=reason)
    return pb.StreamPosesResponse(frame_id=frame_id, error=error)


def _size(result: PoseResult) -> pb.ImageSize:
    return pb.ImageSize(width=result.width, height=result.height)


def _poses(poses: Iterable[Pose]) -> list[pb.Pose]:
    return [
        pb.Pose(
            bbox=pb.Box(x=pose.box_xywh[0], y=pose.box_xywh[1], width=pose.box_xywh[2], height=pose.box_xywh[3]),
            score=pose.score,
            keypoints=[pb.Keypoint(x=x, y=y, score=score) for x, y, score in pose.keypoints],
        )
        for pose in poses
    ]
