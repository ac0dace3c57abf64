"""Scenes with a known truth: who is followed, and how often somebody's identity changes."""

from __future__ import annotations

import numpy as np
import pytest

from crowds import IMAGE_HW, Scene, Walker, follow, line
from model.skeleton import COCO
from service.one_euro import SmoothingSettings
from service.tracking import Tracker
from service.tracking_values import TrackerSettings


def tracker(smoothing: SmoothingSettings | None = None, **changes: float) -> Tracker:
    return Tracker(COCO, TrackerSettings(**changes), smoothing)


def times(seconds: float, fps: float = 30.0, begin_s: float = 0.0) -> np.ndarray:
    return begin_s + np.arange(int(seconds * fps)) / fps


def crossing(relative_speed: float, *, noise: float, seed: int) -> Scene:
    """Two people meet in the middle after two seconds; the one who is farther away is hidden there."""
    half = relative_speed / 2
    near = Walker("near", line((320 - 2 * half, 240), (half, 0)), height=220, depth=0)
    far = Walker("far", line((320 + 2 * half, 235), (-half, 0)), height=200, depth=1)
    return Scene([near, far], noise=noise, rng=np.random.default_rng(seed))


def test_people_who_stand_and_walk_keep_their_ids():
    scene = Scene([Walker("left", line((150, 240), (0, 0))), Walker("right", line((300, 240), (60, 5)), height=150)])
    seen = follow(tracker(), scene, times(3))
    assert (seen.ids("left"), seen.ids("right")) in (([1], [2]), ([2], [1]))
    assert seen.frames_of("left") == seen.frames_of("right") == 90, "told from the first frame to the last"
    assert seen.repeated() == 0
    assert seen.detected == list(range(0, 90, 10)), "nothing is wrong: the detector looks at every tenth frame"


@pytest.mark.parametrize("fps", [10.0, 30.0])
@pytest.mark.parametrize("noise", [0.01, 0.03])
@pytest.mark.parametrize("relative_speed", [170.0, 300.0])
def test_two_people_cross_and_neither_becomes_the_other(relative_speed, noise, fps):
    scene = crossing(relative_speed, noise=noise, seed=int(relative_speed))
    when = times(4, fps)
    hidden_s = sum(len(scene.present(time_s)) < 2 for time_s in when) / fps
    assert 0.2 <= hidden_s <= 0.5, "the far one is hidden altogether"
    seen = follow(tracker(), scene, when)
    assert seen.switches() == 0
    assert {len(seen.ids("near")), len(seen.ids("far"))} == {1}
    assert seen.repeated() == 0, "while the far one is hidden nobody takes the near one for two"
    missing_s = sum(len(scene.present(t)) for t in when) / fps - sum(map(len, seen.told)) / fps
    assert missing_s <= 0.25, "and is told of again soon"


def test_who_is_hidden_for_longer_than_is_remembered_comes_back_as_somebody_else():
    scene = crossing(50.0, noise=0.01, seed=0)  # hidden for 1.4 s
    seen = follow(tracker(), scene, times(5))
    assert (len(seen.ids("near")), len(seen.ids("far")), seen.switches()) == (1, 2, 1)
    patient = follow(tracker(max_lost_s=3.0), crossing(50.0, noise=0.01, seed=0), times(5))
    assert patient.switches() == 0


def test_one_leaves_and_another_enters():
    """The second comes in where the first went out, and is not taken for the first."""
    leaves = Walker("leaves", line((500, 240), (120, 0)), end_s=2.0)
    enters = Walker("enters", line((960, 240), (-120, 0)), begin_s=3.0)
    leaving = tracker()
    seen = follow(leaving, Scene([leaves, enters]), times(6))
    assert seen.ids("leaves") == [1]
    assert seen.ids("enters") == [2]
    assert seen.repeated() == 0
    assert leaving.people == 1, "who left is forgotten"


def test_detections_that_fail_cost_nothing():
    """The detector finds nobody in the middle of the film; the network still does."""
    scene = Scene([Walker("one", line((200, 240), (60, 0)))])
    sighted = scene.detect

    def detect(time_s: float):
        found = sighted(time_s)
        return type(found)(found.boxes_xywh[:0], found.scores[:0]) if 0.3 < time_s < 2.5 else found

    scene.detect = detect
    seen = follow(tracker(), scene, times(3))
    assert seen.ids("one") == [1]
    assert seen.frames_of("one") == 90


@pytest.mark.parametrize("blind", [range(15, 18), range(15, 40)], ids=["for three frames", "for 0.8 s"])
def test_somebody_whom_the_network_misses_is_the_same_afterwards(blind):
    scene = Scene([Walker("one", line((200, 240), (60, 0))), Walker("two", line((450, 240), (0, 0)))])
    seen = follow(tracker(), scene, times(3), blind=blind)
    assert len(seen.ids("one")) == len(seen.ids("two")) == 1
    assert seen.switches() == 0
    assert all(not seen.told[number] for number in blind)
    assert all(len(frame) == 2 for frame in seen.told[max(blind) + 5 :])


def test_the_detector_is_asked_when_somebody_is_lost():
    scene = Scene([Walker("one", line((200, 240), (0, 0)))])
    seen = follow(tracker(), scene, times(2), blind=range(12, 30))
    asked = [number for number in seen.detected if number < 32]
    assert asked == [0, 10, 13, 16, 19, 22, 25, 28, 31]


@pytest.mark.parametrize(
    ("jump", "frame"),
    [((70.0, 20.0), 30), ((70.0, 20.0), 34), ((-60.0, -25.0), 31), ((-130.0, 0.0), 30)],
    ids=["as the detector looks", "before it looks", "just after it looked", "onto the places of others"],
)
def test_a_camera_that_jumps_takes_its_people_along(jump, frame):
    """Three people, so that it can be told from three others who came."""
    walkers = [
        Walker(name, line((x, 240), (0, 0)), height=h)
        for name, x, h in (("a", 180, 200), ("b", 330, 170), ("c", 450, 220))
    ]
    scene = Scene(walkers, shift=lambda time_s: jump if time_s > (frame - 0.5) / 30 else (0.0, 0.0))
    seen = follow(tracker(), scene, times(3))
    assert seen.switches() == 0
    assert {len(seen.ids(name)) for name in "abc"} == {1}
    assert all(len(told) == 3 for told in seen.told[frame + 5 :]), "within five frames"


def test_a_camera_that_trembles_changes_nobody():
    rng = np.random.default_rng(3)
    shifts = rng.normal(scale=6.0, size=(200, 2))
    scene = Scene(
        [Walker("one", line((200, 240), (0, 0))), Walker("two", line((400, 240), (-40, 0)))],
        shift=lambda time_s: tuple(shifts[round(time_s * 30)]),
    )
    seen = follow(tracker(), scene, times(3))
    assert seen.switches() == 0
    assert all(len(frame) == 2 for frame in seen.told)


def test_a_slow_stream_is_followed_too():
    """Two frames a second, as a slow machine gives of a live camera: people move by half their width."""
    scene = Scene([Walker("one", line((100, 240), (60, 0))), Walker("two", line((500, 240), (-60, 0)), depth=2)])
    seen = follow(tracker(), scene, times(3, fps=2.0))
    assert seen.switches() == 0
    assert seen.frames_of("one") == 6


def test_dropped_frames_change_nobody():
    rng = np.random.default_rng(5)
    scene = Scene(
        [Walker("one", line((100, 240), (70, 0))), Walker("two", line((500, 240), (-70, 0)), depth=2, height=170)]
    )
    kept = times(5)[rng.random(150) < 0.4]
    assert follow(tracker(), scene, kept).switches() == 0


def test_a_crowd_at_a_distance_keeps_its_ids():
    walkers = [
        Walker(str(n), line((40 + 62 * n, 150 + 30 * (n % 5)), (10.0 * (-1) ** n, 0)), height=90) for n in range(10)
    ]
    seen = follow(tracker(), Scene(walkers), times(2))
    assert seen.switches() == 0
    assert all(len(frame) == 10 for frame in seen.told)


def test_smoothing_changes_what_is_told_and_nothing_else():
    """Boxes come from poses as they were found: a smoothed pose lags behind who runs."""

    def scene() -> Scene:
        return Scene([Walker("runs", line((80, 240), (250, 0)))], noise=0.01, rng=np.random.default_rng(1))

    plain, smooth = follow(tracker(), scene(), times(2)), follow(tracker(SmoothingSettings()), scene(), times(2))
    assert plain.told == smooth.told
    for one, other in zip(plain.tracked, smooth.tracked, strict=True):
        assert one[0].box_xywh.tolist() == other[0].box_xywh.tolist()
    truth = [scene().walkers[0].points(time_s) for time_s in times(2)]
    errors = [
        [np.abs(f[0].points_image - t).mean() for f, t in zip(s.tracked, truth, strict=True)] for s in (plain, smooth)
    ]
    assert np.mean(errors[1]) < 2.0 * np.mean(errors[0]), "smoothed keypoints keep up"
    assert not np.allclose(plain.tracked[30][0].points_image, smooth.tracked[30][0].points_image)


def test_boxes_lie_in_the_picture():
    scene = Scene([Walker("edge", line((600, 240), (40, 60)))])
    following = tracker()
    for time_s in times(2):
        boxes = following.boxes(time_s, IMAGE_HW, scene.detect(time_s) if following.detection_due() else None)
        for x, y, width, height in boxes:
            assert x >= 0
            assert y >= 0
            assert width >= 4
            assert height >= 4
            assert x + width <= IMAGE_HW[1] + 1e-9
            assert y + height <= IMAGE_HW[0] + 1e-9
        following.update(time_s, [scene.estimate(time_s, box)[0] for box in boxes])
