"""What a view shows differently without moving anything: its colours, and a part that is covered.

The published recipe has neither. With few photographs both keep a network from learning these photographs by heart: a
joint must be found in any light, and from what is around it when it is hidden.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from model.crop import Pixels
from training.augment import Augmentation
from training.recolour import recolour
from training.views import jittered

COVER_SIDES = (0.15, 0.4)  # of the crop's sides, least and most


def disguised(pixels: Pixels, augmentation: Augmentation, rng: np.random.Generator) -> Pixels:
    """A view in other colours and partly covered, as strongly as `augmentation` says; joints stay where they are.

    Draws nothing for what is turned off.

    Args:
        pixels: [H, W, 3] uint8 RGB; left as it is.
    """
    reach = (augmentation.brightness, augmentation.contrast, augmentation.saturation)
    if any(reach):
        colours = torch.from_numpy(jittered(rng, *reach)[None])
        changed = recolour(torch.from_numpy(pixels)[None], colours)[0]
        pixels = changed.permute(1, 2, 0).mul(255.0).round().to(torch.uint8).numpy()
    if augmentation.grey and rng.random() < augmentation.grey:
        pixels = np.asarray(cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), dtype=np.uint8)
    if augmentation.cover and rng.random() < augmentation.cover:
        pixels = _covered(pixels, rng)
    return pixels


def _covered(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """One rectangle of one colour, wholly inside."""
    height, width = pixels.shape[:2]
    rows, columns = (max(1, round(side * rng.uniform(*COVER_SIDES))) for side in (height, width))
    top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
    covered = pixels.copy()
    covered[top : top + rows, left : left + columns] = rng.integers(256, size=3, dtype=np.uint8)
    return covered
