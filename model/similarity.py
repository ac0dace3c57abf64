"""How alike two poses, or two boxes, are: object keypoint similarity (OKS) and intersection over union (IoU).

One implementation for what scores a network, what drops duplicates and what follows people. Pure functions over arrays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from model.skeleton import COCO

AREA_OF_BOX = 0.52  # of a person in its box: median over 3,199 persons of COCO; the middle half 0.42 to 0.60


def joint_similarity(
    squared_distance: npt.NDArray[np.float64], area: npt.NDArray[np.float64], sigmas: Sequence[float]
) -> npt.NDArray[np.float64]:
    """The part of each joint in OKS, [..., K] in 0..1.

    Args:
        squared_distance: [..., K] between a joint and its truth. area: of the person, in the same frame's square
            pixels; broadcasts against it. sigmas: [K], the spread of annotations relative to the area's square root.
    """
    variance = (2 * np.asarray(sigmas)) ** 2
    return np.asarray(np.exp(-squared_distance / variance / (2 * area + np.spacing(1))))


def oks(
    points: npt.NDArray[np.float64],
    others: npt.NDArray[np.float64],
    area: float | npt.NDArray[np.float64],
    counted: npt.NDArray[np.bool_] | None = None,
    *,
    sigmas: Sequence[float] = COCO.oks_sigmas,
) -> npt.NDArray[np.float64]:
    """Object keypoint similarity of poses (COCO keypoint evaluation), one with several or each with each.

    Args:
        points, others: [..., K, 2], same frame; they broadcast: [K, 2] and [M, K, 2] give [M], [N, 1, K, 2] and
            [1, M, K, 2] give [N, M].
        area: the person's area in that frame's square pixels; broadcasts against the result.
        counted: [..., K] bool, the joints that count; all by default.
        sigmas: [K], of the skeleton.

    Returns:
        [...] in 0..1; 0 where no joint counts.
    """
    distance = ((others - points) ** 2).sum(axis=-1)  # [..., K]
    similarity = joint_similarity(distance, np.asarray(area, dtype=np.float64)[..., None], sigmas)
    if counted is None:
        return np.asarray(similarity.mean(axis=-1))
    counted = np.broadcast_to(counted, similarity.shape)
    return np.asarray(np.where(counted, similarity, 0).sum(axis=-1) / np.maximum(counted.sum(axis=-1), 1))


def box_iou(boxes_xywh: npt.NDArray[np.float64], others_xywh: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Intersection over union of boxes [..., 4] that broadcast, as `oks` has it: [...] in 0..1; 0 without area."""
    near = np.maximum(boxes_xywh[..., :2], others_xywh[..., :2])
    far = np.minimum(boxes_xywh[..., :2] + boxes_xywh[..., 2:], others_xywh[..., :2] + others_xywh[..., 2:])
    shared = np.maximum(far - near, 0).prod(axis=-1)
    whole = boxes_xywh[..., 2:].prod(axis=-1) + others_xywh[..., 2:].prod(axis=-1) - shared
    return np.asarray(shared / np.maximum(whole, np.finfo(np.float64).tiny))
