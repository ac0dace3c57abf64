"""The gRPC server of a service in this process, on a free port of loopback, and what its clients need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import httpx
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fakes import BrightestPixel
from http_clients import make_app
from model.crop import Pixels
from model.estimator import Keypoints
from pictures import jpeg
from service import grpc_server
from service.core import PoseService
from service.grpc_server import add_health, add_port, follow_readiness, make_grpc_server
from service.metrics import Metrics
from service.pb import pose_pb2 as pb
from service.pb import pose_pb2_grpc
from service.running import warm
from service.streaming import StreamObserver

Answer = TypeVar("Answer")

JPEG = jpeg()
SERVICE = "btranspose.v1.PoseService"


@dataclass(frozen=True)
class Served:
    """A service that is being served, and a client's ends of it."""

    service: PoseService
    server: grpc.aio.Server
    address: str
    channel: grpc.aio.Channel

    @property
    def poses(self) -> Any:
        return pose_pb2_grpc.PoseServiceStub(self.channel)

    @property
    def health(self) -> Any:
        return health_pb2_grpc.HealthStub(self.channel)

    async def status(self, name: str = "") -> str:
        answer = await self.health.Check(health_pb2.HealthCheckRequest(service=name))
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


@asynccontextmanager
async def served(
    service: PoseService,
    *,
    max_frames: int = 4,
    max_requests: int = 64,
    ready: bool = True,
    tls: dict[str, Any] | None = None,
    credentials: grpc.ChannelCredentials | None = None,
    observer: StreamObserver | None = None,
) -> AsyncIterator[Served]:
    """Serve until the context is left. `ready`: wait until the service is. `tls`: as `add_port` has it."""
    server = make_grpc_server(service, max_frames=max_frames, max_requests=max_requests, observer=observer)
    address = f"127.0.0.1:{add_port(server, '127.0.0.1:0', **(tls or {}))}"
    health = asyncio.create_task(follow_readiness(service, add_health(server)))
    channel = (
        grpc.aio.insecure_channel(address) if credentials is None else grpc.aio.secure_channel(address, credentials)
    )
    try:
        async with warm(service), channel:
            await server.start()
            if ready:
                await until(lambda: service.admission.closed_because is None)
            yield Served(service, server, address, channel)
    finally:
        await server.stop(None)
        await health
        service.close(0.0)


def ask(service: PoseService, talk: Callable[[Served], Awaitable[Answer]], **options: Any) -> Answer:
    """What `talk` says of a service that is being served; `options` as `served` has them."""

    async def run() -> Answer:
        async with served(service, **options) as to:
            return await talk(to)

    return asyncio.run(run())


class HeldBack(BrightestPixel):
    """A network that a test holds back once it is warm."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = 0  # batches that run or ran

    def estimate(self, crops: Sequence[Pixels], *, flip_test: bool = False) -> list[Keypoints]:
        self.entered += 1
        return super().estimate(crops, flip_test=flip_test)

    async def hold(self, to: Served) -> asyncio.Task[Any]:
        """A call whose one person runs, alone, and does not end until the gate is opened."""
        self.gate.clear()
        entered = self.entered
        call = asyncio.ensure_future(to.poses.EstimatePose(estimate_request()))
        await until(lambda: self.entered > entered)
        return call


async def until(condition: Callable[[], object], *, tries: int = 5000) -> None:
    """Wait for something that other tasks or threads bring about."""
    for _ in range(tries):
        if condition():
            return
        await asyncio.sleep(0.002)
    pytest.fail("it did not come about in time")


async def refused(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    """The error of a call that must not succeed."""
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call
    return refusal.value


def trailing(error: grpc.aio.AioRpcError) -> dict[str, str]:
    return {name: str(value) for name, value in error.trailing_metadata() or ()}


def estimate_request(
    image: bytes = JPEG, boxes: Sequence[Sequence[float]] = (), *, flip_test: bool = False
) -> pb.EstimatePoseRequest:
    return pb.EstimatePoseRequest(image=image, boxes=boxes_of(boxes), flip_test=flip_test)


def dependency_request(image: bytes = JPEG, **asked: Any) -> pb.GetDependencyRequest:
    """A question in the words that HTTP has; what is absent or None is not set."""
    box, head, level, mode, kind = (asked.pop(name, None) for name in ("box", "head", "level", "mode", "format"))
    return pb.GetDependencyRequest(
        image=image,
        box=None if box is None else boxes_of([box])[0],
        head=None if head == "mean" else head,
        mean_of_heads=head == "mean",
        level=None if level is None else f"DEPENDENCY_LEVEL_{level.upper()}",
        mode=None if mode is None else f"DEPENDENCY_MODE_{mode.upper()}",
        format=None if kind is None else {"png": "DEPENDENCY_FORMAT_PNG", "json": "DEPENDENCY_FORMAT_MAP"}[kind],
        **asked,
    )


@asynccontextmanager
async def http_beside(to: Served, metrics: Metrics | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client over HTTP of the very service that is served over gRPC."""
    transport = httpx.ASGITransport(make_app(to.service, metrics), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def frame(
    frame_id: int, image: bytes = JPEG, boxes: Sequence[Sequence[float]] = (), *, flip_test: bool = False
) -> pb.StreamPosesRequest:
    return pb.StreamPosesRequest(frame_id=frame_id, image=image, boxes=boxes_of(boxes), flip_test=flip_test)


def boxes_of(boxes: Sequence[Sequence[float]]) -> list[pb.Box]:
    return [pb.Box(x=x, y=y, width=width, height=height) for x, y, width, height in boxes]


async def stream_of(to: Served, frames: Iterable[pb.StreamPosesRequest], **options: object) -> list:
    """The answers to frames that are all sent, on a stream that ends well."""
    call = to.poses.StreamPoses(**options)
    for one in frames:
        await call.write(one)
    await call.done_writing()
    answers = [answer async for answer in call]
    assert await call.code() == grpc.StatusCode.OK
    return answers


def outcomes(answers: Iterable[pb.StreamPosesResponse]) -> list[tuple[int, int, str]]:
    """Id, code and reason of each."""
    return [(answer.frame_id, answer.error.code, answer.error.reason) for answer in answers]


def is_idle(to: Served) -> bool:
    return (to.service.admission.requests, to.service._engine.persons, to.service.admission._held_bytes) == (0, 0, 0)


def fast_health(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the health service look every few milliseconds."""
    monkeypatch.setattr(grpc_server, "HEALTH_PERIOD_S", 0.005)


class Certificates:
    """Of a server and of a client, signed by an authority of their own, as files."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self._folder = folder
        issued = self.authority.issue_cert("127.0.0.1")
        self.cert = self.file("cert.pem", b"".join(one.bytes() for one in issued.cert_chain_pems))
        self.key = self.file("key.pem", issued.private_key_pem.bytes())
        self.client_ca = self.file("client-ca.pem", self.authority.cert_pem.bytes())

    def file(self, name: str, content: bytes) -> Path:
        path = self._folder / name
        path.write_bytes(content)
        return path

    def of_client(self, authority: trustme.CA | None = None) -> grpc.ChannelCredentials:
        """A client that trusts the server, and shows what the authority signed."""
        roots = self.authority.cert_pem.bytes()
        if authority is None:
            return grpc.ssl_channel_credentials(roots)
        mine = authority.issue_cert("client.example")
        return grpc.ssl_channel_credentials(roots, mine.private_key_pem.bytes(), mine.cert_chain_pems[0].bytes())
