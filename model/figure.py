"""A grid of pictures with titles and a colour bar, made to be printed. Knows nothing of what the pictures show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model.colormap import background, lookup, opacity
from model.crop import Pixels

PAPER, INK, FAINT = (255, 255, 255), (20, 20, 20), (90, 90, 90)
GAP = 8  # pixels between panels, and between texts that stand beside each other
MARGIN = 24
TITLE_SIZE, LABEL_SIZE, CAPTION_SIZE = 24, 17, 14  # pixels
LABEL_STEP = LABEL_SIZE + 6  # from line to line
ROW_TITLE_WIDTH = 132  # or as wide as the widest row title needs
BAR_WIDTH = 22
BAR_SPACE = BAR_WIDTH + 110  # with its labels
BAR_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
BAR_LABEL = "of each map's\nmaximum"


@dataclass(frozen=True)
class Panel:
    """One picture of a figure, [h, w, 3] uint8 RGB, and the line below it."""

    pixels: Pixels
    caption: str = ""


@dataclass(frozen=True)
class Layout:
    """Where the parts of a figure lie, in pixels of the sheet. Every panel lies at the top and in the middle of a cell.

    top, left: of the first cell. cell_hw: as large as the largest panel, and as wide as the widest title above or
    caption below. row_step, column_step: from cell to cell. sheet_hw: the whole figure.
    """

    top: int
    left: int
    cell_hw: tuple[int, int]
    row_step: int
    column_step: int
    bar_left: int
    bar_height: int
    sheet_hw: tuple[int, int]

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """x, y of a cell's top left pixel."""
        return self.left + column * self.column_step, self.top + row * self.row_step


def figure_layout(
    rows: Sequence[Sequence[Panel]], *, column_titles: Sequence[str], row_titles: Sequence[str], title: str = ""
) -> Layout:
    """The layout of `draw_figure`, which makes room for every text. Arguments as there."""
    panels = [panel for row in rows for panel in row]
    texts = _widest(column_titles, LABEL_SIZE), _widest((panel.caption for panel in panels), CAPTION_SIZE)
    height = max(panel.pixels.shape[0] for panel in panels)
    width = max(*texts, *(panel.pixels.shape[1] for panel in panels))
    under_title = MARGIN + (TITLE_SIZE + 20 if title else 0)
    top = under_title + _lines(column_titles) * (LABEL_SIZE + 3) + 8
    left = MARGIN + max(ROW_TITLE_WIDTH, _widest(row_titles, LABEL_SIZE) + 2 * GAP)
    row_step = max(height + CAPTION_SIZE + 8, _lines(row_titles) * LABEL_STEP) + GAP
    column_step = width + GAP
    bar_left = left + len(column_titles) * column_step + GAP
    bottom = top + len(rows) * row_step - GAP
    sheet_width = max(bar_left + BAR_SPACE, MARGIN + _widest([title], TITLE_SIZE)) + MARGIN
    return Layout(
        top=top,
        left=left,
        cell_hw=(height, width),
        row_step=row_step,
        column_step=column_step,
        bar_left=bar_left,
        bar_height=min(bottom - top - CAPTION_SIZE - 8, 2 * height),
        sheet_hw=(bottom + MARGIN, sheet_width),
    )


def draw_figure(
    rows: Sequence[Sequence[Panel]],
    *,
    column_titles: Sequence[str],
    row_titles: Sequence[str],
    colormap: str,
    title: str = "",
) -> Pixels:
    """Panels in a grid.

    Args:
        rows: of panels; a row may be shorter than the others, and a panel smaller.
        column_titles: above each column; a title may have two lines.
        row_titles: left of each row; a title may have several lines.
        colormap: of the colour bar on the right.
        title: above all.

    Returns:
        [H, W, 3] uint8 RGB.
    """
    layout = figure_layout(rows, column_titles=column_titles, row_titles=row_titles, title=title)
    sheet = Image.new("RGB", layout.sheet_hw[::-1], PAPER)
    pen = ImageDraw.Draw(sheet)
    if title:
        pen.text((MARGIN, MARGIN), title, INK, _font(TITLE_SIZE))
    for column, text in enumerate(column_titles):
        x, y = layout.corner(0, column)
        _draw_column_title(pen, (x + layout.cell_hw[1] / 2, y - 8), text)
    for number, row in enumerate(rows):
        y = layout.corner(number, 0)[1]
        middle = max(layout.cell_hw[0], _lines(row_titles) * LABEL_STEP) / 2  # of the panel; of the titles, if taller
        _draw_row_title(pen, (MARGIN, y + middle), row_titles[number])
        for column, panel in enumerate(row):
            _draw_panel(sheet, pen, layout.corner(number, column), layout.cell_hw[1], panel)
    _draw_bar(sheet, pen, (layout.bar_left, layout.top), layout.bar_height, colormap)
    return np.asarray(sheet)


def stack_figures(blocks: Sequence[Pixels]) -> Pixels:
    """Figures [h, w, 3], one above the other; narrower ones get paper at their right."""
    width = max(block.shape[1] for block in blocks)
    padded = [
        np.pad(block, ((0, 0), (0, width - block.shape[1]), (0, 0)), constant_values=PAPER[0]) for block in blocks
    ]
    return np.vstack(padded)


def _draw_column_title(pen: ImageDraw.ImageDraw, below: tuple[float, float], text: str) -> None:
    """Lines that end at `below`; the first one dark, the others faint."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        y = below[1] - (len(lines) - 1 - number) * (LABEL_SIZE + 3)
        pen.text((below[0], y), line, INK if number == 0 else FAINT, _font(LABEL_SIZE), anchor="ms")


def _draw_row_title(pen: ImageDraw.ImageDraw, middle_left: tuple[float, float], text: str) -> None:
    lines = text.split("\n")
    for number, line in enumerate(lines):
        y = middle_left[1] + (number - (len(lines) - 1) / 2) * LABEL_STEP
        pen.text((middle_left[0], y), line, INK, _font(LABEL_SIZE), anchor="lm")


def _draw_panel(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, corner: tuple[int, int], cell_width: int, panel: Panel
) -> None:
    height, width = panel.pixels.shape[:2]
    sheet.paste(Image.fromarray(panel.pixels), (corner[0] + (cell_width - width) // 2, corner[1]))
    caption = corner[0] + cell_width / 2, corner[1] + height + 4
    pen.text(caption, panel.caption, FAINT, _font(CAPTION_SIZE), anchor="ma")


def _draw_bar(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, corner: tuple[int, int], height: int, colormap: str
) -> None:
    """The colours as they look over a grey photograph, from the largest value at the top to nothing."""
    x, y = corner
    heat = np.linspace(1.0, 0.0, height, dtype=np.float32)[:, None].repeat(BAR_WIDTH, axis=1)
    pale = background(np.full((height, BAR_WIDTH, 3), 160, dtype=np.uint8))
    colors = pale + opacity(heat)[..., None] * (lookup(heat, colormap) - pale)
    sheet.paste(Image.fromarray(np.rint(colors).astype(np.uint8)), (x, y))
    for tick in BAR_TICKS:
        at = y + round((1 - tick) * (height - 1))
        pen.line([(x + BAR_WIDTH, at), (x + BAR_WIDTH + 5, at)], INK)
        pen.text((x + BAR_WIDTH + 9, at), f"{tick:g}", INK, _font(CAPTION_SIZE), anchor="lm")
    pen.multiline_text((x, y + height + 8), BAR_LABEL, FAINT, _font(CAPTION_SIZE), spacing=3)


def _lines(texts: Iterable[str]) -> int:
    return max(text.count("\n") + 1 for text in texts)


def _widest(texts: Iterable[str], size: int) -> int:
    """Pixels that the longest line of these texts takes, rounded up."""
    font = _font(size)
    return max(int(font.getlength(line)) + 1 for text in texts for line in text.split("\n"))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)  # comes with Pillow: the same on every machine
