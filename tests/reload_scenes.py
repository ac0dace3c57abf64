"""Networks that are known by the score that they give, and a service in which they take over from each other."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from callers import ask, play, until
from fakes import CONFIG, BrightestPixel, make_engine, make_network, make_service
from model.variants import PoseConfig
from pictures import SQUARE
from service.core import PoseService
from service.network import Network
from service.reloading import ReloadObserver, Reloads

OTHER_SIZE = replace(CONFIG, input_hw=(96, 64))


class Sized(BrightestPixel):
    """One that, like the network itself, takes crops of its own size only, and one call at a time."""

    def __init__(self, *, config: PoseConfig = CONFIG, score: float = 0.5) -> None:
        super().__init__(config=config, score=score)
        self._inside = threading.Lock()

    def estimate(self, crops, *, flip_test=False):
        assert self._inside.acquire(blocking=False), "two threads in one estimator"
        try:
            for crop in crops:
                assert crop.shape == (*self.config.input_hw, 3)
            return super().estimate(crops, flip_test=flip_test)
        finally:
            self._inside.release()


def sha256_of(score: float) -> str:
    return f"{round(score * 1000):04d}".ljust(64, "0")


def sized(score: float, config: PoseConfig = CONFIG, *, lanes: int = 1, kind: type[Sized] = Sized) -> Network:
    estimators = [kind(config=config, score=score) for _ in range(lanes)]
    return make_network(*estimators, sha256=sha256_of(score), config=config, source=f"of {score}")


class Told(ReloadObserver):
    def __init__(self) -> None:
        self.news: list[str] = []

    def on_reloaded(self, network: Network) -> None:
        self.news.append(f"ok {network.source}")

    def on_rolled_back(self, network: Network) -> None:
        self.news.append(f"rolled back to {network.source}")

    def on_reload_failed(self) -> None:
        self.news.append("failed")


@dataclass
class Scene:
    """A service, and what it may load: by path, a network, an error, or a network that waits for its gate."""

    service: PoseService
    reloads: Reloads
    told: Told
    first: BrightestPixel
    files: dict[str, Network | Exception]
    gate: threading.Event = field(default_factory=threading.Event)

    @property
    def score(self) -> Awaitable[float]:
        """By which the network that answers now is known."""
        return _score(self.service)


async def _score(service: PoseService) -> float:
    (pose,) = (await ask(service)).poses
    assert pose.keypoints[0][:2] == pytest.approx(SQUARE, abs=0.6)
    return pose.score


def play_reloads(
    story: Callable[[Scene], Awaitable[None]],
    files: dict[str, Network | Exception],
    *,
    lanes: int = 1,
    folder: Path | None = None,
    **options: Any,
) -> Told:
    async def run() -> None:
        estimators = [Sized(score=0.5) for _ in range(lanes)]
        service = make_service(engine=make_engine(estimators[0], others=estimators[1:], **options))

        def load(path: Path) -> Network:
            scene.gate.wait(timeout=30)
            found = files[path.name]
            if isinstance(found, Exception):
                raise found
            return found

        reloads = Reloads(service, load, checkpoint=Path("start"), folder=folder, observer=told)
        scene = Scene(service, reloads, told, estimators[0], files)
        scene.gate.set()
        await service.warm_up()
        try:
            await story(scene)
        finally:
            scene.gate.set()
            for estimator in estimators:
                estimator.gate.set()
            await until(lambda: not reloads.is_loading)
            assert service.close(timeout_s=30)

    told = Told()
    play(run)
    return told
