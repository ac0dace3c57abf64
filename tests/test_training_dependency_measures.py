"""The numbers of attention, by hand and anew: shares, peaks, and what they are compared with."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from drawings import draw_coco, lively_network, tiny_config
from model.estimator import PoseEstimator, crop_person
from model.geometry import box_to_affine
from model.skeleton import COCO
from training.coco import read_persons
from training.dataset import read_image
from training.dependency_measures import Tally, box_shares, measure, peak_distances, tokens_inside

TOKENS = (8, 6)


@pytest.fixture(scope="module")
def persons(tmp_path_factory):
    """Two persons of each photograph; nose and left eye of the second one are not labelled."""
    annotations, images = draw_coco(tmp_path_factory.mktemp("measures"), persons=6)
    content = json.loads(annotations.read_text())
    content["annotations"][1]["keypoints"][0:6] = [0] * 6
    annotations.write_text(json.dumps(content))
    return read_persons(annotations, images).persons


def indifferent(config):
    """A network whose every query is zero, so that all tokens get the same attention."""
    net = lively_network(config)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "qkv" in name:
                parameter[: parameter.shape[0] // 3] = 0
    return net


def test_a_box_that_is_the_crop_holds_every_token():
    identity = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    np.testing.assert_array_equal(tokens_inside([0, 0, 48, 64], identity, TOKENS), np.ones(TOKENS))
    np.testing.assert_array_equal(tokens_inside([-10, -10, 100, 100], identity, TOKENS), np.ones(TOKENS))
    np.testing.assert_array_equal(tokens_inside([100, 0, 48, 64], identity, TOKENS), np.zeros(TOKENS))


def test_a_token_counts_by_the_part_of_its_area():
    identity = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    expected = np.zeros(TOKENS)
    expected[1:3, 1:3] = [[0.75 * 0.5, 0.75 * 1.0], [0.25 * 0.5, 0.25 * 1.0]]
    np.testing.assert_allclose(tokens_inside([12, 10, 12, 8], identity, TOKENS), expected)


@pytest.mark.parametrize("box", [[40, 30, 120, 160], [70.3, 55.8, 51.5, 20.25], [3, 4, 200, 30]])
def test_the_share_of_the_crop_is_the_boxs_area(box):
    """The padded region is 1.25 times as large as the box grown to the crop's shape."""
    affine = box_to_affine(box, (64, 48))
    inside = tokens_inside(box, affine, TOKENS)
    region_width = 1.25 * max(box[2], box[3] * 0.75)
    assert inside.mean() == pytest.approx(box[2] * box[3] / (region_width**2 / 0.75))
    np.testing.assert_allclose(inside, inside[::-1, ::-1], atol=1e-9)


def test_shares_are_weighted_and_need_no_sum_of_one():
    inside = np.array([[1.0, 0.5], [0.0, 0.25]])
    maps = np.array(
        [[[4.0, 0], [0, 0]], [[0, 3.0], [0, 0]], [[1, 1], [1, 1.0]], [[0, 0], [2, 2.0]], [[0, 0], [0, 0.0]]]
    )
    np.testing.assert_allclose(box_shares(maps, inside), [1.0, 0.5, 0.4375, 0.125, 0.0])


def test_the_peak_is_the_centre_of_the_heaviest_token():
    maps = np.zeros((2, *TOKENS))
    maps[0, 0, 0], maps[1, 7, 5] = 1.0, 0.1
    points = np.array([[3.5 + 3, 3.5 + 4], [43.5, 59.5]])
    np.testing.assert_allclose(peak_distances(maps, points), [5.0, 0.0])
    np.testing.assert_allclose(peak_distances(maps[::-1], points), [np.hypot(37, 52), np.hypot(40, 56)])


def test_a_tally_counts_every_joint_once():
    tally = Tally(layers=1, heads=1, skeleton=COCO)
    of_heads = np.array([[[[0.1, 1, 2, 3], [0.3, 2, 2, 3], [0.8, 9, 2, 3]]]])
    tally.add(np.concatenate((of_heads, of_heads + 1), axis=1), np.array([0, 4, 16]))
    tally.add(np.full((1, 2, 1, 4), 5.0), np.array([4]))
    assert tally.means(0, 0)["box_share"] == pytest.approx((0.1 + 0.3 + 0.8 + 5) / 4)
    assert tally.means(0)["peak_crop_px"] == pytest.approx((2 + 3 + 10 + 5) / 4)
    assert tally.medians(0)["peak_crop_px"] == pytest.approx(4.0)
    by_keypoint = tally.by_keypoint(0)
    assert by_keypoint.keys() == {"nose", "right_ear", "right_ankle"}
    assert by_keypoint["right_ear"]["peak_crop_px"] == pytest.approx((3 + 5) / 2)


def test_the_numbers_are_those_of_the_maps(persons):
    """Everything anew for one person, one map at a time."""
    estimator = PoseEstimator(lively_network(tiny_config(blocks=(1, 1, 2), encoder_layers=2)))
    person = persons[1]
    assert person.labelled.sum() == 15
    crop = crop_person(read_image(person.image_path), person.box_xywh, estimator.config)
    (found,) = estimator.explain([crop.pixels])
    inside = tokens_inside(person.box_xywh, crop.image_to_crop, TOKENS)
    for mode in ("dependency", "affect"):
        measured = measure(estimator, [person], mode=mode, progress=False)
        for level, tally in measured.levels.items():
            shares, distances = [], []
            for joint in np.flatnonzero(person.labelled):
                heat = found.attention[level].of(joint, layer=1, head=None, mode=mode)
                shares.append((heat * inside).sum() / heat.sum())
                row, column = np.argwhere(heat == heat.max())[0]
                distances.append(np.linalg.norm([8 * column + 3.5, 8 * row + 3.5] - found.points[joint]))
            mean, median = tally.means(1), tally.medians(1)
            assert mean["box_share"] == pytest.approx(np.mean(shares), rel=1e-5)
            assert mean["peak_crop_px"] == pytest.approx(np.mean(distances), rel=1e-5)
            assert median["peak_crop_px"] == pytest.approx(np.median(distances), rel=1e-5)
            assert mean["peak_image_px"] == pytest.approx(np.mean(distances) / crop.image_to_crop[0, 0], rel=1e-5)
            assert mean["peak_crop_heights"] == pytest.approx(np.mean(distances) / 64, rel=1e-5)
            assert median["box_share"] == pytest.approx(np.median(shares), rel=1e-5)
            assert tally.means(1, 2) != mean


def test_attention_that_is_everywhere_is_the_uniform_reference(persons):
    measured = measure(PoseEstimator(indifferent(tiny_config())), persons, mode="dependency", progress=False)
    uniform = measured.uniform.means(0)
    for tally in measured.levels.values():
        assert tally.means(0)["box_share"] == pytest.approx(uniform["box_share"], rel=1e-5)
        assert tally.means(0, 2)["box_share"] == pytest.approx(uniform["box_share"], rel=1e-5)


def test_the_references_by_brute_force(persons):
    person = persons[0]
    estimator = PoseEstimator(lively_network(tiny_config()))
    measured = measure(estimator, [person], mode="dependency", progress=False)
    crop = crop_person(read_image(person.image_path), person.box_xywh, estimator.config)
    points = estimator.estimate([crop.pixels])[0].points
    centers = [(8 * column + 3.5, 8 * row + 3.5) for row in range(8) for column in range(6)]
    expected = np.mean([[np.hypot(x - cx, y - cy) for cx, cy in centers] for x, y in points])
    assert measured.uniform.means(0)["peak_crop_px"] == pytest.approx(expected, rel=1e-4)
    to_center = np.hypot(points[:, 0] - 23.5, points[:, 1] - 31.5).mean()
    assert measured.center.means(0)["peak_crop_px"] == pytest.approx(to_center, rel=1e-4)
    assert measured.center.means(0)["box_share"] is None
