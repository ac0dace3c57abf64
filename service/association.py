"""Who is who from one frame to the next: how alike poses and predictions are, and which belong together.

Similarity is OKS and IoU together. OKS, over the keypoints that are confident on both sides, tells people apart who
overlap; the IoU of their boxes still says something where the network is unsure of every joint, or a person moved by
more than OKS forgives. Of a pose with a third of its keypoints or more, each counts half; with fewer OKS counts less,
and where the pose is weak altogether, it is the IoU of the boxes alone.

The longer somebody was not seen, the less exact a prediction is: boxes grow, and OKS forgives more, with that time.
Pure functions over arrays; N people, M poses, K keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.geometry import Array
from model.similarity import AREA_OF_BOX, box_iou, oks
from service.assignment import assign
from service.person_box import grow_box

Bools = npt.NDArray[np.bool_]

OKS_SHARE = 0.5  # of the similarity, of poses that can be trusted
GROWTH_PER_S = 0.5  # of a box's width and height, on each side, while somebody is not seen
MAX_GROWTH = 0.5

SHIFT_IOU = 0.5  # of a box that a common shift explains
SHIFT_SHARE = 0.6  # of the people that could be there, for a shift to be believed
SHIFT_GAIN = 0.25  # of IoU for each of them, that a shift must bring over none
MAX_SHIFTS = 400  # tried; in a crowd larger than this allows nobody can be told by place after a jump
MAX_RESIZE = 1.5  # of a person's size, from one frame to the next


def enough_joints(keypoints: int) -> int:
    """How many keypoints a pose that can be trusted needs: a third, 3 at least (or all)."""
    return min(keypoints, max(3, -(-keypoints // 3)))


@dataclass(frozen=True)
class Persons:
    """People or poses as arrays: points [N, K, 2] and counted [N, K], boxes [N, 4], all in image pixels."""

    points: Array
    counted: Bools
    boxes: Array


def growth_of(unseen_s: Array) -> Array:
    """By how much of its width and height, on each side, the box of somebody grows who was not seen for so long."""
    return np.minimum(GROWTH_PER_S * unseen_s, MAX_GROWTH)


def similarities(predicted: Persons, unseen_s: Array, found: Persons, sigmas: Sequence[float]) -> Array:
    """Each prediction with each pose, [N, M] in 0..1; unseen_s [N], since each of the predicted was last seen."""
    growth = growth_of(unseen_s)[:, None]
    overlap = box_iou(grow_box(predicted.boxes[:, None], growth), grow_box(found.boxes[None], growth))
    alike, trust = _pose_similarity(predicted, found, (1 + 2 * growth) ** 2, sigmas)
    share = OKS_SHARE * trust
    return share * alike + (1 - share) * overlap


def same_persons(found: Persons, duplicate_oks: float, sigmas: Sequence[float]) -> list[list[int]]:
    """Poses of one frame in groups, each of one person: those more alike than `duplicate_oks`, directly or by others.

    Poses that are too weak to tell stay alone.
    """
    if len(found.boxes) == 1:
        return [[0]]
    alike, trust = _pose_similarity(found, found, np.ones((1, 1)), sigmas)
    linked = (trust >= 1) & (alike > duplicate_oks)
    groups: list[list[int]] = []
    left = set(range(len(linked)))
    while left:
        group, ahead = [], [min(left)]
        while ahead:
            one = ahead.pop()
            if one in left:
                left.discard(one)
                group.append(one)
                ahead += [int(other) for other in np.flatnonzero(linked[one])]
        groups.append(sorted(group))
    return groups


def match_boxes(predicted: Array, unseen_s: Array, detected: Array, least_iou: float) -> list[tuple[int, int]]:
    """Pairs of predicted [N, 4] and detected [M, 4] boxes by IoU, together the best."""
    growth = growth_of(unseen_s)[:, None]
    overlap = box_iou(grow_box(predicted[:, None], growth), grow_box(detected[None], growth))
    return assign(np.where(overlap >= least_iou, overlap, 0.0))


def common_shift(predicted: Array, detected: Array) -> Array:
    """The displacement [2] of all people at once, as when the camera was knocked; zeros if there is no sign of one.

    Believed if it puts at least two people, and most of them, onto detections, clearly better than they lie without it:
    of one person alone nobody can say whether the camera jumped or another came.
    """
    still = np.zeros(2)
    most = min(len(predicted), len(detected))
    if most < 2 or len(predicted) * len(detected) > MAX_SHIFTS:
        return still
    sizes, others = predicted[:, None, 2:], detected[None, :, 2:]
    similar = ((sizes < MAX_RESIZE * others) & (others < MAX_RESIZE * sizes)).all(axis=-1)
    centers = (detected[None, :, :2] + detected[None, :, 2:] / 2) - (
        predicted[:, None, :2] + predicted[:, None, 2:] / 2
    )
    shifts = np.concatenate((still[None], centers[similar]))  # [S, 2]
    moved = np.concatenate(
        (predicted[None, :, :2] + shifts[:, None], np.broadcast_to(predicted[:, 2:], (len(shifts), len(predicted), 2))),
        axis=-1,
    )
    best = box_iou(moved[:, :, None], detected[None, None]).max(axis=-1)  # [S, N]
    explained = (best >= SHIFT_IOU).sum(axis=-1)
    total = best.sum(axis=-1)
    chosen = int(np.where(explained == explained.max(), total, 0.0).argmax())
    is_jump = explained[chosen] >= max(2, SHIFT_SHARE * most) and total[chosen] >= total[0] + SHIFT_GAIN * most
    return shifts[chosen] if is_jump else still


def _pose_similarity(first: Persons, second: Persons, growth: Array, sigmas: Sequence[float]) -> tuple[Array, Array]:
    """OKS of each with each, [N, M], and how far it can be trusted, in 0..1; growth broadcasts against their areas."""
    both = first.counted[:, None] & second.counted[None]  # [N, M, K]
    areas = AREA_OF_BOX * (first.boxes[:, 2:].prod(axis=-1)[:, None] + second.boxes[:, 2:].prod(axis=-1)[None]) / 2
    alike = oks(first.points[:, None], second.points[None], growth * areas, both, sigmas=sigmas)
    return alike, np.minimum(both.sum(axis=-1) / enough_joints(len(sigmas)), 1.0)
