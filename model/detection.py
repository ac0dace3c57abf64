"""What a person detector is: upright pictures in, boxes of people out; and what every detector does around its network.

A detector looks at a picture of a fixed size. `letterbox` brings a photograph there, and knows the way back;
`choose` takes what a network says and leaves the boxes that are worth telling: likely enough, of the same person only
once, within the picture, not too many.

Boxes here are *edges* (left, top, right, bottom) while they are computed with, and x, y, width, height when they are
told. Edges lie between pixels, so a picture of width W is from 0 to W, and [0, 0, W, H] is all of it, as everywhere.

Knows nothing of networks, files or threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from model.crop import Pixels
from model.fields import require
from model.geometry import MIN_SIZE, Array


@dataclass(frozen=True)
class Detections:
    """The people in one picture.

    boxes_xywh: [N, 4], pixels of the upright picture, within it; the likeliest first. scores: [N] in 0..1.
    """

    boxes_xywh: Array
    scores: Array


class PersonDetector(Protocol):
    """Finds people. Used by one thread at a time.

    name: as settings call it, such as "embedded" or "onnx:yolox_s.onnx".
    """

    name: str

    def detect(self, images: Sequence[Pixels]) -> list[Detections]:
        """The people in each of these pictures, [H, W, 3] uint8 RGB upright, of any sizes."""


@dataclass(frozen=True, kw_only=True)
class DetectionLimits:
    """Which boxes are told.

    min_score: less likely ones are not. max_overlap: intersection over union above which the weaker of two boxes is
    taken for the same person. most_persons: in a picture.

    Raises ValueError, naming field and value.
    """

    min_score: float = 0.3
    max_overlap: float = 0.6
    most_persons: int = 100

    def __post_init__(self) -> None:
        for name in ("min_score", "max_overlap"):
            require(0.0 <= getattr(self, name) <= 1.0, name, getattr(self, name), "0..1")
        require(self.most_persons >= 1, "most_persons", self.most_persons, "at least 1")


@dataclass(frozen=True)
class Letterboxed:
    """A photograph as a network sees it, and the way back.

    pixels: [rows, columns, 3] uint8 RGB. image_hw: of the photograph. scale: input pixels per image pixel, in x and y
    (they differ by rounding). offset: where the photograph's left and top edges are in the input.
    """

    pixels: Pixels
    image_hw: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[int, int]

    def edges_in_image(self, edges: npt.ArrayLike) -> Array:
        """[N, 4] edges in the input -> in the photograph; they may reach beyond it."""
        found = np.asarray(edges, dtype=np.float64).reshape(-1, 4)
        return (found - np.tile(self.offset, 2)) / np.tile(self.scale, 2)

    def edges_in_input(self, edges: npt.ArrayLike) -> Array:
        """The inverse of `edges_in_image`."""
        found = np.asarray(edges, dtype=np.float64).reshape(-1, 4)
        return found * np.tile(self.scale, 2) + np.tile(self.offset, 2)


def letterbox(image: Pixels, input_hw: tuple[int, int], *, fill: int, centred: bool) -> Letterboxed:
    """The largest picture of the same proportions that fits into the input, and nothing beside it.

    Args:
        image: [H, W, 3] uint8 RGB, upright, at least one pixel.
        input_hw: rows and columns of the input.
        fill: the grey of what is beside the picture, 0..255.
        centred: the picture lies in the middle; otherwise at the top left.
    """
    height, width = image.shape[:2]
    rows, columns = input_hw
    ratio = min(rows / height, columns / width)
    size = max(round(width * ratio), 1), max(round(height * ratio), 1)
    # Averaging where pixels become fewer, or a large photograph aliases.
    how = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
    resized = image if size == (width, height) else cv2.resize(image, size, interpolation=how)
    offset = ((columns - size[0]) // 2, (rows - size[1]) // 2) if centred else (0, 0)
    pixels = np.full((rows, columns, 3), fill, dtype=np.uint8)
    pixels[offset[1] : offset[1] + size[1], offset[0] : offset[0] + size[0]] = resized
    return Letterboxed(pixels, (height, width), (size[0] / width, size[1] / height), offset)


def choose(edges_input: Array, scores: Array, picture: Letterboxed, limits: DetectionLimits) -> Detections:
    """The boxes that are told, of all that a network found in one picture.

    Args:
        edges_input: [N, 4] in pixels of the network's input. scores: [N]. What is not finite is left out.
        picture: as the network saw it.
        limits: see there.
    """
    edges = picture.edges_in_image(edges_input)
    scores = np.asarray(scores, dtype=np.float64).reshape(-1)
    height, width = picture.image_hw
    likely = np.isfinite(edges).all(axis=1) & (scores >= limits.min_score)
    edges = edges[likely].clip(0, [width, height, width, height])
    scores = scores[likely].clip(0, 1)
    boxes = np.column_stack((edges[:, :2], edges[:, 2:] - edges[:, :2]))
    seen = (boxes[:, 2:] >= MIN_SIZE).all(axis=1)
    boxes, scores = boxes[seen], scores[seen]
    kept = suppress(boxes, scores, max_overlap=limits.max_overlap)[: limits.most_persons]
    return Detections(boxes[kept], scores[kept])


def suppress(boxes_xywh: Array, scores: Array, *, max_overlap: float) -> npt.NDArray[np.intp]:
    """Non-maximum suppression: the numbers of the boxes that stay, the likeliest first.

    A box goes if its intersection over union with a likelier one that stays is above `max_overlap`, or its score is 0.
    """
    if not len(boxes_xywh):
        return np.zeros(0, dtype=np.intp)
    kept = cv2.dnn.NMSBoxes(boxes_xywh.tolist(), scores.tolist(), score_threshold=0.0, nms_threshold=max_overlap)
    return np.asarray(kept, dtype=np.intp).reshape(-1)
