"""A contact sheet: what pre-training sees of some pictures, for a person to look at before days of training."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from model.checkpoint import write_atomically
from model.crop import Pixels
from training.dino_data import PictureViews
from training.png import encode_png
from training.recolour import recolour

GAP = 4  # pixels between two tiles
BACKGROUND = 255


def write_sheet(views: PictureViews, path: Path, *, rows: int = 12) -> None:
    """A PNG with a row for each of the first pictures: the picture, its global views, its local ones."""
    write_atomically(path, encode_png(contact_sheet(views, rows=rows)))


def contact_sheet(views: PictureViews, *, rows: int) -> Pixels:
    """[H, W, 3] uint8 RGB; the pictures are spread over the whole set, their views those of the first epoch."""
    numbers = np.linspace(0, len(views) - 1, min(rows, len(views))).astype(int)
    return np.concatenate([_row(views, int(number)) for number in numbers])


def _row(views: PictureViews, number: int) -> Pixels:
    seen, local, colours, _ = views[0, number]
    height = seen.shape[1]
    picture, _ = views.read(number, np.random.default_rng((views.seed, 0, number + 1)))  # the same draw of context
    scale = height / max(picture.shape[:2])
    size = max(round(picture.shape[1] * scale), 1), max(round(picture.shape[0] * scale), 1)
    tiles = [
        _padded(np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8), height, height)
    ]
    for pixels, of_views in ((seen, colours[: len(seen)]), (local, colours[len(seen) :])):
        if len(pixels):
            shown = (recolour(pixels, of_views) * 255).round().byte().permute(0, 2, 3, 1).numpy()
            tiles += [_padded(view, height, view.shape[1]) for view in shown]
    return np.concatenate(tiles, axis=1)


def _padded(tile: Pixels, height: int, width: int) -> Pixels:
    """A tile in the middle of its place, with a gap to the right and below."""
    place = np.full((height + GAP, width + GAP, 3), BACKGROUND, dtype=np.uint8)
    top, left = (height - tile.shape[0]) // 2, (width - tile.shape[1]) // 2
    place[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return place
