"""Skeletons in pictures: where they are drawn, in what colours, at every size."""

from __future__ import annotations

import numpy as np
import pytest

from model.drawing import (
    LEFT_RGB,
    MAX_ENLARGED_SIDE,
    MIDDLE_RGB,
    MIN_SIDE,
    RIGHT_RGB,
    RIM_RGB,
    draw_identity,
    draw_pose,
    draw_poses,
    identity_rgb,
)
from model.skeleton import COCO

NOSE, LEFT_WRIST, RIGHT_ANKLE, LEFT_ELBOW = (
    COCO.names.index(name) for name in ("nose", "left_wrist", "right_ankle", "left_elbow")
)


def grey(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), 90, dtype=np.uint8)


def pose_of(points: dict[int, tuple[float, float]], *, score: float = 0.9) -> np.ndarray:
    """A pose with these joints; all others have a score of 0 and lie far outside."""
    pose = np.tile([-1e9, 1e9, 0.0], (len(COCO), 1))
    for joint, point in points.items():
        pose[joint] = [*point, score]
    return pose


def has(image: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((image == color).all(axis=2).any())


def test_joints_have_the_colour_of_their_side_and_a_white_rim():
    places = {NOSE: (100, 100), LEFT_WRIST: (500, 100), RIGHT_ANKLE: (300, 500)}
    drawn = draw_poses(grey(640, 640), [pose_of(places)], COCO)
    for joint, color in {NOSE: MIDDLE_RGB, LEFT_WRIST: LEFT_RGB, RIGHT_ANKLE: RIGHT_RGB}.items():
        x, y = places[joint]
        assert tuple(drawn[y, x]) == color
        assert has(drawn[y - 12 : y + 12, x - 12 : x + 12], RIM_RGB)


def test_a_limb_joins_two_joints_that_are_both_shown():
    both = draw_poses(grey(640, 640), [pose_of({LEFT_ELBOW: (100, 300), LEFT_WRIST: (500, 300)})], COCO)
    assert tuple(both[300, 300]) == LEFT_RGB
    weak = pose_of({LEFT_ELBOW: (100, 300), LEFT_WRIST: (500, 300)})
    weak[LEFT_WRIST, 2] = 0.2
    alone = draw_poses(grey(640, 640), [weak], COCO)
    assert tuple(alone[300, 300]) == tuple(alone[300, 500]) == (90, 90, 90)
    assert tuple(alone[300, 100]) == LEFT_RGB


def test_a_small_picture_is_enlarged_and_its_joints_with_it():
    small = grey(60, 80)
    drawn = draw_poses(small, [pose_of({NOSE: (10, 70), LEFT_WRIST: (50, 8)})], COCO)
    assert drawn.shape == (640, MIN_SIDE, 3)
    assert tuple(drawn[round((70 + 0.5) * 8 - 0.5), round((10 + 0.5) * 8 - 0.5)]) == MIDDLE_RGB
    assert (small == 90).all(), "the picture itself is left as it is"


@pytest.mark.parametrize(
    ("size", "drawn_size"),
    [
        ((1, 1), (MIN_SIDE, MIN_SIDE)),
        ((3000, 500), (3000, 500)),
        ((2048, 2), (MAX_ENLARGED_SIDE, 4)),
        ((16_000, 600), (16_000, 600)),
    ],
)
def test_every_size_of_picture_can_be_drawn_into(size, drawn_size):
    corners = {NOSE: (0, 0), LEFT_WRIST: (size[0] - 1, size[1] - 1), RIGHT_ANKLE: (size[0] - 1, 0)}
    drawn = draw_poses(grey(*size), [pose_of(corners)], COCO)
    assert drawn.shape == (drawn_size[1], drawn_size[0], 3)
    assert has(drawn, RIGHT_RGB)
    if min(size) > 100:
        assert has(drawn[:, -100:], LEFT_RGB), "also far from the corner that coordinates count from"


def test_a_small_person_is_drawn_finer_than_a_large_one():
    def drawn_pixels(size: float) -> int:
        image = grey(1000, 1000)
        pose = pose_of({LEFT_ELBOW: (100, 100), LEFT_WRIST: (100 + size, 100)})
        draw_pose(image, pose[:, :2], pose[:, 2] > 0, COCO)
        return int((image[:100] != 90).any(axis=2).any(axis=1).sum())

    assert drawn_pixels(40) < drawn_pixels(800)


def test_a_person_without_joints_leaves_the_picture_as_it_is():
    drawn = draw_poses(grey(640, 480), [pose_of({}), pose_of({NOSE: (300, 200)}, score=0.1)], COCO)
    assert (drawn == 90).all()


def test_limbs_may_have_one_colour_and_joints_keep_their_sides():
    image = grey(640, 640)
    pose = pose_of({LEFT_ELBOW: (100, 300), LEFT_WRIST: (500, 300)})
    draw_pose(image, pose[:, :2], pose[:, 2] > 0, COCO, limbs_rgb=(1, 2, 3))
    assert tuple(image[300, 300]) == (1, 2, 3)
    assert tuple(image[300, 500]) == LEFT_RGB


def test_identities_near_each_other_have_colours_that_can_be_told_apart():
    colors = np.array([identity_rgb(number) for number in range(1, 200)], dtype=float)
    for number in range(1, 6):
        differences = np.abs(colors[number:] - colors[:-number]).max(axis=1)
        assert differences.min() > 60
    assert identity_rgb(2**63) == identity_rgb(2**63)


@pytest.mark.parametrize("place", [(320, 240), (0, 0), (639, 479), (-900, -900)])
def test_a_number_is_written_on_its_colour_above_the_person_and_within_the_picture(place):
    image = grey(640, 480)
    pose = pose_of({NOSE: place, LEFT_WRIST: (place[0], place[1] + 100)})
    draw_identity(image, pose[:, :2], pose[:, 2] > 0, 1234)
    is_plate = (image == identity_rgb(1234)).all(axis=2)
    rows, columns = np.nonzero(is_plate)
    assert len(rows) > 200
    assert (image != 90).any(axis=2).sum() > 1.1 * len(rows), "there is writing on it"
    assert rows.max() < max(60, place[1])
    assert columns.min() - 1 <= max(0, min(place[0], 639)) <= columns.max() + 60


def test_a_person_without_joints_has_no_number():
    image = grey(640, 480)
    pose = pose_of({})
    draw_identity(image, pose[:, :2], pose[:, 2] > 0, 7)
    assert (image == 90).all()
