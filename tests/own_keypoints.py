"""Drawn pictures with five keypoints of their own, for tests of sets other than COCO's."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from drawings import noise_photograph

NAMES = ("snout", "left_ear", "right_ear", "left_paw", "right_paw")
PLACES = np.array([[0.5, 0.3], [0.75, 0.15], [0.25, 0.15], [0.8, 0.85], [0.2, 0.85]])
COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255))
CATEGORY = {"id": 4, "name": "dog", "keypoints": list(NAMES), "skeleton": [[1, 2], [1, 3], [2, 4], [3, 5]]}


def draw_dogs(folder: Path, *, dogs: int = 8, category: dict[str, object] | None = None) -> tuple[Path, Path]:
    """One dog a picture: discs at its five keypoints. (JSON, image folder)."""
    images_dir = folder / "images"
    images_dir.mkdir(parents=True)
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(dogs):
        picture = noise_photograph(120, 100, seed=number)
        box = np.array([10 + rng.uniform(0, 8), 8 + rng.uniform(0, 8), 70.0, 95.0])
        points = box[:2] + PLACES * box[2:]
        for point, color in zip(
            points, ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)), strict=True
        ):
            cv2.circle(picture, (round(point[0]), round(point[1])), 6, color, -1)
        cv2.imwrite(str(images_dir / f"{number}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        images.append({"id": number, "file_name": f"{number}.png", "width": 100, "height": 120})
        keypoints = np.column_stack((points, np.full(5, 2.0))).ravel().tolist()
        annotations.append(
            {"id": number + 1, "image_id": number, "category_id": 4, "bbox": box.tolist(), "iscrowd": 0,
             "area": float(box[2] * box[3]), "keypoints": keypoints, "num_keypoints": 5}
        )  # fmt: skip
    path = folder / "dogs.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category or CATEGORY]}))
    return path, images_dir
