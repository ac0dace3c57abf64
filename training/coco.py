"""Keypoint annotations in the standard COCO layout: one JSON with `images` and `annotations`, and a folder.

Reads and checks; does not open photographs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.geometry import MIN_SIZE, clip_box
from model.skeleton import COCO, Skeleton
from training.keypoint_sets import (
    FROM_FILE,
    AnnotationError,
    KeypointChoice,
    KeypointSet,
    check_agreement,
    read_keypoint_set,
)

__all__ = ["AnnotationError", "KeypointData", "Person", "check_layout", "read_json", "read_persons", "read_sets"]


@dataclass(frozen=True)
class Person:
    """One annotated person, or whatever else the keypoints are of.

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
    keypoints: KeypointSet


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


def read_persons(
    annotations_path: Path,
    images_dir: Path,
    *,
    name: str | None = None,
    choice: KeypointChoice = FROM_FILE,
    known: Sequence[Skeleton] = (COCO,),
) -> KeypointData:
    """All persons that training and ground-truth boxes use: not a crowd, at least one labelled joint, a box with area.

    Args:
        annotations_path, images_dir: COCO's layout.
        name: of the set; by default the file's.
        choice, known: which keypoints, see `training.keypoint_sets`.

    Raises AnnotationError for a file or record that is not of the COCO layout, and for a missing image folder.
    """
    content = read_json(annotations_path)
    check_layout(content, annotations_path)
    if not images_dir.is_dir():
        raise AnnotationError(f"image folder {images_dir} does not exist")
    keypoints = read_keypoint_set(content, annotations_path, choice, known=known)
    try:
        images = {image["id"]: image for image in content["images"]}
    except (KeyError, TypeError) as error:
        raise AnnotationError(f"{annotations_path}: images: {error!r}") from error
    persons = []
    for annotation in annotations_of(content, keypoints, annotations_path):
        try:
            person = read_person(annotation, images, images_dir, len(keypoints.skeleton))
        except (KeyError, TypeError, ValueError) as error:
            raise AnnotationError(f"{annotations_path}: annotation {annotation.get('id')}: {error!r}") from error
        if person is not None:
            persons.append(person)
    return KeypointData(
        name or annotations_path.stem,
        annotations_path,
        images_dir,
        num_images=len(images),
        persons=tuple(persons),
        keypoints=keypoints,
    )


def read_sets(
    train_sets: Sequence[tuple[Path, Path]], val_set: tuple[Path, Path], choice: KeypointChoice
) -> tuple[list[KeypointData], KeypointData]:
    """The sets of one run, pairs of annotation file and image folder: to train on, and to validate on.

    What a file leaves open about its keypoints is as in the first one. Raises AnnotationError as `read_persons`, and
    for files that disagree.
    """
    first = read_persons(*train_sets[0], name=str(train_sets[0][0]), choice=choice)
    skeleton = first.keypoints.skeleton
    sets = [first]
    for paths in (*train_sets[1:], val_set):
        data = read_persons(*paths, name=str(paths[0]), choice=choice, known=(skeleton, COCO))
        check_agreement(skeleton, str(first.annotations_path), data.keypoints.skeleton, str(data.annotations_path))
        sets.append(data)
    return sets[:-1], sets[-1]


def annotations_of(content: dict[str, Any], keypoints: KeypointSet, annotations_path: Path) -> list[dict[str, Any]]:
    """The annotations of the category. Raises AnnotationError if there are some, and all are of others."""
    annotations: list[dict[str, Any]] = content["annotations"]
    chosen = [annotation for annotation in annotations if keypoints.includes(annotation)]
    if annotations and not chosen:
        found = sorted({str(annotation.get("category_id")) for annotation in annotations})
        raise AnnotationError(
            f"{annotations_path}: no annotation is of category {keypoints.category!r} (category_id "
            f"{keypoints.category_id}); they have category_id {', '.join(found[:10])}"
        )
    return chosen


def read_person(
    annotation: dict[str, Any], images: dict[int, dict[str, Any]], images_dir: Path, num_keypoints: int
) -> Person | None:
    """The person of an annotation; None for one that is not used.

    Raises ValueError, TypeError, KeyError if it is malformed.
    """
    keypoints = np.asarray(annotation.get("keypoints") or (), dtype=np.float64)
    if annotation.get("iscrowd") or not keypoints.any():
        return None
    if keypoints.size != 3 * num_keypoints:
        raise ValueError(f"keypoints has {keypoints.size} numbers; allowed: {3 * num_keypoints}")
    if not np.isfinite(keypoints).all() or not np.isfinite(np.asarray(annotation["bbox"], dtype=np.float64)).all():
        raise ValueError("keypoints or bbox has a number that is not finite")
    keypoints = keypoints.reshape(num_keypoints, 3)
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
