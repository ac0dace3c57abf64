"""Overlays and the paper's figure: the right map, the right place, the star at the joint."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from drawings import blob_photograph, figure_points, noise_photograph, tiny_config
from model.colormap import overlay
from model.dependency import JointAttention
from model.dependency_picture import (
    STAR_RGB,
    PersonView,
    dependency_figure,
    dependency_panels,
    draw_dependency,
    figure_rows,
    keypoint_titles,
    place_keypoints,
    row_title,
    skeleton_picture,
    view_of,
    view_pixels,
)
from model.drawing import LEFT_RGB
from model.estimator import Keypoints, crop_person
from model.figure import draw_figure, figure_layout
from model.geometry import apply_affine
from model.levels import COLORMAPS
from model.skeleton import COCO

NOSE, LEFT_WRIST = 0, COCO.names.index("left_wrist")


def standing_view(height=128, width=96):
    points = figure_points(np.array([15.0, 10.0, width - 30.0, height - 20.0]))
    return PersonView(noise_photograph(height, width), Keypoints(points, np.linspace(0.1, 0.9, 17)), COCO)


def view_at(point, height=128, width=96):
    """A view whose nose lies at a point."""
    view = standing_view(height, width)
    view.keypoints.points[NOSE] = point
    return view


def attention_of(level, *, layers=3, heads=4, seed=0):
    rng = np.random.default_rng(seed)
    dependency, affect = rng.uniform(0, 0.1, (2, layers, heads, 17, 8, 6)).astype(np.float32)
    return JointAttention(level, np.zeros((17, 2), dtype=np.int64), dependency, affect)


def one_token(row, column):
    heat = np.zeros((8, 6), dtype=np.float32)
    heat[row, column] = 0.3
    return heat


@pytest.mark.parametrize("height", [64, 192, 512])
def test_a_view_shows_what_the_crop_shows(height):
    """A light in the photograph is where its keypoint says, at every size of the view."""
    light, config = np.array([101.3, 87.6]), tiny_config()
    image = blob_photograph(260, 240, light, sigma=6)
    crop = crop_person(image, [40, 30, 120, 160], config)
    found = Keypoints(np.tile(apply_affine(crop.image_to_crop, light), (17, 1)), np.ones(17))
    view = view_of(image, crop.image_to_crop, found, config, height=height)
    assert view.pixels.shape == (height, round(height * 0.75), 3)
    brightness = view.pixels[..., 0].astype(float)
    rows, columns = np.mgrid[: view.pixels.shape[0], : view.pixels.shape[1]]
    center = [(brightness * columns).sum() / brightness.sum(), (brightness * rows).sum() / brightness.sum()]
    np.testing.assert_allclose(view.keypoints.points, np.tile(center, (17, 1)), atol=0.05 * height / 64)
    assert view.keypoints.scores is found.scores
    if height == 64:
        np.testing.assert_array_equal(view.pixels, crop.pixels)
        np.testing.assert_allclose(view.keypoints.points, found.points)


def test_a_view_is_its_pixels_and_its_keypoints():
    image, config = noise_photograph(100, 120), tiny_config()
    crop = crop_person(image, [10, 10, 60, 80], config)
    found = Keypoints(np.zeros((17, 2)), np.ones(17))
    together = view_of(image, crop.image_to_crop, found, config, height=128)
    pixels = view_pixels(image, crop.image_to_crop, config, height=128)
    apart = place_keypoints(pixels, found, config)
    np.testing.assert_array_equal(together.pixels, apart.pixels)
    np.testing.assert_allclose(apart.keypoints.points, 0.5)  # the first pixel became two by two
    np.testing.assert_array_equal(together.keypoints.points, apart.keypoints.points)


def test_attention_lies_over_the_token_it_belongs_to():
    view = view_at((90.0, 120.0))
    without = draw_dependency(view, np.zeros((8, 6)), NOSE)
    changed = (draw_dependency(view, one_token(2, 3), NOSE) != without).any(axis=-1)
    rows, columns = np.nonzero(changed)
    assert (rows.min() + rows.max()) / 2 == pytest.approx(2 * 16 + 7.5, abs=1)
    assert (columns.min() + columns.max()) / 2 == pytest.approx(3 * 16 + 7.5, abs=1)
    assert np.ptp(rows) < 32, "it fades out before the next token's centre"


@pytest.mark.parametrize("point", [(40.0, 60.0), (40.4, 59.7), (-0.4, -0.4), (95.4, 127.4), (0.0, 127.0), (50.0, 0.0)])
def test_the_star_is_white_at_the_joint(point):
    view = view_at(point)
    drawn = draw_dependency(view, one_token(1, 1), NOSE)
    x, y = np.rint(point).astype(int)
    assert drawn[y, x].tolist() == list(STAR_RGB)
    changed = (drawn != overlay(view.pixels, one_token(1, 1))).any(axis=-1)
    rows, columns = np.nonzero(changed)
    assert max(np.abs(rows - point[1]).max(), np.abs(columns - point[0]).max()) < 10, "the star is small"


def test_the_star_is_that_of_the_chosen_keypoint():
    view = standing_view()
    drawn = draw_dependency(view, np.zeros((8, 6)), LEFT_WRIST)
    x, y = np.rint(view.keypoints.points[LEFT_WRIST]).astype(int)
    assert drawn[y, x].tolist() == list(STAR_RGB)
    x, y = np.rint(view.keypoints.points[NOSE]).astype(int)
    assert drawn[y, x].tolist() != list(STAR_RGB)


@pytest.mark.parametrize("point", [(-300.0, 50.0), (1e5, -1e5), (50.0, 1e6)])
def test_a_joint_far_outside_has_no_star(point):
    view = view_at(point)
    np.testing.assert_array_equal(draw_dependency(view, one_token(1, 1), NOSE), overlay(view.pixels, one_token(1, 1)))


def test_drawing_leaves_the_view_as_it_is():
    view, untouched = standing_view(), standing_view()
    draw_dependency(view, one_token(1, 1), NOSE)
    skeleton_picture(view)
    dependency_figure(view, attention_of("mhsa"))
    np.testing.assert_array_equal(view.pixels, untouched.pixels)
    np.testing.assert_array_equal(view.keypoints.points, untouched.keypoints.points)


def test_threshold_and_colours_are_passed_on():
    view, heat = view_at((90.0, 120.0)), attention_of("mhsa").dependency[0, 0, 0]
    drawn = [draw_dependency(view, heat, NOSE, threshold=t, colormap=c) for t in (0.0, 0.8) for c in COLORMAPS]
    assert len({one.tobytes() for one in drawn}) == 2 * len(COLORMAPS)
    with pytest.raises(ValueError, match="colormap is 'grey'; allowed: inferno"):
        draw_dependency(view, heat, NOSE, colormap="grey")


def test_the_skeleton_has_only_confident_joints():
    points = np.tile([-1000.0, -1000.0], (17, 1))
    points[LEFT_WRIST] = [40.0, 40.0]
    grey = np.full((128, 96, 3), 90, dtype=np.uint8)
    for score, drawn in ((0.9, True), (0.1, False)):
        scores = np.zeros(17)
        scores[LEFT_WRIST] = score
        picture = skeleton_picture(PersonView(grey, Keypoints(points, scores), COCO))
        assert (picture[40, 40].tolist() == list(LEFT_RGB)) == drawn
        assert (picture != grey).any() == drawn


def test_a_row_shows_the_pose_and_then_each_map():
    view, maps = standing_view(), [one_token(2, 2), one_token(1, 1) / 5]
    pose, *panels = dependency_panels(view, maps, keypoints=(LEFT_WRIST, NOSE), threshold=0.1)
    assert pose.caption == ""
    np.testing.assert_array_equal(pose.pixels, skeleton_picture(view))
    for panel, heat, keypoint in zip(panels, maps, (LEFT_WRIST, NOSE), strict=True):
        np.testing.assert_array_equal(panel.pixels, draw_dependency(view, heat, keypoint, threshold=0.1))
    assert [panel.caption for panel in panels] == ["max 30 %", "max 6.0 %"]


def test_maps_without_names_are_those_of_the_first_keypoints():
    view, maps = standing_view(), [one_token(1, 1), one_token(2, 2)]
    panels = dependency_panels(view, maps)
    np.testing.assert_array_equal(panels[2].pixels, draw_dependency(view, maps[1], 1))
    with pytest.raises(ValueError, match=r"shorter|longer"):
        dependency_panels(view, maps, keypoints=(1, 2, 3))


@pytest.mark.parametrize(
    ("level", "layer", "head", "rows"),
    [
        ("mhsa", None, None, [(2, 0), (2, 1), (2, 2), (2, 3)]),
        ("mhsa", 1, None, [(1, 0), (1, 1), (1, 2), (1, 3)]),
        ("mhsa", 0, 2, [(0, 2)]),
        ("mhsa", None, 0, [(2, 0)]),
        ("encoder", None, None, [(0, None), (1, None), (2, None)]),
        ("encoder", 0, None, [(0, None)]),
        ("encoder", None, 0, [(0, 0), (1, 0), (2, 0)]),
        ("encoder", 1, 3, [(1, 3)]),
    ],
)
@pytest.mark.parametrize("mode", ["dependency", "affect"])
def test_the_figure_has_a_row_for_all_that_is_left_open(level, layer, head, rows, mode):
    view, attention = standing_view(64, 48), attention_of(level)
    assert figure_rows(attention, layer=layer, head=head) == rows
    figure = dependency_figure(view, attention, layer=layer, head=head, mode=mode, threshold=0.2, title="title")
    panels = [
        dependency_panels(view, [attention.of(k, layer=one, head=which, mode=mode) for k in range(17)], threshold=0.2)
        for one, which in rows
    ]
    titles = {
        "column_titles": ["pose", *keypoint_titles(view)],
        "row_titles": [row_title(attention, *row) for row in rows],
        "title": "title",
    }
    np.testing.assert_array_equal(figure, draw_figure(panels, **titles, colormap="inferno"))
    layout = figure_layout(panels, **titles)
    assert figure.shape == (*layout.sheet_hw, 3)
    assert layout.sheet_hw[0] - layout.top >= len(rows) * 64


def test_a_layer_or_head_that_is_not_there_is_refused():
    with pytest.raises(IndexError, match="layer is 3; allowed: 0 to 2"):
        dependency_figure(standing_view(), attention_of("encoder"), layer=3)
    with pytest.raises(IndexError, match="head is 4; allowed: 0 to 3"):
        dependency_figure(standing_view(), attention_of("mhsa"), head=4)


def test_titles_say_what_a_row_and_a_column_is():
    assert row_title(attention_of("mhsa"), 2, 1) == "MHSA\nlayer 2\nhead 1"
    assert row_title(attention_of("encoder"), 0, None) == "encoder\nlayer 0\nmean of heads"
    titles = keypoint_titles(standing_view())
    assert (titles[0], titles[LEFT_WRIST], titles[-1]) == ("nose\n0.10", "left wrist\n0.55", "right ankle\n0.90")


def test_threads_draw_the_same_bytes():
    view, attention = standing_view(64, 48), attention_of("mhsa")

    def drawn(seed):
        colormap = COLORMAPS[seed % len(COLORMAPS)]
        heat = attention.of(seed % 17, layer=0, head=None, mode="affect")
        overlaid = draw_dependency(view, heat, seed % 17, colormap=colormap)
        return overlaid.tobytes(), dependency_figure(view, attention, head=seed % 4, colormap=colormap).tobytes()

    alone = [drawn(seed) for seed in range(12)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(drawn, range(12))) == alone
    assert len(set(alone)) == 12
