"""What the network found in the crops of a picture -> poses in pixels of the picture, as they are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from model.detection import Detections
from model.estimator import Keypoints, PersonCrop, keypoints_to_image, pose_score
from model.geometry import Array
from service.cropping import CroppedPicture
from service.poses import DECIMALS, Box, Pose, PoseResult
from service.tracking_values import Tracked, TrackedInput


def boxes_of(detections: Detections) -> list[Box]:
    """The boxes of detections as they are asked for, in as many digits as they will be told in."""
    rounded = np.round(np.asarray(detections.boxes_xywh, dtype=np.float64), DECIMALS)
    return [(x, y, width, height) for x, y, width, height in rounded.tolist()]


def pose_result(picture: CroppedPicture, found: Sequence[Keypoints]) -> PoseResult:
    """The pose of each crop, in their order."""
    poses = tuple(map(_pose, picture.boxes_xywh, picture.crops, found))
    return PoseResult(width=picture.width, height=picture.height, poses=poses)


def _pose(box: Box, crop: PersonCrop, keypoints_crop: Keypoints) -> Pose:
    keypoints = keypoints_to_image(keypoints_crop, crop)
    return Pose(
        box_xywh=box,
        score=round(pose_score(keypoints.scores), DECIMALS),
        keypoints=_told(keypoints.points, keypoints.scores),
    )


def seen_pose(pose: Pose) -> TrackedInput:
    """A pose as the tracker is told of it."""
    numbers = np.asarray(pose.keypoints, dtype=np.float64).reshape(-1, 3)
    return TrackedInput(box_xywh=pose.box_xywh, points_image=numbers[:, :2], scores=numbers[:, 2], score=pose.score)


def unseen(box: Box, keypoints: int) -> TrackedInput:
    """What the tracker is told of a box that was not looked at: nobody is there."""
    nowhere = np.zeros((keypoints, 2))
    return TrackedInput(box_xywh=box, points_image=nowhere, scores=np.zeros(keypoints), score=0.0)


def followed_pose(pose: Pose, who: Tracked) -> Pose:
    """The same pose with what the tracker says of it."""
    return replace(pose, track_id=who.track_id, keypoints=_told(who.points_image, who.scores))


def _told(points_image: Array, scores: Array) -> tuple[tuple[float, float, float], ...]:
    return tuple(
        (round(float(x), DECIMALS), round(float(y), DECIMALS), round(float(score), DECIMALS))
        for (x, y), score in zip(points_image, scores, strict=True)
    )
