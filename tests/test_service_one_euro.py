import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.one_euro import OneEuroFilter, SmoothingSettings

SURE = np.ones(17)
SIZE = 150.0


class PaperFilter:
    """Algorithm 1 of the paper, for one number."""

    def __init__(self, min_cutoff: float, beta: float, d_cutoff: float) -> None:
        self.min_cutoff, self.beta, self.d_cutoff = min_cutoff, beta, d_cutoff
        self.value: float | None = None
        self.speed = 0.0

    def filter(self, value: float, rate: float) -> float:
        if self.value is None:
            self.value = value
        else:
            raw_speed = (value - self.value) * rate
            weight = self.alpha(rate, self.d_cutoff)
            self.speed = weight * raw_speed + (1 - weight) * self.speed
            weight = self.alpha(rate, self.min_cutoff + self.beta * abs(self.speed))
            self.value = weight * value + (1 - weight) * self.value
        return self.value

    @staticmethod
    def alpha(rate: float, cutoff: float) -> float:
        tau, step = 1 / (2 * math.pi * cutoff), 1 / rate
        return 1 / (1 + tau / step)


def test_along_one_axis_it_is_the_paper_s_filter():
    """Speeds are in person sizes there: beta in pixels is beta over the size."""
    chosen = SmoothingSettings(min_cutoff_hz=0.7, beta=4.0, derivative_cutoff_hz=1.3)
    ours, papers = OneEuroFilter(17, chosen), PaperFilter(0.7, 4.0 / SIZE, 1.3)
    rng = np.random.default_rng(0)
    now_s = 0.0
    for number in range(60):
        step_s = 0.01 + 0.05 * rng.random()
        now_s += step_s
        value = 100 * math.sin(number / 5) + rng.normal()
        points = np.zeros((17, 2))
        points[3, 1] = value
        found = ours.smooth(points, SURE, now_s, SIZE)
        assert found[3, 1] == pytest.approx(papers.filter(value, 1 / step_s))
        assert not np.delete(found, 3, axis=0).any()


def run(path, *, noise=0.0, frames=90, size=SIZE, scores=SURE, chosen=None):
    """Filtered [frames, 17, 2] and raw, of joints that all move along `path(time)`, in sizes."""
    one, rng = OneEuroFilter(17, chosen or SmoothingSettings()), np.random.default_rng(1)
    raw = [size * (path(n / 30) + rng.normal(scale=noise, size=(17, 2))) for n in range(frames)]
    return np.array([one.smooth(points, scores, n / 30, size) for n, points in enumerate(raw)]), np.array(raw)


def test_still_joints_tremble_less():
    smooth, raw = run(lambda _: np.zeros(2), noise=0.01)
    trembling = [np.abs(np.diff(one[30:], axis=0)).mean() for one in (smooth, raw)]
    assert trembling[0] < 0.3 * trembling[1]


def test_fast_joints_do_not_lag():
    smooth, raw = run(lambda time_s: np.array([2.0 * time_s, 0.0]))
    lag = np.abs(smooth[-1] - raw[-1]).max() / SIZE
    slow, _ = run(lambda time_s: np.array([2.0 * time_s, 0.0]), chosen=SmoothingSettings(beta=0.0))
    assert lag < 0.02 < 0.2 < np.abs(slow[-1] - raw[-1]).max() / SIZE


@pytest.mark.parametrize("size", [20.0, 2000.0])
def test_near_and_far_people_are_smoothed_alike(size):
    """The same motion, seen twice as large, is smoothed to the same, twice as large."""
    expected, _ = run(lambda time_s: np.array([math.sin(5 * time_s), time_s]), noise=0.01)
    found, _ = run(lambda time_s: np.array([math.sin(5 * time_s), time_s]), noise=0.01, size=size)
    np.testing.assert_allclose(found / size, expected / SIZE, atol=1e-9)


def test_a_turned_picture_is_smoothed_alike():
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    rng = np.random.default_rng(2)
    frames = rng.normal(scale=20, size=(30, 17, 2))
    upright, turned = OneEuroFilter(17, SmoothingSettings()), OneEuroFilter(17, SmoothingSettings())
    for number, points in enumerate(frames):
        expected = upright.smooth(points, SURE, number / 30, SIZE) @ turn.T
        np.testing.assert_allclose(turned.smooth(points @ turn.T, SURE, number / 30, SIZE), expected)


def test_a_guess_is_told_as_it_came_and_moves_nothing():
    one = OneEuroFilter(17, SmoothingSettings())
    one.smooth(np.zeros((17, 2)), SURE, 0.0, SIZE)
    scores = SURE.copy()
    scores[5] = 0.1
    wild = np.zeros((17, 2))
    wild[5] = 400.0
    assert one.smooth(wild, scores, 0.1, SIZE)[5].tolist() == [400.0, 400.0]
    assert one.smooth(np.zeros((17, 2)), SURE, 0.2, SIZE)[5].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("pause_s", "starts_anew"), [(0.4, False), (0.6, True)])
def test_after_a_pause_a_joint_starts_anew(pause_s, starts_anew):
    one = OneEuroFilter(17, SmoothingSettings(beta=0.0, reset_after_s=0.5))
    one.smooth(np.zeros((17, 2)), SURE, 0.0, SIZE)
    found = one.smooth(np.full((17, 2), 60.0), SURE, pause_s, SIZE)
    assert (found == 60.0).all() == starts_anew


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.floats(1e-4, 10), st.floats(-1e6, 1e6), st.floats(0, 1)),
        min_size=1,
        max_size=30,
    )
)
def test_whatever_comes_stays_within_what_came(frames):
    """A low-pass filter with a gain of at most 1 invents no place beyond those that were seen."""
    one, now_s, seen = OneEuroFilter(1, SmoothingSettings()), 0.0, []
    for step_s, value, score in frames:
        now_s += step_s
        seen.append(value)
        found = one.smooth(np.full((1, 2), value), np.array([score]), now_s, SIZE)
        slack = 1e-9 * max(map(abs, seen))
        assert min(seen) - slack <= found.min() <= found.max() <= max(seen) + slack


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("min_cutoff_hz", 0.0, "above 0"),
        ("min_cutoff_hz", math.nan, "above 0"),
        ("beta", -1.0, "at least 0"),
        ("derivative_cutoff_hz", math.inf, "above 0"),
        ("reset_after_s", -1.0, "above 0"),
        ("min_joint_score", 1.1, "0 to 1"),
    ],
)
def test_impossible_settings_are_refused_by_name(field, value, allowed):
    with pytest.raises(ValueError, match=f"{field} is {value!r}; allowed: {allowed}"):
        SmoothingSettings(**{field: value})
