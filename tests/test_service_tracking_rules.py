"""Births, deaths, ids, and when the detector is asked: each rule by itself."""

from __future__ import annotations

import numpy as np
import pytest

from crowds import IMAGE_HW, Scene, Walker, follow, line
from service.tracking_values import TrackedInput
from tracked_frames import ONE_BOX, found, pose, show, tracker


def test_those_of_the_first_detection_are_told_of_at_once_and_later_ones_when_they_stay():
    following = tracker(min_hits=3)
    later_box = (400.0, 100.0, 80.0, 200.0)
    (one,) = show(following, 0.0, ONE_BOX, detected=found(ONE_BOX))
    assert (one.track_id, one.told) == (1, True)
    told = []
    for number in range(1, 5):
        detected = found(ONE_BOX, later_box) if number == 1 else None
        told.append(
            [(each.track_id, each.told) for each in show(following, number / 30, ONE_BOX, later_box, detected=detected)]
        )
    assert told == [[(1, True), (0, False)]] * 2 + [[(1, True), (2, True)]] * 2


def test_an_unconfirmed_one_that_is_missed_is_forgotten():
    following = tracker()
    show(following, 0.0, ONE_BOX, detected=found(ONE_BOX))
    ghost = (400.0, 100.0, 80.0, 200.0)
    show(following, 0.1, ONE_BOX, ghost, detected=found(ONE_BOX, ghost))
    assert following.people == 2
    show(following, 0.2, ONE_BOX)
    assert following.people == 1
    assert not following.detection_due()
    show(following, 0.3, ONE_BOX)
    assert following.detection_due(), "the detector is to say whether somebody is there"
    show(following, 0.4, ONE_BOX, detected=found(ONE_BOX))
    for number in range(5, 9):
        assert not following.detection_due()
        show(following, number / 10, ONE_BOX)


def test_nobody_is_born_of_what_the_network_does_not_see():
    following = tracker()
    (answer,) = show(following, 0.0, detected=found(ONE_BOX))
    assert (answer.track_id, answer.told, following.people) == (0, False, 0)


def test_a_weak_detection_begins_nobody_but_corrects_a_box():
    following = tracker(birth_score=0.5)
    assert following.boxes(0.0, IMAGE_HW, found(ONE_BOX, score=0.4)) == []
    show(following, 0.1, ONE_BOX, detected=found(ONE_BOX))
    larger = (90.0, 80.0, 100.0, 240.0)
    plain = following.boxes(0.2, IMAGE_HW, None)[0]
    corrected = following.boxes(0.2, IMAGE_HW, found(larger, score=0.4))[0]
    assert corrected[3] > plain[3] + 20


def test_two_boxes_of_one_person_are_told_once():
    following = tracker()
    beside = (110.0, 110.0, 80.0, 200.0)
    looks = following.boxes(0.0, IMAGE_HW, found(ONE_BOX, (140.0, 130.0, 80.0, 180.0)))
    answers = following.update(0.0, [pose(ONE_BOX, looked_at=looks[0]), pose(ONE_BOX, shift=1.0, looked_at=looks[1])])
    assert [(one.track_id > 0, one.told) for one in answers].count((True, True)) == 1
    assert following.people == 1
    assert len(following.boxes(0.1, IMAGE_HW, found(ONE_BOX, beside))) == 1, "and a box beside is not looked at"


def test_of_two_people_who_become_one_the_younger_is_forgotten():
    """Two tracks drift onto one person: the older goes on, the other is held back at once and gone soon."""
    following = tracker(max_lost_s=60.0)
    other = (200.0, 100.0, 80.0, 200.0)
    show(following, 0.0, ONE_BOX, detected=found(ONE_BOX))
    for number in range(1, 10):
        show(following, number / 30, ONE_BOX, other, detected=found(ONE_BOX, other) if number == 1 else None)
    told = []
    for number in range(120):
        place = 100.0 + 100.0 * 0.96**number
        looks = following.boxes((10 + number) / 30, IMAGE_HW, None)
        answers = following.update(
            (10 + number) / 30,
            [
                pose(ONE_BOX if look[0] < (100 + place) / 2 else (place, 100.0, 80.0, 200.0), looked_at=look)
                for look in looks
            ],
        )
        told.append([one.track_id for one in answers if one.told])
    assert told[0] == [1, 2]
    assert told[-1] == [1]
    assert all(1 in ids for ids in told)
    assert following.people == 1


@pytest.mark.parametrize(("score", "remains"), [(0.25, False), (0.8, True)])
def test_somebody_whom_the_detector_never_sees_again_goes_if_the_network_is_not_sure_either(score, remains):
    following = tracker(max_undetected_s=1.0)
    show(following, 0.0, ONE_BOX, detected=found(ONE_BOX))
    for number in range(1, 60):
        show(following, number / 30, ONE_BOX, detected=found() if number % 10 == 0 else None, score=score)
    assert bool(following.people) == remains


def test_a_score_that_falls_asks_for_the_detector_once():
    scene = Scene([Walker("one", line((200, 240), (0, 0)))])
    following = tracker(detect_every=100, detect_every_s=60.0)
    estimate = scene.estimate

    def fading(time_s, box):
        one, name = estimate(time_s, box)
        scores = one.scores * (0.3 if time_s > 0.5 else 1.0)
        return TrackedInput(
            box_xywh=one.box_xywh,
            points_image=one.points_image,
            scores=scores,
            score=one.score * (0.3 if time_s > 0.5 else 1.0),
        ), name

    scene.estimate = fading
    seen = follow(following, scene, np.arange(60) / 30)
    assert seen.detected == [0, 17]


def test_where_nobody_is_the_detector_looks_now_and_then():
    seen = follow(tracker(), Scene([]), np.arange(12) / 30)
    assert seen.detected == [0, 3, 6, 9]


def test_slow_streams_are_looked_at_by_time():
    seen = follow(tracker(), Scene([Walker("one", line((200, 240), (0, 0)))]), np.arange(8) / 2)
    assert seen.detected == [0, 2, 4, 6]


def test_a_detector_that_was_not_there_is_still_due():
    following = tracker()
    assert following.detection_due()
    assert show(following, 0.0) == []
    assert following.detection_due()


def test_ids_are_never_used_again():
    following = tracker(max_lost_s=0.2)
    ids = []
    for number in range(40):
        people = [ONE_BOX] if number % 10 < 5 else []
        answers = show(following, number / 10, *people, detected=found(*people))
        ids += [one.track_id for one in answers if one.told]
    assert ids == sorted(ids)
    assert set(ids) == {1, 2, 3, 4}


def test_frames_without_poses_are_as_if_they_had_not_been():
    following = tracker()
    show(following, 0.0, ONE_BOX, detected=found(ONE_BOX))
    for number in range(1, 200):
        following.boxes(number / 30, IMAGE_HW, None)
    (one,) = show(following, 200 / 30, ONE_BOX)
    assert one.track_id == 1


def test_a_detection_without_area_is_nobody():
    following = tracker()
    other = (400.0, 100.0, 80.0, 200.0)
    show(following, 0.0, ONE_BOX, other, detected=found(ONE_BOX, other))
    assert len(show(following, 0.1, ONE_BOX, other, detected=found((0, 0, 0, 0), ONE_BOX, (5, 5, 0, 9), other))) == 2
