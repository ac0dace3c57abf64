"""The grid: panels where the layout says, and no text upon another."""

from __future__ import annotations

import numpy as np
import pytest

from model.figure import GAP, MARGIN, Panel, draw_figure, figure_layout

COLORS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (180, 180, 30), (30, 180, 180), (180, 30, 180)]
LONG = "a very long title of one column\nand its second line"


def panel(number, hw=(40, 30), caption=""):
    return Panel(np.full((*hw, 3), COLORS[number], dtype=np.uint8), caption)


def options_of(rows, columns, **changes):
    titles = {"column_titles": [f"column {n}" for n in range(columns)], "row_titles": [f"row {n}" for n in range(rows)]}
    return titles | changes


def ink(sheet):
    return (sheet != 255).any(axis=-1)


def test_panels_lie_where_the_layout_says():
    rows = [[panel(0), panel(1), panel(2)], [panel(3), panel(4), panel(5)]]
    options = options_of(2, 3, title="title")
    layout = figure_layout(rows, **options)
    sheet = draw_figure(rows, **options, colormap="inferno")
    assert sheet.shape == (*layout.sheet_hw, 3)
    assert sheet.dtype == np.uint8
    for row, panels in enumerate(rows):
        for column, one in enumerate(panels):
            x, y = layout.corner(row, column)
            left = x + (layout.cell_hw[1] - 30) // 2
            np.testing.assert_array_equal(sheet[y : y + 40, left : left + 30], one.pixels)
            color = one.pixels[0, 0]
            assert (sheet == color).all(axis=-1).sum() == 40 * 30, "the panel is cut, or drawn twice"


def test_a_row_may_be_shorter_and_a_panel_smaller():
    rows = [[panel(0), panel(1, (40, 60))], [panel(2, (20, 10))]]
    options = options_of(2, 2)
    layout = figure_layout(rows, **options)
    sheet = draw_figure(rows, **options, colormap="magma")
    assert layout.cell_hw[0] == 40
    assert layout.cell_hw[1] >= 60
    x, y = layout.corner(1, 0)
    left = x + (layout.cell_hw[1] - 10) // 2
    np.testing.assert_array_equal(sheet[y : y + 20, left : left + 10], rows[1][0].pixels)
    x, y = layout.corner(1, 1)
    assert not ink(sheet[y : y + 40, x : x + layout.cell_hw[1]]).any()


@pytest.mark.parametrize("title", [LONG, "short"])
@pytest.mark.parametrize("caption", ["", "a caption that is wider than its panel"])
def test_columns_do_not_run_into_each_other(title, caption):
    rows = [[panel(n, caption=caption) for n in range(3)]]
    options = options_of(1, 3, column_titles=[title] * 3)
    layout = figure_layout(rows, **options)
    sheet = draw_figure(rows, **options, colormap="inferno")
    for column in range(3):
        x, y = layout.corner(0, column)
        above, between = sheet[:y, x : x + layout.cell_hw[1]], sheet[:, x + layout.cell_hw[1] : x + layout.column_step]
        assert ink(above).any(), "no title"
        assert not ink(between).any()
        below = sheet[y + 40 : y + layout.row_step, x : x + layout.cell_hw[1]]
        assert ink(below).any() == bool(caption)


def test_column_titles_stay_clear_of_the_panels_and_of_the_title():
    rows = [[panel(0)]]
    plain = options_of(1, 1, column_titles=["one\ntwo"])
    titled = plain | {"title": "Title gy"}
    with_title, without = (figure_layout(rows, **options) for options in (titled, plain))
    sheet = draw_figure(rows, **titled, colormap="inferno")
    x, y = with_title.corner(0, 0)
    assert y > without.corner(0, 0)[1]
    inked = np.flatnonzero(ink(sheet[:y, x : x + with_title.cell_hw[1]]).any(axis=1))
    assert inked.max() < y - 1
    title_rows = np.flatnonzero(ink(sheet[:y, :x]).any(axis=1))
    assert title_rows.max() < inked.min()
    assert not ink(draw_figure(rows, **plain, colormap="inferno")[: MARGIN - 4]).any(), "both lines are below the edge"


@pytest.mark.parametrize("lines", [1, 4, 9])
def test_row_titles_have_room(lines):
    rows = [[panel(0)], [panel(1)], [panel(2)]]
    text = "\n".join(["a row title that is long, with a descender: gypq"] * lines)
    options = options_of(3, 1, row_titles=[text] * 3)
    layout = figure_layout(rows, **options)
    sheet = draw_figure(rows, **options, colormap="inferno")
    beside = ink(sheet[:, : layout.left])
    assert not beside[:, : MARGIN - 2].any()
    assert not beside[:, layout.left - GAP :].any()
    # As many separate bands of ink as there are lines, with nothing between the rows.
    bands = np.diff(np.concatenate(([0], beside.any(axis=1).astype(int)))) == 1
    assert bands.sum() == 3 * lines


def test_the_sheet_is_wide_enough_for_its_title():
    rows = [[panel(0)]]
    title = "a title that says very much more than its only panel does, " * 2
    sheet = draw_figure(rows, **options_of(1, 1, title=title), colormap="inferno")
    assert not ink(sheet[:, -MARGIN + 4 :]).any()
    assert ink(sheet[:, : -MARGIN + 4]).any(axis=0).nonzero()[0].max() > sheet.shape[1] - 3 * MARGIN


@pytest.mark.parametrize("rows", [1, 5])
def test_the_colour_bar_and_its_words_are_on_the_sheet(rows):
    panels = [[panel(0, (192, 144))]] * rows
    options = options_of(rows, 1)
    layout = figure_layout(panels, **options)
    inferno, viridis = (draw_figure(panels, **options, colormap=name) for name in ("inferno", "viridis"))
    changed_rows, changed_columns = np.nonzero((inferno != viridis).any(axis=-1))
    assert (changed_columns.min(), changed_rows.min()) == (layout.bar_left, layout.top)
    assert changed_rows.max() < layout.top + layout.bar_height
    edge = ink(inferno)
    assert not edge[-2:].any()
    assert not edge[:, -2:].any()
    words = edge[layout.top + layout.bar_height :, layout.bar_left :]
    assert words.any(axis=1).sum() > 20, "two lines of words below the bar"


def test_drawing_twice_gives_the_same_bytes():
    rows = [[panel(0, caption="max 5 %"), panel(1)]]
    options = options_of(1, 2, title="t")
    first, second = (draw_figure(rows, **options, colormap="turbo") for _ in range(2))
    np.testing.assert_array_equal(first, second)
