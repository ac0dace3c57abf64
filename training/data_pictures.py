"""Annotations drawn into their photographs, for a person to look at before anything is trained on them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from model.checkpoint import write_atomically
from model.crop import Pixels
from model.drawing import draw_poses
from training.coco import AnnotationError, annotations_of, read_json
from training.data_findings import Checked, Findings, check_annotations, images_by_id
from training.dataset import read_image
from training.image_findings import has_file_name
from training.keypoint_sets import KeypointChoice, read_keypoint_set
from training.png import encode_png

PICTURES_SIDE = 640  # pixels of a picture's shorter side, at least
FARTHEST = 30_000  # pixels; cv2 draws wrong lines to points that are absurdly far away


def draw_sample(
    annotations_path: Path, images_dir: Path, choice: KeypointChoice, out: Path, *, count: int, seed: int
) -> int:
    """Write PNGs of random photographs with all that is annotated. Returns how many.

    Joints and limbs of the own left are orange, of the right blue; each box has the id of its annotation.
    """
    content = read_json(annotations_path)
    keypoints = read_keypoint_set(content, annotations_path, choice)
    all_images = images_by_id(content)
    # What the check has found is told already; what is drawn are the annotations that can be.
    readable = check_annotations(
        annotations_of(content, keypoints, annotations_path), all_images, keypoints, Findings()
    )
    persons: dict[Any, list[Checked]] = {}
    for one in readable:
        persons.setdefault(one.annotation["image_id"], []).append(one)
    images = [image for identity, image in all_images.items() if identity in persons and has_file_name(image)]
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    out.mkdir(parents=True, exist_ok=True)
    written = 0
    for number in sorted(chosen):
        image = images[number]
        try:
            photograph: Pixels = read_image(images_dir / image["file_name"])
        except AnnotationError as error:
            print(f"not drawn: {error}", file=sys.stderr)
            continue
        shown = persons[image["id"]]
        poses = [one.keypoints for one in shown]
        drawn = draw_poses(photograph, poses, keypoints.skeleton, shown_above=0.0, min_side=PICTURES_SIDE)
        _draw_boxes(drawn, shown, scale=drawn.shape[1] / photograph.shape[1])
        write_atomically(out / f"{Path(image['file_name']).stem}.png", encode_png(drawn))
        written += 1
    return written


def _draw_boxes(image: Pixels, shown: Sequence[Checked], *, scale: float) -> None:
    """White boxes with a dark rim, and the ids of their annotations, in place; `scale`: pixels drawn for one."""
    for one in shown:
        if one.box_xywh is None:
            continue
        x, y, width, height = one.box_xywh
        # A box covers the pixels x to x + width - 1.
        corners = (np.array([[x, y], [x + width, y + height]]) * scale - 0.5).clip(-FARTHEST, FARTHEST)
        (left, top), (right, bottom) = np.rint(corners).astype(int).tolist()
        for color, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.rectangle(image, (left, top), (right, bottom), color, thickness)
            place = max(left, 0) + 3, max(top, 0) + 14
            name = str(one.annotation.get("id"))
            cv2.putText(image, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, color, thickness, cv2.LINE_AA)
