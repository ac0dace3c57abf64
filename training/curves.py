"""Line charts, mostly by epoch, drawn with Pillow: without a plotting library, and the same on every machine.

Knows nothing of runs. Everything is drawn at twice its size and then reduced, so that lines are smooth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model.crop import Pixels

Color = tuple[int, int, int]

PAPER, INK, FAINT, GRID = (255, 255, 255), (25, 25, 25), (105, 105, 105), (228, 228, 228)
# Colours that people who see fewer of them can still tell apart (Okabe and Ito 2008).
PALETTE: tuple[Color, ...] = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (230, 159, 0),
    (90, 90, 90),
)
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 18, 14, 13  # pixels
TICKS = 5  # about so many on an axis

_SCALE = 2
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 14, 58, 40  # pixels around the area of the lines


@dataclass(frozen=True)
class Line:
    """Named values by epoch; where a value is not finite there is none."""

    name: str
    epochs: Sequence[float]
    values: Sequence[float]
    color: Color = PALETTE[0]

    def points(self) -> list[tuple[float, float]]:
        """(epoch, value) where there is one."""
        return [(x, y) for x, y in zip(self.epochs, self.values, strict=True) if math.isfinite(y)]


@dataclass(frozen=True)
class Chart:
    """Lines over common axes.

    from_zero: the value axis begins at 0. epochs: how far the epoch axis goes at least. legend: the names of several
    lines are told. along: what the axis of epochs is called, if it is of something else.
    """

    title: str
    lines: Sequence[Line] = field(default_factory=tuple)
    from_zero: bool = False
    epochs: int = 1
    legend: bool = True
    along: str = "epoch"


def nice_ticks(low: float, high: float, count: int = TICKS) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten apart) that cover low .. high."""
    if not (math.isfinite(low) and math.isfinite(high)) or high < low:
        raise ValueError(f"low and high are {low} and {high}; allowed: finite, the lower first")
    if high == low:
        low, high = (low - abs(low) / 2, high + abs(high) / 2) if low else (0.0, 1.0)
    rough = (high - low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def draw_chart(chart: Chart, size_wh: tuple[int, int]) -> Pixels:
    """[H, W, 3] uint8 RGB. A chart without a value says so."""
    canvas = Image.new("RGB", (size_wh[0] * _SCALE, size_wh[1] * _SCALE), PAPER)
    pen = ImageDraw.Draw(canvas)
    _text(pen, (_LEFT, 6), chart.title, INK, TITLE_SIZE)
    points = [point for line in chart.lines for point in line.points()]
    if points:
        _draw_lines(pen, chart, points, size_wh)
    else:
        _text(pen, (size_wh[0] / 2, size_wh[1] / 2), "nothing yet", FAINT, TEXT_SIZE, anchor="mm")
    return np.asarray(canvas.resize(size_wh, Image.Resampling.BOX))


def _draw_lines(
    pen: ImageDraw.ImageDraw, chart: Chart, points: Sequence[tuple[float, float]], size_wh: tuple[int, int]
) -> None:
    values = [value for _, value in points]
    ticks = nice_ticks(min([0.0, *values] if chart.from_zero else values), max(values))
    last_epoch = max(chart.epochs, *(math.ceil(epoch) for epoch, _ in points))
    first_epoch = min(1, *(math.floor(epoch) for epoch, _ in points))
    left, right, top, bottom = _LEFT, size_wh[0] - _RIGHT, _TOP, size_wh[1] - _BOTTOM

    def place(epoch: float, value: float) -> tuple[float, float]:
        x = (epoch - first_epoch) / max(last_epoch - first_epoch, 1)
        y = (value - ticks[0]) / (ticks[-1] - ticks[0])
        return left + x * (right - left), bottom - y * (bottom - top)

    for tick, text in zip(ticks, tick_texts(ticks), strict=True):
        y = place(first_epoch, tick)[1]
        _line(pen, [(left, y), (right, y)], GRID, 1)
        _text(pen, (left - 7, y), text, FAINT, SMALL_SIZE, anchor="rm")
    for epoch in _epoch_ticks(first_epoch, last_epoch):
        x = place(epoch, ticks[0])[0]
        _line(pen, [(x, bottom), (x, bottom + 4)], FAINT, 1)
        _text(pen, (x, bottom + 7), str(epoch), FAINT, SMALL_SIZE, anchor="ma")
    _line(pen, [(left, bottom), (right, bottom)], FAINT, 1)
    _text(pen, ((left + right) / 2, bottom + 22), chart.along, FAINT, SMALL_SIZE, anchor="ma")
    for line in chart.lines:
        placed = [place(*point) for point in line.points()]
        _line(pen, placed, line.color, 2)
        if placed:
            dots = placed if len(placed) <= 30 else placed[-1:]
            for dot in dots:
                _dot(pen, dot, line.color)
    if chart.legend and len(chart.lines) > 1:
        _draw_legend(pen, chart.lines, left)


def _draw_legend(pen: ImageDraw.ImageDraw, lines: Sequence[Line], left: float) -> None:
    """Names of the lines under the title, in their colours."""
    x = left
    for line in lines:
        _line(pen, [(x, 40), (x + 16, 40)], line.color, 3)
        _text(pen, (x + 21, 40), line.name, INK, SMALL_SIZE, anchor="lm")
        x += 21 + text_width(line.name, SMALL_SIZE) + 14


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """The ticks of an axis, all with as many decimals as tell them apart."""
    largest, step = max(abs(tick) for tick in ticks), ticks[1] - ticks[0]
    if 1e-3 <= largest < 1e5:
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        return [f"{tick:.{decimals}f}" for tick in ticks]
    digits = max(0, math.floor(math.log10(largest) + 1e-9) - math.floor(math.log10(step) + 1e-9))
    return ["0" if abs(tick) < step / 2 else f"{tick:.{digits}e}".replace("e-0", "e-") for tick in ticks]


def _epoch_ticks(first: int, last: int) -> list[int]:
    """Whole epochs, the first and the last among them."""
    ticks = {round(tick) for tick in nice_ticks(first, last, 6)} if last > first else set()
    step = (last - first) / 12
    inner = {tick for tick in ticks if first + step < tick < last - step}
    return sorted({first, last} | inner)


def text_width(text: str, size: int) -> float:
    """Pixels."""
    return font(size).getlength(text)


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Comes with Pillow."""
    return ImageFont.load_default(size)


def _text(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, color: Color, size: int, *, anchor: str = "la"
) -> None:
    pen.text((at[0] * _SCALE, at[1] * _SCALE), text, color, font(size * _SCALE), anchor=anchor)


def _line(pen: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], color: Color, width: int) -> None:
    if len(points) > 1:
        pen.line([(x * _SCALE, y * _SCALE) for x, y in points], color, width * _SCALE, joint="curve")


def _dot(pen: ImageDraw.ImageDraw, at: tuple[float, float], color: Color) -> None:
    radius = 3
    pen.ellipse([(value + side * radius) * _SCALE for side in (-1, 1) for value in at], color)
