"""Attention as colour: what is shown, what is hidden, and in which colours."""

from __future__ import annotations

import numpy as np
import pytest

from drawings import noise_photograph
from model.colormap import background, lookup, overlay, relative, stretch
from model.levels import COLORMAPS

# Lowest and highest colour as the makers of each map publish them.
ENDS = {
    "inferno": ((0, 0, 4), (252, 255, 164)),
    "magma": ((0, 0, 4), (252, 253, 191)),
    "viridis": ((68, 1, 84), (253, 231, 37)),
    "cividis": ((0, 34, 78), (254, 232, 56)),
    "turbo": ((48, 18, 59), (122, 4, 3)),
    "nipy_spectral": ((0, 0, 0), (204, 204, 204)),
}


def photograph():
    return noise_photograph(8, 6, seed=3)


def heat_of(seed=0):
    """[8, 6], as large as the photograph, so that nothing is stretched; the largest value is 0.2."""
    heat = np.random.default_rng(seed).uniform(0.0, 0.19, (8, 6)).astype(np.float32)
    heat[5, 2] = 0.2
    return heat


def pale():
    return np.rint(background(photograph())).astype(np.uint8)


def test_the_ends_are_of_known_maps():
    assert ENDS.keys() == set(COLORMAPS)


@pytest.mark.parametrize("colormap", COLORMAPS)
def test_every_map_has_its_own_colours(colormap):
    lowest, highest = lookup(np.array([0.0, 1.0], dtype=np.float32), colormap)
    np.testing.assert_allclose(lowest, ENDS[colormap][0], atol=3)
    np.testing.assert_allclose(highest, ENDS[colormap][1], atol=3)


@pytest.mark.parametrize("colormap", COLORMAPS)
@pytest.mark.parametrize("size", [(8, 6), (64, 48), (61, 47)])
def test_the_largest_value_gets_the_top_colour(colormap, size):
    """Also a single token, which no pixel's centre may meet."""
    black, heat = np.zeros((*size, 3), dtype=np.uint8), np.zeros((8, 6))
    heat[5, 2] = 0.01
    drawn = overlay(black, heat, colormap=colormap).astype(float)
    top = np.rint(0.9 * np.array(ENDS[colormap][1]))  # at full opacity over black
    assert np.abs(drawn - top).sum(axis=-1).min() <= 9
    top_alone = np.abs(drawn - top).sum(axis=-1) <= 9
    assert (np.argwhere(top_alone) // np.divide(size, (8, 6)) == [5, 2]).all()


def test_the_largest_value_decides_and_not_the_scale():
    np.testing.assert_array_equal(overlay(photograph(), heat_of()), overlay(photograph(), 1e-4 * heat_of()))


def test_a_map_without_weight_leaves_only_the_background():
    np.testing.assert_array_equal(overlay(photograph(), np.zeros((4, 3))), pale())


def test_the_background_is_darker_and_paler():
    red = np.full((1, 1, 3), (200, 0, 0), dtype=np.uint8)
    (((r, g, b),),) = background(red)
    assert (g, b) == (pytest.approx(b), pytest.approx(g))
    assert 0 < r - g < 200
    assert max(r, g, b) < 200
    grey = np.full((1, 1, 3), 100, dtype=np.uint8)
    np.testing.assert_allclose(background(grey), 75.0, atol=1e-3)


@pytest.mark.parametrize("threshold", [0.25, 0.5, 0.9, 1.0])
def test_the_threshold_hides_exactly_what_is_below(threshold):
    heat = heat_of()
    shown = heat / np.float32(0.2) >= threshold
    assert 0 < shown.sum() < shown.size
    without, drawn = overlay(photograph(), heat), overlay(photograph(), heat, threshold=threshold)
    np.testing.assert_array_equal(drawn[~shown], pale()[~shown])
    np.testing.assert_array_equal(drawn[shown], without[shown])
    assert (without[~shown] != pale()[~shown]).any(axis=-1).mean() > 0.9, "there was nothing to hide"


def test_a_value_on_the_threshold_is_shown():
    heat = np.array([[0.1, 0.05], [0.2, 0.0]], dtype=np.float32)
    black = np.zeros((2, 2, 3), dtype=np.uint8)
    assert (overlay(black, heat, threshold=0.5).sum(axis=-1) > 0).tolist() == [[True, False], [True, False]]


def test_an_unknown_map_is_refused_with_the_known_names():
    with pytest.raises(ValueError, match=r"colormap is 'jet'; allowed: inferno, magma, .*nipy_spectral"):
        overlay(photograph(), heat_of(), colormap="jet")


def test_a_token_lies_over_its_own_pixels():
    heat = np.zeros((8, 6), dtype=np.float32)
    heat[2, 4] = 1.0
    weights = stretch(heat, (128, 96))
    rows, columns = np.mgrid[:128, :96]
    center = (weights * rows).sum() / weights.sum(), (weights * columns).sum() / weights.sum()
    assert center == (pytest.approx(2 * 16 + 7.5, abs=0.01), pytest.approx(4 * 16 + 7.5, abs=0.01))
    assert weights[rows // 16 == 5].max() == 0


def test_the_given_arrays_stay_as_they_are():
    image, heat = photograph(), heat_of()
    overlay(image, heat, threshold=0.5)
    np.testing.assert_array_equal(image, photograph())
    np.testing.assert_array_equal(heat, heat_of())


def test_parts_of_the_largest():
    np.testing.assert_allclose(relative([[0.1, 0.4], [0.0, 0.2]]), [[0.25, 1.0], [0.0, 0.5]], rtol=1e-6)
    assert relative(np.zeros((2, 2))).tolist() == [[0, 0], [0, 0]]
