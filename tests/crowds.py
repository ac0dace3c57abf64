"""People who walk, cross and hide, drawn as numbers only: what a tracker is shown, with the truth beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from drawings import STANDING
from model.similarity import box_iou
from service.tracking import Tracker
from service.tracking_values import Tracked, TrackedInput

WIDTH_OF_HEIGHT = 0.4
SWING = np.array([0, 0, 0, 0, 0, 0, 0, 0.08, -0.08, 0.2, -0.2, 0, 0, -0.12, 0.12, -0.25, 0.25])  # of the width
IMAGE_HW = (480, 640)
GUESS = 0.05  # score of a keypoint that is not seen


@dataclass(frozen=True)
class Found:
    """Detections, as a detector gives them."""

    boxes_xywh: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Walker:
    """Somebody whose middle is at `path(time)`, from `begin_s` to `end_s`; `depth`: the nearer hides the farther."""

    name: str
    path: Callable[[float], tuple[float, float]]
    height: float = 200.0
    depth: float = 1.0
    begin_s: float = -np.inf
    end_s: float = np.inf

    def box(self, time_s: float) -> np.ndarray:
        x, y = self.path(time_s)
        width = WIDTH_OF_HEIGHT * self.height
        return np.array([x - width / 2, y - self.height / 2, width, self.height])

    def points(self, time_s: float) -> np.ndarray:
        box = self.box(time_s)
        swing = np.column_stack((SWING * np.sin(2 * np.pi * time_s), np.zeros(17)))
        return box[:2] + (STANDING + swing) * box[2:]


def line(start: tuple[float, float], velocity: tuple[float, float]) -> Callable[[float], tuple[float, float]]:
    return lambda time_s: (start[0] + velocity[0] * time_s, start[1] + velocity[1] * time_s)


@dataclass
class Scene:
    """What a camera sees: `noise` of keypoints and boxes in parts of a person's height; `shift(time)`: the camera's."""

    walkers: Sequence[Walker]
    noise: float = 0.01
    shift: Callable[[float], tuple[float, float]] = lambda _: (0.0, 0.0)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def present(self, time_s: float) -> list[Walker]:
        """Who can be seen, for a third at least."""
        return [one for one in self.walkers if self._shown(one, time_s) >= 1 / 3]

    def detect(self, time_s: float) -> Found:
        boxes = [self._box(one, time_s) for one in self.present(time_s)]
        noisy = [box + self.rng.normal(scale=self.noise * box[3], size=4) for box in boxes]
        inside = [_clipped(box) for box in noisy]
        return Found(np.array(inside).reshape(-1, 4), np.full(len(inside), 0.9))

    def estimate(self, time_s: float, box_xywh: Sequence[float]) -> tuple[TrackedInput, str | None]:
        """The pose in a box, as a network that takes one person finds it; and whose it is."""
        box = np.asarray(box_xywh)
        best, most = None, 0.2
        for one in self.present(time_s):
            fit = float(box_iou(box, self._box(one, time_s))) * self._shown(one, time_s)
            if fit > most:
                best, most = one, fit
        if best is None:
            points = box[:2] + self.rng.random((17, 2)) * box[2:]
            return TrackedInput(box_xywh=box, points_image=points, scores=np.full(17, GUESS), score=0.0), None
        points = best.points(time_s) + self.shift(time_s)
        seen = _within(points, np.concatenate((box[:2] - 0.125 * box[2:], 1.25 * box[2:])))
        for other in self.present(time_s):
            if other.depth < best.depth:
                seen &= ~_within(points, self._box(other, time_s))
        points = points + self.rng.normal(scale=self.noise * best.height, size=(17, 2))
        scores = np.where(seen, 0.8, GUESS)
        score = 0.8 if seen.any() else 0.0
        return TrackedInput(box_xywh=box, points_image=points, scores=scores, score=score), best.name

    def _box(self, walker: Walker, time_s: float) -> np.ndarray:
        box = walker.box(time_s)
        return np.concatenate((box[:2] + self.shift(time_s), box[2:]))

    def _shown(self, walker: Walker, time_s: float) -> float:
        """The share of somebody's keypoints that is in the picture and not hidden."""
        if not walker.begin_s <= time_s < walker.end_s:
            return 0.0
        points = walker.points(time_s) + self.shift(time_s)
        seen = _within(points, np.array([0, 0, IMAGE_HW[1], IMAGE_HW[0]]))
        for other in self.walkers:
            if other.depth < walker.depth and other.begin_s <= time_s < other.end_s:
                seen &= ~_within(points, self._box(other, time_s))
        return float(seen.mean())


@dataclass
class Seen:
    """What a tracker told of a scene, frame by frame: (name, id) of every pose told; and when the detector ran."""

    told: list[list[tuple[str | None, int]]] = field(default_factory=list)
    detected: list[int] = field(default_factory=list)
    tracked: list[list[Tracked]] = field(default_factory=list)

    def ids(self, name: str) -> list[int]:
        """The ids that somebody had, one after the other, without repetition."""
        told = [track_id for frame in self.told for one, track_id in frame if one == name]
        return [track_id for number, track_id in enumerate(told) if number == 0 or told[number - 1] != track_id]

    def switches(self) -> int:
        """How often an id changed over all people, and how often one id went from one to another."""
        names = {name for frame in self.told for name, _ in frame}
        changes = sum(max(len(self.ids(name)) - 1, 0) for name in names if name is not None)
        owners: dict[int, str | None] = {}
        for frame in self.told:
            for name, track_id in frame:
                changes += track_id in owners and owners[track_id] != name
                owners[track_id] = name
        return changes

    def frames_of(self, name: str) -> int:
        return sum(any(one == name for one, _ in frame) for frame in self.told)

    def repeated(self) -> int:
        """Frames in which somebody was told of twice, or nobody was."""
        return sum(
            len({name for name, _ in frame}) < len(frame) or any(name is None for name, _ in frame)
            for frame in self.told
        )


def follow(
    tracker: Tracker, scene: Scene, times_s: Sequence[float], *, blind: Sequence[int] = (), detect: bool = True
) -> Seen:
    """Show a scene to a tracker; in frames `blind` the network finds nobody."""
    seen = Seen()
    for number, time_s in enumerate(times_s):
        due = detect and tracker.detection_due()
        if due:
            seen.detected.append(number)
        boxes = tracker.boxes(time_s, IMAGE_HW, scene.detect(time_s) if due else None)
        found = [scene.estimate(time_s, box) for box in boxes]
        poses = [pose for pose, _ in found]
        if number in blind:
            poses = [
                TrackedInput(box_xywh=pose.box_xywh, points_image=pose.points_image, scores=0 * pose.scores, score=0.0)
                for pose in poses
            ]
        tracked = tracker.update(time_s, poses)
        named = zip(tracked, (name for _, name in found), strict=True)
        seen.told.append([(name, one.track_id) for one, name in named if one.told])
        seen.tracked.append(tracked)
    return seen


def _within(points: np.ndarray, box: np.ndarray) -> np.ndarray:
    return ((points >= box[:2]) & (points <= box[:2] + box[2:])).all(axis=-1)


def _clipped(box: np.ndarray) -> np.ndarray:
    near = np.clip(box[:2], 0, [IMAGE_HW[1] - 8, IMAGE_HW[0] - 8])
    far = np.clip(box[:2] + box[2:], near + 4, [IMAGE_HW[1], IMAGE_HW[0]])
    return np.concatenate((near, far - near))
