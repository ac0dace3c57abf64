"""What exported person detectors say, and how to read it: each layout that is known, told apart by names and shapes.

    yolox    one output [B, A, 5 + classes]: of each of A places the box's centre and size, how likely something is
             there, and how likely which class. Places are the cells at strides 8, 16, 32 (and 64). Decoded in the
             graph, or not: then centres are in cells, and sizes are logarithms.
    nms      [B, N, 5]: left, top, right, bottom, score; duplicates removed in the graph. With [B, N] labels, or without
             for a network of one class. As mmdeploy exports RTMDet and YOLOX.
    rtmdet   for each stride scores [B, classes, h, w] before the sigmoid, and distances [B, 4, h, w] in pixels from a
             cell's first corner to the four sides. As RTMDet is without its post-processing.

People are class 0, as in COCO and in networks of people only. Boxes come as edges in input pixels.

Knows nothing of files, pictures or what runs a network.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from model.geometry import Array

Numbers = npt.NDArray[np.generic]
Found = list[tuple[Array, Array]]  # of each picture: edges [N, 4] and scores [N]

PERSON = 0
YOLOX_STRIDES = ((8, 16, 32), (8, 16, 32, 64))
MAX_EXPONENT = 12.0  # of a size; beyond it no picture is so large

ALLOWED = (
    "one output [B, A, 5 + classes] of YOLOX with A places at strides 8, 16, 32; "
    "or dets [B, N, 5], with labels [B, N] or without; "
    "or pairs of [B, classes, h, w] and [B, 4, h, w] of RTMDet"
)


class Layout(Protocol):
    """Reads what a network says. name: which layout it is."""

    @property
    def name(self) -> str: ...

    def read(self, outputs: Sequence[Numbers]) -> Found:
        """The people in each picture of a batch."""


class UnknownLayout(ValueError):
    """What a network says fits none of the layouts."""


@dataclass(frozen=True)
class Nms:
    """See `nms` of the module: which output has boxes, and which labels."""

    boxes: int
    labels: int | None
    name: str = "nms"

    def read(self, outputs: Sequence[Numbers]) -> Found:
        """As `Layout.read`."""
        found = []
        for number, one in enumerate(np.asarray(outputs[self.boxes], dtype=np.float64)):
            if self.labels is not None:
                one = one[np.asarray(outputs[self.labels])[number] == PERSON]
            found.append((one[:, :4], one[:, 4]))
        return found


class Yolox:
    """See `yolox` of the module.

    Args:
        input_hw: of the network.
        strides: of its places.
        decoded: whether the graph gives pixels.
    """

    name = "yolox"

    def __init__(self, input_hw: tuple[int, int], strides: Sequence[int], *, decoded: bool) -> None:
        self.decoded = decoded
        self._cells, self._strides = yolox_cells(input_hw, strides)

    def read(self, outputs: Sequence[Numbers]) -> Found:
        """As `Layout.read`."""
        said = np.asarray(outputs[0], dtype=np.float64)
        centres, sizes = said[..., :2], said[..., 2:4]
        if not self.decoded:
            centres = (centres + self._cells) * self._strides
            sizes = np.exp(sizes.clip(max=MAX_EXPONENT)) * self._strides
        scores = said[..., 4] * said[..., 5 + PERSON]
        edges = np.concatenate((centres - sizes / 2, centres + sizes / 2), axis=-1)
        return list(zip(edges, scores, strict=True))


def yolox_cells(input_hw: tuple[int, int], strides: Sequence[int]) -> tuple[Array, Array]:
    """Of each place its cell [A, 2], column and row, and its stride [A, 1]."""
    cells, sizes = [], []
    for stride in strides:
        rows, columns = np.mgrid[: input_hw[0] // stride, : input_hw[1] // stride]
        cells.append(np.stack((columns.ravel(), rows.ravel()), axis=1))
        sizes.append(np.full((rows.size, 1), stride))
    return np.concatenate(cells).astype(np.float64), np.concatenate(sizes).astype(np.float64)


@dataclass(frozen=True)
class Rtmdet:
    """See `rtmdet` of the module. levels: of each stride, which outputs are scores and distances, and the stride."""

    levels: tuple[tuple[int, int, int], ...]
    name: str = "rtmdet"

    def read(self, outputs: Sequence[Numbers]) -> Found:
        """As `Layout.read`."""
        pictures: list[list[tuple[Array, Array]]] = [[] for _ in range(len(outputs[0]))]
        for scores_at, distances_at, stride in self.levels:
            logits = np.asarray(outputs[scores_at], dtype=np.float64)[:, PERSON]
            distances = np.asarray(outputs[distances_at], dtype=np.float64)
            rows, columns = stride * np.mgrid[: logits.shape[1], : logits.shape[2]]
            for part, logit, (left, top, right, bottom) in zip(pictures, logits, distances, strict=True):
                edges = np.stack((columns - left, rows - top, columns + right, rows + bottom), axis=-1)
                part.append((edges.reshape(-1, 4), 1 / (1 + np.exp(-logit.clip(-50, 50)).ravel())))
        return [(np.concatenate([e for e, _ in part]), np.concatenate([s for _, s in part])) for part in pictures]


def recognise(names: Sequence[str], outputs: Sequence[Numbers], input_hw: tuple[int, int]) -> Layout:
    """The layout of a network, from what it said of a first picture.

    Args:
        names: of the outputs; only told when nothing fits.
        outputs: in the same order, of one picture.
        input_hw: of the network.

    Raises UnknownLayout, saying what was found and what is allowed.
    """
    for known in (_nms, _yolox, _rtmdet):
        layout = known(outputs, input_hw)
        if layout is not None:
            return layout
    said = ", ".join(f"{name} {list(output.shape)} {output.dtype}" for name, output in zip(names, outputs, strict=True))
    raise UnknownLayout(f"its outputs for an input of {input_hw[0]}x{input_hw[1]} are {said}; allowed: {ALLOWED}")


def _nms(outputs: Sequence[Numbers], _: tuple[int, int]) -> Layout | None:
    boxes = [number for number, output in enumerate(outputs) if output.ndim == 3 and output.shape[-1] == 5]
    if len(boxes) != 1 or len(outputs) > 2:
        return None
    labels = [number for number in range(len(outputs)) if number != boxes[0]]
    if any(outputs[number].shape != outputs[boxes[0]].shape[:2] for number in labels):
        return None
    return Nms(boxes[0], labels[0] if labels else None)


def _yolox(outputs: Sequence[Numbers], input_hw: tuple[int, int]) -> Layout | None:
    if len(outputs) != 1 or outputs[0].ndim != 3 or outputs[0].shape[-1] < 6:
        return None
    for strides in YOLOX_STRIDES:
        if any(side % stride for side in input_hw for stride in strides):
            continue
        cells, sizes = yolox_cells(input_hw, strides)
        if outputs[0].shape[1] == len(cells):
            return Yolox(input_hw, strides, decoded=_is_decoded(np.asarray(outputs[0], np.float64), cells, sizes))
    return None


def _is_decoded(said: Array, cells: Array, sizes: Array) -> bool:
    """Whether centres are pixels: then they lie near their own cells, and otherwise all near zero."""
    from_own_cell = np.abs(said[..., :2] / sizes - cells - 0.5)
    from_zero = np.abs(said[..., :2] - 0.5)
    return bool(np.median(from_own_cell) < np.median(from_zero))


def _rtmdet(outputs: Sequence[Numbers], input_hw: tuple[int, int]) -> Layout | None:
    by_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, output in enumerate(outputs):
        if output.ndim != 4:
            return None
        by_size[output.shape[2:]].append(number)
    levels = []
    for size, numbers in by_size.items():
        stride = input_hw[0] // max(size[0], 1)
        fits = len(numbers) == 2 and (stride * size[0], stride * size[1]) == input_hw
        # Scores come first, where both have four channels.
        distances = [number for number in numbers if outputs[number].shape[1] == 4]
        if not fits or not distances:
            return None
        (scores,) = (number for number in numbers if number != distances[-1])
        levels.append((scores, distances[-1], stride))
    return Rtmdet(tuple(levels)) if levels else None
