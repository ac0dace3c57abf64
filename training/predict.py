"""Poses of many persons in many photographs, for evaluation: the same estimator that is served, in large batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from model.crop import Pixels
from model.estimator import Keypoints, PersonCrop, PoseEstimator, crop_person, keypoints_to_image, pose_score
from model.geometry import region_area
from model.variants import PoseConfig
from training.coco import Person
from training.dataset import read_image
from training.world import World


@dataclass(frozen=True)
class BoxedPerson:
    """A person to look at: box_xywh [4] in image pixels, and the score of that box (1 for ground truth)."""

    image_id: int
    image_path: Path
    box_xywh: npt.NDArray[np.float64]
    box_score: float = 1.0


AnyPerson = TypeVar("AnyPerson", BoxedPerson, Person)


def predict(
    estimator: PoseEstimator,
    persons: Sequence[BoxedPerson],
    *,
    flip_test: bool,
    batch_size: int = 32,
    progress: bool = True,
    world: World | None = None,
    category_id: int = 1,
) -> list[dict[str, Any]]:
    """COCO keypoint results, one for each person and in the same order.

    Of several processes each looks at its part of the persons, and all get all results: no person is seen twice.

    Beside the usual fields each has `box_xywh` and `area` (square image pixels of the padded
    region, for OKS-NMS). `category_id` is that of the results.
    """
    if world is not None and world.size > 1:
        part = predict(
            estimator,
            world.part(persons),
            flip_test=flip_test,
            batch_size=batch_size,
            progress=progress and world.first,
            category_id=category_id,
        )
        return [result for results in world.gather(part) for result in results]
    results = []
    crops = crop_each(persons, estimator.config)
    with tqdm(total=len(persons), desc="poses", unit="person", disable=not progress, dynamic_ncols=True) as bar:
        while batch := list(islice(crops, batch_size)):
            found = estimator.estimate([crop.pixels for _, crop in batch], flip_test=flip_test)
            for (person, crop), keypoints in zip(batch, found, strict=True):
                results.append(
                    _result(person, keypoints_to_image(keypoints, crop), estimator.config.input_hw, category_id)
                )
            bar.update(len(batch))
    return results


def crop_each(persons: Iterable[AnyPerson], config: PoseConfig) -> Iterator[tuple[AnyPerson, PersonCrop]]:
    """Each person with its crop. A photograph stays open while its persons follow each other."""
    opened: tuple[Path, Pixels] | None = None
    for person in persons:
        if opened is None or opened[0] != person.image_path:
            opened = person.image_path, read_image(person.image_path)
        yield person, crop_person(opened[1], person.box_xywh, config)


def _result(person: BoxedPerson, keypoints: Keypoints, input_hw: tuple[int, int], category_id: int) -> dict[str, Any]:
    flat = np.column_stack((keypoints.points, keypoints.scores)).ravel()
    return {
        "image_id": person.image_id,
        "category_id": category_id,
        "keypoints": flat.tolist(),
        "score": pose_score(keypoints.scores, person.box_score),
        "box_xywh": person.box_xywh.tolist(),
        "area": region_area(person.box_xywh, input_hw),
    }
