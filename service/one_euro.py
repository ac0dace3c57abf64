"""Less jitter in the keypoints of one person: the One-Euro filter (Casiez, Roussel and Vogel, CHI 2012).

A low-pass filter whose cutoff rises with speed: still joints do not tremble, fast ones do not lag. All joints at once;
each has its own state. Knows no clock, and nothing of how people are followed.

Decisions beyond the paper:

- Speed is measured in person sizes a second (the root of the box's area), so that near and far people, and cameras of
  any resolution, are smoothed alike.
- It is the speed of the joint, not of x and y alone, so that turning the picture changes nothing.
- A keypoint below `min_joint_score` is a guess: it is told as it came, with its low score, and moves no filter.
- A joint that was not seen for `reset_after_s` starts anew where it is found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.estimator import GUESS_BELOW
from model.fields import require
from model.geometry import Array


@dataclass(frozen=True, kw_only=True)
class SmoothingSettings:
    """How keypoints are smoothed. Raises ValueError naming the field, its value and what is allowed.

    min_cutoff_hz: of a joint at rest, the paper's f_cmin; lower: less jitter, more lag. The paper's own start is 1.
    beta: what speed adds to the cutoff, in Hz for one person size a second; higher: less lag in motion. 0: none.
    derivative_cutoff_hz: of the speed's own filter; the paper's is 1.
    reset_after_s: a joint that was not seen for longer starts anew.
    min_joint_score: a keypoint below it is a guess.
    """

    min_cutoff_hz: float = 1.0
    beta: float = 10.0
    derivative_cutoff_hz: float = 1.0
    reset_after_s: float = 0.5
    min_joint_score: float = GUESS_BELOW

    def __post_init__(self) -> None:
        for name in ("min_cutoff_hz", "derivative_cutoff_hz", "reset_after_s"):
            value = getattr(self, name)
            require(0 < value < math.inf, name, value, "above 0, and finite")
        require(0 <= self.beta < math.inf, "beta", self.beta, "at least 0, and finite")
        require(0 <= self.min_joint_score <= 1, "min_joint_score", self.min_joint_score, "0 to 1")


class OneEuroFilter:
    """The state of K joints of one person."""

    def __init__(self, keypoints: int, settings: SmoothingSettings) -> None:
        self._settings = settings
        self._points: Array = np.zeros((keypoints, 2))  # filtered
        self._speeds: Array = np.zeros((keypoints, 2))  # filtered, pixels a second
        self._seen_s: Array = np.full(keypoints, -math.inf)

    def smooth(self, points: Array, scores: npt.NDArray[np.float64], now_s: float, size: float) -> Array:
        """Take one frame in, later than the one before; its keypoints [K, 2], smoothed.

        Args:
            points: [K, 2] in pixels. scores: [K] in 0..1.
            now_s: of a clock that never goes back.
            size: of the person in the same pixels, above 0.
        """
        seen = scores >= self._settings.min_joint_score
        elapsed_s = now_s - self._seen_s
        known = seen & (elapsed_s <= self._settings.reset_after_s)
        new = seen & ~known
        self._points[new], self._speeds[new] = points[new], 0.0
        if known.any():
            self._filter(known, points[known], elapsed_s[known, None], size)
        self._seen_s[seen] = now_s
        return np.where(seen[:, None], self._points, points)

    def _filter(self, known: npt.NDArray[np.bool_], points: Array, elapsed_s: Array, size: float) -> None:
        """Points [J, 2] of the J joints that are known, elapsed_s [J, 1] since each was seen."""
        settings, before = self._settings, self._points[known]
        speeds = self._speeds[known]
        speeds = speeds + _gain(settings.derivative_cutoff_hz, elapsed_s) * ((points - before) / elapsed_s - speeds)
        cutoff_hz = settings.min_cutoff_hz + settings.beta * np.hypot(speeds[:, :1], speeds[:, 1:]) / size
        self._points[known] = before + _gain(cutoff_hz, elapsed_s) * (points - before)
        self._speeds[known] = speeds


def _gain(cutoff_hz: float | Array, elapsed_s: Array) -> Array:
    """The share of the new value in an exponential filter with this cutoff; elapsed_s above 0."""
    turned = 2 * math.pi * cutoff_hz * elapsed_s
    return np.asarray(turned / (1 + turned))
