import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.geometry import apply_affine, box_to_affine, invert_affine
from model.heatmap import (
    crop_to_heatmap,
    decode_heatmaps,
    encode_heatmaps,
    flip_heatmaps,
    heatmap_to_crop,
    target_weights,
)
from model.skeleton import COCO

SIZES = [((64, 48), 1.0), ((64, 48), 1.5), ((64, 48), 2.0), ((32, 24), 1.0), ((32, 24), 1.5), ((32, 24), 2.0)]


def crop_hw(heatmap_hw):
    return heatmap_hw[0] * 4, heatmap_hw[1] * 4


def random_points(persons, heatmap_hw, *, margin=0.0, seed=0):
    """[B, K, 2] anywhere in the crop, from edge to edge."""
    height, width = crop_hw(heatmap_hw)
    unit = torch.rand(persons, len(COCO), 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return unit * (torch.tensor([width, height]) - 2 * margin) - 0.5 + margin


def distances(points, others):
    return (points.double() - others.double()).norm(dim=-1)


@pytest.mark.parametrize(("heatmap_hw", "sigma"), SIZES)
def test_any_point_of_the_crop_survives_encoding_and_decoding(heatmap_hw, sigma):
    points = random_points(60, heatmap_hw)
    decoded, scores = decode_heatmaps(encode_heatmaps(points.float(), heatmap_hw, sigma))
    assert distances(decoded, points).max() < 0.05
    assert (scores > 0.75).all()


@pytest.mark.parametrize(("heatmap_hw", "sigma"), SIZES)
def test_points_on_the_border_survive_encoding_and_decoding(heatmap_hw, sigma):
    height, width = crop_hw(heatmap_hw)
    xs, ys = (-0.5, 0.0, 0.7, width / 2, width - 1.7, width - 1, width - 0.5), (-0.5, 0.3, height / 3, height - 0.5)
    points = torch.tensor([[(x, y) for x in xs for y in ys]])
    decoded, _ = decode_heatmaps(encode_heatmaps(points, heatmap_hw, sigma))
    assert distances(decoded, points).max() < 0.05


@settings(deadline=None, max_examples=50)
@given(
    x=st.floats(-200, 200),
    y=st.floats(-200, 200),
    width=st.floats(5, 800),
    height=st.floats(5, 800),
    seed=st.integers(0, 10_000),
)
def test_joints_of_any_box_come_back_from_their_heatmaps(x, y, width, height, seed):
    joints = np.array([x, y]) - 0.5 + np.random.default_rng(seed).random((len(COCO), 2)) * [width, height]
    affine = box_to_affine([x, y, width, height], (256, 192))
    points_crop = torch.from_numpy(apply_affine(affine, joints))[None].float()
    decoded, _ = decode_heatmaps(encode_heatmaps(points_crop, (64, 48), 2.0))
    back = apply_affine(invert_affine(affine), decoded[0].double().numpy())
    error_in_crop_pixels = np.linalg.norm(back - joints, axis=-1) * affine[0, 0]
    assert error_in_crop_pixels.max() < 0.05


@pytest.mark.parametrize(("heatmap_hw", "sigma"), SIZES)
def test_mild_noise_moves_a_point_by_a_fraction_of_a_crop_pixel(heatmap_hw, sigma):
    points = random_points(60, heatmap_hw, margin=8)
    heatmaps = encode_heatmaps(points.float(), heatmap_hw, sigma)
    noise = torch.randn(heatmaps.shape, generator=torch.Generator().manual_seed(1))
    decoded, _ = decode_heatmaps(heatmaps + 0.02 * noise)
    assert distances(decoded, points).mean() < 0.3  # without refinement it would be 1.5


def test_a_target_is_a_gaussian_with_its_top_at_the_point():
    point = heatmap_to_crop(torch.tensor([[[3.0, 5.0]]]))
    heatmap = encode_heatmaps(point, (16, 12), 1.5)[0, 0]
    assert heatmap.shape == (16, 12)
    assert heatmap[5, 3] == 1.0
    torch.testing.assert_close(heatmap[5, 4], torch.tensor(-1 / (2 * 1.5**2)).exp())
    torch.testing.assert_close(heatmap[3, 6], torch.tensor(-(4 + 9) / (2 * 1.5**2)).exp())


def test_the_heatmap_covers_exactly_the_crop():
    corners = torch.tensor([[-0.5, -0.5], [191.5, 255.5]])
    torch.testing.assert_close(crop_to_heatmap(corners), torch.tensor([[-0.5, -0.5], [47.5, 63.5]]))
    torch.testing.assert_close(heatmap_to_crop(crop_to_heatmap(corners)), corners)


@pytest.mark.parametrize("heatmap_hw", [(64, 48), (32, 24)])
def test_the_flipped_heatmaps_of_a_mirrored_person_show_the_person(heatmap_hw):
    points = random_points(4, heatmap_hw).float()
    mirrored = points[:, list(COCO.flip_order)].clone()
    mirrored[..., 0] = crop_hw(heatmap_hw)[1] - 1 - mirrored[..., 0]
    flipped = flip_heatmaps(encode_heatmaps(mirrored, heatmap_hw, 2.0), COCO.flip_order)
    torch.testing.assert_close(flipped, encode_heatmaps(points, heatmap_hw, 2.0), atol=1e-4, rtol=0)
    assert distances(decode_heatmaps(flipped)[0], points).max() < 0.05


def test_flipping_twice_changes_nothing():
    heatmaps = torch.randn(2, len(COCO), 16, 12)
    assert torch.equal(flip_heatmaps(flip_heatmaps(heatmaps, COCO.flip_order), COCO.flip_order), heatmaps)


@pytest.mark.parametrize(("height", "score"), [(0.3, 0.3), (1.0, 1.0), (1.7, 1.0), (-0.5, 0.0)])
def test_a_score_is_the_height_of_the_peak_cut_to_0_to_1(height, score):
    point = heatmap_to_crop(torch.tensor([[[6.0, 7.0]]]))
    heatmaps = encode_heatmaps(point, (16, 12), 2.0) * abs(height) + min(height, 0) * 2
    torch.testing.assert_close(decode_heatmaps(heatmaps)[1], torch.tensor([[score]]))


@pytest.mark.parametrize("factor", [0.01, 0.4, 3.0])
def test_the_place_does_not_depend_on_the_height_of_the_peak(factor):
    points = random_points(5, (64, 48)).float()
    decoded, _ = decode_heatmaps(encode_heatmaps(points, (64, 48), 2.0) * factor)
    assert distances(decoded, points).max() < 0.05


def single_pixel():
    heatmaps = torch.zeros(1, 2, 16, 12)
    heatmaps[..., 0, 11] = 1.0
    return heatmaps


@pytest.mark.parametrize(
    "heatmaps",
    [
        torch.zeros(1, 2, 16, 12),
        torch.full((1, 2, 16, 12), 0.5),
        torch.full((1, 2, 16, 12), -1.0),
        torch.full((1, 2, 16, 12), 1e30),
        torch.arange(192.0).reshape(1, 1, 16, 12),
        single_pixel(),
        torch.randn(50, 17, 16, 12, generator=torch.Generator().manual_seed(0)),
    ],
    ids=["zero", "flat", "negative", "huge", "ramp", "one pixel", "noise"],
)
def test_maps_without_a_clean_peak_give_points_in_the_crop(heatmaps):
    points, scores = decode_heatmaps(heatmaps)
    assert points.isfinite().all()
    assert (points >= -0.5).all()
    assert (points <= torch.tensor([47.5, 63.5])).all()
    assert ((scores >= 0) & (scores <= 1)).all()


def test_decoding_returns_float32_whatever_the_network_ran_in():
    points, scores = decode_heatmaps(torch.rand(2, 3, 16, 12).bfloat16())
    assert (points.dtype, scores.dtype) == (torch.float32, torch.float32)
    assert (points.shape, scores.shape) == ((2, 3, 2), (2, 3))


@pytest.mark.parametrize("sigma", [1.0, 2.0])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("side", ["low", "high"])
def test_a_joint_counts_up_to_three_sigma_outside_the_heatmap(sigma, axis, side):
    heatmap_hw = (16, 12)
    last = (heatmap_hw[1] - 1, heatmap_hw[0] - 1)[axis]
    weights = []
    for distance in (3 * sigma - 0.01, 3 * sigma + 0.01):
        place = torch.tensor([5.0, 5.0])
        place[axis] = -distance if side == "low" else last + distance
        point = heatmap_to_crop(place).reshape(1, 1, 2)
        weights.append(target_weights(point, torch.tensor([[True]]), heatmap_hw, sigma).item())
    assert weights == [1.0, 0.0]


def test_an_unlabelled_joint_does_not_count():
    points = torch.full((1, 2, 2), 20.0)
    weights = target_weights(points, torch.tensor([[True, False]]), (16, 12), 2.0)
    assert weights.tolist() == [[1.0, 0.0]]
    assert weights.dtype == torch.float32
