"""Both ends of a gRPC stream: frames on their way into it, and how the server ended it.

gRPC takes the messages of a call from an iterator, as fast as the connection takes them; here each waits until those
before it are answered, all but MAX_AHEAD, so that neither side piles them up. What a caller's iterator raises would be
lost in gRPC's thread, and is kept for the caller instead.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Iterable, Iterator
from typing import Any

import grpc

from service.client_frames import MAX_AHEAD, Frame, each
from service.client_grpc_messages import frame_message
from service.errors import Unavailable
from service.pb import pose_pb2 as pb

# What grpc.aio says in place of the server's own status, if that comes while a message is being sent
# (https://github.com/grpc/grpc/issues/36066).
HIDDEN = (grpc.StatusCode.INTERNAL, "Internal error from Core")
HIDDEN_FOR_S = 1.0  # at most; the status is there, or in the event loop's next rounds


class _Ledger:
    """What was sent, what was answered, and how the frames ended."""

    def __init__(self) -> None:
        self._sent = self._answered = 0
        self._complete = False
        self._failure: Exception | None = None

    def check(self, address: str) -> None:
        """After the last answer. Raises what the frames raised, and Unavailable if the service left some unanswered."""
        if self._failure is not None:
            raise self._failure
        if not self._complete or self._answered != self._sent:
            raise Unavailable(f"{address} ended the stream before every frame was answered")


class Feed(_Ledger):
    """Frames as messages, for the thread in which gRPC sends them; the other methods are for the caller's thread."""

    def __init__(self, frames: Iterable[Frame]) -> None:
        super().__init__()
        self._frames = frames
        self._room = threading.Semaphore(MAX_AHEAD)
        self._ended = False

    def messages(self) -> Iterator[pb.StreamPosesRequest]:
        """The frames, in their order."""
        try:
            iterator = iter(self._frames)
            while self._room.acquire() and not self._ended:
                if (frame := next(iterator, None)) is None:
                    self._complete = True
                    return
                message = frame_message(frame)
                self._sent += 1
                yield message
        except Exception as error:
            self._failure = error

    def answered(self) -> None:
        """One more answer has been taken."""
        self._answered += 1
        self._room.release()

    def end(self) -> None:
        """Take no more frames; one that is being taken is not sent."""
        self._ended = True
        self._room.release()


class AsyncFeed(_Ledger):
    """Frames as messages, all in one event loop."""

    def __init__(self, frames: Iterable[Frame] | AsyncIterable[Frame]) -> None:
        super().__init__()
        self._frames = each(frames)
        self._room = asyncio.Semaphore(MAX_AHEAD)

    async def messages(self) -> AsyncIterator[pb.StreamPosesRequest]:
        """The frames, in their order."""
        try:
            while await self._room.acquire():
                if (frame := await anext(self._frames, None)) is None:
                    self._complete = True
                    return
                message = await asyncio.to_thread(frame_message, frame)
                self._sent += 1
                yield message
        except Exception as error:
            self._failure = error

    def answered(self) -> None:
        """One more answer has been taken."""
        self._answered += 1
        self._room.release()


class AsyncEnding:
    """How the server ended a call of grpc.aio.

    Args:
        call: not awaited yet.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._first: grpc.aio.AioRpcError | None = None
        call.add_done_callback(self._note)

    async def error(self, raised: grpc.RpcError) -> grpc.RpcError | None:
        """What the server ended the call with, `raised` having come out of it; None if it ended it well."""
        waited_s = 0.0
        while waited_s < HIDDEN_FOR_S:
            # The status and what hides it come in either order. Only the first is noted, only the last is kept.
            for error in (raised, self._first, self._status()):
                if error is not None and (error.code(), error.details()) != HIDDEN:
                    return None if error.code() is grpc.StatusCode.OK else error
            await asyncio.sleep(0.01)
            waited_s += 0.01
        return raised

    def _note(self, _: Any) -> None:
        self._first = self._status()

    def _status(self) -> grpc.aio.AioRpcError:
        parts = (self._call.code(), self._call.initial_metadata(), self._call.trailing_metadata(), self._call.details())
        return grpc.aio.AioRpcError(*map(_result_of, parts))


def _result_of(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that has nothing to wait for: those of a call that is done."""
    try:
        coroutine.send(None)
    except StopIteration as returned:
        return returned.value
    raise AssertionError("the call is done")
