"""What is told of a photograph without boxes, and how much of it is right: `python bench/sifted.py --help`.

The detector's boxes, the poses in them as `training.evaluate` has them, and what the service's rules leave of these, by
the least score of a pose. Needs annotated photographs (COCO's layout), so it is no part of `make bench`.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from results import Table

from model.estimator import pose_score
from model.load_detector import load_detector
from model.loading import load_estimators
from model.similarity import oks
from model.skeleton import COCO
from service.poses import Pose, PoseResult
from service.settings import BUNDLED_CHECKPOINT, ServiceSettings
from service.sifting import told_poses
from service.tracking_values import TrackerSettings
from training.coco import Person, read_json, read_persons
from training.detect import find_people
from training.predict import BoxedPerson, predict

LEAST = (0.0, 0.2, 0.3, 0.35, 0.4, 0.5)
RIGHT = 0.5  # OKS
DETECTOR: str = ServiceSettings.model_fields["detector"].default

Poses = Mapping[int, Sequence[Pose]]  # by image


def found_poses(given: argparse.Namespace) -> tuple[Poses, str]:
    """The poses of all boxes that the detector finds, the surest first; and what found them."""
    detector = load_detector(given.detector)
    assert detector is not None  # the command takes no other
    found = find_people(detector, given.annotations, given.images)
    boxed = [
        BoxedPerson(image["id"], given.images / image["file_name"], box)
        for image, detections in zip(found.images, found.detections, strict=True)
        for box in detections.boxes_xywh
    ]
    (estimator,), card = load_estimators(given.checkpoint, torch.device("cpu"), precision=given.precision)
    poses: dict[int, list[Pose]] = defaultdict(list)
    for person, result in zip(boxed, predict(estimator, boxed, flip_test=False), strict=True):
        keypoints = np.reshape(result["keypoints"], (-1, 3))
        x, y, width, height = person.box_xywh.tolist()
        told = tuple((float(x), float(y), float(score)) for x, y, score in keypoints)
        poses[person.image_id].append(
            Pose(box_xywh=(x, y, width, height), score=pose_score(keypoints[:, 2]), keypoints=told)
        )
    runtime = estimator.runtime
    return poses, f"{card.config.label}, {runtime.name} on cpu in {runtime.precision}, persons by {detector.name}"


def count_found(poses: Poses, persons: Iterable[Person], areas: Mapping[int, float]) -> int:
    """How many persons have a pose of OKS 0.5 for themselves: poses choose, the best score first.

    areas: of annotations, square image pixels.
    """
    there: dict[int, list[Person]] = defaultdict(list)
    for person in persons:
        there[person.image_id].append(person)
    found = 0
    for image_id, told in poses.items():
        left = there[image_id]
        for pose in sorted(told, key=lambda pose: -pose.score):
            points = np.array(pose.keypoints)[:, :2]
            alike = [oks(one.points_image, points, areas[one.annotation_id], one.labelled) for one in left]
            if alike and max(alike) >= RIGHT:
                del left[int(np.argmax(alike))]
                found += 1
    return found


def bench(given: argparse.Namespace) -> Table:
    """All poses, and those that are told from each score on."""
    persons = read_persons(given.annotations, given.images).persons
    areas = {one["id"]: float(one["area"]) for one in read_json(given.annotations)["annotations"]}
    everybody, by = found_poses(given)
    table = Table(
        "sifted",
        f"Poses in detected boxes of {len(persons)} persons, no flip test: {by}; found: OKS {RIGHT} or more",
        ["told", "poses", "found", "precision"],
    )

    def add(name: str, poses: Poses) -> None:
        count, found = sum(map(len, poses.values())), count_found(poses, persons, areas)
        table.add(name, count, found, f"{found / max(count, 1):.3f}")

    add("all", everybody)
    for least in given.least:
        add(f"each person once, from {least:g}", {image: told(poses, least) for image, poses in everybody.items()})
    return table


def told(poses: Sequence[Pose], least: float) -> Sequence[Pose]:
    """What the service tells of a photograph with these poses."""
    result = PoseResult(width=1, height=1, poses=tuple(poses), detected=True)
    return told_poses(result, least, TrackerSettings(), COCO.oks_sigmas).poses


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it where results are kept."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--annotations", type=Path, required=True, metavar="JSON")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--checkpoint", type=Path, default=BUNDLED_CHECKPOINT)
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--detector", default=DETECTOR, help=f"embedded, or onnx:PATH ({DETECTOR})")
    parser.add_argument("--least", type=float, nargs="+", default=LEAST, metavar="SCORE", help="of a pose that is told")
    parser.add_argument("--results", type=Path, help="a folder for results as JSON and Markdown")
    given = parser.parse_args(arguments)
    if given.detector == "none":
        parser.error("--detector is none; allowed: embedded, or onnx:PATH")
    bench(given).write(given.results)


if __name__ == "__main__":
    main()
