from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from drawings import TINY_HW, blob_photograph, lively_network, noise_photograph, tiny_config
from model.estimator import Keypoints, PoseEstimator, crop_person, keypoints_to_image, pose_score
from model.geometry import apply_affine
from model.heatmap import encode_heatmaps
from model.skeleton import COCO


class LightFinder(nn.Module):
    """A fake network that knows one joint, the light: its heatmaps are the crop's brightness, a quarter as large."""

    def __init__(self):
        super().__init__()
        self.config = tiny_config(input_hw=(256, 192))
        self.light = nn.Conv2d(3, len(COCO), kernel_size=4, stride=4, bias=False)
        nn.init.constant_(self.light.weight, 1 / 48)

    def forward(self, crops, collector=None):
        return F.relu(self.light(crops) / 4.5 + 0.47)


class TwoSided(nn.Module):
    """A fake network with one answer for crops that are lighter on the left, and one for the others; half sure."""

    def __init__(self, left, right):
        super().__init__()
        self.config = tiny_config()
        self.left, self.right = (encode_heatmaps(points[None], (16, 12), 1.5) / 2 for points in (left, right))

    def forward(self, crops, collector=None):
        half = crops.shape[-1] // 2
        lighter_left = crops[..., :half].mean(dim=(1, 2, 3)) > crops[..., half:].mean(dim=(1, 2, 3))
        return torch.where(lighter_left[:, None, None, None], self.left, self.right)


def estimator_of(fake: Any, **options: Any) -> PoseEstimator:
    return PoseEstimator(fake, **options)


@pytest.fixture(scope="module")
def estimator():
    return PoseEstimator(lively_network(tiny_config()))


def random_crops(count):
    return [noise_photograph(*TINY_HW, seed=seed) for seed in range(count)]


def assert_same(found, expected, *, atol=1e-3):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.points, other.points, atol=atol)
        np.testing.assert_allclose(one.scores, other.scores, atol=atol)


def test_a_batch_is_the_same_as_one_by_one_in_the_same_order(estimator):
    crops = random_crops(5)
    together = estimator.estimate(crops)
    assert_same(together, [estimator.estimate([crop])[0] for crop in crops])
    assert_same(estimator.estimate(crops[::-1]), together[::-1])
    assert not np.allclose(together[0].points, together[1].points)


def test_keypoints_are_17_points_in_the_crop_with_scores(estimator):
    (found,) = estimator.estimate(random_crops(1))
    assert (found.points.shape, found.points.dtype) == ((17, 2), np.float64)
    assert (found.scores.shape, found.scores.dtype) == ((17,), np.float64)
    assert ((found.points >= -0.5) & (found.points <= [47.5, 63.5])).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()


@pytest.mark.parametrize("flip_test", [False, True])
def test_no_crops_give_no_keypoints(estimator, flip_test):
    assert estimator.estimate([], flip_test=flip_test) == []


@pytest.mark.parametrize("shape", [(48, 64, 3), (64, 48), (64, 48, 4), (32, 24, 3)])
def test_a_crop_of_another_shape_is_refused(estimator, shape):
    crops = [*random_crops(1), np.zeros(shape, dtype=np.uint8)]
    with pytest.raises(ValueError, match=r"crop has shape \(.*\); allowed: \(64, 48, 3\)"):
        estimator.estimate(crops)


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"dtype is torch\.float16; allowed: torch\.float32, torch\.bfloat16"):
        PoseEstimator(lively_network(tiny_config()), dtype=torch.float16)


def test_the_network_is_put_in_evaluation_mode():
    net = lively_network(tiny_config(dropout=0.5)).train()
    estimator = PoseEstimator(net)
    assert_same(estimator.estimate(random_crops(2)), estimator.estimate(random_crops(2)), atol=0)


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("box", [[40, 30, 120, 160], [70.3, 55.8, 51.5, 60.25], [-30, -20, 300, 330]])
def test_a_light_is_found_where_it_is_in_the_photograph(box, dtype, flip_test):
    light = np.array([101.3, 87.6])
    estimator = estimator_of(LightFinder(), dtype=dtype)
    crop_pixels_per_image_pixel = 192 / (1.25 * max(box[2], box[3] * 0.75))
    image = blob_photograph(260, 240, light, sigma=10 / crop_pixels_per_image_pixel)
    crop = crop_person(image, box, estimator.config)
    (found,) = estimator.estimate([crop.pixels], flip_test=flip_test)
    error = np.linalg.norm(found.points - apply_affine(crop.image_to_crop, light), axis=-1)
    assert error.max() < (0.1 if dtype == torch.float32 else 0.5)  # crop pixels
    in_image = keypoints_to_image(found, crop)
    np.testing.assert_allclose(in_image.points - light, np.zeros((17, 2)), atol=0.5 / crop_pixels_per_image_pixel)
    assert in_image.scores is found.scores
    assert (found.scores > 0.9).all()


def mirrored(points):
    """The same joints in the mirrored crop."""
    swapped = points[list(COCO.flip_order)].clone()
    swapped[:, 0] = TINY_HW[1] - 1 - swapped[:, 0]
    return swapped


def light_on_the_left():
    crop = np.zeros((*TINY_HW, 3), dtype=np.uint8)
    crop[:, :10] = 255
    return crop


def test_the_flip_test_agrees_with_a_network_that_mirrors_well():
    points = torch.rand(17, 2) * torch.tensor([47.0, 63.0])
    estimator = estimator_of(TwoSided(points, mirrored(points)))
    (found,) = estimator.estimate([light_on_the_left()], flip_test=True)
    np.testing.assert_allclose(found.points, points.numpy(), atol=0.05)
    np.testing.assert_allclose(found.scores, estimator.estimate([light_on_the_left()])[0].scores, atol=1e-4)


def test_the_flip_test_averages_two_opinions():
    points = torch.full((17, 2), 22.0)
    moved = points + torch.tensor([3.0, 0.0])
    estimator = estimator_of(TwoSided(points, mirrored(moved)))
    (plain,) = estimator.estimate([light_on_the_left()])
    (averaged,) = estimator.estimate([light_on_the_left()], flip_test=True)
    np.testing.assert_allclose(plain.points, points.numpy(), atol=0.05)
    np.testing.assert_allclose(averaged.points, moved.numpy() - [1.5, 0.0], atol=0.05)
    assert (averaged.scores > 0.8 * plain.scores).all()
    assert (averaged.scores < plain.scores).all()


def test_bfloat16_is_close_to_float32(estimator):
    rough = PoseEstimator(lively_network(tiny_config()), dtype=torch.bfloat16)
    crops = random_crops(4)
    for coarse, fine in zip(rough.estimate(crops), estimator.estimate(crops), strict=True):
        assert not np.array_equal(coarse.scores, fine.scores)
        np.testing.assert_allclose(coarse.scores, fine.scores, atol=0.05)


def test_a_crop_is_of_the_configured_size_with_the_way_back():
    config = tiny_config()
    crop = crop_person(noise_photograph(100, 120), [20, 30, 40, 50], config)
    assert crop.pixels.shape == (64, 48, 3)
    np.testing.assert_allclose(apply_affine(crop.image_to_crop, [39.5, 54.5]), [23.5, 31.5])
    there_and_back = keypoints_to_image(Keypoints(np.array([[23.5, 31.5]]), np.ones(1)), crop)
    np.testing.assert_allclose(there_and_back.points, [[39.5, 54.5]])


def test_an_impossible_box_is_refused():
    with pytest.raises(ValueError, match="box is"):
        crop_person(noise_photograph(100, 120), [20, 30, 0, 50], tiny_config())


@pytest.mark.parametrize(
    ("keypoint_scores", "box_score", "expected"),
    [
        ([0.9, 0.5], 1.0, (0.81 + 0.25) / 1.4),
        ([0.9, 0.5, 0.0], 1.0, (0.81 + 0.25) / 1.4),  # nobody can see what has no score
        ([0.5, 0.5], 0.4, 0.2),
        ([0.0, 0.0], 1.0, 0.0),
        ([], 1.0, 0.0),
    ],
)
def test_a_pose_scores_the_mean_of_its_joints_weighted_by_themselves(keypoint_scores, box_score, expected):
    assert pose_score(np.array(keypoint_scores), box_score) == pytest.approx(expected)
