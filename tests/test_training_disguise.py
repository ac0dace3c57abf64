"""Colours and covered parts of views."""

import numpy as np
import pytest
import torch

from drawings import noise_photograph
from training.augment import Augmentation
from training.disguise import COVER_SIDES, covered, drawn_colours
from training.recolour import recolour
from training.views import NEUTRAL

PIXELS = noise_photograph(64, 48, seed=3)


def seen(seed=0, pixels=PIXELS, **strengths):
    """The pixels that the network is shown, rounded."""
    augmentation, rng = Augmentation(**strengths), np.random.default_rng(seed)
    colours = torch.from_numpy(drawn_colours(augmentation, rng))
    shown = recolour(torch.from_numpy(covered(pixels, augmentation, rng))[None], colours[None])[0]
    return shown.permute(1, 2, 0).mul(255).round().to(torch.uint8).numpy()


def test_with_everything_off_nothing_is_drawn_or_changed():
    rng = np.random.default_rng(0)
    assert covered(PIXELS, Augmentation(), rng) is PIXELS
    assert (drawn_colours(Augmentation(), rng) == NEUTRAL).all()
    assert rng.random() == np.random.default_rng(0).random()


def test_brightness_scales_all_channels_within_its_width():
    grey = np.full((8, 6, 3), 100, dtype=np.uint8)
    found = [seen(seed, grey, brightness=0.3) for seed in range(40)]
    assert all(one.dtype == np.uint8 and (one == one[0, 0, 0]).all() for one in found)
    values = np.array([int(one[0, 0, 0]) for one in found])
    assert (values.min() >= 70) & (values.max() <= 130)
    assert values.max() - values.min() > 30


def test_saturation_leaves_grey_alone_and_changes_colours():
    grey, red = np.full((8, 6, 3), 100, dtype=np.uint8), np.tile(np.array([200, 50, 50], dtype=np.uint8), (8, 6, 1))
    assert all((seen(seed, grey, saturation=0.5) == grey).all() for seed in range(10))
    assert len({seen(seed, red, saturation=0.5).tobytes() for seed in range(10)}) > 5


def test_contrast_moves_away_from_or_towards_the_mean():
    spreads = np.array([seen(seed, contrast=0.4).std() for seed in range(30)]) / PIXELS.std()
    assert spreads.min() < 0.85
    assert spreads.max() > 1.02  # less than 1.4: values are cut at black and white
    assert (spreads > 0.55).all()


def test_a_view_without_colours_keeps_its_light_and_has_its_probability():
    without = seen(grey=1.0).astype(float)
    assert np.ptp(without, axis=-1).max() == 0
    assert np.abs(without[..., 0] - PIXELS @ [0.299, 0.587, 0.114]).max() <= 1  # BT.601's luma
    assert 35 <= sum(bool((seen(seed, grey=0.3) != PIXELS).any()) for seed in range(200)) <= 85


def test_a_covered_part_is_one_rectangle_of_one_colour_and_the_rest_stays():
    places = set()
    for seed in range(30):
        found = seen(seed, cover=1.0)
        changed = (found != PIXELS).any(axis=-1)
        rows, columns = np.where(changed.any(axis=1))[0], np.where(changed.any(axis=0))[0]
        block = found[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert (block == block[0, 0]).all()
        for length, side in ((len(range(rows[0], rows[-1] + 1)), 64), (len(range(columns[0], columns[-1] + 1)), 48)):
            assert COVER_SIDES[0] * side - 1.5 <= length <= COVER_SIDES[1] * side + 1
        places.add((rows[0], columns[0]))
    assert len(places) > 20


def test_cover_is_a_probability_and_the_pixels_given_are_left_as_they_are():
    before = PIXELS.copy()
    covered = sum(bool((seen(seed, cover=0.3) != PIXELS).any()) for seed in range(200))
    assert 35 <= covered <= 85  # 60 expected, standard deviation 6.5
    assert (before == PIXELS).all()


def test_a_seed_decides():
    strengths = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "grey": 0.3, "cover": 0.5}
    assert (seen(4, **strengths) == seen(4, **strengths)).all()
    assert (seen(4, **strengths) != seen(5, **strengths)).any()


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [("brightness", 1.0, "in [0, 1)"), ("saturation", -0.1, "in [0, 1)"), ("cover", 1.5, "a probability in 0..1")],
)
def test_impossible_strengths_are_refused(name, value, allowed):
    with pytest.raises(ValueError, match=f"{name} is {value}; allowed: ") as error:
        Augmentation(**{name: value})
    assert str(error.value).endswith(allowed)
