"""Training examples of the person finder: a random square window of a photograph, and the boxes of people in it.

Every random draw is a function of (seed, epoch, photograph), as for poses (`training.dataset`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from model.crop import Pixels, warp_crop
from model.geometry import Array, apply_affine
from training.coco import Person
from training.dataset import read_image
from training.views import jittered

MAX_PERSONS = 64  # in a window; of more the smallest are left out
MIN_SIDE = 4.0  # window pixels; smaller people cannot be seen

FinderExample = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class WindowAugmentation:
    """Strength of each augmentation. Raises ValueError, naming field and value.

    scale: the photograph's longer side as a multiple of the network's input, lowest and highest; drawn evenly in its
    logarithm. flip: probability. brightness, contrast, saturation: half-widths. seen: how much of a box must lie in the
    window for its person to count.
    """

    scale: tuple[float, float] = (0.6, 1.6)
    flip: float = 0.5
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    seen: float = 0.3

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0.0 < low <= high:
            raise ValueError(f"scale is {self.scale}; allowed: two factors above 0, the lower first")
        for name in ("flip", "brightness", "contrast", "saturation", "seen"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: 0..1")


@dataclass(frozen=True)
class PeoplePicture:
    """A photograph and the boxes [N, 4] (x, y, width, height, image pixels) of its annotated people."""

    path: Path
    boxes_xywh: Array


def by_photograph(persons: Sequence[Person]) -> list[PeoplePicture]:
    """The photographs that people are annotated in, in their order."""
    boxes: dict[Path, list[Array]] = defaultdict(list)
    for person in persons:
        boxes[person.image_path].append(person.box_xywh)
    return [PeoplePicture(path, np.stack(found)) for path, found in boxes.items()]


class Windows(Dataset[FinderExample]):
    """Random windows of photographs, indexed by (epoch, photograph).

    Of each photograph there are `views` windows; later epochs see them again, in turn.

    An example is pixels [S, S, 3] uint8 RGB; edges [MAX_PERSONS, 4] float32, left, top, right, bottom in window pixels,
    large persons first, rows of zeros where there are no more; colours, a row of `training.views.COLUMNS`.

    Args:
        window_side: S.
        input_side: of the network when it serves, which the scale refers to.
        views: None: a new one in every epoch.
        read: gives the photograph in a file, which it may remember.
    """

    def __init__(
        self,
        pictures: Sequence[PeoplePicture],
        *,
        window_side: int,
        input_side: int,
        augmentation: WindowAugmentation,
        seed: int,
        views: int | None = None,
        read: Callable[[Path], Pixels] = read_image,
    ) -> None:
        self.views = views
        self.pictures = pictures
        self.window_side = window_side
        self.input_side = input_side
        self.augmentation = augmentation
        self.seed = seed
        self.read = read

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: tuple[int, int]) -> FinderExample:
        number = index[1]
        picture = self.pictures[number]
        rng = np.random.default_rng((self.seed, self.view_of(index[0]), number + 1))  # + 1: not the stream of the order
        image = self.read(picture.path)
        image_to_window = self._draw(rng, image.shape[0], image.shape[1])
        pixels = warp_crop(image, image_to_window, (self.window_side, self.window_side))
        edges = boxes_in_window(picture.boxes_xywh, image_to_window, self.window_side, seen=self.augmentation.seen)
        padded = np.zeros((MAX_PERSONS, 4), dtype=np.float32)
        padded[: len(edges)] = edges
        strength = self.augmentation
        colours = jittered(rng, strength.brightness, strength.contrast, strength.saturation)
        return torch.from_numpy(pixels), torch.from_numpy(padded), torch.from_numpy(colours)

    def view_of(self, epoch: int) -> int:
        """Which window an epoch sees."""
        return epoch if self.views is None else epoch % self.views

    def _draw(self, rng: np.random.Generator, height: int, width: int) -> Array:
        """A map image -> window [2, 3]: some scale, some place, mirrored or not."""
        low, high = np.log(self.augmentation.scale)
        scale = float(np.exp(rng.uniform(low, high))) * self.input_side / max(height, width)
        offsets = []
        for length in (width, height):
            # Where the picture is larger than the window it fills it, and otherwise it lies wholly inside.
            free = self.window_side - scale * length
            offsets.append(rng.uniform(min(free, 0.0), max(free, 0.0)))
        # Edges, not centres of pixels, lie at `scale * x + offset`.
        shift = np.array(offsets) + 0.5 * scale - 0.5
        affine = np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])
        if rng.random() < self.augmentation.flip:
            affine[0] *= -1.0
            affine[0, 2] += self.window_side - 1
        return affine


def boxes_in_window(boxes_xywh: Array, image_to_window: Array, side: int, *, seen: float) -> Array:
    """Boxes [N, 4] in the image -> edges [M, 4] of those that count in the window, cut to it, large ones first."""
    corners = np.stack((boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]), axis=1)  # [N, 2, 2], edges
    mapped = np.sort(apply_affine(image_to_window, corners - 0.5) + 0.5, axis=1).reshape(-1, 4)
    cut = mapped.clip(0, side)
    sizes, sizes_cut = mapped[:, 2:] - mapped[:, :2], cut[:, 2:] - cut[:, :2]
    areas = sizes_cut.prod(axis=1)
    counts = (sizes_cut.min(axis=1) >= MIN_SIDE) & (areas >= seen * sizes.prod(axis=1))
    order = np.argsort(-areas[counts], kind="stable")[:MAX_PERSONS]
    return np.asarray(cut[counts][order])
