"""What the tracker takes and gives: its settings, the poses of a frame, and who they are. Plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from model.estimator import GUESS_BELOW
from model.fields import require
from model.geometry import Array


class FoundPersons(Protocol):
    """Detections of one frame, as `model.detection.Detections` has them."""

    @property
    def boxes_xywh(self) -> Array:
        """[N, 4], pixels of the upright picture, within it; best first."""

    @property
    def scores(self) -> Array:
        """[N] in 0..1."""


@dataclass(frozen=True, kw_only=True)
class TrackedInput:
    """The pose found in one box of a frame, in pixels of the upright picture.

    box_xywh: [4], where was looked. points_image: [K, 2]. scores: [K] in 0..1. score: of the pose, in 0..1.

    Raises ValueError for other shapes, numbers that are not finite, or a box without area.
    """

    box_xywh: npt.ArrayLike
    points_image: Array
    scores: npt.NDArray[np.float64]
    score: float

    def __post_init__(self) -> None:
        box = np.asarray(self.box_xywh, dtype=np.float64)
        is_box = box.shape == (4,) and bool(np.isfinite(box).all()) and bool((box[2:] > 0).all())
        require(is_box, "box_xywh", box.tolist(), "finite [x, y, width, height], width and height above 0")
        points, scores = np.shape(self.points_image), np.shape(self.scores)
        is_pose = len(points) == 2 and points[1] == 2 and scores == points[:1]
        require(is_pose, "points_image and scores", (points, scores), "[K, 2] and [K]")
        is_finite = bool(np.isfinite(self.points_image).all() and np.isfinite(self.scores).all())
        require(is_finite and math.isfinite(self.score), "a coordinate or score", "not finite", "finite numbers")


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """A pose of a frame, and who it is.

    track_id: from 1, never used again in this stream; 0: nobody that is followed (yet).
    points_image: [K, 2], smoothed if that was asked for. scores: [K], as they came.
    told: whether the client should hear of it; duplicates, poses of nobody and unconfirmed people are held back.
    box_xywh: [4], where was looked.
    """

    track_id: int
    points_image: Array
    scores: npt.NDArray[np.float64]
    told: bool
    box_xywh: Array


@dataclass(frozen=True, kw_only=True)
class TrackerSettings:
    """How people are followed. Raises ValueError naming the field, its value and what is allowed.

    detect_every: frames from one run of the detector to the next. At 30 frames a second somebody who walks in is seen
        within a third of a second, and the detector costs a tenth of what it would in every frame.
    detect_every_s: the same in seconds, for slow streams: whichever comes first.
    detect_again: frames until the detector may run again where something is wrong: nobody is followed, somebody was
        lost, or a score fell below `low_score`.
    low_score: of a pose; falling below it asks for the detector.
    min_score: of a pose; below it nobody is there.
    min_joint_score: of a keypoint; below it is a guess, which is not counted.
    birth_score: of a detection; below it, it corrects the box of somebody who is followed but begins nobody. 0: what
        the detector tells of has passed its own threshold.
    match_similarity: least similarity of a pose with the one predicted for its person, in 0..1 (service.association).
    duplicate_oks: two poses of one frame that are more alike are one person, seen twice. Of 5,306 persons in COCO 86
        are more alike to another than 0.5, of whom 82 more than 0.75: the same person, annotated twice.
    duplicate_s: how long one person's place may be another's before the younger is forgotten.
    min_hits: frames until somebody is told of. Those of the first detection are told of at once.
    max_lost_s: how long somebody who is not seen is remembered.
    max_undetected_s: how long somebody with a score below `low_score` is followed against the detector's word.
    max_gap_s: a longer pause between frames ends all that was known.
    max_tracks: most people that are followed or remembered.
    """

    detect_every: int = 10
    detect_every_s: float = 1.0
    detect_again: int = 3
    low_score: float = 0.3
    min_score: float = 0.2
    min_joint_score: float = GUESS_BELOW
    birth_score: float = 0.0
    match_similarity: float = 0.3
    duplicate_oks: float = 0.5
    duplicate_s: float = 0.5
    min_hits: int = 2
    max_lost_s: float = 1.0
    max_undetected_s: float = 2.0
    max_gap_s: float = 5.0
    max_tracks: int = 100

    def __post_init__(self) -> None:
        for name in ("detect_every", "detect_again", "min_hits", "max_tracks"):
            value = getattr(self, name)
            is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            require(is_count, name, value, "a whole number from 1")
        for name in ("low_score", "min_score", "min_joint_score", "birth_score", "match_similarity", "duplicate_oks"):
            value = getattr(self, name)
            require(0 <= value <= 1, name, value, "0 to 1")
        for name in ("detect_every_s", "duplicate_s", "max_lost_s", "max_undetected_s", "max_gap_s"):
            value = getattr(self, name)
            require(0 < value < math.inf, name, value, "seconds above 0, and finite")


def check_keypoints(poses: Sequence[TrackedInput], keypoints: int) -> None:
    """Raises ValueError for a pose with another number of keypoints than the skeleton has."""
    for number, pose in enumerate(poses):
        if len(pose.scores) != keypoints:
            raise ValueError(f"pose {number} has {len(pose.scores)} keypoints; allowed: {keypoints}, of the skeleton")
