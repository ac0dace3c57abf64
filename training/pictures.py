"""Predictions drawn beside the truth, for a person to look at."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from model.crop import Pixels
from model.drawing import SHOWN_ABOVE, draw_poses
from model.skeleton import Skeleton
from training.coco import read_json
from training.dataset import read_image
from training.keypoint_sets import KeypointSet


def save_pictures(
    results: list[dict[str, Any]],
    annotations_path: Path,
    images_dir: Path,
    out_dir: Path,
    *,
    limit: int,
    keypoints: KeypointSet,
) -> int:
    """Write one PNG per photograph, predicted poses on the left and annotated ones on the right. Returns how many."""
    content = read_json(annotations_path)
    predicted, truth = defaultdict(list), defaultdict(list)
    for result in results:
        predicted[result["image_id"]].append(np.reshape(result["keypoints"], (-1, 3)))
    for annotation in content["annotations"]:
        if keypoints.includes(annotation) and any((annotation.get("keypoints") or ())[2::3]):
            truth[annotation["image_id"]].append(np.reshape(annotation["keypoints"], (-1, 3)))
    out_dir.mkdir(parents=True, exist_ok=True)
    chosen = [image for image in content["images"] if predicted[image["id"]]][:limit]
    for image in chosen:
        photograph = read_image(images_dir / image["file_name"])
        halves = (
            _panel(photograph, predicted[image["id"]], SHOWN_ABOVE, "predicted", keypoints.skeleton),
            _panel(photograph, truth[image["id"]], 0.0, "annotated", keypoints.skeleton),
        )
        name = f"{Path(image['file_name']).stem}.png"
        cv2.imwrite(str(out_dir / name), cv2.cvtColor(np.hstack(halves), cv2.COLOR_RGB2BGR))
    return len(chosen)


def _panel(
    photograph: Pixels, poses: list[npt.NDArray[np.float64]], shown_above: float, title: str, skeleton: Skeleton
) -> Pixels:
    panel = draw_poses(photograph, poses, skeleton, shown_above=shown_above)
    for color, thickness in (((0, 0, 0), 4), ((255, 255, 255), 1)):
        cv2.putText(panel, title, (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, color, thickness, cv2.LINE_AA)
    return panel
