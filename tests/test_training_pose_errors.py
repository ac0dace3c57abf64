"""Kinds of mistakes, each made on purpose."""

from __future__ import annotations

import numpy as np
import pytest

from model.skeleton import COCO
from training.person_accuracy import TruePoses
from training.pose_errors import KINDS, as_text, describe_errors, kinds_of_joints

WRIST, OTHER_WRIST, NOSE = (COCO.names.index(name) for name in ("left_wrist", "right_wrist", "nose"))
AREA = 10_000.0
PHOTOGRAPHS = (1, 1, 2)


@pytest.fixture
def truth():
    """Two persons in one photograph and one in another, joints 100 pixels apart."""
    places = np.stack([np.arange(17) % 5 * 100.0, np.arange(17) // 5 * 100.0], axis=-1)
    points = np.stack([places, places + 1000, places])
    return TruePoses(
        points=points,
        labelled=np.ones((3, 17), dtype=bool),
        area=np.full(3, AREA),
        box_xywh=np.tile([0.0, 0.0, 500.0, 400.0], (3, 1)),
    )


def kinds(points, truth, photographs=PHOTOGRAPHS):
    found = kinds_of_joints(points, truth, photographs, skeleton=COCO)
    return [[KINDS[kind] if kind >= 0 else None for kind in row] for row in found]


def off_by(similarity, joint):
    """Pixels at which a joint of a person of `AREA` has so much similarity."""
    return np.sqrt(-2 * AREA * np.log(similarity)) * 2 * COCO.oks_sigmas[joint]


@pytest.mark.parametrize(
    ("similarity", "kind"), [(0.99, "right"), (0.86, "right"), (0.84, "near"), (0.51, "near"), (0.49, "nowhere")]
)
def test_how_far_off_is_a_matter_of_the_joints_width(truth, similarity, kind):
    points = truth.points.copy()
    for joint in range(17):
        points[2, joint, 0] += off_by(similarity, joint)
    assert kinds(points, truth)[2] == [kind] * 17
    assert kinds(points, truth)[:2] == [["right"] * 17] * 2


def test_a_joint_on_the_opposite_ones_place_is_on_the_other_side(truth):
    points = truth.points.copy()
    points[2, WRIST] = truth.points[2, OTHER_WRIST] + 1
    assert kinds(points, truth)[2][WRIST] == "other_side"
    truth.labelled[2, OTHER_WRIST] = False  # then nobody knows what is there
    found = kinds(points, truth)[2]
    assert found[WRIST] == "nowhere"
    assert found[OTHER_WRIST] is None


@pytest.mark.parametrize("theirs", [WRIST, OTHER_WRIST])
def test_a_joint_on_somebody_elses_is_another_persons(truth, theirs):
    points = truth.points.copy()
    points[0, WRIST] = truth.points[1, theirs] + 1
    assert kinds(points, truth)[0][WRIST] == "other_person"
    assert kinds(points, truth, photographs=(1, 2, 3))[0][WRIST] == "nowhere"
    truth.labelled[1, theirs] = False
    assert kinds(points, truth)[0][WRIST] == "nowhere"


def test_another_joint_of_somebody_else_is_nowhere(truth):
    points = truth.points.copy()
    points[0, WRIST] = truth.points[1, NOSE]
    assert kinds(points, truth)[0][WRIST] == "nowhere"


def test_a_nose_has_no_other_side(truth):
    points = truth.points.copy()
    points[2, NOSE, 0] += off_by(0.3, NOSE)
    assert kinds(points, truth)[2][NOSE] == "nowhere"


def test_the_nearest_explanation_is_taken(truth):
    truth.points[2, OTHER_WRIST] = truth.points[2, WRIST] + 1  # folded hands
    points = truth.points.copy()
    points[2, WRIST, 0] -= off_by(0.6, WRIST)
    assert kinds(points, truth)[2][WRIST] == "near"


def test_shares_add_up_and_are_those_of_the_kinds(truth):
    points = truth.points.copy()
    points[2, WRIST] = truth.points[2, OTHER_WRIST]
    points[0, WRIST] += 500
    truth.labelled[2, 3:] = False
    truth.labelled[2, [WRIST, OTHER_WRIST]] = True  # five joints
    truth.labelled[:, 1] = False  # an eye that nobody has
    found = describe_errors(points, truth, PHOTOGRAPHS, skeleton=COCO)
    labelled = int(truth.labelled.sum())
    assert sum(found["all"].values()) == pytest.approx(1)
    assert found["all"]["other_side"] == pytest.approx(1 / labelled)
    assert found["all"]["nowhere"] == pytest.approx(1 / labelled)
    assert found["joints"]["left_wrist"] == {
        "right": pytest.approx(1 / 3),
        "near": 0,
        "other_side": pytest.approx(1 / 3),
        "other_person": 0,
        "nowhere": pytest.approx(1 / 3),
    }
    assert "left_eye" not in found["joints"]
    groups = found["by_labelled_joints"]
    assert {name: group["persons"] for name, group in groups.items()} == {"4 to 7": 1, "8 or more": 2}
    assert groups["8 or more"]["mean_oks"] == pytest.approx((1 + 15 / 16) / 2)


def test_the_table_names_every_kind_and_joint(truth):
    text = as_text(describe_errors(truth.points, truth, PHOTOGRAPHS, skeleton=COCO))
    head, *rows = text.splitlines()
    assert all(kind.replace("_", " ") in head for kind in KINDS)
    assert rows[0].split() == ["every", "joint", "100.0", "0.0", "0.0", "0.0", "0.0"]
    assert [row.split()[0] for row in rows[1:18]] == list(COCO.names)
    assert rows[18:] == ["3 persons with 8 or more labelled joints: mean OKS 1.000"]
    assert len({len(row) for row in [head, *rows[:18]]}) == 1
