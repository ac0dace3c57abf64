"""Scoring by object keypoint similarity, on pycocotools; and the rescoring and suppression that detections need.

The protocol matters: AP with ground-truth boxes reads 2 to 3 points above AP with detected ones. Every summary here
carries its `boxes`.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.similarity import oks
from model.skeleton import COCO
from training.coco import AnnotationError, annotations_of, check_layout, read_json
from training.keypoint_sets import KeypointSet, read_keypoint_set

METRIC_NAMES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
NMS_THRESHOLD = 0.9  # OKS above which the weaker of two poses is a duplicate (HRNet, TransPose)


def is_area(value: Any) -> bool:
    """Whether OKS can be measured with it: a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


# Fields of an annotation that pycocotools computes with, long after it has read them: what is allowed, and the test.
NEEDED: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    ("id", "a whole number", lambda value: isinstance(value, int)),
    ("area", "a finite number of square pixels", is_area),
    ("iscrowd", "0 or 1", lambda value: isinstance(value, int | float) and value in (0, 1)),
)


class ScorerMissing(RuntimeError):
    """pycocotools is not installed."""


def score_results(
    results: list[dict[str, Any]], annotations_path: Path, keypoints: KeypointSet | None = None
) -> dict[str, float]:
    """The ten COCO keypoint figures, each in 0..1; -1 where there is nothing to measure (an empty size bin).

    Args:
        results: COCO keypoint results: image_id, category_id, keypoints (3 K numbers: 51 for COCO), score.
        annotations_path: the ground truth.
        keypoints: which keypoints these are; None: as the file says by itself.

    Raises AnnotationError for results that do not belong to the annotations, ScorerMissing without pycocotools.
    """
    try:
        from pycocotools import coco
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ScorerMissing(
            "scoring needs pycocotools, which is not installed; try: pip install pycocotools"
        ) from error

    content = read_json(annotations_path)
    check_layout(content, annotations_path)
    if keypoints is None:
        keypoints = read_keypoint_set(content, annotations_path)
    truth = coco.COCO()
    truth.dataset = _completed(content, annotations_path, keypoints)
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        _check_results(results, set(truth.getImgIds()), annotations_path, len(keypoints.skeleton))
        # A `bbox` in a result would replace the keypoints' own extent as its area, and so move the size bins.
        keys = ("image_id", "category_id", "keypoints", "score")
        predicted = (
            truth.loadRes([{key: result[key] for key in keys} for result in results]) if results else coco.COCO()
        )
        if not results:
            predicted.dataset = {**truth.dataset, "annotations": []}
            predicted.createIndex()
        evaluation = COCOeval(truth, predicted, "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(keypoints.skeleton.oks_sigmas)
        if keypoints.category_id is not None:
            evaluation.params.catIds = [keypoints.category_id]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(METRIC_NAMES, evaluation.stats, strict=True)}


def _completed(content: dict[str, Any], annotations_path: Path, keypoints: KeypointSet) -> dict[str, Any]:
    """Annotations with the fields that pycocotools needs; those with only one meaning may be missing in the file."""
    annotations = []
    expected = 3 * len(keypoints.skeleton)
    category_id = keypoints.result_category_id
    for annotation in annotations_of(content, keypoints, annotations_path):
        where = f"{annotations_path}: annotation {annotation.get('id')}"
        if "area" not in annotation:
            raise AnnotationError(f"{where} has no `area`, which OKS needs")
        for name, allowed, is_fit in NEEDED:
            if name in annotation and not is_fit(annotation[name]):
                raise AnnotationError(f"{where}: {name} is {annotation[name]!r}; allowed: {allowed}")
        numbers = annotation.get("keypoints") or [0] * expected
        if len(numbers) != expected:
            raise AnnotationError(f"{where}: keypoints has {len(numbers)} numbers; allowed: {expected}")
        labelled = sum(v > 0 for v in numbers[2::3])
        annotations.append(
            {"iscrowd": 0, "category_id": category_id, "num_keypoints": labelled, **annotation, "keypoints": numbers}
        )
    categories = content.get("categories") or [{"id": category_id, "name": keypoints.category}]
    return {**content, "categories": categories, "annotations": annotations}


def _check_results(
    results: list[dict[str, Any]], image_ids: set[int], annotations_path: Path, num_keypoints: int
) -> None:
    if not isinstance(results, list):
        raise AnnotationError(f"results are a {type(results).__name__}; allowed: a list of COCO keypoint results")
    for number, result in enumerate(results):
        if not isinstance(result, dict):
            raise AnnotationError(f"result {number} is a {type(result).__name__}; allowed: a COCO keypoint result")
        missing = {"image_id", "category_id", "keypoints", "score"} - result.keys()
        if missing:
            raise AnnotationError(f"result {number} lacks {', '.join(sorted(missing))}")
        keypoints = result["keypoints"]
        if not isinstance(keypoints, list) or not all(isinstance(value, int | float) for value in keypoints):
            raise AnnotationError(f"result {number} has keypoints that are not a list of numbers")
        if len(result["keypoints"]) != 3 * num_keypoints:
            raise AnnotationError(
                f"result {number} has {len(result['keypoints'])} keypoint numbers; allowed: {3 * num_keypoints}"
            )
        if result["image_id"] not in image_ids:
            raise AnnotationError(f"result {number} is for image {result['image_id']}, not in {annotations_path}")


def suppress_duplicates(
    results: list[dict[str, Any]],
    threshold: float = NMS_THRESHOLD,
    *,
    sigmas: Sequence[float] = COCO.oks_sigmas,
) -> list[dict[str, Any]]:
    """OKS non-maximum suppression in each image: of two poses more alike than `threshold` the better stays.

    Each result needs an `area` (square pixels of its padded box) beside the usual fields. The order of the rest is
    kept. `sigmas`: [K], of the skeleton.
    """
    by_image: dict[int, list[int]] = defaultdict(list)
    for index, result in enumerate(results):
        by_image[result["image_id"]].append(index)
    kept: set[int] = set()
    for indices in by_image.values():
        points = np.array([np.reshape(results[index]["keypoints"], (-1, 3))[:, :2] for index in indices])
        areas = np.array([results[index]["area"] for index in indices])
        remaining = np.argsort([-results[index]["score"] for index in indices], kind="stable")
        while remaining.size:
            best, remaining = remaining[0], remaining[1:]
            kept.add(indices[best])
            between = (areas[best] + areas[remaining]) / 2
            alike = oks(points[best], points[remaining], between, sigmas=sigmas) > threshold
            remaining = remaining[~alike]
    return [result for index, result in enumerate(results) if index in kept]
