"""Annotated photographs for measurements of training: drawn, always the same ones, in a folder that goes away again."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from drawn import drawn_jpeg

WIDTH, HEIGHT = 640, 480
PERSONS = (1, 1, 2, 3, 6)  # of a photograph, in turn: 2.6 on average, as in COCO


@contextmanager
def drawn_coco(photographs: int) -> Iterator[tuple[Path, Path]]:
    """COCO keypoint annotations and the folder of their photographs; persons 60 to 400 pixels tall."""
    rng = np.random.default_rng(0)
    data = drawn_jpeg(WIDTH, HEIGHT)
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(photographs):
            name = f"{number:06}.jpg"
            (Path(folder) / name).write_bytes(data)
            images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
            for _ in range(PERSONS[number % len(PERSONS)]):
                annotations.append(_person(len(annotations) + 1, number, rng))
        path = Path(folder) / "annotations.json"
        path.write_text(json.dumps({"images": images, "annotations": annotations}))
        yield path, Path(folder)


def _person(number: int, image: int, rng: np.random.Generator) -> dict[str, object]:
    height = float(rng.uniform(60, 400))
    width = height * float(rng.uniform(0.3, 0.8))
    box = np.array([rng.uniform(0, WIDTH - width), rng.uniform(0, HEIGHT - height), width, height])
    points = box[:2] + rng.uniform(size=(17, 2)) * box[2:]
    keypoints = np.column_stack((points, np.full(17, 2)))
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": box.tolist(),
        "area": width * height / 2,
        "num_keypoints": 17,
        "keypoints": keypoints.ravel().tolist(),
    }
