"""The service behind the explorer in its tests: a fake network on a real server, and a note of what it was asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from drawings import STANDING
from fakes import CONFIG, BrightestPixel
from http_clients import served
from model.crop import Pixels
from model.dependency import JointAttention, query_tokens
from model.estimator import ExplainedKeypoints, Keypoints
from model.geometry import Array
from model.levels import Level
from model.skeleton import COCO
from service.core import PoseService
from service.poses import DependencyRequest, PoseRequest


class StandingPerson(BrightestPixel):
    """Sees the same standing person in every crop, its nose doubtful, and attention far from every wrist.

    The brightest token of a level is row 1, column 1 in mhsa and row 6, column 4 in the encoder; each layer and head
    has a maximum of its own.
    """

    PEAKS = {"mhsa": (1, 1), "encoder": (6, 4)}  # noqa: RUF012 (never changed)

    def estimate(self, crops: Sequence[Pixels], *, flip_test: bool = False) -> list[Keypoints]:
        super().estimate(crops, flip_test=flip_test)
        return [_standing(crop) for crop in crops]

    def explain(self, crops: Sequence[Pixels], *, levels: Collection[Level]) -> list[ExplainedKeypoints]:
        poses = self.estimate(crops)
        return [
            ExplainedKeypoints(
                pose.points, pose.scores, {level: self._attention(level, pose.points) for level in levels}
            )
            for pose in poses
        ]

    def _attention(self, level: Level, points: Array) -> JointAttention:
        layers, heads = CONFIG.attention_layers(level), CONFIG.attention_heads(level)
        height, width = CONFIG.tokens_hw
        largest = 0.3 + np.arange(layers * heads).reshape(layers, heads, 1) / 100
        maps = np.broadcast_to((1 - largest) / (height * width - 1), (layers, heads, len(COCO)))
        maps = np.repeat(maps[..., None], height * width, axis=-1).reshape(layers, heads, len(COCO), height, width)
        maps[..., self.PEAKS[level][0], self.PEAKS[level][1]] = largest
        looks = maps.astype(np.float32)
        return JointAttention(level, query_tokens(points, CONFIG.tokens_hw), looks, looks[..., ::-1, :] / 2)


def _standing(crop: Pixels) -> Keypoints:
    scores = np.full(len(COCO), 0.9)
    scores[COCO.names.index("nose")] = 0.1
    inside = 0.1 + 0.8 * STANDING  # a crop has a margin around its box
    return Keypoints(inside * (crop.shape[1] - 1, crop.shape[0] - 1), scores)


@dataclass
class Site:
    """A running service, where it is and what it was asked."""

    estimator: StandingPerson
    service: PoseService
    address: str = ""
    poses: list[PoseRequest] = field(default_factory=list)
    maps: list[DependencyRequest] = field(default_factory=list)

    def listen(self) -> None:
        """Note every question before it is answered."""
        estimate, explain = self.service.estimate, self.service.explain

        def noting_estimate(request: PoseRequest, record: Any) -> Any:
            self.poses.append(request)
            return estimate(request, record)

        def noting_explain(request: DependencyRequest, record: Any) -> Any:
            self.maps.append(request)
            return explain(request, record)

        self.service.estimate, self.service.explain = noting_estimate, noting_explain  # type: ignore[method-assign]


@contextmanager
def site_of(service: PoseService, estimator: StandingPerson | None = None) -> Iterator[Site]:
    """The service on a real server in a thread of its own, for Playwright wants this one."""
    site = Site(estimator or StandingPerson(), service)
    site.listen()
    started: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        ended = asyncio.Event()
        async with served(service) as port:
            started.set_result((port, asyncio.get_running_loop(), ended))
            await ended.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    port, loop, ended = started.result(timeout=60)
    site.address = f"http://127.0.0.1:{port}/"
    try:
        yield site
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
