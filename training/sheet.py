"""Texts and pictures below each other on white paper, and tiles in a grid: what summaries and samples are made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from model.crop import Pixels
from training.curves import FAINT, INK, PAPER, SMALL_SIZE, Color, font, text_width

GAP = 6  # pixels between tiles
LINE_STEP = 1.45  # from line to line, as a multiple of the size of the letters


def text_block(text: str, width: int, size: int, color: Color = INK) -> Pixels:
    """[H, width, 3] uint8 RGB: lines of text, broken between words where they would not fit."""
    lines = [line for paragraph in text.split("\n") for line in _broken(paragraph, width, size)]
    step = round(size * LINE_STEP)
    sheet = Image.new("RGB", (width, step * len(lines)), PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        pen.text((0, number * step + (step - size) // 2), line, color, font(size))
    return np.asarray(sheet)


def _broken(paragraph: str, width: int, size: int) -> list[str]:
    lines = [""]
    for word in paragraph.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and text_width(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def grid(
    rows: Sequence[Sequence[Pixels]], row_titles: Sequence[str], captions: Sequence[str], *, left: int = 0
) -> Pixels:
    """Tiles of one size, [h, w, 3] uint8 RGB each, in rows with titles on their left and captions below the columns.

    `left`: pixels for the titles, at least; they get what they need.
    """
    height, width = rows[0][0].shape[:2]
    left = max(left, *(round(text_width(title, SMALL_SIZE)) + 2 * GAP for title in row_titles))
    columns = max(len(row) for row in rows)
    below = round(SMALL_SIZE * LINE_STEP) if any(captions) else 0
    size = left + columns * (width + GAP), len(rows) * (height + GAP) + below
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        top = number * (height + GAP)
        pen.text((0, top + height / 2), row_titles[number], INK, font(SMALL_SIZE), anchor="lm")
        for column, tile in enumerate(row):
            sheet.paste(Image.fromarray(tile), (left + column * (width + GAP), top))
    for column, caption in enumerate(captions):
        middle = left + column * (width + GAP) + width / 2
        pen.text((middle, len(rows) * (height + GAP)), caption, FAINT, font(SMALL_SIZE), anchor="ma")
    return np.asarray(sheet)


def stack(parts: Sequence[Pixels], *, gap: int, margin: int) -> Pixels:
    """Pictures [h, w, 3] below each other, flush left, with white around them."""
    width = max(part.shape[1] for part in parts) + 2 * margin
    height = sum(part.shape[0] for part in parts) + gap * (len(parts) - 1) + 2 * margin
    sheet = np.full((height, width, 3), 255, dtype=np.uint8)
    top = margin
    for part in parts:
        sheet[top : top + part.shape[0], margin : margin + part.shape[1]] = part
        top += part.shape[0] + gap
    return sheet
