"""`PoseService`: the one object behind every protocol.

A request is decoded and cropped in a thread, one at a time, so that a bad picture fails alone; its persons go to the
engine; the answer is in pixels of the upright picture. Knows nothing of HTTP or gRPC, of settings, or of how the engine
orders its work.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from model.checkpoint import CheckpointCard
from model.estimator import Keypoints, PersonCrop, crop_person, keypoints_to_image, pose_score
from model.geometry import MAX_COORDINATE, MIN_SIZE, clip_box, region_area
from model.skeleton import KEYPOINT_NAMES, LIMBS
from service.engine import Engine
from service.errors import EngineFailed, InvalidParameter, Overloaded, Unavailable
from service.images import ImageLimits, decode_image

Box = tuple[float, float, float, float]

MAX_DECODERS = 4  # each may hold a whole decoded picture
MAX_LOOKS = 4  # times the largest picture: what the crops of one request may read, or one request blocks the rest
WARMING_UP = "the network is warming up"
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
        max_requests: the most requests at a time, counted from before their bodies are read.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        card: CheckpointCard,
        info: ModelInfo,
        limits: ImageLimits,
        max_persons: int,
        max_requests: int,
    ) -> None:
        self.info = info
        self.limits = limits
        self.max_persons = max_persons
        self._max_requests = max_requests
        self._requests = 0
        self._config = card.config
        self._engine = engine
        self._decoders = ThreadPoolExecutor(max_workers=MAX_DECODERS, thread_name_prefix="decode")
        self._not_ready_because: str | None = WARMING_UP

    async def why_not_ready(self) -> str | None:
        """None when pictures are taken and the network answers; otherwise the reason.

        After a failure the network is tried again here, so that a health check notices when it has recovered.
        """
        if self._not_ready_because is None and self._engine.failing and not await self._network_answers():
            return "the network fails; see the log"
        return self._not_ready_because

    async def warm_up(self) -> None:
        """Run the network once, then take requests. Stays not ready, and says so, if that fails."""
        answers = await self._network_answers()
        if self._not_ready_because == WARMING_UP:  # and not stopped meanwhile
            self._not_ready_because = None if answers else "the network failed its first run; see the log"

    @contextmanager
    def admission(self) -> Iterator[None]:
        """A place for one request, to be taken before its body is read. Raises Unavailable or Overloaded."""
        if self._not_ready_because is not None:
            raise Unavailable(f"not ready: {self._not_ready_because}")
        if self._requests >= self._max_requests:
            raise Overloaded(
                f"{self._requests} requests are being worked on; allowed: at most {self._max_requests}. Try again later"
            )
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    async def estimate(self, request: PoseRequest) -> PoseResult:
        """The pose of every person of a request that was admitted.

        Raises the errors of `service.errors`.
        """
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
        clipped = [clip_box(box, width, height) for box in boxes]  # as training and evaluation do
        for number, (box, inside) in enumerate(zip(boxes, clipped, strict=True)):
            if inside[2] < MIN_SIZE or inside[3] < MIN_SIZE:
                raise InvalidParameter(
                    f"boxes[{number}] is {list(box)}, wholly outside the upright picture of {width} x {height} "
                    "pixels; allowed: boxes that overlap it"
                )
        looked_at = sum(min(region_area(box, self._config.input_hw), width * height) for box in clipped)
        if looked_at > MAX_LOOKS * self.limits.max_pixels:
            raise InvalidParameter(
                f"the {len(boxes)} boxes together cover {looked_at:.0f} pixels; allowed: at most "
                f"{MAX_LOOKS * self.limits.max_pixels}. Send fewer or smaller boxes, or a smaller picture"
            )
        return (width, height), boxes, [crop_person(image, box, self._config) for box in clipped]

    async def _network_answers(self) -> bool:
        blank = np.zeros((*self._config.input_hw, 3), dtype=np.uint8)
        try:
            await self._engine.estimate([blank], flip_test=False)
        except EngineFailed:
            return False
        except Overloaded:
            pass  # it has work, so it answers
        return True


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
