"""Does attention find the body, and does it find the joint? What the paper shows in pictures (section 4.3), as numbers.

For each labelled joint of each person, and the attention map of the place where it was predicted:

- the share of the map's weight inside the person's box. A token weighs as much as the part of its area in the box;
- the distance from the map's peak, which is the centre of the token with the largest weight, to the predicted joint.

Both mean little alone: most of a crop is box, and a joint is never far from the middle. So there are two references:
`uniform`, for which every token weighs the same and the peak is any token (the expected distance), and `center`, for
which the peak is always the centre of the crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from model.estimator import ExplainedKeypoints, PersonCrop, PoseEstimator
from model.geometry import Array, affine_scale, apply_affine
from model.levels import LEVELS, Level, Mode
from model.skeleton import Skeleton
from model.variants import TOKEN_STRIDE, PoseConfig
from training.coco import Person
from training.predict import crop_each

# The share, and the distance in three units: pixels of the crop, of the photograph, and heights of the crop (which
# compare networks of different input sizes).
MEASURES = ("box_share", "peak_crop_px", "peak_image_px", "peak_crop_heights")


class Tally:
    """Means of `MEASURES` for every layer, head and keypoint; and medians for the mean of the heads.

    Keeps sums, and of each joint only what medians need: `layers` x 16 bytes.

    Args:
        layers: of the level.
        heads: of each layer; their mean is one more map.
        skeleton: which keypoints they are of.
    """

    def __init__(self, layers: int, heads: int, skeleton: Skeleton) -> None:
        self.layers, self.heads = layers, heads
        self._names = skeleton.names
        self._sums = np.zeros((layers, heads + 1, len(skeleton), len(MEASURES)))
        self._counts = np.zeros(len(skeleton))
        self._of_joints: list[npt.NDArray[np.float32]] = []  # each [layers, K, measures]

    def add(self, values: Array, keypoints: npt.NDArray[np.int64]) -> None:
        """values: [layers, heads + 1, K, measures] of one person, the mean of heads last; keypoints: [K] indices."""
        self._sums[:, :, keypoints] += values
        self._counts[keypoints] += 1
        self._of_joints.append(values[:, -1].astype(np.float32))

    def means(self, layer: int, head: int = -1) -> dict[str, float | None]:
        """Over all persons and labelled joints, each joint counting once. Head -1: the mean of the heads."""
        return _named(self._sums[layer, head].sum(axis=0) / self._counts.sum())

    def medians(self, layer: int) -> dict[str, float | None]:
        """As `means`, for the mean of the heads."""
        return _named(np.median(np.concatenate([values[layer] for values in self._of_joints]), axis=0))

    def by_keypoint(self, layer: int) -> dict[str, dict[str, float | None]]:
        """Means for each keypoint that is labelled anywhere, for the mean of the heads."""
        return {
            name: _named(self._sums[layer, -1, keypoint] / self._counts[keypoint])
            for keypoint, name in enumerate(self._names)
            if self._counts[keypoint]
        }

    def to_json(self) -> dict[str, Any]:
        """All figures: the layer that is shown is the last, the map the mean of the heads."""
        last = self.layers - 1
        return {
            "layer": last,
            "head": "mean",
            "mean": self.means(last),
            "median": self.medians(last),
            "mean_by_keypoint": self.by_keypoint(last),
            "layers": [
                {
                    "mean": self.means(layer),
                    "median": self.medians(layer),
                    "heads": [self.means(layer, head) for head in range(self.heads)],
                }
                for layer in range(self.layers)
            ],
        }


@dataclass(frozen=True)
class Measured:
    """The figures of one network over one set of persons."""

    levels: dict[Level, Tally]
    uniform: Tally
    center: Tally


def measure(
    estimator: PoseEstimator, persons: Sequence[Person], *, mode: Mode, progress: bool = True, name: str = "attention"
) -> Measured:
    """Look at every person in its annotated box, one after the other: memory holds one photograph and one person.

    Args:
        estimator: of the network.
        persons: at least one; those of one photograph should follow each other.
        mode: row or column of the attention.
        progress: show a bar.
        name: of the bar.

    Raises AnnotationError for a photograph that cannot be read.
    """
    config = estimator.config
    levels: dict[Level, Tally] = {
        level: Tally(config.attention_layers(level), config.attention_heads(level), config.skeleton) for level in LEVELS
    }
    measured = Measured(levels, uniform=Tally(1, 0, config.skeleton), center=Tally(1, 0, config.skeleton))
    bar = tqdm(persons, desc=name, unit="person", disable=not progress, dynamic_ncols=True)
    for person, crop in crop_each(bar, config):
        (found,) = estimator.explain([crop.pixels])
        _add_person(measured, person, crop, found, config, mode)
    return measured


def _add_person(
    measured: Measured, person: Person, crop: PersonCrop, found: ExplainedKeypoints, config: PoseConfig, mode: Mode
) -> None:
    joints = np.flatnonzero(person.labelled)
    points = found.points[joints]  # [K, 2]
    inside = tokens_inside(person.box_xywh, crop.image_to_crop, config.tokens_hw)
    units = 1.0, 1 / affine_scale(crop.image_to_crop), 1 / config.input_hw[0]  # of a distance in crop pixels
    for level, tally in measured.levels.items():
        attention = found.attention[level]
        heads = (attention.dependency if mode == "dependency" else attention.affect)[:, :, joints]
        maps = np.concatenate((heads, heads.mean(axis=1, keepdims=True)), axis=1)  # [layers, heads + 1, K, H, W]
        tally.add(_with_units(box_shares(maps, inside), peak_distances(maps, points), units), joints)
    uniform = _token_distances(points, config.tokens_hw).mean(axis=(-2, -1))
    measured.uniform.add(_with_units(np.full(len(joints), inside.mean()), uniform, units)[None, None], joints)
    middle = np.array([config.input_hw[1] - 1, config.input_hw[0] - 1]) / 2
    center = np.linalg.norm(points - middle, axis=-1)
    # A single point has no share of its own to speak of: the centre of the crop is the centre of the box.
    measured.center.add(_with_units(np.full(len(joints), np.nan), center, units)[None, None], joints)


def tokens_inside(box_xywh: npt.ArrayLike, image_to_crop: Array, tokens_hw: tuple[int, int]) -> Array:
    """The part of each token's area that lies inside a box: [H, W], 0..1.

    Args:
        box_xywh: [4] in image pixels; it covers x - 0.5 to x + width - 0.5.
        image_to_crop: [2, 3], upright: without rotation.
        tokens_hw: (H, W).
    """
    x, y, width, height = np.asarray(box_xywh, dtype=np.float64)
    edges = np.array([[x - 0.5, y - 0.5], [x + width - 0.5, y + height - 0.5]])
    (left, top), (right, bottom) = (apply_affine(image_to_crop, edges) + 0.5) / TOKEN_STRIDE  # in tokens
    return np.outer(_overlap(top, bottom, tokens_hw[0]), _overlap(left, right, tokens_hw[1]))


def box_shares(maps: npt.NDArray[np.floating[Any]], inside: Array) -> Array:
    """Share of the weight of maps [..., H, W] inside a box, [...]; 0 for a map without weight. `inside`: [H, W]."""
    weights = maps.astype(np.float64)
    total = weights.sum(axis=(-2, -1))
    return np.asarray((weights * inside).sum(axis=(-2, -1)) / np.where(total > 0, total, 1.0))


def peak_distances(maps: npt.NDArray[np.floating[Any]], points_crop: Array) -> Array:
    """From the centre of the heaviest token of maps [..., K, H, W] to points [K, 2]: [..., K] in crop pixels."""
    height, width = maps.shape[-2:]
    rows, columns = np.unravel_index(maps.reshape(*maps.shape[:-2], -1).argmax(axis=-1), (height, width))
    peaks = np.stack((columns, rows), axis=-1) * TOKEN_STRIDE + (TOKEN_STRIDE - 1) / 2
    return np.asarray(np.linalg.norm(peaks - points_crop, axis=-1))


def _token_distances(points_crop: Array, tokens_hw: tuple[int, int]) -> Array:
    """From the centre of every token to each point [K, 2]: [K, H, W] in crop pixels."""
    rows, columns = (np.arange(count) * TOKEN_STRIDE + (TOKEN_STRIDE - 1) / 2 for count in tokens_hw)
    down = rows[:, None] - points_crop[:, 1, None, None]  # [K, H, 1]
    across = columns - points_crop[:, 0, None, None]  # [K, 1, W]
    return np.asarray(np.hypot(down, across))


def _overlap(first: float, last: float, count: int) -> Array:
    """The part of each unit interval 0..1, 1..2, ... that lies between `first` and `last`: [count]."""
    starts = np.arange(count, dtype=np.float64)
    return np.clip(np.minimum(starts + 1, last) - np.maximum(starts, first), 0.0, 1.0)


def _with_units(shares: Array, distances: Array, units: Sequence[float]) -> Array:
    """[...] and [...] -> [..., measures]."""
    return np.stack((shares, *(distances * unit for unit in units)), axis=-1)


def _named(values: Array) -> dict[str, float | None]:
    return {
        name: None if np.isnan(value) else float(value) for name, value in zip(MEASURES, values.tolist(), strict=True)
    }
