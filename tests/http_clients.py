"""A service on a fake network as HTTP clients meet it: through the ASGI interface, or on a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from fastapi import FastAPI

from fakes import BrightestPixel, make_admission, make_engine, make_service
from service.admission import Observer
from service.core import PoseService
from service.http_api import create_app
from service.http_problem import PROBLEM_MEDIA_TYPE
from service.http_server import make_http_server
from service.images import ImageLimits
from service.metrics import Metrics
from service.running import warm

JPEG = {"Content-Type": "image/jpeg"}
PATIENCE_S = 30.0  # for what must happen; reached only by a test that fails

# What `POST /pose` may answer; 404 and 405 are for other paths and methods.
DOCUMENTED = {200, 400, 401, 408, 413, 415, 422, 429, 500, 503, 504}


def make_counted(
    estimator: BrightestPixel | None = None,
    *,
    max_batch: int = 8,
    max_waiting: int = 256,
    stalled_after_s: float = 60.0,
    limits: ImageLimits | None = None,
    max_persons: int = 100,
    observers: Sequence[Observer] = (),
    **admission: object,
) -> tuple[PoseService, Metrics]:
    """A service on a fake network whose metrics are told of everything, as in a real process."""
    metrics = Metrics()
    engine = make_engine(
        estimator,
        max_batch=max_batch,
        max_waiting=max_waiting,
        stalled_after_s=stalled_after_s,
        observer=metrics,
    )
    door = make_admission(observers=(metrics.on_request, *observers), **admission)
    metrics.watch(
        engine=engine,
        requests=lambda: door.requests,
        dependencies=lambda: door.dependencies,
        is_open=lambda: door.closed_because is None,
    )
    return make_service(engine=engine, admission=door, limits=limits, max_persons=max_persons), metrics


def outcomes(metrics: Metrics, method: str = "pose") -> dict[str, int]:
    """How many requests over HTTP ended how; only what happened."""
    return {
        sample.labels["outcome"]: int(sample.value)
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "btranspose_requests_total"
        and (sample.labels["protocol"], sample.labels["method"]) == ("http", method)
        and sample.value
    }


def make_app(service: PoseService, metrics: Metrics | None = None, *, body_timeout_s: float = 5.0) -> FastAPI:
    return create_app(service, metrics or Metrics(), version="1.2.3", body_timeout_s=body_timeout_s)


async def until(happened: Callable[[], bool]) -> None:
    """Wait for something that must happen."""
    async with asyncio.timeout(PATIENCE_S):
        while not happened():
            await asyncio.sleep(0.002)


async def idle(service: PoseService) -> None:
    """Wait until nothing of any request is left in the service; fails if something stays."""
    assert await service.admission.drained(PATIENCE_S)
    await until(lambda: service._engine.persons == 0)
    assert service.admission.requests == 0
    assert service.admission._held_bytes == 0
    assert service._engine.waiting == 0


@asynccontextmanager
async def running(service: PoseService, *, wait: bool = True) -> AsyncIterator[None]:
    """A service that takes pictures, or `wait=False` is about to; its threads end with it."""
    try:
        async with warm(service):
            if wait:
                await until(lambda: service.admission.closed_because is None)
            yield
    finally:
        assert await asyncio.to_thread(service.close, PATIENCE_S)


@asynccontextmanager
async def client_of(
    service: PoseService, metrics: Metrics | None = None, *, body_timeout_s: float = 5.0, wait: bool = True
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running service, without a socket."""
    transport = httpx.ASGITransport(
        make_app(service, metrics, body_timeout_s=body_timeout_s), raise_app_exceptions=False
    )
    async with running(service, wait=wait), httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@asynccontextmanager
async def served(
    service: PoseService,
    metrics: Metrics | None = None,
    *,
    body_timeout_s: float = 5.0,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
) -> AsyncIterator[int]:
    """The port of a running service on a real server, on this event loop."""
    app = make_app(service, metrics, body_timeout_s=body_timeout_s)
    server = make_http_server(app, host="127.0.0.1", port=0, tls_cert=tls_cert, tls_key=tls_key)
    async with running(service):
        serving = asyncio.create_task(server.serve())
        try:
            await until(lambda: server.started or serving.done())
            yield server.port
        finally:
            server.should_exit = True
            await serving


def ask(
    use: Callable[[httpx.AsyncClient], Awaitable[httpx.Response]],
    service: PoseService | None = None,
    metrics: Metrics | None = None,
) -> httpx.Response:
    async def run() -> httpx.Response:
        async with client_of(service or make_service(), metrics) as client:
            return await use(client)

    return asyncio.run(run())


def post(content: bytes = b"", service: PoseService | None = None, **options: object) -> httpx.Response:
    options.setdefault("headers", JPEG)
    return ask(lambda client: client.post("/pose", content=content, **options), service)


def dependency_params(**asked: object) -> dict[str, str]:
    """Parameters of `POST /dependency` as text; `box` is a sequence of numbers. None: absent."""
    texts = {name: json.dumps(value) if name == "box" else str(value) for name, value in asked.items()}
    return {name: text for name, text in texts.items() if asked[name] is not None}


def post_dependency(
    content: bytes = b"", service: PoseService | None = None, metrics: Metrics | None = None, **asked: object
) -> httpx.Response:
    """Over HTTP, the picture as the body."""
    sent = {"content": content, "headers": JPEG, "params": dependency_params(**asked)}
    return ask(lambda client: client.post("/dependency", **sent), service, metrics)


def assert_problem(response: httpx.Response, status: int, detail: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM_MEDIA_TYPE
    body = response.json()
    assert body.keys() == {"type", "title", "status", "detail"}
    assert body["status"] == status
    assert body["type"] == "about:blank"
    assert detail in body["detail"]
    assert body["title"]
