"""Whatever comes: nothing grows, ids are of one person, and what is impossible is refused."""

from __future__ import annotations

import math
import pickle
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowds import IMAGE_HW
from drawings import plain_skeleton
from model.skeleton import COCO
from service.one_euro import SmoothingSettings
from service.tracking import Tracker
from service.tracking_values import TrackedInput, TrackerSettings
from tracked_frames import found, show


def test_other_skeletons_are_followed():
    following = Tracker(plain_skeleton(2), TrackerSettings())
    for number in range(20):
        box = (100.0 + number, 100.0, 40.0, 40.0)
        looks = following.boxes(number / 30, IMAGE_HW, found(box) if number == 0 else None)
        points = np.array([[110.0 + number, 110.0], [130.0 + number, 130.0]])
        answers = following.update(
            number / 30,
            [TrackedInput(box_xywh=look, points_image=points, scores=np.ones(2), score=1.0) for look in looks],
        )
        assert [one.track_id for one in answers] == [1]


def visits(following: Tracker, frames: int, first: int = 0, people: int = 2) -> None:
    """People who come, stay for some seconds and go, one or two at a time, one in five frames without poses."""
    for number in range(first, first + frames):
        boxes = [(100.0 + 3 * (number % 40), 100.0, 80.0, 200.0), (400.0, 90.0 + number % 50, 80.0, 200.0)][:people]
        boxes = [] if number // 40 % 4 == 3 else boxes
        if number % 5 == 4:
            following.boxes(number / 25, IMAGE_HW, None)
        else:
            show(following, number / 25, *boxes, detected=found(*boxes) if following.detection_due() else None)


def held(following: Tracker) -> int:
    return len(pickle.dumps(following))


def test_nothing_grows():
    following = Tracker(COCO, TrackerSettings(max_tracks=5), SmoothingSettings())
    visits(following, 460)
    before = held(following)
    visits(following, 1600, first=460)
    assert following.people <= 5
    assert held(following) == pytest.approx(before, rel=0.02)


@pytest.mark.slow
def test_nothing_grows_in_an_hour():
    """100,000 frames: more than an hour at 25 frames a second."""
    following = Tracker(COCO, TrackerSettings(max_tracks=5), SmoothingSettings())
    visits(following, 460, people=1)
    before = held(following)
    visits(following, 100_000, first=460, people=1)
    assert following.people <= 5
    assert held(following) == pytest.approx(before, rel=0.02)


def anything(boxes, seed: int) -> list[TrackedInput]:
    rng = np.random.default_rng(seed)
    scale = rng.choice([0.0, 1.0, 1e4])
    return [
        TrackedInput(
            box_xywh=box,
            points_image=rng.normal(scale=scale, size=(17, 2)),
            scores=rng.random(17),
            score=float(rng.random()),
        )
        for box in boxes
    ]


coordinates = st.floats(-2000, 2000)
sides = st.floats(1e-3, 3000)
boxes = st.lists(st.tuples(coordinates, coordinates, sides, sides), max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-10, 100) | st.sampled_from([0.0, 0.04]), st.booleans(), boxes, st.integers(0, 2**32 - 1)),
        max_size=25,
    )
)
def test_whatever_comes_ids_are_of_one_and_only_grow(frames):
    following = Tracker(COCO, TrackerSettings(max_tracks=4), SmoothingSettings())
    known: set[int] = set()
    for time_s, given_boxes, people, seed in frames:
        if given_boxes:
            answers = following.identify(time_s, anything(people, seed))
            assert all(one.told for one in answers)
        else:
            looks = following.boxes(time_s, IMAGE_HW, found(*people) if following.detection_due() else None)
            assert len(looks) <= 4
            answers = following.update(time_s, anything(looks, seed))
        assert following.people <= 4
        ids = [one.track_id for one in answers if one.track_id]
        assert len(set(ids)) == len(ids)
        new = sorted(set(ids) - known)
        assert all(one > max(known, default=0) for one in new), "an id is never used again"
        known |= set(ids)
        for one in answers:
            assert np.isfinite(one.points_image).all()


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("detect_every", 0, "a whole number from 1"),
        ("detect_again", 1.5, "a whole number from 1"),
        ("min_hits", True, "a whole number from 1"),
        ("max_tracks", -1, "a whole number from 1"),
        ("low_score", 1.1, "0 to 1"),
        ("match_similarity", math.nan, "0 to 1"),
        ("max_lost_s", 0.0, "seconds above 0"),
        ("max_gap_s", math.inf, "seconds above 0"),
    ],
)
def test_impossible_settings_are_refused_by_name(field, value, allowed):
    with pytest.raises(ValueError, match=f"{field} is {value!r}; allowed: {allowed}"):
        TrackerSettings(**{field: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"box_xywh": (0, 0, 0, 5)}, "box_xywh is .*allowed: finite"),
        ({"box_xywh": (0, 0, math.nan, 5)}, "box_xywh is .*allowed: finite"),
        ({"box_xywh": (0, 0, 5)}, "box_xywh is .*allowed: finite"),
        ({"points_image": np.zeros((3, 2))}, r"points_image and scores is .*allowed: \[K, 2\] and \[K\]"),
        ({"points_image": np.full((2, 2), np.nan)}, "not finite"),
        ({"score": math.inf}, "not finite"),
    ],
)
def test_impossible_poses_are_refused(changes, message):
    fields = {"box_xywh": (0.0, 0.0, 5.0, 5.0), "points_image": np.zeros((2, 2)), "scores": np.zeros(2), "score": 0.5}
    with pytest.raises(ValueError, match=message):
        TrackedInput(**(fields | changes))


@pytest.mark.parametrize("chosen", [TrackerSettings(), SmoothingSettings()])
def test_the_page_tells_each_setting_and_its_default(chosen):
    page = (Path(__file__).parents[1] / "docs" / "video.md").read_text(encoding="utf-8")
    section = page.partition(f"Of `{type(chosen).__name__}`:")[2].partition("\n\n")[2].partition("\n\n")[0]
    told = [line.split("|")[1:3] for line in section.splitlines()[2:]]
    assert [(name.strip(" `"), default.strip()) for name, default in told] == [
        (field.name, str(getattr(chosen, field.name))) for field in fields(chosen)
    ]
