"""Answers that no service gives to a question for a dependency map: the client says so and gives nothing on."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from client_answers import SOME_PNG, StandIn, some_map
from client_blocking import opened
from client_servers import grpc_stand_in, http_stand_in
from service.client import UnexpectedAnswer
from service.grpc_messages import dependency_response
from service.http_dependency import DependencyBody
from service.pb import pose_pb2 as pb


@pytest.fixture(params=["http", "grpc"])
def server(request) -> Iterator[StandIn]:
    with (http_stand_in if request.param == "http" else grpc_stand_in)() as stand_in:
        yield stand_in


@pytest.fixture(params=["sync", "async"])
def surface(request) -> str:
    return request.param


def test_the_other_kind_of_answer_is_unexpected(server, surface):
    body = DependencyBody.of(some_map()).model_dump_json()
    is_http = server.address.startswith("http")
    with opened(surface, server.address) as client:
        server.says = (200, "application/json", body) if is_http else dependency_response(some_map())
        with pytest.raises(UnexpectedAnswer, match="a picture was asked for, and the service answered with a map"):
            client.dependency_png(b"picture", "nose")
        server.says = (200, "image/png", SOME_PNG) if is_http else dependency_response(SOME_PNG)
        with pytest.raises(UnexpectedAnswer, match="a map was asked for, and the service answered with a picture"):
            client.dependency(b"picture", "nose")


def spoiled_bodies() -> Iterator[str]:
    good = DependencyBody.of(some_map())
    yield from ("", "{}", "[]", "null", '{"poses": []}')
    for change in (
        {"level": "decoder"},
        {"mode": "both"},
        {"head": "all"},
        {"layer": None},
        {"attention": []},
        {"attention": [[]]},
        {"attention": [[0.5, 0.5], [0.0]]},
        {"attention": [["x"]]},
        {"query": [1]},
        {"point": [1.0, 2.0]},
        {"region": None},
        {"image": {}},
    ):
        yield good.model_copy(update=change).model_dump_json(warnings=False)


def test_a_map_that_is_not_whole_is_unexpected_over_http(surface):
    with http_stand_in() as server, opened(surface, server.address) as client:
        for body in spoiled_bodies():
            server.says = 200, "application/json", body
            with pytest.raises(UnexpectedAnswer, match="cannot read"):
                client.dependency(b"picture", "nose")
        server.says = 200, "text/html", "<html>"
        with pytest.raises(UnexpectedAnswer, match="text/html"):
            client.dependency_png(b"picture", "nose")


def spoiled_messages() -> Iterator[pb.GetDependencyResponse]:
    yield pb.GetDependencyResponse()
    for name, value in {
        "keypoint": "",
        "level": 9,
        "mode": 9,
        "height": 3,
        "width": 2**31,
        "png": b"",
    }.items():
        message = dependency_response(some_map())
        setattr(message, name, value)
        if name == "png":
            message.ClearField("attention")
            message.height = message.width = 0
        yield message


def test_a_map_that_is_not_whole_is_unexpected_over_grpc(surface):
    with grpc_stand_in() as server, opened(surface, server.address) as client:
        for message in spoiled_messages():
            server.says = message
            with pytest.raises(UnexpectedAnswer, match="cannot read"):
                client.dependency(b"picture", "nose")


def test_a_service_without_dependency_maps_is_unexpected(server, surface):
    is_http = server.address.startswith("http")
    missing = (404, "application/problem+json", '{"title": "", "status": 404, "detail": "Not Found"}')
    server.says = missing if is_http else (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
    with opened(surface, server.address) as client, pytest.raises(UnexpectedAnswer, match=r"(?i)not found"):
        client.dependency(b"picture", "nose")
