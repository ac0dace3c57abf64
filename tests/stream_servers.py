"""A stand-in for the service's streams, as proto/pose.proto says them: pace, dropped frames, identities, ages.

It takes the red square of `videos` for the one person of a frame. Identities count from 1 on every stream.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import simplejpeg

from client_answers import MODEL
from service.grpc_messages import model_response
from service.pb import pose_pb2 as pb
from service.pb import pose_pb2_grpc
from videos import Pixels, found

BOX = 12.0  # pixels


@dataclass
class Streams:
    """A running stand-in: where it is, what it was sent, and how the tests change what it does.

    sent: of each stream its messages. answered: frames, on all streams.
    hold_until: of a live stream, how many frames must have come before an answer is given, and more for the next one.
    then: called after each answer with how many there were.
    silent: whether streams give no answer. over: set when a client has stopped sending.
    """

    port: int
    sent: list[list[Any]] = field(default_factory=list)
    answered: int = 0
    hold_until: int = 0
    silent: bool = False
    refuse_models: int = 0
    bad_frames: frozenset[int] = frozenset()
    then: Callable[[int], None] = lambda _: None
    over: threading.Event = field(default_factory=threading.Event)
    server: Any = None
    restarts: list[threading.Thread] = field(default_factory=list)

    @property
    def host_port(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self.server = grpc.server(ThreadPoolExecutor(max_workers=8))
        pose_pb2_grpc.add_PoseServiceServicer_to_server(_Servicer(self), self.server)
        assert self.server.add_insecure_port(self.host_port)
        self.server.start()

    def kill(self) -> None:
        self.server.stop(grace=None).wait()

    def die(self) -> threading.Event:
        """At once, as far as a client can tell. The event is set when all of it has ended."""
        ended: threading.Event = self.server.stop(grace=None)
        return ended

    def restart_after(self, answers: int, *, until: Callable[[], object]) -> threading.Event:
        """Die when so many frames were answered, and start again when `until` returns. Set when it dies."""
        died = threading.Event()

        def restart(ended: threading.Event) -> None:
            ended.wait()
            until()
            self.start()

        def then(answered: int) -> None:
            if answered == answers and not died.is_set():
                ended = self.die()
                died.set()
                self.restarts.append(threading.Thread(target=restart, args=(ended,)))
                self.restarts[-1].start()

        self.then = then
        return died

    def numbers(self) -> list[list[int]]:
        """Ids of the frames of each stream, as they came."""
        return [[one.frame_id for one in stream] for stream in self.sent]


@contextmanager
def stream_server(**how: Any) -> Iterator[Streams]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    streams = Streams(port, **how)
    streams.start()
    try:
        yield streams
    finally:
        for restart in streams.restarts:
            restart.join(60)
        streams.kill()


def pixels_of(message: Any) -> Pixels:
    """What a frame shows."""
    if message.HasField("raw"):
        raw = message.raw
        return np.frombuffer(raw.rgb, dtype=np.uint8).reshape(raw.height, raw.width, 3)
    return simplejpeg.decode_jpeg(message.image)


class _Servicer(pose_pb2_grpc.PoseServiceServicer):
    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    def GetModel(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self._streams.refuse_models:
            self._streams.refuse_models -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "not ready")
        return model_response(MODEL)

    def StreamPoses(self, requests: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        sent: list[Any] = []
        self._streams.sent.append(sent)
        first = next(requests, None)
        if first is None:
            return
        sent.append(first)
        arriving = _Arriving(
            first, requests, sent, self._streams.over, is_live=first.options.pace == pb.STREAM_PACE_LIVE
        )
        given = 0
        while (due := arriving.next(context)) is not None:
            message, dropped = due
            while self._streams.silent and context.is_active():
                time.sleep(0.01)
            given += 1
            while arriving.count < self._streams.hold_until * given and not arriving.over:
                time.sleep(0.001)
            self._streams.answered += 1
            yield self._answer(message, dropped, first.options)
            self._streams.then(self._streams.answered)

    def _answer(self, message: Any, dropped: list[int], options: Any) -> Any:
        told = {"frame_id": message.frame_id, "dropped_frames": len(dropped), "dropped_frame_ids": dropped[-1024:]}
        if message.frame_id in self._streams.bad_frames:
            error = pb.FrameError(code=3, reason="not_an_image", message="that is no picture")
            return pb.StreamPosesResponse(error=error, **told)
        image = pixels_of(message)
        x, y = found(image)
        keypoints = [pb.Keypoint(x=x + shift % 5 - 2, y=y + shift // 5 - 2, score=0.9) for shift in range(17)]
        box = pb.Box(x=x - BOX / 2, y=y - BOX / 2, width=BOX, height=BOX)
        return pb.StreamPosesResponse(
            image=pb.ImageSize(width=image.shape[1], height=image.shape[0]),
            poses=[pb.Pose(bbox=box, score=0.9, keypoints=keypoints, track_id=0 if options.plain else 1)],
            detected=not options.plain,
            age_seconds=0.002,
            **told,
        )


class _Arriving:
    """Frames as they come: all of them in turn, or the newest of a live stream."""

    def __init__(self, first: Any, requests: Any, sent: list[Any], over: threading.Event, *, is_live: bool) -> None:
        self._waiting = deque([first])
        self._is_live = is_live
        self._changed = threading.Condition()
        self.count, self.over = 1, False
        threading.Thread(target=self._read, args=(requests, sent, over), daemon=True).start()

    def next(self, context: Any) -> tuple[Any, list[int]] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self.over)
            if not self._waiting or not context.is_active():
                return None
            dropped = [self._waiting.popleft().frame_id for _ in range(len(self._waiting) - 1)] if self._is_live else []
            return self._waiting.popleft(), dropped

    def _read(self, requests: Any, sent: list[Any], over: threading.Event) -> None:
        try:
            for message in requests:
                sent.append(message)
                with self._changed:
                    self._waiting.append(message)
                    self.count += 1
                    self._changed.notify_all()
        except grpc.RpcError:
            pass  # the client has gone
        finally:
            with self._changed:
                self.over = True
                self._changed.notify_all()
            over.set()
