"""What is asked and what is answered, whatever the protocol. Plain values: knows nothing of how poses are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model.skeleton import KEYPOINT_NAMES, LIMBS

Box = tuple[float, float, float, float]  # x, y, width, height


@dataclass(frozen=True, kw_only=True)
class PoseRequest:
    """A picture and the persons in it.

    `boxes_xywh` are in pixels of the upright picture; None means that the whole picture is one person.
    """

    image: bytes
    boxes_xywh: Sequence[Box] | None = None
    flip_test: bool = False


@dataclass(frozen=True, kw_only=True)
class Pose:
    """One person: its box, and K keypoints (x, y, score) in pixels of the upright picture; scores in 0..1."""

    box_xywh: Box
    score: float
    keypoints: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, kw_only=True)
class PoseResult:
    """The poses in the order of the request's boxes, and the size of the upright picture."""

    width: int
    height: int
    poses: tuple[Pose, ...]


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What is being served."""

    variant: str
    label: str
    parameters: int
    input_hw: tuple[int, int]
    checkpoint_sha256: str
    runtime: str
    device: str
    precision: str
    keypoint_names: tuple[str, ...] = KEYPOINT_NAMES
    skeleton: tuple[tuple[int, int], ...] = LIMBS
