"""Views: where they look, in what colours; each operation against plain numbers."""

import colorsys
import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

from drawings import noise_photograph, ramp_photograph
from model.crop import normalise
from training.recolour import recolour, standardised
from training.views import (
    COLUMNS,
    NEUTRAL,
    Region,
    ViewAugmentation,
    random_colours,
    random_region,
    random_views,
    see,
)

PLAIN = ViewAugmentation(flip=0, jitter=0, grey=0, blur=(0, 0, 0), solarise=0)


def generator(seed=0):
    return np.random.default_rng(seed)


def row(**changes):
    values = NEUTRAL.copy()
    for name, value in changes.items():
        values[COLUMNS.index(name)] = value
    return torch.from_numpy(values)[None]


def coloured(pixels, **changes):
    """One photograph in colours: [H, W, 3] uint8 -> [H, W, 3] float64 in 0..1."""
    return recolour(torch.from_numpy(pixels)[None], row(**changes))[0].permute(1, 2, 0).double().numpy()


@pytest.fixture(scope="module")
def photograph():
    """Noise over all colours, with pure and grey pixels in a corner."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 18, 3)).astype(np.uint8)
    pixels[0, :6] = [[0, 0, 0], [255, 255, 255], [128, 128, 128], [255, 0, 0], [0, 255, 0], [0, 0, 255]]
    return pixels


@pytest.mark.parametrize("picture_hw", [(480, 640), (640, 480), (50, 400), (400, 50), (7, 5)])
def test_regions_lie_in_the_picture_and_keep_scale_and_aspect(picture_hw):
    rng, shares, ratios = generator(), [], []
    for _ in range(300):
        region = random_region(picture_hw, (128, 96), (0.2, 0.6), 0.75, rng)
        assert 0 <= region.top <= region.top + region.height <= picture_hw[0]
        assert 0 <= region.left <= region.left + region.width <= picture_hw[1]
        assert min(region.height, region.width) >= 1
        shares.append(region.height * region.width / (picture_hw[0] * picture_hw[1]))
        ratios.append(region.width / region.height / 0.75)
    if min(picture_hw) > 100:
        assert 0.19 < min(shares) < 0.25
        assert 0.5 < max(shares) < 0.61
        assert 0.74 < min(ratios) < 0.8
        assert 1.25 < max(ratios) < 1.35


def test_regions_are_anywhere():
    rng = generator()
    regions = [random_region((100, 100), (64, 48), (0.1, 0.1), 1.0, rng) for _ in range(400)]
    for edge in ("top", "left"):
        places = [getattr(region, edge) for region in regions]
        assert min(places) == 0
        assert max(places) >= (100 - 37 if edge == "top" else 100 - 27) - 1


def test_a_view_shows_its_region():
    """The ramp tells where each pixel is: red is x, green is y."""
    picture = ramp_photograph(200, 250)
    view = see(picture, Region(top=40, left=100, height=64, width=48), (64, 48), flip=False)
    assert np.array_equal(view, picture[40:104, 100:148])
    mirrored = see(picture, Region(40, 100, 64, 48), (64, 48), flip=True)
    assert np.array_equal(mirrored, view[:, ::-1])
    smaller = see(picture, Region(40, 100, 128, 96), (64, 48), flip=False).astype(int)
    assert abs(smaller[10, 20, 0] - (100 + 2 * 20 + 0.5)) <= 1
    assert abs(smaller[10, 20, 1] - (40 + 2 * 10 + 0.5)) <= 1


def test_fine_patterns_do_not_alias():
    checks = np.indices((256, 192)).sum(axis=0) % 2 * 255
    picture = np.repeat(checks[..., None], 3, axis=-1).astype(np.uint8)
    view = see(picture, Region(0, 0, 250, 190), (64, 48), flip=False)
    assert np.ptp(view) <= 2


@pytest.mark.parametrize("local_views", [0, 1, 3])
def test_shapes_and_types_of_all_views(local_views):
    picture = noise_photograph(90, 120)
    seen, local, colours = random_views(picture, (64, 48), (32, 24), local_views, ViewAugmentation(), generator())
    assert (seen.shape, seen.dtype) == ((2, 64, 48, 3), np.uint8)
    assert (local.shape, local.dtype) == ((local_views, 32, 24, 3), np.uint8)
    assert (colours.shape, colours.dtype) == ((2 + local_views, len(COLUMNS)), np.float32)


def test_views_are_a_function_of_the_generator():
    picture = noise_photograph(90, 120)

    def views(seed):
        return random_views(picture, (64, 48), (32, 24), 2, ViewAugmentation(), generator(seed))

    assert all(np.array_equal(one, other) for one, other in zip(views(1), views(1), strict=True))
    assert not any(np.array_equal(one, other) for one, other in zip(views(1), views(2), strict=True))
    assert not np.array_equal(views(1)[0][0], views(1)[0][1])


def draw_colours(number=4000, *, blur=0.5, solarise=0.2, global_rows=256, **changes):
    rng, augmentation = generator(), ViewAugmentation(**changes)
    rows = [
        random_colours(augmentation, rng, blur=blur, solarise=solarise, global_rows=global_rows) for _ in range(number)
    ]
    return dict(zip(COLUMNS, np.array(rows).T, strict=True))


def test_colours_are_drawn_as_often_and_as_strongly_as_published():
    column = draw_colours()
    jittered = column["brightness"] != 1
    assert jittered.mean() == pytest.approx(0.8, abs=0.03)
    assert column["grey"].mean() == pytest.approx(0.2, abs=0.03)
    assert (column["blur"] > 0).mean() == pytest.approx(0.5, abs=0.03)
    assert column["solarise"].mean() == pytest.approx(0.2, abs=0.03)
    for name, neutral, reach in (("brightness", 1, 0.4), ("contrast", 1, 0.4), ("saturation", 1, 0.2), ("hue", 0, 0.1)):
        values = column[name][jittered] - neutral
        assert -reach <= values.min() < -0.95 * reach
        assert 0.95 * reach < values.max() <= reach
        assert (column[name][~jittered] == neutral).all()
    sigmas = column["blur"][column["blur"] > 0]
    assert 0.1 <= sigmas.min() < 0.15
    assert 1.95 < sigmas.max() <= 2.0
    assert set(column["order"][jittered]) == set(range(24))


def test_the_blur_scales_with_the_views():
    small, large = (draw_colours(50, blur=1.0, global_rows=rows)["blur"] for rows in (64, 256))
    assert small == pytest.approx(large / 4)


def test_each_view_has_its_own_probabilities():
    """Global views: always blurred, never blurred but solarised; local ones: neither."""
    augmentation = ViewAugmentation(blur=(1.0, 0.0, 0.0), solarise=1.0)
    *_, colours = random_views(noise_photograph(90, 120), (64, 48), (32, 24), 2, augmentation, generator())
    blur, solarise = (colours[:, COLUMNS.index(name)] for name in ("blur", "solarise"))
    assert (blur > 0).tolist() == [True, False, False, False]
    assert solarise.tolist() == [0.0, 1.0, 0.0, 0.0]


def test_without_augmentation_pixels_stay_as_they_are(photograph):
    *_, colours = random_views(noise_photograph(90, 120), (64, 48), (32, 24), 2, PLAIN, generator())
    assert (colours == NEUTRAL).all()
    assert coloured(photograph) == pytest.approx(photograph / 255, abs=1e-6)


def luma(pixels):
    return pixels @ (0.299, 0.587, 0.114)


def test_brightness_contrast_and_saturation(photograph):
    pixels = photograph / 255
    assert coloured(photograph, brightness=1.3) == pytest.approx(np.clip(1.3 * pixels, 0, 1), abs=1e-5)
    expected = np.clip(0.7 * pixels + 0.3 * luma(pixels).mean(), 0, 1)
    assert coloured(photograph, contrast=0.7) == pytest.approx(expected, abs=1e-5)
    expected = np.clip(1.2 * pixels - 0.2 * luma(pixels)[..., None], 0, 1)
    assert coloured(photograph, saturation=1.2) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("shift", [0.1, -0.1, 0.37, -0.5])
def test_hue_is_that_of_the_standard_library(photograph, shift):
    expected = np.zeros(photograph.shape)
    for place in itertools.product(*map(range, photograph.shape[:2])):
        hue, saturation, value = colorsys.rgb_to_hsv(*(photograph[place] / 255))
        expected[place] = colorsys.hsv_to_rgb((hue + shift) % 1, saturation, value)
    assert coloured(photograph, hue=shift) == pytest.approx(expected, abs=1e-4)


def test_grey_and_solarise(photograph):
    pixels = photograph / 255
    grey = np.repeat(luma(pixels)[..., None], 3, axis=-1)
    assert coloured(photograph, grey=1) == pytest.approx(grey, abs=1e-5)
    expected = np.where(photograph >= 128, 1 - pixels, pixels)
    assert coloured(photograph, solarise=1) == pytest.approx(expected, abs=1e-6)


def test_blur_is_a_gaussian_renormalised_at_the_borders(photograph):
    sigma, pixels = 1.3, photograph / 255
    height, width = pixels.shape[:2]

    def weights(length, place):
        values = np.array([math.exp(-((place - other) ** 2) / (2 * sigma**2)) for other in range(length)])
        return values / values.sum()

    got = coloured(photograph, blur=sigma)
    for y, x in ((0, 0), (12, 9), (23, 17), (5, 0)):
        expected = np.einsum("i,j,ijc->c", weights(height, y), weights(width, x), pixels)
        assert got[y, x] == pytest.approx(expected, abs=1e-5)


def test_jitter_comes_in_the_order_that_was_drawn(photograph):
    """Brightness that saturates, then contrast, is not contrast, then brightness."""
    orders = list(itertools.permutations(range(4)))
    pixels = photograph / 255

    def brightened(values):
        return np.clip(1.4 * values, 0, 1)

    def contrasted(values):
        return np.clip(0.6 * values + 0.4 * luma(values).mean(), 0, 1)

    for order, expected in (
        (orders.index((0, 1, 2, 3)), contrasted(brightened(pixels))),
        (orders.index((3, 1, 2, 0)), brightened(contrasted(pixels))),
    ):
        assert coloured(photograph, brightness=1.4, contrast=0.6, order=order) == pytest.approx(expected, abs=1e-5)
    assert abs(contrasted(brightened(pixels)) - brightened(contrasted(pixels))).max() > 0.1


def test_a_batch_is_recoloured_as_its_views_one_by_one():
    rng = generator()
    pixels = torch.from_numpy(rng.integers(0, 256, (12, 16, 12, 3)).astype(np.uint8))
    augmentation = ViewAugmentation()
    rows = [random_colours(augmentation, rng, blur=0.5, solarise=0.5, global_rows=64) for _ in range(12)]
    colours = torch.from_numpy(np.stack(rows))
    alone = torch.cat([recolour(pixels[n : n + 1], colours[n : n + 1]) for n in range(12)])
    together = recolour(pixels, colours)
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    assert together.min() >= 0
    assert together.max() <= 1 + 1e-6
    assert (pixels.float() / 255 - together.permute(0, 2, 3, 1)).abs().amax(dim=(1, 2, 3)).gt(0.01).sum() >= 8


def test_the_network_sees_the_same_numbers_as_in_pose_training(photograph):
    pixels = torch.from_numpy(photograph)[None]
    got = standardised(recolour(pixels, row()))
    torch.testing.assert_close(got, normalise(pixels), atol=1e-5, rtol=0)
    assert got.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"global_scale": (0.5, 0.4)}, "global_scale is"),
        ({"local_scale": (0.0, 0.4)}, "local_scale is"),
        ({"aspect": 0.0}, "aspect is 0.0"),
        ({"flip": 1.5}, "flip is 1.5"),
        ({"blur": (1.0, 0.1, -0.5)}, "blur is"),
        ({"hue": 0.6}, "hue is 0.6; allowed: 0..0.5"),
        ({"blur_sigma": (0.0, 1.0)}, "blur_sigma is"),
    ],
)
def test_impossible_strengths_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(ViewAugmentation(), **changes)
