"""Boxes beside the annotated ones, by pycocotools: how many people are found, and how precisely.

All persons with a labelled joint count, as in the rest of `training`; where others are not annotated, whoever finds
them is told wrong, so precision (AP) reads low and recall does not.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from model.detection import Detections
from model.geometry import Array
from training.oks import ScorerMissing

# By area of the annotated box: COCO's bins, in square pixels of the photographs as they are.
SIZES = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
MOST = 100  # boxes of a picture that are looked at, as in COCO


def coco_detections(
    image_ids: Sequence[int], found: Sequence[Detections], category_id: int = 1
) -> list[dict[str, Any]]:
    """Boxes as COCO's detection records: image_id, category_id, bbox, score."""
    return [
        {
            "image_id": image_id,
            "category_id": category_id,
            "bbox": [round(float(number), 2) for number in box],
            "score": round(float(score), 5),
        }
        for image_id, detections in zip(image_ids, found, strict=True)
        for box, score in zip(detections.boxes_xywh, detections.scores, strict=True)
    ]


def score_boxes(truth: Sequence[tuple[int, Array]], records: list[dict[str, Any]]) -> dict[str, float]:
    """Figures in 0..1 at an intersection over union of 0.5; -1 where there is nobody of a size.

    Args:
        truth: of every picture, its id and the annotated boxes [N, 4].
        records: as `coco_detections`, of these pictures.

    Returns:
        `AP50`, and `recall`, `recall_small`, `recall_medium`, `recall_large` with at most 100 boxes a picture.

    Raises ScorerMissing without pycocotools.
    """
    try:
        from pycocotools import coco
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ScorerMissing(
            "scoring needs pycocotools, which is not installed; try: pip install pycocotools"
        ) from error
    images = [{"id": image_id} for image_id, _ in truth]
    annotations: list[dict[str, Any]] = []
    for image_id, boxes in truth:
        for box in boxes:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": [float(number) for number in box],
                    "area": float(box[2] * box[3]),
                    "iscrowd": 0,
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):
        annotated, predicted = coco.COCO(), coco.COCO()
        annotated.dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1}]}
        annotated.createIndex()
        told = [record | {"category_id": 1} for record in records]
        if told:
            predicted = annotated.loadRes(told)
        else:
            predicted.dataset = {**annotated.dataset, "annotations": []}
            predicted.createIndex()
        evaluation = COCOeval(annotated, predicted, "bbox")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.params.areaRng = [list(bounds) for bounds in SIZES.values()]
        evaluation.params.areaRngLbl = list(SIZES)
        evaluation.params.maxDets = [MOST]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][0, :, 0, 0, 0]
    recall = evaluation.eval["recall"][0, 0, :, 0]
    figures = {"AP50": float(precision[precision > -1].mean()) if (precision > -1).any() else -1.0}
    for name, value in zip(SIZES, recall, strict=True):
        figures["recall" if name == "all" else f"recall_{name}"] = float(value)
    return figures


def told_figures(truth: Sequence[Array], told: Sequence[Detections], *, overlap: float = 0.5) -> dict[str, Any]:
    """How good the boxes are that a service would tell: all of them count alike.

    Args:
        truth: of every picture, the annotated boxes [N, 4].
        told: of the same pictures.
        overlap: intersection over union from which a box is one of a person; each person has at most one.

    Returns:
        `told_recall`, `told_precision` in 0..1 (-1 where there is nobody, or no box), `told_boxes`.
    """
    hits = 0
    for boxes, found in zip(truth, told, strict=True):
        free = np.ones(len(boxes), dtype=bool)
        overlaps = overlaps_of(found.boxes_xywh, boxes)
        for row in overlaps:  # the likeliest box first
            row = np.where(free, row, -1.0)
            if len(row) and row.max() >= overlap:
                free[row.argmax()] = False
                hits += 1
    persons, said = sum(map(len, truth)), sum(len(found.scores) for found in told)
    return {
        "told_recall": hits / persons if persons else -1.0,
        "told_precision": hits / said if said else -1.0,
        "told_boxes": said,
    }


def overlaps_of(boxes: Array, others: Array) -> Array:
    """Boxes [N, 4] and [M, 4] (x, y, width, height) -> intersections over unions [N, M]."""
    first, second = boxes[:, None], others[None]
    sides = np.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    sides = (sides - np.maximum(first[..., :2], second[..., :2])).clip(0)
    inside = sides.prod(axis=-1)
    union = first[..., 2:].prod(axis=-1) + second[..., 2:].prod(axis=-1) - inside
    return np.asarray(inside / np.maximum(union, 1e-9))
