"""What bench/ says of followed poses, on cases whose figures are known: identities, OKS, jitter, lag."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from drawings import figure_points
from model.skeleton import COCO

sys.path.append(str(Path(__file__).resolve().parents[1] / "bench"))  # no package: its scripts import each other by name
frame_truth, paths, tracking = map(importlib.import_module, ("frame_truth", "path_measures", "tracking_measures"))

BOX = np.array([100.0, 50.0, 60.0, 150.0])
AREA = 5000.0
APART = np.array([200.0, 0.0])  # from one person to the next


def person(number, *, visible=True, occluded=False, joints=17, shift=(0.0, 0.0)):
    place = BOX + np.concatenate((APART * (number - 1) + shift, (0, 0)))
    return frame_truth.FramePerson(
        person_id=number,
        annotation_id=number,
        keypoints_image=figure_points(place),
        visibility=np.where(np.arange(17) < joints, 2, 0),
        box_xywh=place,
        area=AREA,
        visible=visible,
        occluded=occluded,
    )


def truth(index, *persons):
    return frame_truth.FrameTruth(index=index, time_s=index / 25, size_wh=(640, 480), persons=persons)


def answer(number, track_id=0, *, off=0.0):
    return tracking.AnsweredPose(person(number).keypoints_image + off, track_id)


def told(*frames, **options):
    """Figures of frames, each some persons and some answers."""
    tally = tracking.Tally(**options)
    for index, (persons, answers) in enumerate(frames):
        tally.add(truth(index, *persons), answers)
    return tally.figures()


def oks_at(distance):
    return float(np.exp(-(distance**2) / (2 * np.array(COCO.oks_sigmas)) ** 2 / (2 * AREA)).mean())


def test_answers_are_given_to_whom_they_are_most_alike_together():
    # Taken one by one the first person would take the answer that only the second can have.
    persons = (person(1), person(1, shift=(4.0, 0.0)))
    answers = [answer(1, off=(1.9, 0.0)), answer(1, off=(-2.5, 0.0))]
    matches = tracking.match_frame(persons, answers, min_oks=0.3)
    assert {(match.person, match.answer) for match in matches} == {(0, 1), (1, 0)}
    assert {round(match.oks, 9) for match in matches} == {round(oks_at(2.5), 9), round(oks_at(2.1), 9)}


def test_oks_is_over_the_labelled_joints_in_the_frame():
    off = np.zeros((17, 2))
    off[10:] = 500.0
    assert tracking.similarity(person(1, joints=10), answer(1, off=off)) == pytest.approx(1)
    assert tracking.similarity(person(1), answer(1, off=off)) == pytest.approx(10 / 17)
    assert tracking.similarity(person(1, joints=0), answer(1)) == 0


def test_a_pair_that_is_not_alike_enough_does_not_cost_one_that_is():
    off = (6.0, 0.0)
    assert 0.5 < oks_at(6.0) < 0.9
    assert len(tracking.match_frame((person(1),), [answer(1, off=off)], min_oks=0.5)) == 1
    assert tracking.match_frame((person(1),), [answer(1, off=off)], min_oks=0.9) == []
    assert tracking.match_frame((person(1),), []) == []
    assert tracking.match_frame((), [answer(1)]) == []


def test_mean_oks_counts_those_who_were_missed_only_where_it_says_so():
    both = (person(1), person(2))
    found = told((both, [answer(1, 1)]), (both, [answer(1, 1), answer(2, 2, off=(3.0, 0.0))]), ((person(2),), []))
    assert (found.frames, found.person_frames, found.matched, found.missed) == (3, 5, 3, 2)
    assert found.oks_matched == pytest.approx((2 + oks_at(3)) / 3)
    assert found.oks_all == pytest.approx((2 + oks_at(3)) / 5)
    assert told(((person(1),), [])).never_found == 1
    nothing = told(((), []))
    assert math.isnan(nothing.oks_matched)
    assert math.isnan(nothing.oks_all)
    assert math.isnan(nothing.idf1)


BOTH = (person(1), person(2))
STEADY = (BOTH, [answer(1, 1), answer(2, 2)])
SWAPPED = (BOTH, [answer(1, 2), answer(2, 1)])
ONE = ((person(1),), [answer(1, 1)])
OTHER = ((person(1),), [answer(1, 3)])
UNNAMED = ((person(1),), [answer(1)])
MISSED = ((person(1),), [])
COVERED = ((person(1, visible=False, occluded=True),), [])
GONE = ((), [])


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([STEADY, STEADY], {}),
        ([STEADY, SWAPPED, SWAPPED], {"switches": 2}),
        ([STEADY, SWAPPED, STEADY], {"switches": 4}),
        ([ONE, MISSED, ONE], {"fragmentations": 1}),
        ([ONE, MISSED, OTHER], {"fragmentations": 1, "switches": 1}),
        ([MISSED, ONE], {}),  # found late is not interrupted
        ([ONE, MISSED, GONE, ONE], {}),  # who left was not interrupted, either
        ([ONE, COVERED, ONE], {}),
        ([ONE, COVERED, OTHER], {"renamed_after_cover": 1}),
        ([ONE, COVERED, MISSED, OTHER, OTHER], {"renamed_after_cover": 1}),
        ([ONE, GONE, OTHER], {"renamed_after_leaving": 1}),
        ([ONE, COVERED, ONE, GONE, OTHER], {"renamed_after_leaving": 1}),
        ([UNNAMED, ONE, UNNAMED, ONE], {}),  # without a track nobody is mistaken
        ([ONE, GONE, OTHER, ONE], {"renamed_after_leaving": 1, "switches": 1}),
    ],
)
def test_identities(frames, expected):
    found = told(*frames)
    names = ("switches", "renamed_after_cover", "renamed_after_leaving", "fragmentations", "false_tracks")
    assert {name: getattr(found, name) for name in names if getattr(found, name)} == expected


def test_idf1_is_that_of_the_best_fixed_pairing():
    assert told(STEADY, STEADY).idf1 == 1
    assert told(STEADY, STEADY, STEADY, SWAPPED).idf1 == pytest.approx(6 / 8)
    assert told(ONE, MISSED).idf1 == pytest.approx(2 / 3)
    assert told(UNNAMED).idf1 == 0


def test_who_is_not_there_is_false_unless_too_little_of_a_person_is_in_sight():
    nobody = answer(3, 7)
    found = told(((person(1),), [answer(1, 1), nobody]), ((person(1),), [answer(1, 1), nobody]))
    assert (found.false_answers, found.false_tracks) == (2, 1)
    hidden = person(3, visible=False)
    found = told(((person(1), hidden), [answer(1, 1), nobody]))
    assert (found.false_answers, found.false_tracks, found.idf1) == (0, 0, 1)
    doubled = told(((person(1),), [answer(1, 1), answer(1, 2, off=(1.0, 0.0))]))
    assert (doubled.false_answers, doubled.false_tracks) == (1, 1)


def test_the_same_persons_and_frames_are_compared():
    tally = tracking.Tally()
    tally.add(truth(0, *BOTH), [answer(1, 1, off=(3.0, 0.0)), answer(2, 2)])
    ours, theirs, many = tracking.shared_oks(tally, {(0, 1): 0.9, (1, 1): 0.1})
    assert (ours, theirs, many) == (pytest.approx(oks_at(3)), 0.9, 1)
    assert tracking.shared_oks(tally, {})[2] == 0


def moved(offsets, *, count=17, tracks=None):
    """Paths of a person who stands still, answered beside where they are."""
    collected = paths.Paths()
    for index, offset in enumerate(offsets):
        if offset is None:
            collected.add(truth(index), [], [])
            continue
        answers = [answer(1, 1 if tracks is None else tracks[index], off=offset)]
        frame = truth(index, person(1, joints=count))
        collected.add(frame, answers, [tracking.Match(0, 0, 1.0)])
    return collected.all()


def test_paths_end_where_the_person_or_the_track_does():
    found = moved([(0, 0)] * 3 + [None] + [(0, 0)] * 4, tracks=[1, 1, 1, 0, 1, 1, 2, 2])
    assert [(path.first, len(path), path.track_id) for path in found] == [(0, 3, 1), (4, 2, 1), (6, 2, 2)]
    assert found[0].answered.shape == (3, 17, 2)


def test_jitter_is_the_deviation_of_white_noise_and_nothing_of_what_grows_evenly():
    steady = moved([(5.0 + index, -2.0 * index) for index in range(10)])
    assert paths.jitter(steady).px == pytest.approx(0, abs=1e-9)
    assert paths.jitter(moved([(1.0, 0.0), (-1.0, 0.0), (1.0, 0.0)])).px == pytest.approx(math.sqrt(16 / 2 / 6))
    noise = np.random.default_rng(0).normal(scale=1.5, size=(4000, 17, 2))
    found = paths.jitter(moved(list(noise)))
    assert found.px == pytest.approx(1.5, rel=0.02)
    assert found.typical_px == pytest.approx(1.5, rel=0.02)
    noise[::500] += 100
    jumpy = paths.jitter(moved(list(noise)))
    assert jumpy.px > 4
    assert jumpy.typical_px == pytest.approx(1.5, rel=0.02)
    assert found.relative == pytest.approx(1.5 / math.sqrt(AREA), rel=0.02)
    assert found.joints_px == pytest.approx(np.full(17, 1.5), rel=0.06)


def test_jitter_is_of_the_joints_that_count():
    offsets = [np.where(np.arange(17)[:, None] < 10, 0.0, 50.0 * (index % 2)) for index in range(5)]
    found = paths.jitter(moved(offsets, count=10))
    assert found.px == pytest.approx(0, abs=1e-9)
    assert np.isnan(found.joints_px).tolist() == [False] * 10 + [True] * 7
    assert math.isnan(paths.jitter(moved([(0, 0)] * 2)).px)


def path_at(times, *, fps=25):
    """A slow pan under a quicker shake, in pixels, at moments in frames."""
    seconds = np.asarray(times) / fps
    x = 120 * np.sin(2 * math.pi * 0.15 * seconds) + 3 * np.sin(2 * math.pi * 1.7 * seconds + 1)
    return np.column_stack((x, 40 * np.cos(2 * math.pi * 0.1 * seconds)))


@pytest.mark.parametrize("delay", [-1.3, 0.0, 0.25, 0.5, 2.0, 4.75])
@pytest.mark.parametrize("noise_px", [0.0, 2.0])
def test_lag_is_the_delay_to_a_fraction_of_a_frame(delay, noise_px):
    rng = np.random.default_rng(0)
    times = np.arange(300.0)
    true = [path_at(times + start) for start in (0, 90, 500)]
    answered = [path_at(times + start - delay) for start in (0, 90, 500)]
    answered = [one + (7, -3) + noise_px * rng.normal(size=one.shape) for one in answered]
    assert paths.lag_frames(answered, true) == pytest.approx(delay, abs=0.15 if noise_px else 0.01)


def test_the_lag_of_an_exponential_filter_is_its_own():
    share = 0.4  # of the newest; slow motion is behind by (1 - share) / share frames
    true = path_at(np.arange(600.0))
    seen = true.copy()
    for index in range(1, len(seen)):
        seen[index] = share * true[index] + (1 - share) * seen[index - 1]
    assert paths.lag_frames([seen], [true]) == pytest.approx((1 - share) / share, abs=0.05)


def test_a_few_jumps_do_not_move_the_lag():
    rng = np.random.default_rng(1)
    times = np.arange(300.0)
    seen = path_at(times - 1.5) + rng.normal(size=(300, 2))
    seen[rng.random(300) < 0.05] += (400, -300)
    assert paths.lag_frames([seen], [path_at(times)]) == pytest.approx(1.5, abs=0.15)


def test_what_stands_still_or_is_short_has_no_lag():
    still = np.zeros((100, 2))
    assert math.isnan(paths.lag_frames([still], [still]))
    short = path_at(np.arange(20.0))
    assert math.isnan(paths.lag_frames([short], [short]))
    with pytest.raises(ValueError, match=r"shape \(20, 2\); allowed: \(100, 2\)"):
        paths.lag_frames([short], [path_at(np.arange(100.0))])


def test_runs_are_where_a_joint_counts_without_a_gap():
    collected = paths.Paths()
    for index in range(10):
        frame = truth(index, person(1, joints=17 if index != 4 else 16))
        collected.add(frame, [answer(1, 1)], [tracking.Match(0, 0, 1.0)])
    lengths = sorted(len(real) for _, real in paths.joint_runs(collected.all(), at_least=5))
    assert lengths == [5] + [10] * 16
