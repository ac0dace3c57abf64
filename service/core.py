"""`PoseService`: the one object behind every protocol.

A request is decoded and cropped in a thread, one at a time, so that a bad picture fails alone; its persons go to the
engine; the answer is in pixels of the upright picture. Knows nothing of HTTP or gRPC, of settings, or of how the engine
orders its work.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from model.checkpoint import CheckpointCard
from model.estimator import Keypoints, PersonCrop, crop_person, keypoints_to_image, pose_score
from model.geometry import MAX_COORDINATE, MIN_SIZE
from model.skeleton import KEYPOINT_NAMES, LIMBS
from service.engine import Engine
from service.errors import InvalidParameter, PoseServiceError, Unavailable
from service.images import ImageLimits, decode_image

Box = tuple[float, float, float, float]

DECIMALS = 3  # of a coordinate in pixels and of a score, rounded once for every protocol


@dataclass(frozen=True, kw_only=True)
class PoseRequest:
    """A picture and the persons in it.

    `boxes_xywh` are in pixels of the upright picture; None means that the whole picture is one person.
    """

    image: bytes
    boxes_xywh: Sequence[Box] | None = None
    flip_test: bool = False


@dataclass(frozen=True, kw_only=True)
class Pose:
    """One person: its box, and K keypoints (x, y, score) in pixels of the upright picture; scores in 0..1."""

    box_xywh: Box
    score: float
    keypoints: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, kw_only=True)
class PoseResult:
    """The poses in the order of the request's boxes, and the size of the upright picture."""

    width: int
    height: int
    poses: tuple[Pose, ...]


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What is being served."""

    variant: str
    label: str
    parameters: int
    input_hw: tuple[int, int]
    checkpoint_sha256: str
    runtime: str
    device: str
    precision: str
    keypoint_names: tuple[str, ...] = KEYPOINT_NAMES
    skeleton: tuple[tuple[int, int], ...] = LIMBS


class PoseService:
    """Estimates poses in pictures.

    Args:
        engine: runs the network; closed with the service.
        card: of the checkpoint that the engine runs.
        info: what `GET /model` tells.
        limits: of the pictures that are taken.
        max_persons: the most boxes in one request.
    """

    def __init__(
        self, engine: Engine, *, card: CheckpointCard, info: ModelInfo, limits: ImageLimits, max_persons: int
    ) -> None:
        self.info = info
        self.limits = limits
        self.max_persons = max_persons
        self._config = card.config
        self._engine = engine
        self._decoders = ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="decode")
        self._not_ready_because: str | None = "the network is warming up"

    @property
    def not_ready_because(self) -> str | None:
        """None when requests are taken; otherwise why they are not."""
        return self._not_ready_because

    async def warm_up(self) -> None:
        """Run the network once, then take requests. Stays not ready, and says so, if that fails."""
        blank = np.zeros((*self._config.input_hw, 3), dtype=np.uint8)
        try:
            await self._engine.estimate([blank], flip_test=False)
        except PoseServiceError:
            self._not_ready_because = "the network failed its first run; see the log"
        else:
            self._not_ready_because = None

    async def estimate(self, request: PoseRequest) -> PoseResult:
        """The pose of every person of a request.

        Raises the errors of `service.errors`.
        """
        if self._not_ready_because is not None:
            raise Unavailable(f"not ready: {self._not_ready_because}")
        self._check_boxes(request.boxes_xywh)
        loop = asyncio.get_running_loop()
        (width, height), boxes, crops = await loop.run_in_executor(self._decoders, self._decode, request)
        found = await self._engine.estimate([crop.pixels for crop in crops], flip_test=request.flip_test)
        poses = tuple(map(_pose, boxes, crops, found))
        return PoseResult(width=width, height=height, poses=poses)

    def stop(self, because: str = "the service is shutting down") -> None:
        """Take no more requests; those that were taken go on."""
        self._not_ready_because = because

    def close(self) -> None:
        """Wait for the work that runs, and end the threads."""
        self.stop()
        self._engine.close()
        self._decoders.shutdown(wait=True, cancel_futures=True)

    def _check_boxes(self, boxes: Sequence[Box] | None) -> None:
        """What can be told of the boxes before the picture is decoded."""
        if boxes is None:
            return
        if len(boxes) > self.max_persons:
            raise InvalidParameter(f"boxes has {len(boxes)} entries; allowed: at most {self.max_persons}")
        for number, box in enumerate(boxes):
            if not all(math.isfinite(value) for value in box):
                raise InvalidParameter(f"boxes[{number}] is {list(box)}; allowed: finite numbers [x, y, w, h]")
            if box[2] < MIN_SIZE or box[3] < MIN_SIZE:
                raise InvalidParameter(
                    f"boxes[{number}] is {list(box)}; allowed: w and h above 0 (at least {MIN_SIZE:g})"
                )
            if max(map(abs, box)) > MAX_COORDINATE:
                raise InvalidParameter(f"boxes[{number}] is {list(box)}; allowed: numbers up to {MAX_COORDINATE:g}")

    def _decode(self, request: PoseRequest) -> tuple[tuple[int, int], Sequence[Box], list[PersonCrop]]:
        """Picture -> its size, the boxes, their crops. Runs in a decoder thread."""
        image = decode_image(request.image, self.limits)
        height, width = image.shape[:2]
        boxes = request.boxes_xywh if request.boxes_xywh is not None else [(0.0, 0.0, float(width), float(height))]
        for number, (x, y, w, h) in enumerate(boxes):
            if x >= width or y >= height or x + w <= 0 or y + h <= 0:
                raise InvalidParameter(
                    f"boxes[{number}] is {[x, y, w, h]}, wholly outside the upright picture of {width} x {height} "
                    "pixels; allowed: boxes that overlap it"
                )
        return (width, height), boxes, [crop_person(image, box, self._config) for box in boxes]


def _pose(box: Box, crop: PersonCrop, keypoints_crop: Keypoints) -> Pose:
    keypoints = keypoints_to_image(keypoints_crop, crop)
    return Pose(
        box_xywh=box,
        score=round(pose_score(keypoints.scores), DECIMALS),
        keypoints=tuple(
            (round(float(x), DECIMALS), round(float(y), DECIMALS), round(float(score), DECIMALS))
            for (x, y), score in zip(keypoints.points, keypoints.scores, strict=True)
        ),
    )
