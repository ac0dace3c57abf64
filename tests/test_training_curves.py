"""Line charts: ticks that a person would choose, and lines where the values are."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.curves import PALETTE, Chart, Line, draw_chart, nice_ticks, tick_texts

SIZE = (420, 300)


def where(picture, color):
    """Rows and columns of the pixels of a colour."""
    return np.nonzero((picture == np.array(color)).all(axis=-1))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.5, 1.0]),
        (0.0, 0.17, [0.0, 0.05, 0.1, 0.15, 0.2]),
        (0.0092, 0.0119, [0.009, 0.01, 0.011, 0.012]),
        (0.0, 0.0, [0.0, 0.5, 1.0]),
        (3.0, 3.0, [1.0, 2.0, 3.0, 4.0, 5.0]),
        (-2.0, 6.0, [-2.0, 0.0, 2.0, 4.0, 6.0]),
    ],
)
def test_ticks_are_round_numbers(low, high, expected):
    assert nice_ticks(low, high) == pytest.approx(expected)


@given(st.floats(-1e6, 1e6), st.floats(1e-9, 1e6))
def test_ticks_cover_the_values_and_are_told_apart(low, extent):
    ticks = nice_ticks(low, low + extent)
    assert ticks[0] <= low + 1e-6 * extent + 1e-9 * abs(low)
    assert ticks[-1] >= low + extent - 1e-6 * extent - 1e-9 * abs(low)
    assert 2 <= len(ticks) <= 12
    if extent > 1e-6 * abs(low):
        texts = tick_texts(ticks)
        assert len(set(texts)) == len(texts)
        step = ticks[1] - ticks[0]
        assert all(abs(float(text) - tick) < 0.51 * step for text, tick in zip(texts, ticks, strict=True))


@pytest.mark.parametrize("ends", [(1.0, 0.0), (0.0, math.nan), (-math.inf, 0.0)])
def test_ticks_of_nothing_sensible_are_refused(ends):
    with pytest.raises(ValueError, match="allowed: finite, the lower first"):
        nice_ticks(*ends)


def test_texts_of_small_and_large_ticks():
    assert tick_texts([0.0, 2e-5, 4e-5]) == ["0", "2e-5", "4e-5"]
    assert tick_texts([0.0, 0.05, 0.1]) == ["0.00", "0.05", "0.10"]
    assert tick_texts([0.0, 2e5, 4e5]) == ["0", "2e+05", "4e+05"]


def test_a_line_goes_where_its_values_go():
    rising = draw_chart(Chart("Rising", [Line("a", [1, 2, 3], [0.0, 0.5, 1.0])]), SIZE)
    assert rising.shape == (300, 420, 3)
    rows, columns = where(rising, PALETTE[0])
    assert np.corrcoef(rows, columns)[0, 1] < -0.99  # up is a smaller row
    rows, columns = where(draw_chart(Chart("Falling", [Line("a", [1, 2, 3], [1.0, 0.5, 0.0])]), SIZE), PALETTE[0])
    assert np.corrcoef(rows, columns)[0, 1] > 0.99


def test_the_axis_of_epochs_has_room_for_those_to_come():
    def reaches(epochs):
        return where(draw_chart(Chart("Some", [Line("a", [1, 2], [1.0, 2.0])], epochs=epochs), SIZE), PALETTE[0])[
            1
        ].max()

    assert reaches(2) > 400
    assert reaches(11) < 110


def test_from_zero_begins_at_zero():
    flat = [Line("a", [1, 2], [1.0, 1.01])]
    above = where(draw_chart(Chart("Some", flat), SIZE), PALETTE[0])[0]
    zero = where(draw_chart(Chart("Some", flat, from_zero=True), SIZE), PALETTE[0])[0]
    assert np.ptp(above) > 10 * np.ptp(zero)


def test_values_that_are_not_there_are_left_out():
    with_gap = Line("a", [1, 2, 3], [1.0, math.nan, 3.0])
    assert with_gap.points() == [(1, 1.0), (3, 3.0)]
    draw_chart(Chart("Some", [with_gap]), SIZE)


def test_one_value_is_a_dot_and_none_is_said():
    dot = where(draw_chart(Chart("One", [Line("a", [7], [0.3])]), SIZE), PALETTE[0])[0]
    assert 9 <= len(dot) < 60
    empty = [draw_chart(Chart("None", lines), SIZE) for lines in ([], [Line("a", [], [])])]
    assert np.array_equal(*empty)
    assert len(where(empty[0], PALETTE[0])[0]) == 0
    assert (empty[0][130:170] < 128).any()  # words in the middle


def test_the_lines_are_told_apart():
    lines = [
        Line(name, [1, 2], [1.0, value], color) for name, value, color in zip("ab", (2.0, 3.0), PALETTE, strict=False)
    ]
    for legend in (True, False):
        picture = draw_chart(Chart("Some", lines, legend=legend), SIZE)
        for line in lines:
            assert (where(picture, line.color)[0] < 48).any() == legend  # under the title


def test_all_colours_differ():
    for one, other in itertools.combinations(PALETTE, 2):
        assert np.abs(np.subtract(one, other)).sum() > 60
