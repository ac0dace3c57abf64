"""The clients over gRPC: they send what `client_grpc_messages` makes of requests, and give its answers back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.client_base import AsyncPoseClient, PoseClient
from service.client_endpoint import Endpoint
from service.client_frames import Frame, FrameAnswer, read_request
from service.client_grpc_messages import (
    dependency_message,
    error_of_call,
    pose_message,
    read_dependency,
    read_frame,
    read_model,
    read_poses,
)
from service.client_grpc_stream import AsyncEnding, AsyncFeed, Feed
from service.client_options import StreamOptions
from service.errors import Late, Unavailable
from service.pb import pose_pb2, pose_pb2_grpc
from service.poses import Box, DependencyMap, DependencyRequest, ModelInfo, PoseResult

SERVICE_NAME: str = pose_pb2.DESCRIPTOR.services_by_name["PoseService"].full_name
MAX_MESSAGE_BYTES = 64 * 2**20
CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # A dead connection is noticed while a call waits; an idle one is left alone, as servers ask for.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.enable_retries", 0),
    # A connection for each client: closing one, or its failure to connect, is no matter of another.
    ("grpc.use_local_subchannel_pool", 1),
)

# The generated code has no types.
_Stub: Any = pose_pb2_grpc.PoseServiceStub
_HealthStub: Any = health_pb2_grpc.HealthStub
_MODEL_REQUEST = pose_pb2.GetModelRequest()
_HEALTH_REQUEST = health_pb2.HealthCheckRequest(service=SERVICE_NAME)


class GrpcPoseClient(PoseClient):
    """See `PoseClient`."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Raises OSError for certificates that cannot be read."""
        self._endpoint = endpoint
        self._channel = _open_channel(endpoint, grpc)
        self._stub = _Stub(self._channel)
        self._health = _HealthStub(self._channel)

    def estimate(
        self,
        image: bytes | Path,
        *,
        boxes_xywh: Sequence[Box] | None = None,
        flip_test: bool = False,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> PoseResult:
        message = pose_message(read_request(image, boxes_xywh, flip_test))
        call = _call(self._endpoint, timeout_s, request_id)
        with _translated(self._endpoint, call):
            return read_poses(self._stub.EstimatePose(message, **call))

    def explain(
        self, request: DependencyRequest, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> DependencyMap | bytes:
        call = _call(self._endpoint, timeout_s, request_id)
        with _translated(self._endpoint, call):
            return read_dependency(self._stub.GetDependency(dependency_message(request), **call))

    def stream(
        self,
        frames: Iterable[Frame],
        *,
        options: StreamOptions | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> Iterator[FrameAnswer]:
        feed = Feed(frames, options)
        call = _stream_call(self._endpoint, timeout_s, request_id)
        answers = self._stub.StreamPoses(feed.messages(), **call)
        try:
            with _translated(self._endpoint, call):
                for message in answers:
                    answer = feed.settled(read_frame(message))
                    yield answer
                    feed.answered()
        finally:
            feed.end()
            answers.cancel()
        feed.check(self._endpoint.address)

    def is_ready(self) -> bool:
        call = _call(self._endpoint, None, None)
        try:
            with _translated(self._endpoint, call):
                return _is_serving(self._health.Check(_HEALTH_REQUEST, **call))
        except (Unavailable, Late):
            return False

    def model(self) -> ModelInfo:
        call = _call(self._endpoint, None, None)
        with _translated(self._endpoint, call):
            return read_model(self._stub.GetModel(_MODEL_REQUEST, **call))

    def close(self) -> None:
        self._channel.close()


class AsyncGrpcPoseClient(AsyncPoseClient):
    """See `AsyncPoseClient`."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Raises OSError for certificates that cannot be read, RuntimeError where no event loop runs."""
        asyncio.get_running_loop()  # gRPC would make one of its own
        self._endpoint = endpoint
        self._channel = _open_channel(endpoint, grpc.aio)
        self._stub = _Stub(self._channel)
        self._health = _HealthStub(self._channel)

    async def estimate(
        self,
        image: bytes | Path,
        *,
        boxes_xywh: Sequence[Box] | None = None,
        flip_test: bool = False,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> PoseResult:
        message = pose_message(await asyncio.to_thread(read_request, image, boxes_xywh, flip_test))
        call = _call(self._endpoint, timeout_s, request_id)
        with _translated(self._endpoint, call):
            return read_poses(await self._stub.EstimatePose(message, **call))

    async def explain(
        self, request: DependencyRequest, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> DependencyMap | bytes:
        call = _call(self._endpoint, timeout_s, request_id)
        with _translated(self._endpoint, call):
            return read_dependency(await self._stub.GetDependency(dependency_message(request), **call))

    async def stream(
        self,
        frames: Iterable[Frame] | AsyncIterable[Frame],
        *,
        options: StreamOptions | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> AsyncIterator[FrameAnswer]:
        feed = AsyncFeed(frames, options)
        call = _stream_call(self._endpoint, timeout_s, request_id)
        answers = self._stub.StreamPoses(feed.messages(), **call)
        ending = AsyncEnding(answers)
        try:
            async for message in answers:
                answer = feed.settled(read_frame(message))
                yield answer
                feed.answered()
        except grpc.RpcError as raised:
            if (error := await ending.error(raised)) is not None:
                raise error_of_call(error, self._endpoint.address, timeout_s) from error
        finally:
            answers.cancel()
        feed.check(self._endpoint.address)

    async def is_ready(self) -> bool:
        call = _call(self._endpoint, None, None)
        try:
            with _translated(self._endpoint, call):
                return _is_serving(await self._health.Check(_HEALTH_REQUEST, **call))
        except (Unavailable, Late):
            return False

    async def model(self) -> ModelInfo:
        call = _call(self._endpoint, None, None)
        with _translated(self._endpoint, call):
            return read_model(await self._stub.GetModel(_MODEL_REQUEST, **call))

    async def aclose(self) -> None:
        await self._channel.close()


def _open_channel(endpoint: Endpoint, kind: Any) -> Any:
    """A channel of `grpc` or of `grpc.aio`; it connects when it is first used."""
    if not endpoint.uses_tls:
        return kind.insecure_channel(endpoint.host_port, CHANNEL_OPTIONS)
    credentials = grpc.ssl_channel_credentials(*endpoint.read_certificates())
    return kind.secure_channel(endpoint.host_port, credentials, CHANNEL_OPTIONS)


def _call(endpoint: Endpoint, timeout_s: float | None, request_id: str | None) -> dict[str, Any]:
    """What every call takes beside its message. Raises InvalidParameter, ValueError."""
    metadata = tuple(endpoint.headers(request_id).items())
    return {"timeout": endpoint.timeout_of_call_s(timeout_s), "metadata": metadata}


def _stream_call(endpoint: Endpoint, timeout_s: float | None, request_id: str | None) -> dict[str, Any]:
    """As `_call`, but without a time there is no end to a stream."""
    call = _call(endpoint, timeout_s, request_id)
    return call if timeout_s is not None else call | {"timeout": None}


def _is_serving(answer: health_pb2.HealthCheckResponse) -> bool:
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@contextmanager
def _translated(endpoint: Endpoint, call: dict[str, Any]) -> Iterator[None]:
    """Errors of gRPC as errors of the service."""
    try:
        yield
    except grpc.RpcError as error:
        raise error_of_call(error, endpoint.address, call["timeout"]) from error
