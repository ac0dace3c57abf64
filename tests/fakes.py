"""Stand-ins for the network: known answers, without weights."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event

import numpy as np

from model.checkpoint import CheckpointCard
from model.crop import Pixels
from model.estimator import Keypoints
from model.skeleton import NUM_KEYPOINTS
from model.variants import variant
from service.core import ModelInfo, PoseService
from service.engine import Engine
from service.images import ImageLimits

CONFIG = variant("c3a1-4", input_hw=(64, 48))


class BrightestPixel:
    """An estimator that puts every keypoint on the brightest pixel of the crop, with a score of 0.5.

    It follows the crop as a real network would, so boxes, orientation and coordinates can be tested end to end. The
    tests may hold it back (`gate`), or let it fail (`fails_with`), and see what it was asked (`batches`).
    """

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.flip_tests: list[bool] = []
        self.gate = Event()
        self.gate.set()
        self.fails_with: Exception | None = None
        self.forgets = 0
        self.score = 0.5

    def estimate(self, crops: Sequence[Pixels], *, flip_test: bool = False) -> list[Keypoints]:
        self.gate.wait(timeout=30)
        if self.fails_with is not None:
            raise self.fails_with
        self.batches.append(len(crops))
        self.flip_tests.append(flip_test)
        return [_brightest(crop, self.score) for crop in crops][self.forgets :]


def _brightest(crop: Pixels, score: float) -> Keypoints:
    brightness = crop.astype(np.float64).sum(axis=2)
    weight = np.where(brightness > 0.5 * brightness.max(), brightness, 0.0) + 1e-12
    rows, columns = np.mgrid[: crop.shape[0], : crop.shape[1]]
    point = [np.average(columns, weights=weight), np.average(rows, weights=weight)]
    return Keypoints(np.tile(point, (NUM_KEYPOINTS, 1)), np.full(NUM_KEYPOINTS, score))


def make_service(
    estimator: BrightestPixel | None = None,
    *,
    limits: ImageLimits | None = None,
    max_batch: int = 8,
    max_waiting: int = 256,
    max_persons: int = 100,
    max_requests: int = 64,
) -> PoseService:
    info = ModelInfo(
        variant=CONFIG.key,
        label=CONFIG.label,
        parameters=17,
        input_hw=CONFIG.input_hw,
        checkpoint_sha256="0" * 64,
        runtime="torch",
        device="cpu",
        precision="float32",
    )
    return PoseService(
        Engine(estimator or BrightestPixel(), max_batch=max_batch, max_waiting=max_waiting),
        card=CheckpointCard(config=CONFIG),
        info=info,
        limits=limits or ImageLimits(),
        max_persons=max_persons,
        max_requests=max_requests,
    )
