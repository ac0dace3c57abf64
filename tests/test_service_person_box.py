import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from drawings import STANDING
from model.similarity import AREA_OF_BOX, box_iou, oks
from service.person_box import (
    MARGIN_BOTTOM,
    MARGIN_SIDE,
    MARGIN_TOP,
    MIN_ASPECT,
    box_around,
    follow_box,
    grow_box,
    visible_box,
)
from service.tracking_values import TrackerSettings

ALL = np.ones(17, dtype=bool)
BOX = np.array([100.0, 50.0, 80.0, 200.0])


def test_only_what_counts_is_in_the_box():
    points = 100 * STANDING
    expected = box_around(points, ALL)
    points[9] = [5000, -3000]
    assert box_around(points, ALL & (np.arange(17) != 9)) == pytest.approx(expected, abs=15)
    assert (expected[:2] < points[ALL & (np.arange(17) != 9)].min(axis=0)).all()


def test_a_larger_person_has_a_larger_box_elsewhere():
    expected = box_around(STANDING * 100, ALL)
    assert box_around(STANDING * 300 + 7, ALL) == pytest.approx(expected * 3 + [7, 7, 0, 0])


def test_joints_on_a_line_have_a_box_with_an_area():
    upright = np.column_stack((np.full(17, 50.0), np.arange(17) * 10.0))
    assert (box_around(upright, ALL)[2:] >= MIN_ASPECT * 160).all()


@pytest.mark.parametrize("counted", [~ALL, np.arange(17) == 3])
def test_of_one_joint_or_none_there_is_no_box(counted):
    assert box_around(STANDING * 100, counted) is None


def test_boxes_grow_sooner_than_they_shrink_and_follow_a_detector_most():
    larger, smaller = grow_box(BOX, 0.1), grow_box(BOX, -0.1)
    grown, shrunk = follow_box(BOX, larger, detected=False), follow_box(BOX, smaller, detected=False)
    assert BOX[2] < grown[2] < larger[2]
    assert grown[2] - BOX[2] > BOX[2] - shrunk[2] > 0
    detected = follow_box(BOX, smaller, detected=True)
    assert smaller[2] < detected[2] < shrunk[2]
    for box in (grown, shrunk, detected):
        assert box[:2] + box[2:] / 2 == pytest.approx(BOX[:2] + BOX[2:] / 2)


def test_a_box_comes_to_what_is_measured_again_and_again():
    box, measured = BOX, np.array([120.0, 40.0, 60.0, 260.0])
    for _ in range(100):
        box = follow_box(box, measured, detected=False)
    assert box == pytest.approx(measured, abs=0.1)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([10, 10, 20, 40], [10, 10, 20, 40]),
        ([-5, 10, 20, 40], [0, 10, 15, 40]),
        ([-17, 10, 20, 40], None),
        ([200, 10, 20, 40], None),
        ([10, 97, 20, 4], None),
    ],
)
def test_what_is_left_of_a_box_in_the_picture(box, expected):
    found = visible_box(np.array(box, dtype=float), (100, 100))
    assert (None if found is None else found.tolist()) == expected


@pytest.fixture(scope="module")
def annotations():
    path = Path(__file__).parents[1].parent / "shared/data/coco/annotations/person_keypoints_train.json"
    if not path.exists():
        pytest.skip(f"the photographs' annotations are not at {path}")
    return json.loads(path.read_text())["annotations"]


def test_margins_are_what_the_photographs_say(annotations):
    margins, overlaps = [], []
    for one in annotations:
        keypoints, box = np.reshape(one["keypoints"], (17, 3)), np.array(one["bbox"], dtype=float)
        labelled = keypoints[:, 2] > 0
        if labelled.sum() < 6 or box[2:].min() <= 20:
            continue
        near, far = keypoints[labelled, :2].min(axis=0), keypoints[labelled, :2].max(axis=0)
        if (far - near).min() >= 4:
            outside = np.concatenate((near - box[:2], box[:2] + box[2:] - far))
            margins.append(outside / np.sqrt((far - near).prod()))
            overlaps.append(box_iou(box, box_around(keypoints[:, :2], labelled)))
    left, top, right, bottom = np.median(margins, axis=0)
    assert len(margins) == 5236
    assert (left + right) / 2 == pytest.approx(MARGIN_SIDE, abs=0.005)
    assert (top, bottom) == (pytest.approx(MARGIN_TOP, abs=0.005), pytest.approx(MARGIN_BOTTOM, abs=0.005))
    assert np.median(overlaps) == pytest.approx(0.80, abs=0.01)


def test_area_of_box_is_what_the_photographs_say(annotations):
    measured = [one for one in annotations if one["area_source"] != "estimated"]
    assert len(measured) == 3199
    ratios = [one["area"] / (one["bbox"][2] * one["bbox"][3]) for one in measured]
    assert np.median(ratios) == pytest.approx(AREA_OF_BOX, abs=0.005)


def test_two_people_are_hardly_ever_as_alike_as_two_views_of_one(annotations):
    """Of those who are more alike than `duplicate_oks` nearly all are as alike as an annotation made twice."""
    alike, by_image = [], defaultdict(list)
    for one in annotations:
        if one["num_keypoints"] >= 6:
            by_image[one["image_id"]].append(one)
    for persons in by_image.values():
        keypoints = np.reshape([one["keypoints"] for one in persons], (-1, 17, 3)).astype(float)
        areas = AREA_OF_BOX * np.array([one["bbox"][2] * one["bbox"][3] for one in persons])
        points, labelled = keypoints[..., :2], keypoints[..., 2] > 0
        both = labelled[:, None] & labelled[None]
        pairs = oks(points[:, None], points[None], (areas[:, None] + areas[None]) / 2, both)
        pairs[(both.sum(axis=-1) < 6) | np.eye(len(persons), dtype=bool)] = 0
        alike += pairs.max(axis=1).tolist()
    assert len(alike) == 5306
    assert sum(one > TrackerSettings().duplicate_oks for one in alike) == 86
    assert sum(one > 0.75 for one in alike) == 82
