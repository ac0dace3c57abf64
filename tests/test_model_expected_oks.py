"""Heatmaps are read as beliefs about a joint: the decoded place earns most OKS, and its score is what it earns."""

import math

import numpy as np
import pytest
import torch

from model.expected_oks import PERSON_OF_REGION, KeypointDecoder
from model.heatmap import crop_to_heatmap, decode_heatmaps, encode_heatmaps, heatmap_to_crop
from model.similarity import joint_similarity
from model.skeleton import COCO
from model.variants import HEATMAP_STRIDE, variant

CONFIGS = [variant("c3a1-4", input_hw=hw, heatmap_sigma=sigma) for hw, sigma in (((256, 192), 2.0), ((160, 120), 1.5))]
HIP, EYE, WRIST = (COCO.names.index(name) for name in ("left_hip", "left_eye", "left_wrist"))


@pytest.fixture(params=CONFIGS, ids=lambda config: f"{config.input_hw[0]}x{config.input_hw[1]}")
def config(request):
    return request.param


def inside(config, count, *, seed=0, margin=8.0):
    """[count, 2] in heatmap pixels, away from the border."""
    height, width = config.heatmap_hw
    unit = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return margin + unit * (torch.tensor([width, height]) - 1 - 2 * margin)


def believed(config, places, weights):
    """[1, K, H, W]: what squared error makes of joints that lie at places [M, 2] with weights [M], all joints alike."""
    points = heatmap_to_crop(places)[:, None].expand(-1, len(COCO), -1)
    maps = encode_heatmaps(points, config.heatmap_hw, config.heatmap_sigma)
    return (maps * weights[:, None, None, None]).sum(dim=0, keepdim=True).float()


def earned(config, places, weights, candidates):
    """Expected OKS of each joint at each candidate [N, 2] (heatmap pixels): [N, K], by OKS itself, not by blurring."""
    area = PERSON_OF_REGION**2 * math.prod(config.heatmap_hw)
    squared = ((candidates[:, None] - places) ** 2).sum(dim=-1).numpy()  # [N, M]
    similarity = joint_similarity(squared[..., None], np.asarray(area), COCO.oks_sigmas)  # [N, M, K]
    return np.einsum("nmk,m->nk", similarity, weights.numpy())


def test_a_certain_joint_is_found_and_scores_1(config):
    places = inside(config, 20)
    for place in places:
        points, scores = KeypointDecoder(config)(believed(config, place[None], torch.ones(1)))
        torch.testing.assert_close(crop_to_heatmap(points[0]).double(), place.expand(17, 2), atol=0.02, rtol=0)
        assert (scores > 0.98).all()


@pytest.mark.parametrize("spread", [1.0, 2.0, 3.0])
def test_what_is_decoded_earns_most_and_scores_what_it_earns(config, spread):
    """Whatever the belief: here several places around each other, of different weight."""
    decoder = KeypointDecoder(config)
    wide = (decoder.kappa > config.heatmap_sigma).numpy()
    assert 5 <= wide.sum() < 17
    generator = torch.Generator().manual_seed(1)
    height, width = config.heatmap_hw
    middle = torch.tensor([(width - 1) / 2, (height - 1) / 2])
    for _ in range(10):
        places = middle + spread * torch.randn(6, 2, generator=generator).double()
        weights = torch.rand(6, generator=generator).double().softmax(dim=0)
        points, scores = decoder(believed(config, places, weights))
        steps = torch.arange(-8, 8, 0.25, dtype=torch.float64)
        grid = middle + torch.cartesian_prod(steps, steps)
        best = earned(config, places, weights, grid).max(axis=0)
        got = np.diag(earned(config, places, weights, crop_to_heatmap(points[0].double())))
        assert (got[wide] > best[wide] - 0.01).all()
        np.testing.assert_allclose(scores[0].numpy()[wide], got[wide], atol=0.02)


def test_a_hip_goes_where_most_places_are_near_and_an_eye_to_the_likeliest_one():
    config = CONFIGS[0]
    alone, around = torch.tensor([[15.0, 20.0]]), torch.tensor([[30.0, 40.0]])
    ring = around + 3.2 * torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    places = torch.cat((alone, ring)).double()
    weights = torch.tensor([0.32, 0.17, 0.17, 0.17, 0.17]).double()
    maps = believed(config, places, weights)
    points, scores = KeypointDecoder(config)(maps)
    found = crop_to_heatmap(points[0]).double()
    torch.testing.assert_close(found[HIP], around[0].double(), atol=0.3, rtol=0)
    torch.testing.assert_close(found[EYE], alone[0].double(), atol=0.3, rtol=0)
    assert scores[0, HIP] > 2 * scores[0, EYE]
    highest = crop_to_heatmap(decode_heatmaps(maps)[0])[0]
    torch.testing.assert_close(highest[HIP].double(), alone[0].double(), atol=0.3, rtol=0)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_the_score_of_a_joint_that_is_narrower_than_the_targets_follows_from_the_height(config, tau):
    """A Gaussian belief of width tau around the joint earns kappa^2 / (kappa^2 + tau^2)."""
    place = inside(config, 1, seed=3, margin=12.0)
    sigma = config.heatmap_sigma
    wider = encode_heatmaps(
        heatmap_to_crop(place)[None].expand(1, len(COCO), -1), config.heatmap_hw, math.hypot(sigma, tau)
    )
    decoder = KeypointDecoder(config)
    _, scores = decoder(wider.float() * sigma**2 / (sigma**2 + tau**2))
    expected = (decoder.kappa**2 / (decoder.kappa**2 + tau**2)).float()
    torch.testing.assert_close(scores[0], expected, atol=0.02, rtol=0)
    assert decoder.kappa[EYE] < sigma < decoder.kappa[HIP]


def test_widths_are_those_of_oks(config):
    """A joint that lies kappa away from its place earns exp(-1/2)."""
    decoder = KeypointDecoder(config)
    height, width = config.input_hw
    area = PERSON_OF_REGION**2 * height * width
    away = np.square(decoder.kappa.numpy() * HEATMAP_STRIDE)
    np.testing.assert_allclose(joint_similarity(away, np.asarray(area), COCO.oks_sigmas), math.exp(-0.5))


@pytest.mark.parametrize(
    "maps",
    [
        torch.zeros(1, 17, 40, 30),
        torch.full((1, 17, 40, 30), 0.5),
        torch.full((1, 17, 40, 30), -1.0),
        torch.full((1, 17, 40, 30), 1e30),
        torch.randn(20, 17, 40, 30, generator=torch.Generator().manual_seed(0)),
        torch.randn(20, 17, 40, 30, generator=torch.Generator().manual_seed(0)).bfloat16(),
    ],
    ids=["zero", "flat", "negative", "huge", "noise", "noise in bfloat16"],
)
def test_maps_without_a_clean_peak_give_points_in_the_crop(maps):
    points, scores = KeypointDecoder(CONFIGS[1])(maps)
    assert (points.dtype, scores.dtype) == (torch.float32, torch.float32)
    assert (points >= -0.5).all()
    assert (points <= torch.tensor([119.5, 159.5])).all()
    assert ((scores >= 0) & (scores <= 1)).all()


def test_nothing_on_the_map_scores_0():
    assert (KeypointDecoder(CONFIGS[1])(torch.zeros(1, 17, 40, 30))[1] == 0).all()


def test_near_the_border_a_blurred_peak_is_drawn_inwards_by_a_few_pixels_at_most(config):
    """The documented limit: what lies beyond the crop is not known."""
    height, width = config.heatmap_hw
    place = torch.tensor([[width / 2, height - 1.0]], dtype=torch.float64)
    points, _ = KeypointDecoder(config)(believed(config, place, torch.ones(1)))
    off = crop_to_heatmap(points[0]).double()[:, 1] - place[0, 1]
    assert off[EYE].abs() < 0.02
    assert (off <= 0.02).all()
    assert -1.2 * config.heatmap_sigma < off[HIP] < off[WRIST] < 0
