"""Finer figures than AP, for poses whose person is known: OKS and PCK of each person and joint.

With ground-truth boxes the n-th pose is that of the n-th person. With a detector's boxes nobody says whose pose it is,
so there is none of this. At small budgets AP is near 0 for every network; these figures still tell them apart.

PCK@0.2 is the share of labelled joints that lie within 0.2 of the person's torso of where they were annotated. The
torso is the distance from the left shoulder to the right hip; if one of these is not labelled, the other diagonal. If
that is not labelled either, or shorter than a pixel, it is `TORSO_OF_BOX` times the square root of the box's area.

Takes names and widths of the joints as arguments; knows no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.similarity import joint_similarity
from training.coco import AnnotationError, KeypointData, read_json

PCK_THRESHOLD = 0.2
TORSO_DIAGONALS = (("left_shoulder", "right_hip"), ("right_shoulder", "left_hip"))
TORSO_OF_BOX = 0.56  # median over 4,494 persons of COCO whose torso is labelled; the middle half: 0.47 to 0.67
MIN_TORSO = 1.0  # pixels

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TruePoses:
    """Annotated persons as arrays, in the order of their data set; all in image pixels.

    points [N, K, 2], labelled [N, K], area [N] of the person, box_xywh [N, 4].
    """

    points: Floats
    labelled: Bools
    area: Floats
    box_xywh: Floats


def read_true_poses(data: KeypointData) -> TruePoses:
    """The persons of a data set with their areas. Raises AnnotationError for a person without an area."""
    areas = {one.get("id"): one.get("area") for one in read_json(data.annotations_path)["annotations"]}
    for person in data.persons:
        if not isinstance(areas.get(person.annotation_id), int | float):
            raise AnnotationError(
                f"{data.annotations_path}: annotation {person.annotation_id} has no `area`, which OKS needs"
            )
    persons = data.persons
    return TruePoses(
        points=np.array([person.points_image for person in persons]),
        labelled=np.array([person.labelled for person in persons]),
        area=np.array([areas[person.annotation_id] for person in persons], dtype=np.float64),
        box_xywh=np.array([person.box_xywh for person in persons]),
    )


def squared_distance(points: Floats, truth: TruePoses) -> Floats:
    """[N, K] in square pixels; points [N, K, 2]."""
    return np.asarray(((points - truth.points) ** 2).sum(axis=-1))


def joint_oks(points: Floats, truth: TruePoses, sigmas: Sequence[float]) -> Floats:
    """The similarity of each joint, [N, K] in 0..1; NaN where it is not labelled.

    A person's OKS is the mean over the labelled joints of its row.
    """
    similarity = joint_similarity(squared_distance(points, truth), truth.area[:, None], sigmas)
    return np.where(truth.labelled, similarity, np.nan)


def torso_sizes(truth: TruePoses, names: Sequence[str]) -> tuple[Floats, Bools]:
    """The length [N] that PCK is relative to, in pixels, and whether it was measured [N] and not taken from the box."""
    sizes = TORSO_OF_BOX * np.sqrt(truth.box_xywh[:, 2] * truth.box_xywh[:, 3])
    measured = np.zeros(len(sizes), dtype=bool)
    for ends in reversed(TORSO_DIAGONALS):  # the first one has the last word
        if set(ends) <= set(names):
            first, second = (names.index(end) for end in ends)
            length = np.linalg.norm(truth.points[:, first] - truth.points[:, second], axis=-1)
            there = truth.labelled[:, first] & truth.labelled[:, second] & (length >= MIN_TORSO)
            sizes[there] = length[there]
            measured |= there
    return sizes, measured


def correct_joints(points: Floats, truth: TruePoses, names: Sequence[str], threshold: float = PCK_THRESHOLD) -> Floats:
    """1 for each joint within `threshold` torsos of the truth, 0 for others: [N, K], NaN where it is not labelled."""
    sizes, _ = torso_sizes(truth, names)
    within = np.sqrt(squared_distance(points, truth)) <= threshold * sizes[:, None]
    return np.where(truth.labelled, within.astype(np.float64), np.nan)


def describe_accuracy(
    points: Floats, truth: TruePoses, *, names: Sequence[str], sigmas: Sequence[float]
) -> dict[str, Any]:
    """Mean OKS over persons, and PCK of all joints and of each: plain JSON.

    Args:
        points: [N, K, 2] in image pixels, the pose of each person of `truth`, in order.
        names, sigmas: of the K joints.

    A joint that nobody has labelled has PCK None.
    """
    correct = correct_joints(points, truth, names)
    by_joint = zip(names, correct.T, strict=True)
    return {
        "mean_oks": float(np.nanmean(joint_oks(points, truth, sigmas), axis=1).mean()),
        "pck": {
            "threshold": PCK_THRESHOLD,
            "relative_to": "torso",
            "all": float(np.nanmean(correct)),
            "joints": {name: None if np.isnan(one).all() else float(np.nanmean(one)) for name, one in by_joint},
            "labelled_joints": int(truth.labelled.sum()),
            "persons_without_torso": int((~torso_sizes(truth, names)[1]).sum()),
        },
    }
