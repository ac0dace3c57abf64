"""Stand-ins for the service, for the tests of its client: canned answers over HTTP and over gRPC."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn
from urllib.parse import parse_qs, urlsplit

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from client_answers import MODEL, RETRY_AFTER_S, SOME_PNG, Asked, StandIn, some_map
from service.errors import Overloaded, PoseServiceError, Unauthenticated, Unavailable
from service.grpc_messages import dependency_response, model_response
from service.http_dependency import DependencyBody
from service.http_schemas import ModelBody, PosesBody
from service.pb import pose_pb2 as pb
from service.pb import pose_pb2_grpc
from service.poses import PoseResult

STATUS_OF_REASON = {
    "not_an_image": 400,
    "unauthenticated": 401,
    "slow_request": 408,
    "too_large": 413,
    "unsupported_media": 415,
    "invalid_parameter": 422,
    "overloaded": 429,
    "engine_failed": 500,
    "unavailable": 503,
    "late": 504,
}
CODE_OF_REASON = {
    "not_an_image": grpc.StatusCode.INVALID_ARGUMENT,
    "unauthenticated": grpc.StatusCode.UNAUTHENTICATED,
    "slow_request": grpc.StatusCode.DEADLINE_EXCEEDED,
    "too_large": grpc.StatusCode.INVALID_ARGUMENT,
    "unsupported_media": grpc.StatusCode.INVALID_ARGUMENT,
    "invalid_parameter": grpc.StatusCode.INVALID_ARGUMENT,
    "overloaded": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "engine_failed": grpc.StatusCode.INTERNAL,
    "unavailable": grpc.StatusCode.UNAVAILABLE,
    "late": grpc.StatusCode.DEADLINE_EXCEEDED,
}


@contextmanager
def http_stand_in(tls: Any = None) -> Iterator[StandIn]:
    """Over HTTP/1.1; `tls` is an `ssl.SSLContext` of a server."""
    stand_in = StandIn()

    class Handler(_Handler):
        state = stand_in

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that hangs up is part of the tests."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        stand_in.address = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield stand_in
        finally:
            stand_in.released.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one packet: a second one would wait for the first to be acknowledged
    state: StandIn

    def do_GET(self) -> None:
        self.state.asked.append(Asked(path=self.path, headers=self._headers()))
        if self.state.says is not None:
            self._say(*self.state.says)
        elif self.path.endswith("/model"):
            self._say(200, "application/json", ModelBody.of(MODEL).model_dump_json())
        elif self.state.ready:
            self._say(200, "application/json", '{"status": "ready"}')
        else:
            self._say_error("unavailable", "not ready: the network is warming up")

    def do_POST(self) -> None:
        asked = self._asked()
        if self.state.says is not None:
            self._say(*self.state.says)
            return
        try:
            result = self.state.answer(asked)
        except PoseServiceError as error:
            headers = {"Retry-After": str(RETRY_AFTER_S)} if isinstance(error, Overloaded) else {}
            self._say_error(error.reason, str(error), headers)
        else:
            self._say_result(result)

    def _say_result(self, result: PoseResult) -> None:
        parts = urlsplit(self.path)
        if not parts.path.endswith("/dependency"):
            self._say(200, "application/json", PosesBody.of(result).model_dump_json())
        elif parse_qs(parts.query)["format"] == ["json"]:
            self._say(200, "application/json", DependencyBody.of(some_map()).model_dump_json())
        else:
            self._say(200, "image/png", SOME_PNG)

    def _asked(self) -> Asked:
        body = self.rfile.read(int(self.headers["content-length"]))
        asked = Asked(image=body, path=self.path, headers=self._headers())
        if self.headers["content-type"].startswith("multipart/form-data"):
            form = message_from_bytes(b"content-type: " + self.headers["content-type"].encode() + b"\r\n\r\n" + body)
            fields = {part.get_param("name", header="content-disposition"): part for part in form.get_payload()}
            asked.image = fields["image"].get_payload(decode=True)
            asked.boxes = [tuple(box) for box in json.loads(fields["boxes"].get_payload())]
        asked.flip_test = parse_qs(urlsplit(self.path).query) == {"flip_test": ["true"]}
        return asked

    def _headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers.items()}

    def _say_error(self, reason: str, detail: str, headers: dict[str, str] | None = None) -> None:
        problem = {"type": "about:blank", "title": reason, "status": STATUS_OF_REASON[reason], "detail": detail}
        self._say(STATUS_OF_REASON[reason], "application/problem+json", json.dumps(problem), headers)

    def _say(self, status: int, media_type: str, body: str | bytes, headers: dict[str, str] | None = None) -> None:
        content = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        more = {"Content-Type": media_type, "Content-Length": str(len(content))} | (headers or {})
        for name, value in more.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def grpc_stand_in(credentials: grpc.ServerCredentials | None = None) -> Iterator[StandIn]:
    """Over gRPC, with the standard health service."""
    stand_in = StandIn()
    threads = ThreadPoolExecutor(max_workers=4)
    server = grpc.server(threads)
    pose_pb2_grpc.add_PoseServiceServicer_to_server(_Servicer(stand_in), server)
    health_pb2_grpc.add_HealthServicer_to_server(_Health(stand_in), server)
    if credentials is None:
        stand_in.address = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    else:
        stand_in.address = f"grpcs://127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
    server.start()
    try:
        yield stand_in
    finally:
        stand_in.released.set()
        server.stop(grace=None).wait()
        threads.shutdown()


class _Health(health_pb2_grpc.HealthServicer):
    def __init__(self, stand_in: StandIn) -> None:
        self._state = stand_in

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self._state.says is not None:
            context.abort(*self._state.says)
        self._state.asked.append(Asked(path=request.service, headers=dict(context.invocation_metadata())))
        states = health_pb2.HealthCheckResponse
        return states(status=states.SERVING if self._state.ready else states.NOT_SERVING)


class _Servicer(pose_pb2_grpc.PoseServiceServicer):
    def __init__(self, stand_in: StandIn) -> None:
        self._state = stand_in

    def EstimatePose(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self._state.says is not None:
            context.abort(*self._state.says)
        try:
            return pb.EstimatePoseResponse(**_parts(self._state.answer(_asked(request, context))))
        except PoseServiceError as error:
            _end(context, error)

    def GetModel(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self._state.says is not None:
            context.abort(*self._state.says)
        return model_response(MODEL)

    def GetDependency(self, request: Any, context: Any) -> Any:  # noqa: N802
        if isinstance(self._state.says, pb.GetDependencyResponse):
            return self._state.says
        if self._state.says is not None:
            context.abort(*self._state.says)
        headers = dict(context.invocation_metadata())
        try:
            self._state.answer(Asked(image=request.image, headers=headers, message=request))
        except PoseServiceError as error:
            _end(context, error)
        is_map = request.format == pb.DEPENDENCY_FORMAT_MAP
        return dependency_response(some_map() if is_map else SOME_PNG)

    def StreamPoses(self, requests: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        context.add_callback(self._state.call_ended.set)
        waiting = []
        for number, request in enumerate(requests, start=1):
            waiting.append(request)
            if number >= self._state.hold_until:
                yield from (self._frame(one, context) for one in waiting)
                waiting.clear()
            if number == self._state.frames_answered:
                return
        yield from (self._frame(one, context) for one in waiting)

    def _frame(self, request: Any, context: Any) -> Any:
        try:
            parts = _parts(self._state.answer(_asked(request, context)))
        except (Unauthenticated, Unavailable) as error:
            _end(context, error)
        except PoseServiceError as error:
            code = CODE_OF_REASON[error.reason].value[0]
            parts = {"error": pb.FrameError(code=code, message=str(error), reason=error.reason)}
        return pb.StreamPosesResponse(frame_id=request.frame_id, **parts)


def _asked(request: Any, context: Any) -> Asked:
    return Asked(
        image=request.image,
        boxes=[(box.x, box.y, box.width, box.height) for box in request.boxes] or None,
        flip_test=request.flip_test,
        headers=dict(context.invocation_metadata()),
        time_left_s=context.time_remaining(),
    )


def _end(context: Any, error: PoseServiceError) -> NoReturn:
    metadata = [("reason", error.reason)]
    if isinstance(error, Overloaded):
        metadata.append(("retry-after-ms", str(1000 * RETRY_AFTER_S)))
    context.set_trailing_metadata(tuple(metadata))
    context.abort(CODE_OF_REASON[error.reason], str(error))
    raise AssertionError("abort raises")


def _parts(result: PoseResult) -> dict[str, Any]:
    poses = [
        pb.Pose(
            bbox=pb.Box(**dict(zip(("x", "y", "width", "height"), pose.box_xywh, strict=True))),
            score=pose.score,
            keypoints=[pb.Keypoint(x=x, y=y, score=score) for x, y, score in pose.keypoints],
        )
        for pose in result.poses
    ]
    return {"image": pb.ImageSize(width=result.width, height=result.height), "poses": poses}
