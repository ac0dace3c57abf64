"""The gRPC adapter: each method reads a request, calls the service, and writes the answer. No decision is made here."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import grpc

from service.core import PoseService
from service.errors import Overloaded, PoseServiceError, Unavailable
from service.grpc_errors import CODE_OF_ERROR, DEFECT_MESSAGE
from service.grpc_frames import answer_frames
from service.grpc_messages import (
    dependency_request,
    dependency_response,
    estimate_pose_response,
    model_response,
    pose_request,
)
from service.pb import pose_pb2 as pb
from service.pb import pose_pb2_grpc
from service.record import DEPENDENCY, Caller, CallerGone, fit_request_id
from service.streaming import StreamObserver

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


class PoseServicer(pose_pb2_grpc.PoseServiceServicer):
    """`PoseService` over gRPC.

    Args:
        service: behind it.
        max_frames: the most frames of one stream that are read and unanswered, where every frame is answered.
        observer: is told how the frames of streams fare.
    """

    def __init__(self, service: PoseService, *, max_frames: int, observer: StreamObserver | None = None) -> None:
        self._service = service
        self._max_frames = max_frames
        self._observer = observer or StreamObserver()

    async def EstimatePose(  # noqa: N802 (the name in the contract)
        self, request: pb.EstimatePoseRequest, context: Context
    ) -> pb.EstimatePoseResponse:
        """The keypoints of each person in one picture."""
        caller = _caller(context, "pose")
        async with _errors_told(context, caller), self._service.admission.request(caller) as record:
            self._service.admission.hold(record, len(request.image))
            result = await self._service.estimate(pose_request(request), record)
            return estimate_pose_response(result)
        raise AssertionError("unreachable: an error ends the call")

    async def StreamPoses(  # noqa: N802
        self, _: AsyncIterator[pb.StreamPosesRequest], context: Context
    ) -> None:
        """Poses for the frames of a video, in their order."""
        caller = _caller(context, "stream")
        service = self._service
        async with _errors_told(context, caller):
            with service.admission.stream(caller):
                async with _until(service.stopping, context) as read:
                    await answer_frames(
                        service,
                        caller,
                        read,
                        partial(_write, context),
                        max_frames=self._max_frames,
                        observer=self._observer,
                    )
                if service.stopping.is_set():
                    raise Unavailable("the service is shutting down; send the other frames again")

    async def GetDependency(  # noqa: N802
        self, request: pb.GetDependencyRequest, context: Context
    ) -> pb.GetDependencyResponse:
        """What the network looked at when it placed one keypoint of one person."""
        caller = _caller(context, DEPENDENCY)
        async with _errors_told(context, caller), self._service.admission.request(caller) as record:
            self._service.admission.hold(record, len(request.image))
            found = await self._service.explain(dependency_request(request), record)
            return dependency_response(found)
        raise AssertionError("unreachable: an error ends the call")

    async def GetModel(  # noqa: N802
        self,
        _: pb.GetModelRequest,
        __: Context,
    ) -> pb.GetModelResponse:
        """What is being served; told to everybody, as over HTTP."""
        return model_response(self._service.info)


def _caller(context: Context, method: str) -> Caller:
    metadata: dict[str, Any] = dict(context.invocation_metadata() or ())
    request_id = fit_request_id(metadata.get("x-request-id"))
    context.set_trailing_metadata((("x-request-id", request_id),))
    return Caller(
        protocol="grpc",
        method=method,
        request_id=request_id,
        api_key=metadata.get("x-api-key"),
        timeout_s=context.time_remaining(),
        traceparent=metadata.get("traceparent"),
    )


@asynccontextmanager
async def _errors_told(context: Context, caller: Caller) -> AsyncIterator[None]:
    """End the call with a status for whatever goes wrong inside."""
    try:
        yield
    except PoseServiceError as error:
        metadata = [("x-request-id", caller.request_id), ("reason", error.reason)]
        if isinstance(error, Overloaded):
            metadata.append(("retry-after-ms", str(math.ceil(1000 * error.retry_after_s))))
        await context.abort(CODE_OF_ERROR[type(error)], str(error), trailing_metadata=tuple(metadata))
    except CallerGone:
        log.debug("the caller of request %s is gone", caller.request_id)
    except Exception:
        log.exception("request %s failed on a defect", caller.request_id)
        await context.abort(grpc.StatusCode.INTERNAL, DEFECT_MESSAGE)


async def _write(context: Context, answer: pb.StreamPosesResponse) -> None:
    try:
        await context.write(answer)
    except grpc.aio.BaseError as error:  # gRPC may tell this before it cancels the call
        raise CallerGone from error


@asynccontextmanager
async def _until(stopping: asyncio.Event, context: Context) -> AsyncIterator[Any]:
    """A function that reads the next frame of a call; None at its end, or when the service stops."""
    stop = asyncio.create_task(stopping.wait())

    async def read() -> pb.StreamPosesRequest | None:
        reading = asyncio.ensure_future(context.read())
        try:
            await asyncio.wait({reading, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                return None
            message = reading.result()
            return None if message is grpc.aio.EOF else message
        finally:
            reading.cancel()

    try:
        yield read
    finally:
        stop.cancel()
        with suppress(asyncio.CancelledError):
            await stop
