"""Boxes that follow their own poses, for long."""

from __future__ import annotations

import numpy as np
import pytest

from crowds import IMAGE_HW
from drawings import STANDING
from service.tracking_values import TrackedInput
from tracked_frames import found, pose, tracker


def tiny_film(joints_at, frames: int = 1000, step=(0.0, 0.0)) -> np.ndarray:
    """The boxes looked at, [frames, 4], where a network finds `joints_at(frame, box)` [17] of somebody; no detector."""
    following, rng = tracker(detect_every=10**9, detect_every_s=1e9), np.random.default_rng(0)
    looked = []
    for number in range(frames):
        body = np.array([250.0, 150.0, 80.0, 200.0]) + np.array([*step, 0, 0]) * number
        detected = found(tuple(body)) if number == 0 else None
        (box,) = following.boxes(number / 30, IMAGE_HW, detected)
        looked.append(box)
        points = body[:2] + STANDING * body[2:] + rng.normal(scale=2.0, size=(17, 2))
        region = np.array([box[0] - box[2] / 8, box[1] - box[3] / 8, 1.25 * box[2], 1.25 * box[3]])
        inside = ((points >= region[:2]) & (points <= region[:2] + region[2:])).all(axis=1)
        scores = np.where(inside & joints_at(number, rng), 0.8, 0.05)
        following.update(number / 30, [TrackedInput(box_xywh=box, points_image=points, scores=scores, score=0.8)])
    return np.array(looked)


@pytest.mark.parametrize(
    "joints_at",
    [
        lambda number, rng: np.ones(17, dtype=bool),
        lambda number, rng: rng.random(17) < 0.5,
        lambda number, rng: np.arange(17) != number % 17,
        lambda number, rng: (np.arange(17) < 13) | (number % 20 < 10),
    ],
    ids=["all", "half of them, each time others", "all but one, in turn", "legs now and then"],
)
def test_a_box_that_follows_its_own_poses_neither_shrinks_nor_grows_nor_drifts(joints_at):
    looked = tiny_film(joints_at)
    late = looked[100:]
    sizes = late[:, 2:] / np.array([80.0, 200.0])
    assert sizes.min() > 0.8
    assert sizes.max() < 1.35
    centers = late[:, :2] + late[:, 2:] / 2 - np.array([290.0, 250.0])
    assert np.abs(centers).max() < 15
    jumps = np.abs(np.diff(np.log(late[:, 2:]), axis=0))
    assert jumps.max() < 0.1, "and does not jump"


def test_a_box_without_legs_becomes_that_of_the_rest_and_stays():
    """From the hundredth frame on only the upper body is found, as behind a table. A face alone changes nothing."""
    upper = tiny_film(lambda number, rng: (np.arange(17) < 11) | (number < 100))
    assert np.ptp(upper[400:, 3]) < 20
    assert upper[400:, 3].min() > 80
    face = tiny_film(lambda number, rng: (np.arange(17) < 5) | (number < 100))
    assert 180 < face[-1, 3] < 260


def test_a_box_grows_with_somebody_who_comes_near():
    following = tracker()
    scene_box = np.array([250.0, 200.0, 40.0, 100.0])
    for number in range(90):
        body = np.concatenate((scene_box[:2] - number * np.array([0.4, 1.0]), scene_box[2:] * (1 + number / 60)))
        detected = found(tuple(body)) if number == 0 else None
        (box,) = following.boxes(number / 30, IMAGE_HW, detected)
        following.update(number / 30, [pose(tuple(body), looked_at=box)])
    assert box[3] == pytest.approx(body[3], rel=0.15)
