"""OKS, PCK and calibration against plain computations, one person and joint at a time."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import coco
from pycocotools.cocoeval import COCOeval

from drawings import draw_coco, lively_network, tiny_config
from model.crop import normalise
from model.estimator import PoseEstimator, crop_person
from model.geometry import apply_affine, box_to_affine
from model.heatmap import encode_heatmaps, target_weights
from model.skeleton import COCO
from training.blind_baseline import heatmap_losses, mean_poses
from training.calibration import as_text, reliability
from training.coco import AnnotationError, KeypointData, read_persons
from training.dataset import read_image
from training.person_accuracy import TORSO_OF_BOX, TruePoses, correct_joints, describe_accuracy, read_true_poses


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> KeypointData:
    """Six drawn persons who do not stand quite alike, and some of whose joints are not labelled."""
    annotations, images = draw_coco(tmp_path_factory.mktemp("accuracy"), persons=6)
    content = json.loads(annotations.read_text())
    rng = np.random.default_rng(5)
    for number, one in enumerate(content["annotations"]):
        keypoints = np.reshape(one["keypoints"], (17, 3))
        keypoints[:, :2] += rng.normal(scale=3, size=(17, 2))
        hidden = rng.permutation(17)[: 2 * number]
        keypoints[hidden] = 0
        one["keypoints"] = keypoints.ravel().tolist()
        one["num_keypoints"] = int((keypoints[:, 2] > 0).sum())
    content["annotations"][5]["keypoints"][5 * 3 : 7 * 3] = [0] * 6  # no shoulder, so no torso
    annotations.write_text(json.dumps(content))
    return read_persons(annotations, images)


@pytest.fixture(scope="module")
def truth(data) -> TruePoses:
    return read_true_poses(data)


@pytest.fixture(scope="module")
def points(truth):
    return truth.points + np.random.default_rng(3).normal(scale=6, size=truth.points.shape)


def described(points, truth):
    return describe_accuracy(points, truth, names=COCO.names, sigmas=COCO.oks_sigmas)


def test_mean_oks_is_that_of_pycocotools(data, truth, points):
    labelled = np.column_stack((points.reshape(-1, 2), np.ones(points.size // 2))).reshape(len(points), -1)
    results = [
        {"image_id": person.image_id, "category_id": 1, "keypoints": one.tolist(), "score": 1.0 - number / 10}
        for number, (person, one) in enumerate(zip(data.persons, labelled, strict=True))
    ]
    index = coco.COCO(str(data.annotations_path))
    evaluation = COCOeval(index, index.loadRes(results), "keypoints")
    evaluation.evaluate()
    # Rows are results by falling score, columns are persons: in both, the order of the file.
    matched = [np.diag(evaluation.computeOks(image_id, 1)) for image_id in sorted(index.getImgIds())]
    assert described(points, truth)["mean_oks"] == pytest.approx(np.concatenate(matched).mean(), abs=1e-12)


def test_pck_is_the_share_of_joints_within_a_fifth_of_the_torso(truth, points):
    right: dict[str, list[bool]] = {name: [] for name in COCO.names}
    without = 0
    for person in range(len(points)):
        there = dict(zip(COCO.names, truth.labelled[person], strict=True))
        place = dict(zip(COCO.names, truth.points[person], strict=True))
        if there["left_shoulder"] and there["right_hip"]:
            torso = math.dist(place["left_shoulder"], place["right_hip"])
        elif there["right_shoulder"] and there["left_hip"]:
            torso = math.dist(place["right_shoulder"], place["left_hip"])
        else:
            torso = 0.56 * math.sqrt(truth.box_xywh[person][2] * truth.box_xywh[person][3])
            without += 1
        for name, found in zip(COCO.names, points[person], strict=True):
            if there[name]:
                right[name].append(math.dist(found, place[name]) <= 0.2 * torso)
    pck = described(points, truth)["pck"]
    every = [one for of_joint in right.values() for one in of_joint]
    assert pck["all"] == pytest.approx(sum(every) / len(every))
    assert 0.3 < pck["all"] < 1
    for name, of_joint in right.items():
        assert pck["joints"][name] == pytest.approx(sum(of_joint) / len(of_joint))
    assert (pck["labelled_joints"], pck["persons_without_torso"]) == (len(every), without)
    assert 0 < without < len(points)


def one_person(labelled_names, box=(0.0, 0.0, 100.0, 100.0)) -> TruePoses:
    places = np.array([[10.0 * number, 0.0] for number in range(17)])
    labelled = np.array([name in labelled_names for name in COCO.names])
    return TruePoses(places[None], labelled[None], np.array([1000.0]), np.array([box]))


@pytest.mark.parametrize(
    ("labelled", "torso"),
    [
        (("left_shoulder", "right_shoulder", "left_hip", "right_hip"), 70.0),  # joints 5 and 12
        (("right_shoulder", "left_hip"), 50.0),  # 6 and 11
        (("left_shoulder", "left_hip"), TORSO_OF_BOX * 100),
        (("nose",), TORSO_OF_BOX * 100),
    ],
)
def test_the_torso_is_a_diagonal_that_is_labelled_or_else_of_the_box(labelled, torso):
    truth = one_person(labelled)
    for distance, right in ((0.2 * torso - 1e-6, 1), (0.2 * torso + 1e-6, 0)):
        correct = correct_joints(truth.points + np.array([0, distance]), truth, COCO.names)
        assert np.nanmin(correct) == np.nanmax(correct) == right
    assert np.isnan(correct[~truth.labelled]).all()


def test_a_torso_without_length_is_none():
    truth = one_person(("left_shoulder", "right_hip"))
    truth.points[0, 12] = truth.points[0, 5]
    assert np.nanmax(correct_joints(truth.points + np.array([0, 11.0]), truth, COCO.names)) == 1


def test_joints_that_have_other_names_are_measured_by_the_box():
    truth = TruePoses(np.zeros((1, 2, 2)), np.ones((1, 2), bool), np.array([4.0]), np.array([[0.0, 0, 100, 100]]))
    figures = describe_accuracy(np.full((1, 2, 2), 7.0), truth, names=("tail", "nose"), sigmas=(0.1, 0.2))
    assert figures["pck"]["joints"] == {"tail": 1.0, "nose": 1.0}
    assert figures["pck"]["persons_without_torso"] == 1


def test_a_joint_that_nobody_has_is_not_measured(truth, points):
    without = TruePoses(truth.points, truth.labelled.copy(), truth.area, truth.box_xywh)
    without.labelled[:, 3] = False
    pck = described(points, without)["pck"]
    assert pck["joints"]["left_ear"] is None
    assert 0 <= pck["all"] <= 1


def test_a_person_without_an_area_is_refused(data, tmp_path):
    content = json.loads(data.annotations_path.read_text())
    del content["annotations"][2]["area"]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match="annotation 3 has no `area`"):
        read_true_poses(read_persons(path, data.images_dir))


def test_reliability_is_the_distance_of_means_in_bins():
    rng = np.random.default_rng(0)
    scores, outcomes = np.append(rng.random(500) ** 2, [0.0, 0.1, 1.0]), rng.random(503)
    table = reliability(scores, outcomes)
    error, counted = 0.0, 0
    for number, row in enumerate(table["bins"]):
        low, high = number / 10, (number + 1) / 10
        inside = [n for n, s in enumerate(scores) if low <= s < high or (number == 9 and s == 1)]
        assert (row["low"], row["high"], row["count"]) == (low, high, len(inside))
        score, outcome = (sum(of[n] for n in inside) / len(inside) for of in (scores, outcomes))
        assert (row["score"], row["outcome"]) == (pytest.approx(score), pytest.approx(outcome))
        error += len(inside) / len(scores) * abs(score - outcome)
        counted += len(inside)
    assert counted == table["count"] == 503
    assert table["expected_calibration_error"] == pytest.approx(error)
    assert f"error {error:.3f} over 503" in as_text("a title", table)


def test_scores_that_come_true_have_no_error():
    scores = np.array([0.05, 0.55, 0.95])
    assert reliability(scores, scores)["expected_calibration_error"] == pytest.approx(0)
    assert reliability(scores, 1 - scores)["expected_calibration_error"] == pytest.approx((0.9 + 0.1 + 0.9) / 3)
    assert reliability(scores, scores)["bins"][2] == {
        "low": 0.2,
        "high": 0.3,
        "count": 0,
        "score": None,
        "outcome": None,
    }


@pytest.mark.parametrize(("scores", "message"), [([], "no scores"), ([0.5, 1.5], "a score is 1.5; allowed: 0..1")])
def test_what_is_no_score_is_refused(scores, message):
    with pytest.raises(ValueError, match=message):
        reliability(np.array(scores), np.array(scores))


def test_heatmap_losses_are_those_of_every_person_at_once(data):
    """The closed form of the best constant, summed over batches, against the mean heatmap itself."""
    config = tiny_config()
    estimator = PoseEstimator(lively_network(config))
    affines = [box_to_affine(person.box_xywh, config.input_hw) for person in data.persons]
    points = torch.tensor(
        np.array([apply_affine(a, p.points_image) for a, p in zip(affines, data.persons, strict=True)])
    ).float()
    labelled = torch.tensor(np.array([person.labelled for person in data.persons]))
    target = encode_heatmaps(points, config.heatmap_hw, config.heatmap_sigma).double()
    counts = target_weights(points, labelled, config.heatmap_hw, config.heatmap_sigma).double()[..., None, None]
    mean = (counts * target).sum(dim=0) / counts.sum(dim=0)
    crops = [crop_person(read_image(p.image_path), p.box_xywh, config).pixels for p in data.persons]
    with torch.no_grad():
        predicted = estimator.net(normalise(torch.from_numpy(np.stack(crops))))
    losses = heatmap_losses(estimator, data.persons, batch_size=4)
    for name, heatmaps in (("network", predicted), ("nothing", 0), ("constant", mean)):
        expected = 0.5 * (counts * (target - heatmaps) ** 2).mean()
        assert losses[name] == pytest.approx(float(expected), rel=1e-4), name
    assert losses["constant"] < losses["nothing"]


def test_the_mean_pose_lies_in_each_box_as_the_persons_do(data, truth):
    poses = mean_poses(truth, (64, 48))
    in_crops = [
        apply_affine(box_to_affine(person.box_xywh, (64, 48)), person.points_image)[person.labelled]
        for person in data.persons
    ]
    numbers = np.concatenate([np.flatnonzero(person.labelled) for person in data.persons])
    for joint in range(17):
        expected = np.concatenate(in_crops)[numbers == joint].mean(axis=0)
        for person, pose in zip(data.persons, poses, strict=True):
            got = apply_affine(box_to_affine(person.box_xywh, (64, 48)), pose[joint])
            assert got == pytest.approx(expected)


def test_the_mean_pose_without_a_joint_has_it_in_the_middle():
    truth = one_person(("nose",), box=(10.0, 20.0, 48.0, 64.0))
    pose = mean_poses(truth, (64, 48))[0]
    assert pose[0] == pytest.approx(truth.points[0, 0])
    assert pose[1] == pytest.approx([10 + 23.5, 20 + 31.5])


def test_torso_of_box_is_what_the_photographs_say():
    path = Path(__file__).parents[1].parent / "shared/data/coco/annotations/person_keypoints_train.json"
    if not path.exists():
        pytest.skip(f"the photographs' annotations are not at {path}")
    ratios = []
    for one in json.loads(path.read_text())["annotations"]:
        keypoints = np.reshape(one["keypoints"], (17, 3))
        ends = next(((a, b) for a, b in ((5, 12), (6, 11)) if keypoints[a, 2] and keypoints[b, 2]), None)
        if ends:
            ratios.append(math.dist(*(keypoints[end, :2] for end in ends)) / math.sqrt(one["bbox"][2] * one["bbox"][3]))
    assert len(ratios) == 4494
    assert np.median(ratios) == pytest.approx(TORSO_OF_BOX, abs=0.005)
