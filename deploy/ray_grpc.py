"""The service's gRPC methods, called by Ray's proxies instead of a gRPC server. Knows nothing of poses, or of Ray.

A proxy hands over messages and a context that can be sent between processes: it has metadata and a status, but no
deadline (a call that is over is cancelled), and nothing to read frames from or to write answers to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

import grpc

from service.grpc_api import Context, PoseServicer
from service.pb import pose_pb2 as pb

Answer = TypeVar("Answer")


class Aborted(Exception):
    """The call is over; its status is in the context."""


class ProxyContext:
    """What `PoseServicer` needs of a context.

    Args:
        outside: the proxy's.
        frames: of a stream.
    """

    def __init__(self, outside: Any, frames: AsyncIterator[Any] | None = None) -> None:
        self._outside = outside
        self._frames = frames
        self.answers: asyncio.Queue[Any] = asyncio.Queue(maxsize=1)  # the proxy takes them when it has sent the last

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        return tuple(self._outside.invocation_metadata())

    def set_trailing_metadata(self, metadata: Sequence[tuple[str, str]]) -> None:
        self._outside.set_trailing_metadata(list(metadata))

    def time_remaining(self) -> float | None:
        """Not told."""
        return None

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Sequence[tuple[str, str]] | None = None
    ) -> None:
        """End the call. Raises Aborted."""
        if trailing_metadata is not None:
            self.set_trailing_metadata(trailing_metadata)
        self._outside.set_code(code)
        self._outside.set_details(details)
        raise Aborted(details)

    async def read(self) -> Any:
        """The next frame."""
        assert self._frames is not None
        return await anext(self._frames, grpc.aio.EOF)

    async def write(self, answer: Any) -> None:
        """One answer."""
        await self.answers.put(answer)


async def unary(
    call: Callable[[Any, Context], Awaitable[Answer]], request: Any, outside: Any, empty: Callable[[], Answer]
) -> Answer:
    """The answer; an empty one for an error, which the proxy does not pass on: its status and metadata count."""
    context: Any = ProxyContext(outside)
    try:
        return await call(request, context)
    except Aborted:
        return empty()


async def stream_poses(
    servicer: PoseServicer, frames: AsyncIterator[Any], outside: Any
) -> AsyncIterator[pb.StreamPosesResponse]:
    """The answers to a stream. Raises Aborted for an error that ends it: of that the proxy tells code and details."""
    context = ProxyContext(outside, frames)
    inside: Any = context
    work = asyncio.ensure_future(servicer.StreamPoses(frames, inside))
    try:
        while not (work.done() and context.answers.empty()):
            taking = asyncio.ensure_future(context.answers.get())
            try:
                await asyncio.wait({work, taking}, return_when=asyncio.FIRST_COMPLETED)
                if taking.done():
                    yield taking.result()
            finally:
                taking.cancel()
        await work
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
