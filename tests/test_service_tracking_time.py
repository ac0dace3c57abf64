"""Timestamps that do not behave, frames out of order, and the client's own boxes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from crowds import IMAGE_HW, Scene, Walker, follow, line
from service.tracking_values import TrackedInput
from tracked_frames import ONE_BOX, found, pose, show, tracker


@pytest.mark.parametrize(
    "when",
    [
        [0.0] * 20,
        [n / 30 - (0.05 if n % 3 == 0 else 0) for n in range(20)],
        [1e9 + n / 30 for n in range(20)],
        [n * 1e-9 for n in range(20)],
        [n * 4.9 for n in range(20)],
        [-5.0 + n / 30 for n in range(20)],
    ],
    ids=["all the same", "out of order", "since 1970", "in other units", "with pauses", "before the begin"],
)
def test_timestamps_need_not_behave(when):
    seen = follow(tracker(), Scene([Walker("one", line((200, 240), (0, 0)))]), when)
    assert seen.ids("one") == [1]
    assert seen.frames_of("one") == 20
    for frame in seen.tracked:
        assert np.isfinite(frame[0].points_image).all()


@pytest.mark.parametrize("jump_s", [-3.0, 6.0, -1e9, 1e9], ids=["a looped file", "a pause", "far back", "far ahead"])
def test_at_a_cut_everybody_is_somebody_else(jump_s):
    when = [*(n / 30 for n in range(95)), *(95 / 30 + jump_s + n / 30 for n in range(10))]
    following = tracker()
    seen = follow(following, Scene([Walker("one", line((200, 240), (0, 0)))]), when)
    assert seen.ids("one") == [1, 2]
    assert seen.told[95] == [], "the detector was not asked for this frame"
    assert 96 in seen.detected
    assert seen.told[96] == [("one", 2)]


def test_pictures_of_another_size_are_a_cut():
    following = tracker()
    show(following, 0.0, ONE_BOX, detected=found(ONE_BOX))
    assert following.boxes(0.1, (240, 320), None) == []


@pytest.mark.parametrize("time_s", [math.nan, math.inf])
def test_a_time_that_is_none_is_refused_and_changes_nothing(time_s):
    following = tracker()
    show(following, 0.0, ONE_BOX, detected=found(ONE_BOX))
    with pytest.raises(ValueError, match=r"time_s is (nan|inf); allowed: a finite number"):
        following.boxes(time_s, IMAGE_HW, None)
    assert show(following, 0.1, ONE_BOX)[0].track_id == 1


def test_poses_of_another_frame_are_refused():
    following = tracker()
    with pytest.raises(ValueError, match=r"poses are 0 .* allowed: no frame"):
        following.update(0.0, [])
    following.boxes(0.0, IMAGE_HW, found(ONE_BOX))
    with pytest.raises(ValueError, match=r"poses are 1 of the frame at 0.5 s; allowed: 1 poses of the frame at 0.0 s"):
        following.update(0.5, [pose(ONE_BOX)])
    with pytest.raises(ValueError, match="poses are 2"):
        following.update(0.0, [pose(ONE_BOX)] * 2)
    wrong = TrackedInput(box_xywh=ONE_BOX, points_image=np.zeros((5, 2)), scores=np.zeros(5), score=0.0)
    with pytest.raises(ValueError, match="pose 0 has 5 keypoints; allowed: 17"):
        following.update(0.0, [wrong])
    assert following.update(0.0, [pose(ONE_BOX)])[0].track_id == 1, "nothing was lost"


def test_in_the_client_s_boxes_everybody_is_told_and_somebody_at_once():
    following = tracker()
    other = (400.0, 100.0, 80.0, 200.0)
    first = following.identify(0.0, [pose(ONE_BOX), pose(other)])
    second = following.identify(0.04, [pose(other, shift=2.0), pose(ONE_BOX, shift=1.0)])
    assert [(one.track_id, one.told) for one in first + second] == [(1, True), (2, True), (2, True), (1, True)]


def test_the_client_s_people_are_known_by_their_boxes_where_the_network_sees_nobody():
    following = tracker()
    ids = [
        following.identify(n / 30, [pose((100.0 + n, 100.0, 80.0, 200.0), score=0.05)])[0].track_id for n in range(30)
    ]
    assert set(ids) == {1}


def test_of_two_of_the_client_s_boxes_around_one_person_one_gets_the_id():
    answers = tracker().identify(0.0, [pose(ONE_BOX), pose(ONE_BOX, shift=1.0, looked_at=(90.0, 90.0, 100.0, 220.0))])
    assert sorted(one.track_id for one in answers) == [0, 1]
    assert all(one.told for one in answers)


def test_a_stream_may_go_from_the_client_s_boxes_to_its_own():
    following = tracker()
    for number in range(5):
        following.identify(number / 30, [pose(ONE_BOX)])
    assert not following.detection_due()
    assert show(following, 5 / 30, ONE_BOX)[0].track_id == 1


def test_more_people_than_are_followed_are_told_without_an_id():
    following = tracker(max_tracks=2)
    people = [pose((150.0 * n, 100.0, 80.0, 200.0)) for n in range(3)]
    assert [one.track_id for one in following.identify(0.0, people)] == [1, 2, 0]
    assert following.people == 2


def test_who_was_lost_longest_gives_way():
    following = tracker(max_tracks=2)
    boxes = [(150.0 * n, 100.0, 80.0, 200.0) for n in range(3)]
    following.identify(0.0, [pose(boxes[0]), pose(boxes[1])])
    following.identify(0.1, [pose(boxes[1])])
    assert [one.track_id for one in following.identify(0.2, [pose(boxes[1]), pose(boxes[2])])] == [2, 3]
    assert following.people == 2
