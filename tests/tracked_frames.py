"""Single frames for a tracker: people who are boxes, as a detector and a network find them."""

from __future__ import annotations

import numpy as np

from crowds import IMAGE_HW, Found
from drawings import STANDING
from model.skeleton import COCO
from service.tracking import Tracker
from service.tracking_values import TrackedInput, TrackerSettings

ONE_BOX = (100.0, 100.0, 80.0, 200.0)


def tracker(**changes: float) -> Tracker:
    return Tracker(COCO, TrackerSettings(**changes))


def found(*boxes: tuple[float, float, float, float], score: float = 0.9) -> Found:
    return Found(np.array(boxes, dtype=float).reshape(-1, 4), np.full(len(boxes), score))


def pose(box, *, score: float = 0.8, joints: int = 17, shift: float = 0.0, looked_at=None) -> TrackedInput:
    scores = np.where(np.arange(17) < joints, score, 0.05)
    points = np.array(box[:2]) + shift + STANDING * np.array(box[2:])
    return TrackedInput(
        box_xywh=box if looked_at is None else looked_at, points_image=points, scores=scores, score=score
    )


def show(following: Tracker, time_s: float, *people, detected=None, score: float = 0.8):
    """One frame in which these people, boxes, are where they are; ids told by box."""
    looks = following.boxes(time_s, IMAGE_HW, detected)
    poses = []
    for look in looks:
        nearest = min(people, key=lambda box: abs(box[0] - look[0]), default=None)
        is_there = nearest is not None and abs(nearest[0] - look[0]) < 60
        poses.append(pose(nearest if is_there else look, score=score if is_there else 0.05, looked_at=look))
    return following.update(time_s, poses)
