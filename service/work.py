"""What the network is asked to do with persons, and what it must answer."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from model.crop import Pixels
from model.estimator import ExplainedKeypoints, Keypoints
from model.levels import Level


class Estimator(Protocol):
    """What the engine needs of `model.estimator.PoseEstimator`: keypoints for each crop, in the same order."""

    def estimate(self, crops: Sequence[Pixels], *, flip_test: bool = False) -> list[Keypoints]: ...

    def explain(self, crops: Sequence[Pixels], *, levels: Collection[Level]) -> list[ExplainedKeypoints]: ...


@dataclass(frozen=True)
class Work:
    """What is done with a person; persons with the same may run together.

    levels: where attention is collected; none: the fast path. flip_test: as `Estimator.estimate` has it.
    """

    levels: tuple[Level, ...] = ()
    flip_test: bool = False

    def do(self, estimator: Estimator, crops: Sequence[Pixels]) -> Sequence[Keypoints]:
        """Keypoints for each crop. Raises ValueError if the network answers with less, or with what is no number."""
        if self.levels:
            return _checked(estimator.explain(crops, levels=self.levels), len(crops))
        return _checked(estimator.estimate(crops, flip_test=self.flip_test), len(crops))


def _checked(found: Sequence[Keypoints], persons: int) -> Sequence[Keypoints]:
    """The same poses, if there is one for each person and all numbers are finite; otherwise raises ValueError."""
    if len(found) != persons:
        raise ValueError(f"the network answered {persons} crops with {len(found)} poses")
    if not all(np.isfinite(numbers).all() for pose in found for numbers in _numbers(pose)):
        raise ValueError("the network answered with numbers that are not finite")
    return found


def _numbers(pose: Keypoints) -> Iterator[npt.NDArray[np.floating]]:
    yield pose.points
    yield pose.scores
    if isinstance(pose, ExplainedKeypoints):
        for attention in pose.attention.values():
            yield attention.dependency
            yield attention.affect
