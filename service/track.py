"""One person of a stream: where they were last seen, where they are to be expected, and how sure that is.

Motion, box and association work on poses as they were found; only what is told is smoothed. A smoothed pose lags, and
boxes that lag would cut a running person off. Knows no other person; when somebody is born or forgotten is for
`service.tracking` to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.geometry import Array
from service.association import Bools, Persons, enough_joints
from service.motion import Motion
from service.one_euro import OneEuroFilter
from service.person_box import box_around, center_of, follow_box, move_box, size_of
from service.tracking_values import TrackedInput, TrackerSettings

JOINT_MEMORY_S = 0.5  # a joint that was not found for so long no longer holds its person's box open
MIN_SHARED = 3  # joints that two frames must share to tell how far a person moved


@dataclass(frozen=True)
class Sighting:
    """A pose of this frame, as it was found.

    points [K, 2], scores [K] and score as in `TrackedInput`; counted [K]: keypoints that are confident.
    looked_at: the box that was looked at. box: that around the keypoints, or `looked_at` of a weak pose.
    detected: the detector's box, where it led here.
    """

    points: Array
    scores: Array
    score: float
    counted: Bools
    looked_at: Array
    box: Array
    detected: Array | None = None


def sighting_of(pose: TrackedInput, min_joint_score: float, detected: Array | None = None) -> Sighting:
    """What a pose says by itself."""
    points = np.asarray(pose.points_image, dtype=np.float64)
    scores = np.asarray(pose.scores, dtype=np.float64)
    looked_at = np.asarray(pose.box_xywh, dtype=np.float64)
    counted = scores >= min_joint_score
    around = box_around(points, counted) if counted.sum() >= enough_joints(len(scores)) else None
    return Sighting(points, scores, pose.score, counted, looked_at, looked_at if around is None else around, detected)


def as_persons(sightings: Sequence[Sighting]) -> Persons:
    """Of one frame, at least one."""
    return Persons(
        np.array([one.points for one in sightings]),
        np.array([one.counted for one in sightings]),
        np.array([one.box for one in sightings]),
    )


class Track:
    """The state of one person.

    Args:
        order: how many were born before, in this stream.
        sighting: the first.
        now_s: of the stream's clock, which always goes on.
        smoother: for what is told; None: told as it is found.
    """

    def __init__(self, order: int, sighting: Sighting, now_s: float, smoother: OneEuroFilter | None) -> None:
        self.order = order
        self.track_id = 0  # until confirmed
        self.hits = 1
        self.score = sighting.score
        self.fell = False  # below the score that asks for the detector, which has not run since
        self.seen_s = now_s
        self.lost_since_s: float | None = None
        self.misses = 0  # frames in a row
        self.undetected_since_s: float | None = None
        self.shadowed_since_s: float | None = None  # in the place of another
        self.motion = Motion()
        self._box = sighting.looked_at if sighting.detected is None else sighting.detected
        self._points = sighting.points.copy()
        self._joint_seen_s = np.where(sighting.counted, now_s, -np.inf)
        self._smoother = smoother

    @property
    def is_confirmed(self) -> bool:
        """Whether the client may hear of it."""
        return self.track_id > 0

    def expected(self, now_s: float) -> tuple[Array, Bools, Array]:
        """Keypoints [K, 2], which of them were found lately [K], and the box [4], as this frame should have them."""
        travelled = self.motion.travel(now_s - self.seen_s)
        return self._points + travelled, self._known, move_box(self._box, travelled)

    def shift(self, displacement: Array) -> None:
        """Everything moved by [2] pixels at once; nobody went anywhere."""
        self._points = self._points + displacement
        self._box = move_box(self._box, displacement)

    def miss(self, now_s: float) -> None:
        """It was not found in this frame."""
        self.misses += 1
        if self.lost_since_s is None:
            self.lost_since_s = now_s

    def hear_of_detections(self, now_s: float, *, was_detected: bool) -> None:
        """The detector looked at this frame, and found this person or not."""
        self.fell = False
        if was_detected:
            self.undetected_since_s = None
        elif self.undetected_since_s is None:
            self.undetected_since_s = now_s

    def see(self, sighting: Sighting, now_s: float) -> None:
        """It was found in this frame, which is later than the one before."""
        elapsed_s = now_s - self.seen_s
        displacement = self._displacement(sighting, elapsed_s)
        self.motion.observe(displacement, elapsed_s, size_of(self._box))
        self._points = np.where(sighting.counted[:, None], sighting.points, self._points + displacement)
        self._joint_seen_s[sighting.counted] = now_s
        self.seen_s = now_s
        self._box = self._follow(move_box(self._box, displacement), sighting)
        self.score = sighting.score
        self.hits += 1
        self.misses = 0
        self.lost_since_s = self.shadowed_since_s = None

    def note_shadow(self, now_s: float, other: Track | None) -> None:
        """Whether this person, who was not found, is expected where an older one was found."""
        if other is None or other.order > self.order:
            self.shadowed_since_s = None
        elif self.shadowed_since_s is None:
            self.shadowed_since_s = now_s

    def is_over(self, now_s: float, settings: TrackerSettings) -> bool:
        """Whether this person is to be forgotten."""
        if self.lost_since_s is not None and not self.is_confirmed:
            return True
        return (
            _has_lasted(self.lost_since_s, now_s, settings.max_lost_s)
            or _has_lasted(self.shadowed_since_s, now_s, settings.duplicate_s)
            or (
                self.score < settings.low_score
                and _has_lasted(self.undetected_since_s, now_s, settings.max_undetected_s)
            )
        )

    def told_points(self, sighting: Sighting, now_s: float) -> Array:
        """The keypoints [K, 2] to tell of a sighting, once a frame."""
        if self._smoother is None:
            return sighting.points
        return self._smoother.smooth(sighting.points, sighting.scores, now_s, size_of(self._box))

    @property
    def _known(self) -> Bools:
        return self.seen_s - self._joint_seen_s <= JOINT_MEMORY_S

    def _displacement(self, sighting: Sighting, elapsed_s: float) -> Array:
        """How far the person moved, [2], as well as can be told."""
        shared = sighting.counted & self._known
        if shared.sum() >= min(MIN_SHARED, len(shared)):
            moved = np.sort(sighting.points[shared] - self._points[shared], axis=0)
            return np.asarray((moved[(len(moved) - 1) // 2] + moved[len(moved) // 2]) / 2)  # median, the short way
        if sighting.detected is not None:
            return center_of(sighting.detected) - center_of(self._box)
        return self.motion.travel(elapsed_s)

    def _follow(self, moved: Array, sighting: Sighting) -> Array:
        """The new box. Joints that were found lately hold it open, where this frame does not show them."""
        if sighting.detected is not None:
            return follow_box(moved, sighting.detected, detected=True)
        known = self._known
        around = box_around(self._points, known) if known.sum() >= enough_joints(len(known)) else None
        return moved if around is None else follow_box(moved, around, detected=False)


def _has_lasted(since_s: float | None, now_s: float, longest_s: float) -> bool:
    return since_s is not None and now_s - since_s >= longest_s
