"""How joints move in answers, beside how they truly move: jitter and lag.

**Jitter** is what of the error changes from frame to frame. With e the error of a joint (answer less truth, pixels of
the frame) and d(t) = e(t+1) - 2 e(t) + e(t-1) its second difference, jitter is

    sqrt(mean over t of |d(t)|^2 / 2 / 6),

the standard deviation along each axis of the white noise that has such second differences (of white noise of deviation
s, d has 6 s^2 along each axis). An error that is constant, or grows evenly, has none. The same divided by the square
root of the person's area, frame by frame, compares persons of different sizes. Where a network now and then takes
another place for a joint, these few jumps are most of the mean; *typical* jitter therefore has the median of |d|^2 / 2
/ 6 over ln 2 in place of the mean, which is the same for white noise. All depend on the frame rate.

**Lag** is the delay of a path behind the truth at which the two are most alike: the maximum of their cross-correlation,
both less their means, to fractions of a frame, by a cubic spline through the true path, which is smooth and exact.
Paths of many joints have one common lag. Errors of a path that are far from its median error (CLIP_AT median absolute
deviations) are first cut there, or a few jumps would say more than all the rest.

Pure functions over values. Knows no network, stream or file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from frame_truth import FrameTruth
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize_scalar
from tracking_measures import AnsweredPose, Match

from model.geometry import Array

NOISE_OF_SECOND_DIFFERENCE = 6.0  # 1 + 4 + 1
MAX_LAG = 12  # frames, either way
MIN_FRAMES = 3 * MAX_LAG  # of a path whose lag is measured
CLIP_AT = 6.0  # median absolute deviations: 4 standard deviations of a normal error
MIN_MOTION = 0.5  # pixels, standard deviation along a path; what moves less has no lag that could be told


@dataclass(frozen=True, kw_only=True)
class PosePath:
    """One person through consecutive frames, always answered by one track; pixels of the frame.

    answered, true: [T, K, 2]. counted: [T, K] bool, joints that are labelled and in the frame. area: [T]. first: index
    of the first frame.
    """

    person_id: int
    track_id: int
    first: int
    answered: Array
    true: Array
    counted: npt.NDArray[np.bool_]
    area: Array

    def __len__(self) -> int:
        """T."""
        return len(self.area)


@dataclass(frozen=True, kw_only=True)
class Jitter:
    """px, typical_px: of all joints together, pixels. relative: px in square roots of the area. joints_px: [K], px.

    Not a number where no joint was seen in three consecutive frames.
    """

    px: float
    typical_px: float
    relative: float
    joints_px: Array


@dataclass
class _Open:
    """A path that still goes on."""

    track_id: int
    first: int
    rows: list[tuple[Array, Array, npt.NDArray[np.bool_], float]] = field(default_factory=list)


class Paths:
    """Collects the paths of matched persons, frame after frame."""

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}
        self._done: list[PosePath] = []

    def add(self, truth: FrameTruth, answers: Sequence[AnsweredPose], matches: Iterable[Match]) -> None:
        """One more frame."""
        going_on: dict[int, _Open] = {}
        for match in matches:
            person, answer = truth.persons[match.person], answers[match.answer]
            path = self._open.pop(person.person_id, None)
            is_same = path and path.track_id == answer.track_id and path.first + len(path.rows) == truth.index
            if path and not is_same:
                self._close(person.person_id, path)
            if path is None or not is_same:
                path = _Open(answer.track_id, truth.index)
            path.rows.append((answer.keypoints_image, person.keypoints_image, person.labelled, person.area))
            going_on[person.person_id] = path
        for person_id, path in self._open.items():
            self._close(person_id, path)
        self._open = going_on

    def all(self) -> list[PosePath]:
        """Those that ended, and those that still go on."""
        return self._done + [_closed(person_id, path) for person_id, path in self._open.items()]

    def _close(self, person_id: int, path: _Open) -> None:
        self._done.append(_closed(person_id, path))


def _closed(person_id: int, path: _Open) -> PosePath:
    answered, true, counted, area = (np.array(column) for column in zip(*path.rows, strict=True))
    return PosePath(
        person_id=person_id,
        track_id=path.track_id,
        first=path.first,
        answered=answered,
        true=true,
        counted=counted,
        area=area,
    )


def jitter(paths: Iterable[PosePath]) -> Jitter:
    """Over all paths; see the top."""
    squares: list[Array] = []  # [T - 2, K], not a number where a joint does not count in all three frames
    relative: list[Array] = []
    for path in paths:
        if len(path) < 3:
            continue
        error = np.where(path.counted[..., None], path.answered - path.true, np.nan)
        squares.append(_second_difference(error))
        relative.append(_second_difference(error / np.sqrt(path.area)[:, None, None]))
    if not squares:
        return Jitter(px=math.nan, typical_px=math.nan, relative=math.nan, joints_px=np.full(0, math.nan))
    all_squares = np.concatenate(squares)
    joints = [_root_mean(column) for column in all_squares.T]
    return Jitter(
        px=_root_mean(all_squares),
        typical_px=math.sqrt(_median(all_squares) / math.log(2)),
        relative=_root_mean(np.concatenate(relative)),
        joints_px=np.array(joints),
    )


def _second_difference(error: Array) -> Array:
    """[T, K, 2] -> [T - 2, K]: half the square of its length, over that of white noise of deviation 1."""
    second = error[2:] - 2 * error[1:-1] + error[:-2]
    return np.asarray((second**2).sum(axis=-1) / 2 / NOISE_OF_SECOND_DIFFERENCE)


def _median(squares: Array) -> float:
    there = squares[np.isfinite(squares)]
    return float(np.median(there)) if there.size else math.nan


def _root_mean(squares: Array) -> float:
    there = squares[np.isfinite(squares)]
    return math.sqrt(float(there.mean())) if there.size else math.nan


def lag_frames(answered: Sequence[Array], true: Sequence[Array], *, max_lag: int = MAX_LAG) -> float:
    """By how many frames paths lie behind their truth, one number for all; below 0: before it.

    Args:
        answered, true: of each path [T, 2], consecutive frames without gaps, in the same order.
        max_lag: frames, either way, that are searched; paths have more than twice as many frames.

    Returns:
        Not a number if no path is long enough, or none moves.

    Raises ValueError if a path is not as long as its truth.
    """
    pairs = []
    for seen, real in zip(answered, true, strict=True):
        if seen.shape != real.shape:
            raise ValueError(f"a path has shape {seen.shape}; allowed: {real.shape}, as its truth has")
        if len(real) > 2 * max_lag + 1 and math.sqrt(float(real.var(axis=0).sum())) >= MIN_MOTION:
            pairs.append((_without_jumps(seen, real), CubicSpline(np.arange(len(real)), real)))
    if not pairs:
        return math.nan

    def unlike(lag: float) -> float:
        products = powers = 0.0
        for seen, real in pairs:
            times = np.arange(max_lag, len(seen) - max_lag)
            ours, theirs = (part - part.mean(axis=0) for part in (seen[times], real(times - lag)))
            products += float((ours * theirs).sum())
            powers += float((theirs**2).sum())
        return -products / math.sqrt(powers) if powers else 0.0

    whole = min(np.arange(-max_lag, max_lag + 1), key=lambda lag: unlike(float(lag)))
    bounds = max(whole - 1.0, -float(max_lag)), min(whole + 1.0, float(max_lag))
    return float(minimize_scalar(unlike, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x)


def _without_jumps(seen: Array, real: Array) -> Array:
    """The path with its far errors cut, along each axis."""
    error = seen - real
    middle = np.median(error, axis=0)
    most = CLIP_AT * np.median(np.abs(error - middle), axis=0)
    return np.asarray(real + middle + np.clip(error - middle, -most, most))


def joint_runs(paths: Iterable[PosePath], *, at_least: int = MIN_FRAMES) -> Iterator[tuple[Array, Array]]:
    """Answer and truth [T, 2] of each joint wherever it counts in so many consecutive frames."""
    for path in paths:
        for joint in range(path.counted.shape[1]):
            edges = np.flatnonzero(np.diff(np.concatenate(([0], path.counted[:, joint].astype(int), [0]))))
            for start, end in zip(edges[::2], edges[1::2], strict=True):
                if end - start >= at_least:
                    yield path.answered[start:end, joint], path.true[start:end, joint]


def lag_of_paths(paths: Iterable[PosePath]) -> float:
    """The common lag, in frames, of all joints that are seen long enough; not a number if there are none."""
    runs = list(joint_runs(paths))
    return lag_frames([seen for seen, _ in runs], [real for _, real in runs])
