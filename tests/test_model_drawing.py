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
    draw_pose,
    draw_poses,
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
