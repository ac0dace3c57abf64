import math

import numpy as np
import pytest

from drawings import JOINT_COLORS, draw_joints, figure_points
from model.crop import warp_crop
from model.geometry import affine_scale, apply_affine, box_to_affine
from model.skeleton import COCO
from training.augment import Augmentation, View, random_view

INPUT_HW = (256, 192)
BOX = np.array([120.0, 60.0, 150.0, 280.0])
POINTS = figure_points(BOX)
ALL = np.ones(len(COCO), dtype=bool)
OFF = {"half_body": 0.0, "scale": 0.0, "rotation_degrees": 0.0, "rotation_probability": 0.0, "flip": 0.0}


def look(seed=0, *, labelled=ALL, points=POINTS, **strengths):
    """A random view with only the named augmentations on."""
    augmentation = Augmentation(**(OFF | strengths))
    return random_view(BOX, points, labelled, INPUT_HW, augmentation, np.random.default_rng(seed), COCO)


def angle_degrees(view):
    """Clockwise turn of an unmirrored view."""
    return math.degrees(math.atan2(view.image_to_crop[1, 0], view.image_to_crop[0, 0]))


def pairwise(points):
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


PLAIN = View(box_to_affine(BOX, INPUT_HW), flip=False, skeleton=COCO)
PLAIN_SCALE = affine_scale(PLAIN.image_to_crop)


def test_with_everything_off_the_view_is_that_of_evaluation():
    for seed in range(10):
        view = look(seed)
        assert not view.flip
        assert np.array_equal(view.image_to_crop, PLAIN.image_to_crop)


def test_the_plain_view_shows_the_whole_box_upright():
    assert angle_degrees(PLAIN) == 0
    points = PLAIN.points(POINTS)
    assert ((points > 0) & (points < [191, 255])).all()
    assert PLAIN.labelled(ALL, POINTS) is ALL


@pytest.mark.parametrize(
    "strengths",
    [
        {},
        {"flip": 1.0},
        {"scale": 0.35},
        {"rotation_degrees": 45.0, "rotation_probability": 1.0},
        {"half_body": 1.0},
        {"shift": 0.1},
        {"stretch": 0.3, "flip": 1.0},
        {"cut": 1.0, "flip": 0.5, "rotation_degrees": 30.0, "rotation_probability": 0.5},
    ],
    ids=["plain", "flip", "scale", "rotation", "half body", "shift", "stretch", "cut"],
)
@pytest.mark.parametrize("seed", range(4))
def test_each_joint_is_where_its_colour_is(strengths, seed):
    image = np.zeros((400, 400, 3), dtype=np.uint8)
    draw_joints(image, POINTS, radius=3)
    view = look(seed, **strengths)
    crop = view.pixels(image, INPUT_HW)
    points = view.points(np.rint(POINTS))
    labelled = view.labelled(ALL, POINTS)
    colors = np.array(JOINT_COLORS)[list(COCO.flip_order)] if view.flip else np.array(JOINT_COLORS)
    seen = 0
    for (x, y), color in zip(np.rint(points[labelled]).astype(int), colors[labelled], strict=True):
        if 0 <= x < 192 and 0 <= y < 256:
            assert np.abs(crop[y, x].astype(int) - color).max() < 60
            seen += 1
    assert seen >= (1 if view.window else 5)


def test_flipping_mirrors_the_points_and_swaps_left_and_right():
    view = look(flip=1.0)
    assert view.flip
    expected = PLAIN.points(POINTS)[list(COCO.flip_order)] * [-1, 1] + [191, 0]
    np.testing.assert_allclose(view.points(POINTS), expected, atol=1e-9)


def test_flipping_swaps_which_joints_are_labelled():
    left_wrist_only = np.arange(len(COCO)) == 9
    assert np.flatnonzero(look(flip=1.0).labelled(left_wrist_only, POINTS)).tolist() == [10]
    assert np.flatnonzero(look(flip=0.0).labelled(left_wrist_only, POINTS)).tolist() == [9]


def test_flipping_twice_restores_the_order():
    view = View(np.eye(2, 3), flip=True, skeleton=COCO)
    assert np.array_equal(view.points(view.points(POINTS)), POINTS)


def test_about_half_of_the_views_are_flipped():
    assert 70 < sum(look(seed, flip=0.5).flip for seed in range(200)) < 130


def test_rotation_turns_around_the_centre_of_the_box_and_keeps_distances():
    center = BOX[:2] + (BOX[2:] - 1) / 2
    angles = set()
    for seed in range(20):
        view = look(seed, rotation_degrees=45.0, rotation_probability=1.0)
        np.testing.assert_allclose(pairwise(view.points(POINTS)), pairwise(POINTS) * PLAIN_SCALE, atol=1e-9)
        np.testing.assert_allclose(apply_affine(view.image_to_crop, center), [95.5, 127.5], atol=1e-9)
        angles.add(round(angle_degrees(view), 6))
    assert len(angles) > 15


def test_rotation_is_cut_at_twice_its_deviation():
    angles = [angle_degrees(look(seed, rotation_degrees=20.0, rotation_probability=1.0)) for seed in range(300)]
    assert np.abs(angles).max() == pytest.approx(40)
    assert min(angles) < 0 < max(angles)
    assert 15 < np.std(angles) < 22


def test_rotation_happens_with_its_probability():
    turned = [angle_degrees(look(seed, rotation_degrees=45.0, rotation_probability=0.6)) != 0 for seed in range(200)]
    assert 95 < sum(turned) < 145


def test_scale_stays_within_its_bounds_and_reaches_both():
    factors = [PLAIN_SCALE / affine_scale(look(seed, scale=0.35).image_to_crop) for seed in range(200)]
    assert min(factors) == pytest.approx(0.65)
    assert max(factors) == pytest.approx(1.35)
    assert len({round(factor, 6) for factor in factors}) > 100


def test_scale_keeps_the_centre_and_the_angle():
    view = look(3, scale=0.35)
    assert angle_degrees(view) == 0
    center = BOX[:2] + (BOX[2:] - 1) / 2
    np.testing.assert_allclose(apply_affine(view.image_to_crop, center), [95.5, 127.5], atol=1e-9)


def test_a_shift_moves_the_centre_up_to_its_part_of_each_side_and_nothing_else():
    center = BOX[:2] + (BOX[2:] - 1) / 2
    moved = []
    for seed in range(200):
        view = look(seed, shift=0.1)
        assert np.array_equal(view.image_to_crop[:, :2], PLAIN.image_to_crop[:, :2])
        moved.append(apply_affine(view.image_to_crop, center) - [95.5, 127.5])
    sides = np.array([192, 256])
    assert (np.abs(moved) <= 0.1 * sides + 1e-9).all()
    assert (np.min(moved, axis=0) < -0.09 * sides).all()
    assert (np.max(moved, axis=0) > 0.09 * sides).all()


def test_a_stretch_changes_heights_against_widths_about_the_middle_and_keeps_areas():
    center = BOX[:2] + (BOX[2:] - 1) / 2
    factors = []
    for seed in range(200):
        view = look(seed, stretch=0.25)
        across, down = np.ptp(view.points(POINTS), axis=0) / np.ptp(PLAIN.points(POINTS), axis=0)
        assert across * down == pytest.approx(1)
        np.testing.assert_allclose(apply_affine(view.image_to_crop, center), [95.5, 127.5], atol=1e-9)
        factors.append(down)
    assert 0.8 <= min(factors) < 0.82
    assert 1.22 < max(factors) <= 1.25
    assert 80 < np.sum(np.array(factors) > 1) < 120


def halves_shown(view):
    """Which halves of the body the view is centred on: the one whose joints' middle is the crop's."""
    shown = []
    for name, half in (("upper", COCO.upper_body), ("lower", COCO.lower_body)):
        points = view.points(POINTS)[list(half)]
        if np.allclose((points.min(axis=0) + points.max(axis=0)) / 2, [95.5, 127.5], atol=1e-6):
            assert ((points > 0) & (points < [191, 255])).all()
            shown.append(name)
    return shown


def test_a_half_body_is_one_half_with_all_its_joints():
    shown = [halves_shown(look(seed, half_body=1.0)) for seed in range(100)]
    assert {len(halves) for halves in shown} == {1}
    assert 55 < sum(halves == ["upper"] for halves in shown) < 85  # about 69 %, as in the recipe


def test_a_half_body_is_padded_by_half():
    view = look(1, half_body=1.0)
    half = COCO.upper_body if halves_shown(view) == ["upper"] else COCO.lower_body
    width, height = np.ptp(POINTS[list(half)], axis=0) + 1
    assert affine_scale(view.image_to_crop) == pytest.approx(192 / (1.5 * max(width, height * 192 / 256)))


@pytest.mark.parametrize("labelled_joints", [range(8), range(3)])
def test_persons_with_few_labelled_joints_are_never_halved(labelled_joints):
    labelled = np.isin(np.arange(len(COCO)), labelled_joints)
    for seed in range(20):
        assert np.array_equal(look(seed, labelled=labelled, half_body=1.0).image_to_crop, PLAIN.image_to_crop)


def test_a_half_with_fewer_than_three_joints_is_not_used():
    labelled = np.isin(np.arange(len(COCO)), [*COCO.upper_body, 11, 12])
    shown = [halves_shown(look(seed, labelled=labelled, half_body=1.0)) for seed in range(40)]
    assert shown == [["upper"]] * 40  # also when the lower half was drawn


def test_a_half_whose_joints_lie_on_a_line_is_not_used():
    points = POINTS.copy()
    points[:, 0] = 150.0
    assert np.array_equal(look(points=points, half_body=1.0).image_to_crop, PLAIN.image_to_crop)


CUT = [view for view in (look(seed, cut=1.0) for seed in range(60)) if view.window]


def test_nearly_every_cut_leaves_something_of_a_person():
    assert 50 <= len(CUT) < 60


@pytest.mark.parametrize("view", CUT)
def test_a_cut_person_is_what_the_end_of_the_picture_leaves(view):
    window, shown = view.window, view.labelled(ALL, POINTS)
    right, bottom = min(window.right, 400), min(window.bottom, 400)
    left, top, width, height = BOX
    kept_height = (min(bottom, top + height) - max(window.top, top)) / height
    kept_width = (min(right, left + width) - max(window.left, left)) / width
    assert kept_height == 1 or 0.14 < kept_height < 0.71
    assert kept_width == 1 or 0.24 < kept_width < 0.76
    assert kept_height * kept_width < 1
    assert shown.any()
    x, y = POINTS.T
    across, down = (x >= window.left - 0.5) & (x < right - 0.5), (y >= window.top - 0.5) & (y < bottom - 0.5)
    assert np.array_equal(shown, across & down)
    # The same pixels as of a picture that is no larger.
    picture = np.random.default_rng(0).integers(1, 256, (400, 400, 3), dtype=np.uint8)
    offset = apply_affine(view.image_to_crop, np.array([window.left, window.top], dtype=float))
    expected = warp_crop(
        picture[window.top : bottom, window.left : right],
        np.column_stack((view.image_to_crop[:, :2], offset)),
        INPUT_HW,
    )
    assert np.array_equal(view.pixels(picture, INPUT_HW), expected)
    assert (expected == 0).all(axis=-1).any()


@pytest.mark.parametrize("view", CUT)
def test_the_box_of_a_cut_person_holds_the_joints_left_and_no_more_than_their_surroundings(view):
    """The view is not scaled here: the crop is the padded box, grown to the crop's shape."""
    joints = view.points(POINTS)[view.labelled(ALL, POINTS)]
    assert ((joints > 0) & (joints < [191, 255])).all()
    region_wh = np.array([192, 256]) / affine_scale(view.image_to_crop)
    window_wh = np.minimum([view.window.right, view.window.bottom], BOX[:2] + BOX[2:]) - np.maximum(
        [view.window.left, view.window.top], BOX[:2]
    )
    whole_part = max(window_wh[0], window_wh[1] * 192 / 256) * 1.25
    assert region_wh[0] <= whole_part + 1e-9


def test_the_box_of_a_head_is_narrower_than_the_person():
    heads = [
        view
        for view in CUT
        if set(np.flatnonzero(view.labelled(ALL, POINTS))) == set(range(5)) and view.window.right > 400
    ]
    assert heads
    for view in heads:
        assert 192 / affine_scale(view.image_to_crop) < 1.25 * 0.9 * BOX[2]


def test_a_person_is_cut_with_its_probability_and_else_is_as_ever():
    views = [look(seed, cut=0.3) for seed in range(300)]
    cut = [view for view in views if view.window]
    assert 50 < len(cut) < 105
    assert all(np.array_equal(view.image_to_crop, PLAIN.image_to_crop) for view in views if not view.window)
    uppers = sum(view.window.top == 0 and view.window.bottom < 400 for view in cut)
    lowers = sum(view.window.top > 0 for view in cut)
    assert uppers > lowers > 0


@pytest.mark.parametrize(
    ("box", "labelled"),
    [(BOX, range(8)), (np.array([120.0, 60.0, 11.0, 280.0]), range(17))],
    ids=["few joints", "a narrow box"],
)
def test_persons_of_whom_little_is_known_or_would_be_left_stay_whole(box, labelled):
    labelled = np.isin(np.arange(len(COCO)), labelled)
    augmentation = Augmentation(**(OFF | {"cut": 1.0}))
    for seed in range(20):
        view = random_view(box, POINTS, labelled, INPUT_HW, augmentation, np.random.default_rng(seed), COCO)
        assert view.window is None
        assert np.array_equal(view.image_to_crop, box_to_affine(box, INPUT_HW))
        assert np.array_equal(view.labelled(labelled, POINTS), labelled)


def test_the_generator_decides_everything():
    def views(seed):
        rng = np.random.default_rng(seed)
        return [random_view(BOX, POINTS, ALL, INPUT_HW, Augmentation(), rng, COCO).image_to_crop for _ in range(5)]

    assert np.array_equal(views(1), views(1))
    assert not np.array_equal(views(1), views(2))
    assert len({view.tobytes() for view in views(1)}) == 5


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("half_body", 1.1, "a probability"),
        ("rotation_probability", -0.1, "a probability"),
        ("flip", math.nan, "a probability"),
        ("scale", 1.0, r"in \[0, 1\)"),
        ("scale", -0.1, r"in \[0, 1\)"),
        ("cut", 1.5, "a probability"),
        ("shift", 1.0, r"in \[0, 1\)"),
        ("stretch", -0.2, r"in \[0, 1\)"),
        ("rotation_degrees", 91.0, r"0\.\.90"),
        ("rotation_degrees", math.nan, r"0\.\.90"),
    ],
)
def test_impossible_strengths_are_refused(field, value, allowed):
    with pytest.raises(ValueError, match=f"{field} is {value}; allowed: {allowed}"):
        Augmentation(**{field: value})
