"""What a view shows differently without moving anything: its colours, and a part that is covered.

The published recipe has neither. With few photographs both keep a network from learning these photographs by heart: a
joint must be found in any light, and from what is around it when it is hidden. Colours are only drawn here, a row of
numbers for each view; `training.recolour` applies them to a whole batch, on the device that trains.
"""

from __future__ import annotations

import numpy as np

from model.crop import Pixels
from training.augment import Augmentation
from training.views import COLUMNS, NEUTRAL, Colours, jittered

COVER_SIDES = (0.15, 0.4)  # of the crop's sides, least and most


def drawn_colours(augmentation: Augmentation, rng: np.random.Generator) -> Colours:
    """The colours of one view: a row of `training.views.COLUMNS`. Draws nothing for what is turned off."""
    reach = (augmentation.brightness, augmentation.contrast, augmentation.saturation)
    row = jittered(rng, *reach) if any(reach) else NEUTRAL.copy()
    if augmentation.grey and rng.random() < augmentation.grey:
        row[COLUMNS.index("grey")] = 1
    return row


def covered(pixels: Pixels, augmentation: Augmentation, rng: np.random.Generator) -> Pixels:
    """A view, perhaps with one rectangle of one colour wholly inside; joints stay where they are.

    Draws nothing if it is turned off.

    Args:
        pixels: [H, W, 3] uint8 RGB; left as it is.
    """
    if not (augmentation.cover and rng.random() < augmentation.cover):
        return pixels
    height, width = pixels.shape[:2]
    rows, columns = (max(1, round(side * rng.uniform(*COVER_SIDES))) for side in (height, width))
    top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
    changed = pixels.copy()
    changed[top : top + rows, left : left + columns] = rng.integers(256, size=3, dtype=np.uint8)
    return changed
