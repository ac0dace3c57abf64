"""The frames of one gRPC stream: each with its answer, its age, and the error that it met.

The first frame says how the stream is to be answered. Knows how that goes over gRPC; what becomes of a frame is the
service's, who is who is `service.following`'s.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import grpc

from service.core import PoseService
from service.errors import PoseServiceError
from service.following import Following, follow
from service.grpc_errors import CODE_OF_ERROR, DEFECT_MESSAGE
from service.grpc_messages import followed_frame, frame_answer, frame_error, pose_request, stream_settings
from service.grpc_stream import Dropped, answer_in_order, answer_newest
from service.pb import pose_pb2 as pb
from service.poses import PoseResult
from service.record import DEFECT, Caller, RequestRecord
from service.streaming import StreamObserver, StreamSettings
from service.telling import tell

log = logging.getLogger(__name__)

Read = Callable[[], Awaitable[pb.StreamPosesRequest | None]]
Write = Callable[[pb.StreamPosesResponse], Awaitable[None]]


@dataclass(frozen=True)
class Arrived:
    """A message, and when it was read (`time.monotonic`): of a request or of the answer to it."""

    message: pb.StreamPosesRequest
    at_s: float


@dataclass(frozen=True)
class Answered:
    """The answer to a message that was read at `arrived_s`."""

    message: pb.StreamPosesResponse
    arrived_s: float


async def answer_frames(
    service: PoseService, caller: Caller, read: Read, write: Write, *, max_frames: int, observer: StreamObserver
) -> None:
    """Answer the frames of a stream until there are no more.

    Args:
        service: behind it.
        caller: of the stream; it has its place already.
        read: the next frame; None at the end.
        write: sends one answer.
        max_frames: the most that are read and unanswered, where every frame is answered.
        observer: is told of answers and of dropped frames.

    Raises InvalidParameter for options that mean nothing, and what `read` and `write` raise.
    """
    first = await read()
    if first is None:
        return
    settings = stream_settings(first.options)
    frames = _Frames(service, caller, settings, observer)
    put_back = [Arrived(first, time.monotonic())]

    async def next_frame() -> Arrived | None:
        if put_back:
            return put_back.pop()
        message = await read()
        return None if message is None else Arrived(message, time.monotonic())

    async def send(answered: Answered) -> None:
        age_s = time.monotonic() - answered.arrived_s
        answered.message.age_seconds = age_s
        await write(answered.message)
        tell(lambda: observer.on_frame_answered(settings.pace, age_s))

    if settings.pace == "every_frame":
        await answer_in_order(next_frame, frames.answer, send, limit=max_frames)
    else:
        await answer_newest(
            next_frame,
            frames.answer,
            send,
            id_of=lambda frame: frame.message.frame_id,
            on_dropped=lambda: tell(lambda: observer.on_frame_dropped(settings.pace)),
        )


class _Frames:
    """Answers single frames of one stream."""

    def __init__(
        self, service: PoseService, caller: Caller, settings: StreamSettings, observer: StreamObserver
    ) -> None:
        self._service = service
        self._caller = caller
        self._observer = observer
        self._following: Following | None = follow(service, settings)

    async def answer(self, frame: Arrived, dropped: Dropped | None = None) -> Answered:
        """Never raises: what is wrong with a frame is in its answer. To be started in the order of the frames."""
        answer = await self._answer(frame)
        if dropped is not None:
            answer.dropped_frames = dropped.frames
            answer.dropped_frame_ids.extend(dropped.last_ids)
        return Answered(answer, frame.at_s)

    async def _answer(self, frame: Arrived) -> pb.StreamPosesResponse:
        message, frame_id = frame.message, frame.message.frame_id
        caller = replace(
            self._caller, method="frame", request_id=f"{self._caller.request_id}/{frame_id}", timeout_s=None
        )
        try:
            async with self._service.admission.frame(caller) as record:
                self._service.admission.hold(record, len(message.image) + len(message.raw.rgb))
                return frame_answer(frame_id, await self._estimate(frame, record))
        except PoseServiceError as error:
            return frame_error(frame_id, CODE_OF_ERROR[type(error)].value[0], str(error), error.reason)
        except Exception:
            log.exception("request %s failed on a defect", caller.request_id)
            return frame_error(frame_id, grpc.StatusCode.INTERNAL.value[0], DEFECT_MESSAGE, DEFECT)

    async def _estimate(self, frame: Arrived, record: RequestRecord) -> PoseResult:
        if self._following is None:
            return await self._service.estimate(pose_request(frame.message), record, patient=True)
        return await self._following.answer(followed_frame(frame.message, arrived_s=frame.at_s), record)
