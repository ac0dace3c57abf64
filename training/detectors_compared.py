"""Detectors by what a setting says, for evaluation: those that are served, and two that are only compared with.

`whole`: the picture is one box, as the service does without a detector. `hog`: OpenCV's people detector, a linear
classifier of histograms of oriented gradients (Dalal and Triggs 2005), which needs no download either.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from model.crop import Pixels
from model.detection import DetectionLimits, Detections, PersonDetector, choose, letterbox
from model.load_detector import ALLOWED, BUNDLED_FINDER, EMBEDDED, NONE, ONNX, load_detector

WHOLE, HOG = "whole", "hog"
ALLOWED_COMPARED = f"{WHOLE}, {HOG}, {EMBEDDED}, or {ONNX}PATH"


class WholePicture:
    """The picture is one person."""

    name = WHOLE

    def detect(self, images: Sequence[Pixels]) -> list[Detections]:
        """As `model.detection.PersonDetector.detect`."""
        return [Detections(np.array([[0.0, 0.0, image.shape[1], image.shape[0]]]), np.ones(1)) for image in images]


class HogDetector:
    """OpenCV's people detector at its usual settings: windows of 64 x 128, every 8 pixels, scales 1.05 apart.

    Its boxes have a wide margin around people, which is taken off: a person is 96 of the 128 rows and 48 of the 64
    columns of the window, as in the pictures that it was trained on.

    Raises ValueError where OpenCV does not have it, which is from version 5 on.
    """

    name = HOG
    MARGIN = (8 / 64, 16 / 128)

    def __init__(self, limits: DetectionLimits | None = None) -> None:
        if not hasattr(cv2, "HOGDescriptor"):
            raise ValueError(f"detector is {HOG!r}, and OpenCV {cv2.__version__} has none; allowed with it: OpenCV 4")
        self.limits = limits or DetectionLimits()
        self._hog = cv2.HOGDescriptor()
        self._hog.setSVMDetector(cv2.HOGDescriptor.getDefaultPeopleDetector())

    def detect(self, images: Sequence[Pixels]) -> list[Detections]:
        """As `model.detection.PersonDetector.detect`. Scores are distances d from the plane as 1 / (1 + exp(-d))."""
        return [self._detect(image) for image in images]

    def _detect(self, image: Pixels) -> Detections:
        picture = letterbox(image, image.shape[:2], fill=0, centred=False)
        if image.shape[0] < 128 or image.shape[1] < 64:
            return choose(np.zeros((0, 4)), np.zeros(0), picture, self.limits)
        # Grouping is left out: suppression does what it does, for every detector alike.
        boxes, distances = self._hog.detectMultiScale(
            cv2.cvtColor(image, cv2.COLOR_RGB2BGR), winStride=(8, 8), padding=(8, 8), scale=1.05, groupThreshold=0
        )
        found = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        inset = found[:, 2:] * self.MARGIN
        edges = np.column_stack((found[:, :2] + inset, found[:, :2] + found[:, 2:] - inset))
        scores = 1 / (1 + np.exp(-np.asarray(distances, dtype=np.float64).reshape(-1)))
        return choose(edges, scores, picture, self.limits)


def compared_detector(
    setting: str, limits: DetectionLimits, *, threads: int = 0, embedded: Path = BUNDLED_FINDER
) -> PersonDetector:
    """The detector of a setting. Errors as `model.load_detector.load_detector`."""
    if setting == WHOLE:
        return WholePicture()
    if setting == HOG:
        return HogDetector(limits)
    if setting == NONE:
        raise ValueError(f"detector is {NONE!r}; allowed: {ALLOWED_COMPARED}")
    try:
        detector = load_detector(setting, threads=threads, limits=limits, embedded=embedded)
    except ValueError as error:
        raise ValueError(str(error).replace(ALLOWED, ALLOWED_COMPARED)) from error
    assert detector is not None
    return detector
