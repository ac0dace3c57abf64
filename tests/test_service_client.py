"""The client: the same answers and the same errors over HTTP and gRPC, with and without asyncio."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from client_answers import MODEL, RETRY_AFTER_S, StandIn, some_poses
from client_blocking import opened
from client_servers import grpc_stand_in, http_stand_in
from service.client import UnexpectedAnswer, connect
from service.client_endpoint import Endpoint
from service.client_grpc import SERVICE_NAME
from service.client_grpc_messages import read_frame
from service.client_http_messages import ERROR_OF_STATUS, pose_call
from service.errors import (
    ALL_ERRORS,
    EngineFailed,
    InvalidParameter,
    Late,
    Overloaded,
    PoseServiceError,
    TooLarge,
    Unavailable,
)
from service.http_problem import STATUS_OF_ERROR
from service.pb import pose_pb2 as pb
from service.poses import PoseRequest

ROOT = Path(__file__).resolve().parents[1]
BOXES = [(1.0, 2.0, 30.5, 40.0), (0.0, 0.0, 60.0, 80.0)]
CLOSED = "127.0.0.1:1"  # nobody listens there


@pytest.fixture(params=["http", "grpc"])
def server(request) -> Iterator[StandIn]:
    with (http_stand_in if request.param == "http" else grpc_stand_in)() as stand_in:
        yield stand_in


@pytest.fixture
def http_server() -> Iterator[StandIn]:
    with http_stand_in() as stand_in:
        yield stand_in


@pytest.fixture
def grpc_server() -> Iterator[StandIn]:
    with grpc_stand_in() as stand_in:
        yield stand_in


@pytest.fixture(params=["sync", "async"])
def surface(request) -> str:
    return request.param


def test_poses_of_a_whole_picture(server, surface):
    with opened(surface, server.address) as client:
        assert client.estimate(b"picture") == some_poses()
    (asked,) = server.asked
    assert (asked.image, asked.boxes, asked.flip_test) == (b"picture", None, False)


def test_poses_in_boxes_of_a_file_by_its_path(server, surface, tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(b"\xff\xd8\xff picture")
    with opened(surface, server.address) as client:
        assert client.estimate(path, boxes_xywh=BOXES, flip_test=True) == some_poses(BOXES)
    (asked,) = server.asked
    assert (asked.image, asked.boxes, asked.flip_test) == (b"\xff\xd8\xff picture", BOXES, True)


def test_one_client_asks_many_times(server, surface):
    with opened(surface, server.address) as client:
        for _ in range(3):
            client.estimate(b"picture")
    assert len(server.asked) == 3


def test_every_error_of_the_service_is_raised_again(server, surface):
    with opened(surface, server.address) as client:
        for kind in ALL_ERRORS:
            with pytest.raises(PoseServiceError) as caught:
                client.estimate(kind.reason.encode())
            assert type(caught.value) is kind
            assert str(caught.value) == f"the picture is {kind.reason}"
            if isinstance(caught.value, Overloaded):
                assert caught.value.retry_after_s == RETRY_AFTER_S


def test_the_client_reads_the_statuses_that_the_service_writes():
    assert {status: kind for kind, status in STATUS_OF_ERROR.items()} == ERROR_OF_STATUS


def test_the_key_the_request_id_and_the_deadline_are_sent_over_http(http_server, surface):
    with opened(surface, http_server.address, api_key="sesame", timeout_s=20) as client:
        client.estimate(b"\x89PNG", request_id="a-1")
        client.estimate(b"RIFF", timeout_s=1.2345)
        client.estimate(b"picture")
    first, second, third = (asked.headers for asked in http_server.asked)
    assert (first["x-api-key"], first["x-request-id"], first["x-timeout-ms"]) == ("sesame", "a-1", "20000")
    assert second["x-timeout-ms"] == "1234"
    assert "x-request-id" not in second
    types = [headers["content-type"] for headers in (first, second, third)]
    assert types == ["image/png", "image/webp", "image/unknown"]


def test_the_shortest_deadline_over_http_is_a_millisecond():
    call = pose_call(Endpoint(address="http://host"), PoseRequest(image=b""), 1e-5, None)
    assert call["headers"]["x-timeout-ms"] == "1"


def test_the_key_the_request_id_and_the_deadline_are_sent_over_grpc(grpc_server, surface):
    with opened(surface, grpc_server.address, api_key="sesame", timeout_s=2000) as client:
        client.estimate(b"picture", request_id="a-1")
        client.estimate(b"picture", timeout_s=500)
    first, second = grpc_server.asked
    assert (first.headers["x-api-key"], first.headers["x-request-id"]) == ("sesame", "a-1")
    assert 1000 < first.time_left_s < 2100  # gRPC rounds it on the way
    assert second.time_left_s < 600
    assert "x-request-id" not in second.headers


def test_an_answer_that_does_not_come_in_time_is_late(server, surface):
    with opened(surface, server.address) as client, pytest.raises(Late, match=r"127\.0\.0\.1:\d+ did not .* 0\.05 s"):
        client.estimate(b"slow", timeout_s=0.05)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_nobody_at_the_address_is_unavailable_and_not_ready(scheme, surface):
    with opened(surface, f"{scheme}://{CLOSED}") as client:
        with pytest.raises(Unavailable, match=rf"{scheme}://{CLOSED}"):
            client.estimate(b"picture")
        assert not client.is_ready()


def test_ready_is_what_the_service_says(server, surface):
    with opened(surface, server.address, api_key="sesame") as client:
        assert client.is_ready()
        server.ready = False
        assert not client.is_ready()
    assert server.asked[0].path in ("/readyz", SERVICE_NAME)
    assert SERVICE_NAME == "btranspose.v1.PoseService"
    assert server.asked[0].headers["x-api-key"] == "sesame"


def test_the_model_is_told_over_http(http_server, surface):
    with opened(surface, http_server.address) as client:
        assert client.model() == MODEL


def test_over_grpc_the_client_tells_the_same_model(grpc_server, surface):
    with opened(surface, grpc_server.address) as client:
        assert client.model() == MODEL


def test_a_path_in_the_address_is_kept_over_http(http_server, surface):
    with opened(surface, f"{http_server.address}/poses/v1") as client:
        client.estimate(b"picture")
        client.is_ready()
    assert [asked.path for asked in http_server.asked] == ["/poses/v1/pose", "/poses/v1/readyz"]


PROBLEM = "application/problem+json"
STRANGE_RESPONSES: dict[str, tuple[tuple[int, str, str], type[PoseServiceError], str]] = {
    "a page": ((200, "text/html", "<html>"), UnexpectedAnswer, "text/html"),
    "other JSON": ((200, "application/json", '{"poses": 7}'), UnexpectedAnswer, "cannot read"),
    "a redirect": ((302, "text/plain", ""), UnexpectedAnswer, "302"),
    "a missing page": ((404, "text/html", "<html>"), UnexpectedAnswer, "404 Not Found as text/html"),
    "a missing route": (
        (404, PROBLEM, '{"title": "", "status": 404, "detail": "gone"}'),
        UnexpectedAnswer,
        "404: gone",
    ),
    "a proxy's failure": ((500, "text/html", "<html>"), UnexpectedAnswer, "500"),
    "a proxy's limit": ((413, "text/html", "<html>"), TooLarge, "413"),
    "a proxy's patience": ((504, "text/html", "<html>"), Late, "504"),
    "a proxy alone": ((502, "text/html; charset=utf-8", "<html>"), Unavailable, "502 Bad Gateway as text/html"),
    "only called a problem": ((503, PROBLEM, "{"), Unavailable, "503"),
    "too many for a proxy": ((429, "text/plain", ""), Overloaded, "429"),
}


def test_an_http_answer_that_is_not_the_services_is_named(http_server, surface):
    with opened(surface, http_server.address) as client:
        for name, (says, kind, text) in STRANGE_RESPONSES.items():
            http_server.says = says
            with pytest.raises(kind, match=text) as caught:
                client.estimate(b"picture")
            assert type(caught.value) is kind, name
        http_server.says = STRANGE_RESPONSES["a missing page"][0]
        with pytest.raises(UnexpectedAnswer):
            client.is_ready()


STRANGE_STATUSES: dict[str, tuple[grpc.StatusCode, str, type[PoseServiceError]]] = {
    "a message too large for gRPC": (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max", TooLarge),
    "more calls than gRPC takes": (grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!", Overloaded),
    "a call cut off": (grpc.StatusCode.CANCELLED, "CANCELLED", Unavailable),
    "a defect": (grpc.StatusCode.INTERNAL, "an internal error", EngineFailed),
    "another service": (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", UnexpectedAnswer),
    "an unexpected code": (grpc.StatusCode.DATA_LOSS, "oh", UnexpectedAnswer),
    "a bad request": (grpc.StatusCode.INVALID_ARGUMENT, "no", InvalidParameter),
}


def test_a_grpc_status_without_a_reason_is_read_by_its_code(grpc_server, surface):
    with opened(surface, grpc_server.address) as client:
        for name, (code, details, kind) in STRANGE_STATUSES.items():
            grpc_server.says = code, details
            with pytest.raises(kind, match=f"{code.name}: {details}") as caught:
                client.estimate(b"picture")
            assert type(caught.value) is kind, name
        grpc_server.says = grpc.StatusCode.UNIMPLEMENTED, "Method not found!"
        with pytest.raises(UnexpectedAnswer):
            client.is_ready()


def test_a_reason_of_a_later_version_is_read_by_its_code():
    error = pb.FrameError(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message="no", reason="from_the_future")
    answer = read_frame(pb.StreamPosesResponse(frame_id=7, error=error))
    assert (answer.frame_id, answer.result, type(answer.error), str(answer.error)) == (7, None, Overloaded, "no")
    odd = read_frame(pb.StreamPosesResponse(error=pb.FrameError(code=99, message="what")))
    assert type(odd.error) is UnexpectedAnswer


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({"address": "ftp://host:1"}, "'ftp'; allowed: http://, https://, grpc://, grpcs://"),
        ({"address": "localhost:8000"}, "allowed: http://"),
        ({"address": "grpc://host"}, "not grpc://host:port"),
        ({"address": "grpc://host:1/path"}, "not grpc://host:port"),
        ({"address": "http://"}, "not http://host:port"),
        ({"address": "http://user:secret@host:1"}, "not http://host:port, with nothing else in it"),
        ({"address": "http://host:99999"}, "0-65535"),
        ({"timeout_s": 0}, "above 0"),
        ({"timeout_s": float("nan")}, "above 0"),
        ({"timeout_s": 1e9}, "at most 999999"),
        ({"api_key": "two\nlines"}, "printable ASCII"),
        ({"api_key": ""}, "printable ASCII"),
        ({"ca_cert": Path("ca.pem")}, "https://, grpcs://"),
        ({"address": "grpcs://host:1", "client_cert": Path("c.pem")}, "client_key"),
    ],
)
def test_what_cannot_be_connected_to_is_refused_with_what_is_allowed(options: dict[str, Any], allowed):
    with pytest.raises(ValueError, match=allowed) as caught:
        connect(**({"address": "http://127.0.0.1:8000"} | options))
    assert "secret" not in str(caught.value)


def test_what_cannot_be_asked_is_refused_before_it_is_sent(server, surface):
    with opened(surface, server.address) as client:
        with pytest.raises(InvalidParameter, match="None for those that the service finds"):
            client.estimate(b"picture", boxes_xywh=[])
        with pytest.raises(InvalidParameter, match=r"boxes_xywh\[0\].*four numbers"):
            client.estimate(b"picture", boxes_xywh=[(1, 2, 3)])
        with pytest.raises(InvalidParameter, match="1 to 64"):
            client.estimate(b"picture", request_id="two words")
        with pytest.raises(ValueError, match="above 0"):
            client.estimate(b"picture", timeout_s=-1)
    assert not server.asked


def test_the_client_needs_no_torch_and_no_server():
    heavy = ("torch", "fastapi", "starlette", "uvicorn")
    code = f"import sys, service.client; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
