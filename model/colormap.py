"""Attention as colour over a photograph. Pure functions over arrays; knows nothing of keypoints or files."""

from __future__ import annotations

from functools import cache

import cmap
import cv2
import numpy as np
import numpy.typing as npt

from model.crop import Pixels
from model.levels import COLORMAPS

OPACITY = 0.9  # of the largest value
ALPHA_EXPONENT = 0.7  # below 1 half of the largest value is more than half opaque
BACKGROUND_COLOR = 0.35  # how much of the photograph's colour stays, so that colour means attention
BACKGROUND_LIGHT = 0.75  # and of its brightness

Heat = npt.NDArray[np.float32]


def overlay(image: Pixels, attention: npt.ArrayLike, *, threshold: float = 0.0, colormap: str = COLORMAPS[0]) -> Pixels:
    """The photograph, paled, under its attention.

    Args:
        image: [h, w, 3] uint8 RGB.
        attention: [H, W], not negative, over the same area; its largest value gets the top of the colour map.
        threshold: values below this part of the largest are not shown, 0..1.
        colormap: one of `COLORMAPS`.

    Returns:
        [h, w, 3] uint8 RGB.

    Raises ValueError for a colour map that is not known.
    """
    # Largest only after stretching: pixels rarely lie on a token's centre, and the top colour would be missing.
    heat = relative(stretch(np.asarray(attention, dtype=np.float32), (image.shape[0], image.shape[1])))
    heat = np.where(heat >= threshold, heat, np.float32(0.0))
    pale = background(image)
    alpha = opacity(heat)[..., None]
    return _to_pixels(pale + alpha * (lookup(heat, colormap) - pale))


def relative(attention: npt.ArrayLike) -> Heat:
    """[H, W] as parts of its largest value, 0..1; all 0 if that is 0."""
    values = np.asarray(attention, dtype=np.float32)
    largest = float(values.max())
    return np.asarray(values / largest if largest > 0 else np.zeros_like(values), dtype=np.float32)


def stretch(heat: Heat, size_hw: tuple[int, int]) -> Heat:
    """[H, W] -> [h, w] of the same area, bilinearly: tokens are wide, and no detail is invented between them."""
    stretched = cv2.resize(heat, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(stretched, dtype=np.float32)


def opacity(heat: Heat) -> Heat:
    """How much of the photograph each value covers, 0..1: nothing where there is no attention."""
    return np.asarray(OPACITY * heat**ALPHA_EXPONENT, dtype=np.float32)


def background(image: Pixels) -> Heat:
    """The photograph as it is shown under attention: [h, w, 3] float32 in 0..255, pale and darker."""
    colors = image.astype(np.float32)
    grey = colors @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return np.asarray(BACKGROUND_LIGHT * (grey[..., None] + BACKGROUND_COLOR * (colors - grey[..., None])))


def lookup(heat: Heat, colormap: str) -> Heat:
    """[...] in 0..1 -> [..., 3] float32 RGB in 0..255. Raises ValueError for a colour map that is not known."""
    table = _table(colormap)
    return table[np.rint(np.clip(heat, 0.0, 1.0) * (len(table) - 1)).astype(np.intp)]


@cache
def _table(colormap: str) -> Heat:
    if colormap not in COLORMAPS:
        raise ValueError(f"colormap is {colormap!r}; allowed: {', '.join(COLORMAPS)}")
    return np.asarray(cmap.Colormap(colormap).lut(256)[:, :3] * 255.0, dtype=np.float32)


def _to_pixels(colors: npt.NDArray[np.float32]) -> Pixels:
    return np.asarray(np.clip(np.rint(colors), 0, 255), dtype=np.uint8)
