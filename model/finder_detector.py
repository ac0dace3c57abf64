"""The embedded detector: `PersonFinder` around photographs. docs/detectors.md says what it misses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from model.crop import Pixels
from model.detection import DetectionLimits, Detections, choose, letterbox
from model.geometry import Array
from model.person_finder import FinderConfig, decode_boxes

FILL = 0  # beside the photograph: black, as beside a crop
LIMITS = DetectionLimits(min_score=0.2)  # above it the bundled network finds nobody in too many pictures of people
MOST_CENTRES = 300  # of a picture, before suppression

Maps = Callable[[Pixels], Tensor]  # [B, S, S, 3] uint8 -> [B, 5, S/8, S/8] on the CPU


class FinderDetector:
    """See the module.

    Args:
        maps: the network with its normalisation, by whatever runs it.
        config: of the network.
        limits: which boxes are told.
        batch: the most pictures that run together.
    """

    name = "embedded"

    def __init__(
        self, maps: Maps, config: FinderConfig, limits: DetectionLimits | None = None, *, batch: int = 4
    ) -> None:
        self._maps = maps
        self._input_hw = (config.input_side, config.input_side)
        self._batch = batch
        self.limits = limits or LIMITS

    def detect(self, images: Sequence[Pixels]) -> list[Detections]:
        """As `model.detection.PersonDetector.detect`."""
        detections = []
        for first in range(0, len(images), self._batch):
            part = [
                letterbox(image, self._input_hw, fill=FILL, centred=True)
                for image in images[first : first + self._batch]
            ]
            found = self._maps(np.stack([picture.pixels for picture in part]))
            for picture, (edges, scores) in zip(part, centres(found, self.limits.min_score), strict=True):
                detections.append(choose(edges, scores, picture, self.limits))
        return detections


def centres(found: Tensor, min_score: float) -> list[tuple[Array, Array]]:
    """The places that are likelier centres than all beside them, of each picture.

    Args:
        found: [B, 5, h, w], what the network says.
        min_score: less likely ones are left out.

    Returns:
        of each picture, edges [N, 4] in input pixels and scores [N].
    """
    likely = found[:, 0].sigmoid()
    peaks = (likely == F.max_pool2d(likely[:, None], kernel_size=3, stride=1, padding=1)[:, 0]) & (likely >= min_score)
    boxes = decode_boxes(found)
    chosen = []
    for one, peak, box in zip(likely, peaks, boxes, strict=True):
        scores, edges = one[peak], box[peak]
        scores, order = torch.sort(scores, descending=True, stable=True)
        edges = edges[order[:MOST_CENTRES]]
        chosen.append((edges.double().numpy(), scores[:MOST_CENTRES].double().numpy()))
    return chosen
