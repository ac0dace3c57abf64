import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.geometry import (
    BOX_PADDING,
    affine_scale,
    apply_affine,
    box_to_affine,
    box_to_region,
    invert_affine,
    region_to_affine,
)

INPUT_HW = (256, 192)

places = st.floats(-5000, 5000)
sizes = st.floats(1, 5000)
angles = st.floats(-180, 180)
fractions = st.floats(0, 1)
boxes = st.tuples(places, places, sizes, sizes)
relaxed = settings(deadline=None)


@relaxed
@given(
    center=st.tuples(places, places), width=sizes, degrees=angles, flip=st.booleans(), point=st.tuples(places, places)
)
def test_a_map_and_its_inverse_lead_back(center, width, degrees, flip, point):
    affine = region_to_affine(center, width, INPUT_HW, rotation_degrees=degrees, flip=flip)
    back = apply_affine(invert_affine(affine), apply_affine(affine, point))
    np.testing.assert_allclose(back, point, atol=1e-6, rtol=0)


@relaxed
@given(box=boxes, fx=fractions, fy=fractions)
def test_a_point_in_a_box_lands_in_the_crop_and_comes_back(box, fx, fy):
    x, y, width, height = box
    point = np.array([x - 0.5 + fx * width, y - 0.5 + fy * height])
    affine = box_to_affine(box, INPUT_HW)
    in_crop = apply_affine(affine, point)
    assert -0.5 <= in_crop[0] <= 191.5
    assert -0.5 <= in_crop[1] <= 255.5
    np.testing.assert_allclose(apply_affine(invert_affine(affine), in_crop), point, atol=1e-6, rtol=0)


@relaxed
@given(box=boxes)
def test_a_padded_box_fills_the_crop_in_one_direction_and_keeps_its_aspect(box):
    affine = box_to_affine(box, INPUT_HW)
    np.testing.assert_allclose(affine[0, 0], affine[1, 1])
    width, height = box[2] * affine[0, 0], box[3] * affine[1, 1]
    assert max(width / 192, height / 256) == pytest.approx(1 / BOX_PADDING)


@pytest.mark.parametrize(
    ("box", "width"),
    [([0, 0, 75, 100], 75 * 1.25), ([0, 0, 10, 100], 75 * 1.25), ([0, 0, 150, 100], 150 * 1.25)],
)
def test_a_box_grows_to_the_aspect_of_the_crop_and_is_padded(box, width):
    assert box_to_region(box, INPUT_HW)[1] == pytest.approx(width)


def test_the_padding_can_be_chosen():
    assert box_to_region([0, 0, 75, 100], INPUT_HW, padding=1.0)[1] == pytest.approx(75)


@relaxed
@given(width=st.integers(1, 10_000), height=st.integers(1, 10_000))
def test_the_box_of_the_whole_image_has_the_centre_of_the_image(width, height):
    center, _ = box_to_region([0, 0, width, height], INPUT_HW)
    assert center.tolist() == [(width - 1) / 2, (height - 1) / 2]


def test_the_edges_of_the_region_are_the_edges_of_the_crop():
    """Edges lie half a pixel outside the outermost pixel centres."""
    affine = region_to_affine([50, 60], 96, INPUT_HW)
    corners = apply_affine(affine, [[50 - 48, 60 - 64], [50 + 48, 60 + 64]])
    np.testing.assert_allclose(corners, [[-0.5, -0.5], [191.5, 255.5]], atol=1e-12)


@relaxed
@given(box=boxes, degrees=angles, point=st.tuples(places, places))
def test_a_mirrored_view_maps_x_to_width_minus_one_minus_x(box, degrees, point):
    region = box_to_region(box, INPUT_HW)
    plain = apply_affine(region_to_affine(*region, INPUT_HW, rotation_degrees=degrees), point)
    mirrored = apply_affine(region_to_affine(*region, INPUT_HW, rotation_degrees=degrees, flip=True), point)
    np.testing.assert_allclose(mirrored, [191 - plain[0], plain[1]], atol=1e-6)


def test_positive_angles_turn_clockwise_on_the_screen():
    affine = region_to_affine([100, 100], 192, INPUT_HW, rotation_degrees=90)
    center = np.array([95.5, 127.5])
    np.testing.assert_allclose(apply_affine(affine, [100, 100]), center, atol=1e-9)
    right_of_the_centre, below_the_centre = [110, 100], [100, 110]
    np.testing.assert_allclose(apply_affine(affine, right_of_the_centre), np.add(center, [0, 10]), atol=1e-9)
    np.testing.assert_allclose(apply_affine(affine, below_the_centre), np.add(center, [-10, 0]), atol=1e-9)


def test_the_mirror_comes_after_the_rotation():
    affine = region_to_affine([100, 100], 192, INPUT_HW, rotation_degrees=30, flip=True)
    turned = 10 * np.array([-math.cos(math.radians(30)), math.sin(math.radians(30))])
    np.testing.assert_allclose(apply_affine(affine, [110, 100]), np.add([95.5, 127.5], turned), atol=1e-9)


@relaxed
@given(width=sizes, degrees=angles, flip=st.booleans())
def test_the_scale_is_crop_pixels_per_image_pixel(width, degrees, flip):
    affine = region_to_affine([3, 4], width, INPUT_HW, rotation_degrees=degrees, flip=flip)
    assert affine_scale(affine) == pytest.approx(192 / width)


def test_points_are_mapped_in_any_number_of_dimensions():
    affine = box_to_affine([10, 20, 30, 40], INPUT_HW)
    points = np.random.default_rng(0).uniform(0, 50, (2, 3, 2))
    np.testing.assert_allclose(apply_affine(affine, points)[1, 2], apply_affine(affine, points[1, 2]))


@pytest.mark.parametrize(
    "box",
    [
        [0, 0, 0, 10],
        [0, 0, 10, 0],
        [0, 0, -5, 10],
        [math.nan, 0, 10, 10],
        [0, math.inf, 10, 10],
        [0, 0, 10, math.inf],
        [0, 0, 10],
        [[0, 0, 10, 10]],
    ],
)
def test_an_impossible_box_is_refused(box):
    with pytest.raises(ValueError, match=r"box is .*; allowed: finite \[x, y, width, height\], numbers up to"):
        box_to_affine(box, INPUT_HW)


@pytest.mark.parametrize(
    "box", [[0, 0, 1e200, 5], [0, 0, 1.7e308, 5], [1e300, 0, 1e10, 1e10], [0, 0, 1e19, 1e19], [0, 0, 1e-300, 1e-300]]
)
def test_a_box_of_numbers_that_no_photograph_has_is_refused(box):
    with pytest.raises(ValueError, match="box is"):
        box_to_affine(box, INPUT_HW)
