"""Predictions drawn beside the truth, for a person to look at."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from model.crop import Pixels
from model.skeleton import KEYPOINT_NAMES, LIMBS
from training.coco import read_json
from training.dataset import read_image

LEFT_RGB, RIGHT_RGB, MIDDLE_RGB = (255, 140, 0), (0, 170, 255), (60, 220, 60)
MIN_SIDE = 480  # small photographs are enlarged, so that joints can be told apart
SHOWN_ABOVE = 0.2  # predicted joints weaker than this are left out


def draw_pose(image: Pixels, keypoints: npt.NDArray[np.float64], shown: npt.NDArray[np.bool_]) -> None:
    """Draw one skeleton into an image, in place.

    The person's left side is orange, the right side blue, the middle green.

    Args:
        image: [H, W, 3] uint8 RGB. keypoints: [K, 2] in its pixels. shown: [K] bool.
    """
    thickness = max(1, round(min(image.shape[:2]) / 250))
    points = [tuple(int(v) for v in np.clip(np.rint(point), -10_000, 10_000)) for point in keypoints]
    for first, second in LIMBS:
        if shown[first] and shown[second]:
            color = _side(first) if _side(first) == _side(second) else MIDDLE_RGB
            cv2.line(image, points[first], points[second], color, thickness, cv2.LINE_AA)
    for joint, point in enumerate(points):
        if shown[joint]:
            cv2.circle(image, point, 2 * thickness, (255, 255, 255), -1, cv2.LINE_AA)
            cv2.circle(image, point, 2 * thickness, _side(joint), thickness, cv2.LINE_AA)


def save_pictures(
    results: list[dict[str, Any]], annotations_path: Path, images_dir: Path, out_dir: Path, *, limit: int
) -> int:
    """Write one PNG per photograph, predicted poses on the left and annotated ones on the right. Returns how many."""
    content = read_json(annotations_path)
    predicted, truth = defaultdict(list), defaultdict(list)
    for result in results:
        predicted[result["image_id"]].append(np.reshape(result["keypoints"], (-1, 3)))
    for annotation in content["annotations"]:
        if annotation.get("num_keypoints"):
            truth[annotation["image_id"]].append(np.reshape(annotation["keypoints"], (-1, 3)))
    out_dir.mkdir(parents=True, exist_ok=True)
    chosen = [image for image in content["images"] if predicted[image["id"]]][:limit]
    for image in chosen:
        photograph = read_image(images_dir / image["file_name"])
        halves = (
            _panel(photograph, predicted[image["id"]], SHOWN_ABOVE, "predicted"),
            _panel(photograph, truth[image["id"]], 0.0, "annotated"),
        )
        name = f"{Path(image['file_name']).stem}.png"
        cv2.imwrite(str(out_dir / name), cv2.cvtColor(np.hstack(halves), cv2.COLOR_RGB2BGR))
    return len(chosen)


def _panel(photograph: Pixels, poses: list[npt.NDArray[np.float64]], shown_above: float, title: str) -> Pixels:
    scale = max(1.0, MIN_SIDE / min(photograph.shape[:2]))
    panel = cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR).astype(
        np.uint8, copy=False
    )
    for pose in poses:
        draw_pose(panel, (pose[:, :2] + 0.5) * scale - 0.5, pose[:, 2] > shown_above)
    for color, thickness in (((0, 0, 0), 4), ((255, 255, 255), 1)):
        cv2.putText(panel, title, (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, color, thickness, cv2.LINE_AA)
    return panel


def _side(joint: int) -> tuple[int, int, int]:
    name = KEYPOINT_NAMES[joint]
    return LEFT_RGB if name.startswith("left") else RIGHT_RGB if name.startswith("right") else MIDDLE_RGB
