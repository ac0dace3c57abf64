"""A few persons, always the same ones: what is annotated, what the network says, and its heatmaps.

For a person to look at while a network learns; nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch

from model.crop import Pixels
from model.drawing import SHOWN_ABOVE, draw_poses
from model.estimator import PoseEstimator
from model.geometry import apply_affine
from model.skeleton import Skeleton
from model.variants import PoseConfig
from training.coco import Person
from training.predict import crop_each
from training.sheet import grid

SAMPLES = 6
WELL_LABELLED = 10  # joints; of other persons there is little to compare
TILE = 192  # pixels along the shorter side of a tile
HEAT = 0.75  # how much of the photograph the strongest heat covers


class Samples:
    """Chosen persons with their crops.

    Args:
        persons: of the validation set; of those with many labelled joints some are taken, spread over the set.
        config: of the network that will look at them.

    Raises AnnotationError for a photograph that cannot be read.
    """

    def __init__(self, persons: Sequence[Person], config: PoseConfig) -> None:
        self.persons = choose(persons)
        self._crops = [crop for _, crop in crop_each(self.persons, config)]

    def look(self, estimator: PoseEstimator) -> Pixels:
        """A sheet [H, W, 3] uint8 RGB: a column for each person; annotated, predicted, heatmaps.

        Joints below `SHOWN_ABOVE` are not drawn. Of the heatmaps of all joints the highest value is shown, from nothing
        at 0 to the strongest of this person, which the caption tells.
        """
        with torch.inference_mode():
            heatmaps = estimator.runtime.heatmaps(np.stack([crop.pixels for crop in self._crops])).float()
            found = estimator.decode(heatmaps)
            heat = heatmaps.amax(dim=1).clamp(min=0).cpu().numpy()
        skeleton = estimator.config.skeleton
        tiles: list[list[Pixels]] = [[], [], []]
        for number, (person, crop) in enumerate(zip(self.persons, self._crops, strict=True)):
            labelled = person.labelled.astype(np.float64)
            truth = np.column_stack((apply_affine(crop.image_to_crop, person.points_image), labelled))
            tiles[0].append(_tile(crop.pixels, truth, 0.0, skeleton))
            predicted = np.column_stack((found[number].points, found[number].scores))
            tiles[1].append(_tile(crop.pixels, predicted, SHOWN_ABOVE, skeleton))
            tiles[2].append(_heated(crop.pixels, heat[number]))
        captions = [f"strongest {one.max():.2f}" for one in heat]
        return grid(tiles, ["annotated", "predicted", "heatmaps"], captions)


def choose(persons: Sequence[Person], count: int = SAMPLES) -> list[Person]:
    """Up to `count` persons in the order of the set, of different photographs and with many joints where there are."""
    by_photograph: dict[int, Person] = {}
    for person in persons:
        if person.labelled.sum() >= WELL_LABELLED:
            by_photograph.setdefault(person.image_id, person)
    chosen = list(by_photograph.values())
    if len(chosen) < count:
        chosen = list(persons)
    numbers = np.linspace(0, len(chosen) - 1, min(count, len(chosen))).round().astype(int)
    return [chosen[number] for number in numbers]


def _tile(pixels: Pixels, pose: npt.NDArray[np.float64], shown_above: float, skeleton: Skeleton) -> Pixels:
    """A crop with a skeleton: drawn at twice the size and reduced, so that thin lines are smooth."""
    large = draw_poses(pixels, [pose], skeleton, shown_above=shown_above, min_side=2 * TILE)
    return _resized(large, pixels.shape[:2])


def _heated(pixels: Pixels, heat: npt.NDArray[np.float32]) -> Pixels:
    """A grey crop under its heat [h, w]."""
    grey = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    photograph = _resized(np.asarray(grey, dtype=np.uint8), pixels.shape[:2]).astype(np.float32)
    level = cv2.resize(heat / max(float(heat.max()), 1e-9), photograph.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    colors = cv2.applyColorMap(np.rint(255 * level).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    cover = HEAT * np.sqrt(level)[..., None]
    return np.asarray(np.rint(photograph + cover * (colors - photograph)), dtype=np.uint8)


def _resized(pixels: Pixels, crop_hw: tuple[int, ...]) -> Pixels:
    scale = TILE / min(crop_hw)
    size = round(crop_hw[1] * scale), round(crop_hw[0] * scale)
    how = cv2.INTER_AREA if pixels.shape[1] > size[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, size, interpolation=how), dtype=np.uint8)
