"""Both ends of a gRPC stream: frames on their way into it, and how the server ended it.

gRPC takes the messages of a call from an iterator, as fast as the connection takes them; here each waits until those
before it are answered, all but MAX_AHEAD, so that neither side piles them up. Of a live stream only the newest frame is
taken, and a frame counts as answered, too, when the service tells that it was dropped. What a caller's iterator raises
would be lost in gRPC's thread, and is kept for the caller instead.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Iterable, Iterator
from dataclasses import replace
from typing import Any

import grpc

from service.client_errors import UnexpectedAnswer
from service.client_frames import MAX_AHEAD, MAX_AHEAD_LIVE, Frame, FrameAnswer, each
from service.client_grpc_messages import frame_message, options_message
from service.client_newest import Newest, Turn, newest
from service.client_options import StreamOptions
from service.errors import Unavailable
from service.pb import pose_pb2 as pb

# What grpc.aio says in place of the server's own status, if that comes while a message is being sent
# (https://github.com/grpc/grpc/issues/36066).
HIDDEN = (grpc.StatusCode.INTERNAL, "Internal error from Core")
HIDDEN_FOR_S = 1.0  # at most; the status is there, or in the event loop's next rounds


class _Ledger:
    """What was sent and is not answered yet, and how the frames ended."""

    def __init__(self, options: StreamOptions | None) -> None:
        self._options = options
        self._is_live = options is not None and options.is_live
        self._ahead = MAX_AHEAD_LIVE if self._is_live else MAX_AHEAD
        self._unanswered: deque[tuple[int, tuple[int, ...]]] = deque()  # ids, and those that gave way to each
        self._over = 0  # of those that were sent, with the last answer
        self._complete = False
        self._failure: Exception | None = None

    def check(self, address: str) -> None:
        """After the last answer. Raises what the frames raised, and Unavailable if the service left some unanswered."""
        if self._failure is not None:
            raise self._failure
        if not self._complete or self._unanswered:
            raise Unavailable(f"{address} ended the stream before every frame was answered")

    def _message(self, turn: Turn) -> pb.StreamPosesRequest:
        """Raises OSError for a frame whose file cannot be read."""
        frame, skipped = turn
        message = frame_message(frame)
        if self._options is not None:
            message.options.CopyFrom(options_message(self._options))
            self._options = None  # the first frame has said them
        self._unanswered.append((frame.frame_id, skipped))
        return message

    def settled(self, answer: FrameAnswer) -> FrameAnswer:
        """An answer with all frames that were dropped before it.

        Raises UnexpectedAnswer if it is not the answer to one of the frames that were sent, in their order.
        """
        dropped: list[int] = []
        for place in range(answer.dropped_frames + 1):
            if not self._unanswered:
                raise UnexpectedAnswer(f"the service answered or dropped frame {answer.frame_id}, which was not sent")
            frame_id, skipped = self._unanswered.popleft()
            dropped += skipped
            if place < answer.dropped_frames:
                dropped.append(frame_id)
            elif frame_id != answer.frame_id:
                raise UnexpectedAnswer(
                    f"the service answered frame {answer.frame_id} in the place of {frame_id}, having dropped "
                    f"{answer.dropped_frames}"
                )
        self._over = answer.dropped_frames + 1
        return replace(answer, dropped_frames=len(dropped), dropped_frame_ids=tuple(dropped))


class Feed(_Ledger):
    """Frames as messages, for the thread in which gRPC sends them; the other methods are for the caller's thread."""

    def __init__(self, frames: Iterable[Frame], options: StreamOptions | None = None) -> None:
        super().__init__(options)
        self._frames = frames
        self._newest = Newest(frames) if self._is_live else None
        self._room = threading.Semaphore(self._ahead)
        self._ended = False

    def messages(self) -> Iterator[pb.StreamPosesRequest]:
        """The frames, in their order."""
        try:
            turns = self._newest or ((frame, ()) for frame in self._frames)
            while self._room.acquire() and not self._ended:
                if (turn := next(turns, None)) is None:
                    self._complete = True
                    return
                yield self._message(turn)
        except Exception as error:
            self._failure = error

    def answered(self) -> None:
        """The answer that was settled last has been taken."""
        self._room.release(self._over)

    def end(self) -> None:
        """Take no more frames; one that is being taken is not sent."""
        self._ended = True
        self._room.release()
        if self._newest is not None:
            self._newest.end()


class AsyncFeed(_Ledger):
    """Frames as messages, all in one event loop."""

    def __init__(self, frames: Iterable[Frame] | AsyncIterable[Frame], options: StreamOptions | None = None) -> None:
        super().__init__(options)
        frames = each(frames)
        self._turns = newest(frames) if self._is_live else _turns(frames)
        self._room = asyncio.Semaphore(self._ahead)

    async def messages(self) -> AsyncIterator[pb.StreamPosesRequest]:
        """The frames, in their order."""
        try:
            while await self._room.acquire():
                if (turn := await anext(self._turns, None)) is None:
                    self._complete = True
                    return
                yield await asyncio.to_thread(self._message, turn)
        except Exception as error:
            self._failure = error

    def answered(self) -> None:
        """The answer that was settled last has been taken."""
        for _ in range(self._over):
            self._room.release()


async def _turns(frames: AsyncIterator[Frame]) -> AsyncIterator[Turn]:
    async for frame in frames:
        yield frame, ()


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
