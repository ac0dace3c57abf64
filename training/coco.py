"""Person keypoint annotations in the standard COCO layout: one JSON with `images` and `annotations`, and a folder.

Reads and checks; does not open photographs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.geometry import MIN_SIZE, clip_box
from model.skeleton import NUM_KEYPOINTS


class AnnotationError(ValueError):
    """An annotation or results file cannot be used. The message names the file, the record and what is wrong."""


@dataclass(frozen=True)
class Person:
    """One annotated person.

    box_xywh: [4] in image pixels, clipped to the image. points_image: [K, 2]. labelled: [K] bool (v > 0).
    """

    image_id: int
    annotation_id: int
    image_path: Path
    box_xywh: npt.NDArray[np.float64]
    points_image: npt.NDArray[np.float64]
    labelled: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class KeypointData:
    """A named set of photographs with annotated persons."""

    name: str
    annotations_path: Path
    images_dir: Path
    num_images: int
    persons: tuple[Person, ...]


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises AnnotationError naming the file."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise AnnotationError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise AnnotationError(f"{path} is not JSON: {error}") from error


def check_layout(content: Any, annotations_path: Path) -> None:
    """Raises AnnotationError unless there are lists of objects where COCO's layout has them."""
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise AnnotationError(f"{annotations_path} needs `images` and `annotations` at its top level")
    for key in ("images", "annotations"):
        if not isinstance(content[key], list):
            raise AnnotationError(f"{annotations_path} needs lists as `images` and `annotations`")
        for number, record in enumerate(content[key]):
            if not isinstance(record, dict):
                what = "annotation" if key == "annotations" else "image"
                raise AnnotationError(f"{annotations_path}: {what} number {number} is a {type(record).__name__}")


def read_persons(annotations_path: Path, images_dir: Path, *, name: str | None = None) -> KeypointData:
    """All persons that training and ground-truth boxes use: not a crowd, at least one labelled joint, a box with area.

    Raises AnnotationError for a file or record that is not of the COCO layout, and for a missing image folder.
    """
    content = read_json(annotations_path)
    check_layout(content, annotations_path)
    if not images_dir.is_dir():
        raise AnnotationError(f"image folder {images_dir} does not exist")
    try:
        images = {image["id"]: image for image in content["images"]}
    except (KeyError, TypeError) as error:
        raise AnnotationError(f"{annotations_path}: images: {error!r}") from error
    persons = []
    for annotation in content["annotations"]:
        try:
            person = _read_person(annotation, images, images_dir)
        except (KeyError, TypeError, ValueError) as error:
            raise AnnotationError(f"{annotations_path}: annotation {annotation.get('id')}: {error!r}") from error
        if person is not None:
            persons.append(person)
    return KeypointData(
        name or annotations_path.stem, annotations_path, images_dir, num_images=len(images), persons=tuple(persons)
    )


def _read_person(annotation: dict[str, Any], images: dict[int, dict[str, Any]], images_dir: Path) -> Person | None:
    keypoints = np.asarray(annotation.get("keypoints", ()), dtype=np.float64)
    if annotation.get("iscrowd") or not keypoints.any():
        return None
    if keypoints.size != 3 * NUM_KEYPOINTS:
        raise ValueError(f"keypoints has {keypoints.size} numbers; allowed: {3 * NUM_KEYPOINTS}")
    if not np.isfinite(keypoints).all() or not np.isfinite(np.asarray(annotation["bbox"], dtype=np.float64)).all():
        raise ValueError("keypoints or bbox has a number that is not finite")
    keypoints = keypoints.reshape(NUM_KEYPOINTS, 3)
    labelled = keypoints[:, 2] > 0
    image = images[annotation["image_id"]]
    box = clip_box(annotation["bbox"], image["width"], image["height"])
    if not labelled.any() or min(box[2], box[3]) < MIN_SIZE:
        return None
    return Person(
        image_id=image["id"],
        annotation_id=annotation["id"],
        image_path=images_dir / image["file_name"],
        box_xywh=box,
        points_image=keypoints[:, :2],
        labelled=labelled,
    )
