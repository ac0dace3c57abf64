"""Callers of an engine or a service, of both protocols at once; a fake network whose batches go through one by one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from fakes import BrightestPixel, make_admission, make_engine, make_service
from grpc_clients import Served, dependency_request, http_beside, is_idle
from grpc_clients import ask as ask_over_grpc
from http_clients import JPEG
from model.estimator import Keypoints
from pictures import SIZE, jpeg
from service.core import PoseService
from service.engine import Engine
from service.poses import PoseRequest, PoseResult
from service.record import Caller, RequestRecord


class OneByOne:
    """A gate for a fake network that lets as many batches through as it is told to."""

    def __init__(self) -> None:
        self._permits = threading.Semaphore(0)

    def wait(self, timeout: float) -> bool:
        return self._permits.acquire(timeout=timeout)

    def let(self, batches: int = 1) -> None:
        self._permits.release(batches)

    def set(self) -> None:
        self.let(1000)


class Faulty(BrightestPixel):
    """One that waits before each batch, and whose answers can be spoiled."""

    def __init__(self) -> None:
        super().__init__()
        self.gate: Any = OneByOne()
        self.spoil: Callable[[list[Keypoints]], Any] = list

    def estimate(self, crops, *, flip_test=False):
        poses = super().estimate(crops, flip_test=flip_test)
        return self.spoil(poses)


def raising(poses):
    raise RuntimeError("CUDA error at 0x7f00")


@contextmanager
def running(estimator: BrightestPixel, **options: Any) -> Iterator[Engine]:
    engine = make_engine(estimator, **options)
    try:
        yield engine
    finally:
        estimator.gate.set()
        assert engine.close(timeout_s=30)


@asynccontextmanager
async def serving(estimator: BrightestPixel | None = None, **options: Any) -> AsyncIterator[PoseService]:
    """A service that has warmed up, closed in the end."""
    estimator = estimator or BrightestPixel()
    service = make_service(estimator, **options)
    await service.warm_up()
    try:
        yield service
    finally:
        estimator.gate.set()
        assert service.close(timeout_s=30)


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run it, and end it if somebody is never told."""
    asyncio.run(asyncio.wait_for(scenario(), 30))


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came to pass")


def crops(*columns: int):
    """Crops with one bright column each, by which the answer is known again."""
    pixels = np.zeros((len(columns), 2, 64, 3), dtype=np.uint8)
    for crop, column in zip(pixels, columns, strict=True):
        crop[:, column] = 255
    return list(pixels)


async def columns_of(engine: Engine, *columns: int, flip_test: bool = False, **options: Any) -> tuple[int, ...]:
    async with engine.room(len(columns), flip_test=flip_test, **options) as room:
        return tuple(round(found.points[0, 0]) for found in await room.run(crops(*columns)))


async def begin(engine: Engine, *columns: int, **options: Any) -> asyncio.Task[tuple[int, ...]]:
    """A caller that has come as far as it can."""
    task = asyncio.create_task(columns_of(engine, *columns, **options))
    await asyncio.sleep(0)
    return task


def new_record(**options: Any) -> RequestRecord:
    return RequestRecord(caller=Caller(protocol="test", method="pose"), **options)


async def ask(
    service: PoseService, persons: int = 1, record: RequestRecord | None = None, **options: Any
) -> PoseResult:
    """All persons fill the picture."""
    request = PoseRequest(image=jpeg(), boxes_xywh=[(0.0, 0.0, *map(float, SIZE))] * persons)
    return await service.estimate(request, record or new_record(), **options)


def start(service: PoseService, persons: int = 1, **options: Any) -> asyncio.Task[PoseResult]:
    return asyncio.create_task(ask(service, persons, **options))


async def all_ready(records: list[RequestRecord]) -> None:
    """Decoded and handed to the engine, which has no wait between."""
    await until(lambda: all("decode" in record.stages for record in records))


MAP_PATH = "/dependency?keypoint=nose"


@dataclass
class Scene:
    """A service on a fake network, and clients of both protocols."""

    to: Served
    http: httpx.AsyncClient
    estimator: BrightestPixel
    records: list[RequestRecord]

    @property
    def service(self) -> PoseService:
        return self.to.service

    @property
    def maps(self) -> int:
        """Requests for dependency maps that are being worked on."""
        return self.service.admission.dependencies

    def post(self, path: str = MAP_PATH, content: bytes = jpeg(), **headers: str) -> asyncio.Task[httpx.Response]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return asyncio.create_task(self.http.post(path, content=content, headers={**JPEG, **named}))

    def call(self, keypoint: str = "nose", **options: object) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self.to.poses.GetDependency(dependency_request(keypoint=keypoint), **options))


def play_served(
    use: Callable[[Scene], Awaitable[None]], estimator: BrightestPixel | None = None, **admission: Any
) -> list[tuple[str, str, str]]:
    """Play it, check that nothing of it is left, and say of each request its protocol, method and outcome."""
    network, records = estimator or BrightestPixel(), []
    service = make_service(network, admission=make_admission(observers=[records.append], **admission))

    async def talk(to: Served) -> None:
        async with http_beside(to) as http:
            try:
                await use(Scene(to, http, network, records))
            finally:
                network.gate.set()
            await until(lambda: is_idle(to))
            assert to.service.admission.dependencies == 0

    ask_over_grpc(service, talk)
    return sorted((one.caller.protocol, one.caller.method, one.outcome) for one in records)
