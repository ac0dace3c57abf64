"""The clients over HTTP: they send what `client_http_messages` makes of requests, and give its answers back."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from service.client_base import AsyncPoseClient, PoseClient
from service.client_endpoint import Endpoint
from service.client_errors import UnexpectedAnswer
from service.client_frames import Frame, FrameAnswer, each, read_request
from service.client_http_messages import (
    dependency_call,
    get_call,
    pose_call,
    read_dependency,
    read_model,
    read_poses,
    read_ready,
)
from service.client_options import StreamOptions
from service.errors import InvalidParameter, Late, PoseServiceError, Unauthenticated, Unavailable
from service.poses import Box, DependencyMap, DependencyRequest, ModelInfo, PoseRequest, PoseResult

ENDS_STREAM = (Unauthenticated, Unavailable, UnexpectedAnswer)  # they concern every frame


class HttpPoseClient(PoseClient):
    """See `PoseClient`. Connecting, sending and waiting may each take as long as the timeout says."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Raises ValueError for an address that cannot be one, OSError for certificates that cannot be read."""
        self._endpoint = endpoint
        self._client = httpx.Client(**_settings(endpoint))

    def estimate(
        self,
        image: bytes | Path,
        *,
        boxes_xywh: Sequence[Box] | None = None,
        flip_test: bool = False,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> PoseResult:
        request = read_request(image, boxes_xywh, flip_test)
        return read_poses(self._send(pose_call(self._endpoint, request, timeout_s, request_id)))

    def explain(
        self, request: DependencyRequest, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> DependencyMap | bytes:
        return read_dependency(self._send(dependency_call(self._endpoint, request, timeout_s, request_id)))

    def stream(
        self,
        frames: Iterable[Frame],
        *,
        options: StreamOptions | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> Iterator[FrameAnswer]:
        _check_offered(options)
        clock = _StreamClock(self._endpoint, timeout_s)
        for frame in frames:
            yield self._answer(frame, clock.left_s(), request_id)

    def is_ready(self) -> bool:
        try:
            return read_ready(self._send(get_call(self._endpoint, "readyz")))
        except (Unavailable, Late):
            return False

    def model(self) -> ModelInfo:
        return read_model(self._send(get_call(self._endpoint, "model")))

    def close(self) -> None:
        self._client.close()

    def _answer(self, frame: Frame, timeout_s: float, request_id: str | None) -> FrameAnswer:
        request = _read_frame(frame)
        call = pose_call(self._endpoint, request, timeout_s, request_id)
        try:
            result = read_poses(self._send(call))
        except PoseServiceError as error:
            return _failed(frame, error)
        return FrameAnswer(frame.frame_id, result, None)

    def _send(self, call: dict[str, Any]) -> httpx.Response:
        with _translated(self._endpoint, call["timeout"]):
            return self._client.request(**call)


class AsyncHttpPoseClient(AsyncPoseClient):
    """See `AsyncPoseClient`. The timeout is for connecting, sending and waiting together."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Raises ValueError for an address that cannot be one, OSError for certificates that cannot be read."""
        self._endpoint = endpoint
        self._client = httpx.AsyncClient(**_settings(endpoint))

    async def estimate(
        self,
        image: bytes | Path,
        *,
        boxes_xywh: Sequence[Box] | None = None,
        flip_test: bool = False,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> PoseResult:
        request = await asyncio.to_thread(read_request, image, boxes_xywh, flip_test)
        return read_poses(await self._send(pose_call(self._endpoint, request, timeout_s, request_id)))

    async def explain(
        self, request: DependencyRequest, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> DependencyMap | bytes:
        return read_dependency(await self._send(dependency_call(self._endpoint, request, timeout_s, request_id)))

    async def stream(
        self,
        frames: Iterable[Frame] | AsyncIterable[Frame],
        *,
        options: StreamOptions | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> AsyncIterator[FrameAnswer]:
        _check_offered(options)
        clock = _StreamClock(self._endpoint, timeout_s)
        async for frame in each(frames):
            yield await self._answer(frame, clock.left_s(), request_id)

    async def is_ready(self) -> bool:
        try:
            return read_ready(await self._send(get_call(self._endpoint, "readyz")))
        except (Unavailable, Late):
            return False

    async def model(self) -> ModelInfo:
        return read_model(await self._send(get_call(self._endpoint, "model")))

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _answer(self, frame: Frame, timeout_s: float, request_id: str | None) -> FrameAnswer:
        request = await asyncio.to_thread(_read_frame, frame)
        call = pose_call(self._endpoint, request, timeout_s, request_id)
        try:
            result = read_poses(await self._send(call))
        except PoseServiceError as error:
            return _failed(frame, error)
        return FrameAnswer(frame.frame_id, result, None)

    async def _send(self, call: dict[str, Any]) -> httpx.Response:
        with _translated(self._endpoint, call["timeout"]):
            async with asyncio.timeout(call["timeout"]):
                return await self._client.request(**call)


class _StreamClock:
    """How long the next frame of a stream may take."""

    def __init__(self, endpoint: Endpoint, timeout_s: float | None) -> None:
        self._frame_timeout_s = endpoint.timeout_s
        self._timeout_s = None if timeout_s is None else endpoint.timeout_of_call_s(timeout_s)
        self._started_s = time.monotonic()

    def left_s(self) -> float:
        """In seconds. Raises Late when the time of the whole stream is over."""
        if self._timeout_s is None:
            return self._frame_timeout_s
        left_s = self._started_s + self._timeout_s - time.monotonic()
        if left_s <= 0:
            raise Late(f"the stream took longer than {self._timeout_s:g} s")
        return min(left_s, self._frame_timeout_s)


def _check_offered(options: StreamOptions | None) -> None:
    """Frames that are requests of their own cannot be followed, nor dropped for newer ones."""
    if options is not None and not (options.plain and options.pace == "every_frame"):
        raise InvalidParameter(
            f"{options} is not offered over HTTP, where each frame is a request of its own; allowed there: None, or "
            "StreamOptions(plain=True); anything else at a grpc:// or grpcs:// address"
        )


def _read_frame(frame: Frame) -> PoseRequest:
    if frame.image is None:
        raise InvalidParameter(
            f"frame {frame.frame_id} has raw pixels, which are not offered over HTTP; allowed there: image"
        )
    return read_request(frame.image, frame.boxes_xywh, frame.flip_test)


def _failed(frame: Frame, error: PoseServiceError) -> FrameAnswer:
    if isinstance(error, ENDS_STREAM):
        raise error
    return FrameAnswer(frame.frame_id, None, error)


def _settings(endpoint: Endpoint) -> dict[str, Any]:
    """The arguments of `httpx.Client`."""
    try:
        base_url = httpx.URL(endpoint.address)
    except httpx.InvalidURL as error:
        raise ValueError(f"the address {endpoint.address!r} cannot be read: {error}") from error
    return {"base_url": base_url, "verify": _tls(endpoint)}


def _tls(endpoint: Endpoint) -> ssl.SSLContext:
    """How the service is known, and the client to the service."""
    if not endpoint.uses_tls:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody; the usual authorities take long to read
    endpoint.read_certificates()  # whose error names the file
    try:
        ca = endpoint.ca_cert
        context = httpx.create_ssl_context() if ca is None else ssl.create_default_context(cafile=ca)
        if endpoint.client_cert is not None:
            context.load_cert_chain(endpoint.client_cert, endpoint.client_key)
    except ssl.SSLError as error:
        raise ValueError(f"the certificates for {endpoint.address} cannot be used: {error}") from error
    return context


@contextmanager
def _translated(endpoint: Endpoint, timeout_s: float) -> Iterator[None]:
    """Errors of the connection as errors of the service."""
    try:
        yield
    except (httpx.TimeoutException, TimeoutError) as error:
        raise Late(f"{endpoint.address} did not answer within {timeout_s:g} s") from error
    except httpx.ConnectError as error:
        raise Unavailable(f"cannot connect to {endpoint.address}: {str(error) or type(error).__name__}") from error
    except (httpx.RequestError, ssl.SSLError) as error:  # httpx passes on what TLS says late, as TLS 1.3 may
        raise Unavailable(
            f"the connection to {endpoint.address} broke: {str(error) or type(error).__name__}"
        ) from error
