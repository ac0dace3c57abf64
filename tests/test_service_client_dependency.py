"""The client asks for dependency maps: both protocols, both faces, of a real service and of a stand-in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from callers import new_record
from client_answers import RETRY_AFTER_S, SOME_PNG, StandIn, some_map
from client_blocking import opened
from client_servers import grpc_stand_in, http_stand_in
from fakes import BrightestPixel, make_admission, make_service
from grpc_clients import served as served_grpc
from http_clients import served as served_http
from pictures import jpeg
from service.api_keys import ApiKeys
from service.client import connect, connect_async
from service.core import PoseService
from service.errors import ALL_ERRORS, InvalidParameter, Late, NotAnImage, Overloaded, PoseServiceError, Unauthenticated
from service.poses import AttentionShape, DependencyRequest

KEY = "the-key-of-a-camera"
BOX = (30.0, 10.0, 20.0, 20.0)
Calls = Callable[..., Awaitable[Any]]


@pytest.fixture(params=["http", "grpc"])
def protocol(request) -> str:
    return request.param


@pytest.fixture(params=["sync", "async"])
def surface(request) -> str:
    return request.param


@pytest.fixture
def server(protocol) -> Iterator[StandIn]:
    with (http_stand_in if protocol == "http" else grpc_stand_in)() as stand_in:
        yield stand_in


@asynccontextmanager
async def client_of(service: PoseService, protocol: str, surface: str, **options: Any) -> AsyncIterator[Calls]:
    """The calls of a client of a service that is served on this event loop, by their names."""
    async with served_http(service) if protocol == "http" else served_grpc(service) as to:
        address = f"http://127.0.0.1:{to}" if protocol == "http" else f"grpc://{to.address}"
        client = (connect if surface == "sync" else connect_async)(address, **options)

        async def call(name: str, *arguments: Any, **named: Any) -> Any:
            method = getattr(client, name)
            if surface == "sync":
                return await asyncio.to_thread(method, *arguments, **named)
            return await method(*arguments, **named)

        try:
            yield call
        finally:
            client.close() if surface == "sync" else await client.aclose()


def talk(use: Callable[[Calls, PoseService], Awaitable[None]], service: PoseService, *where: str, **options: Any):
    async def run() -> None:
        async with client_of(service, *where, **options) as call:
            await use(call, service)

    asyncio.run(asyncio.wait_for(run(), 30))


def test_maps_and_pictures_are_what_the_service_itself_finds(protocol, surface, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg())
    full = {"box_xywh": BOX, "level": "mhsa", "layer": 1, "head": 2, "mode": "affect"}

    async def use(call: Calls, service: PoseService) -> None:
        async def direct(**asked: Any) -> Any:
            return await service.explain(DependencyRequest(image=jpeg(), **asked), new_record())

        assert await call("dependency", path, "left_wrist") == await direct(keypoint=9, as_picture=False)
        assert await call("dependency", jpeg(), 9, head="mean") == await direct(keypoint=9, as_picture=False)
        found = await call("dependency", jpeg(), "nose", **full)
        assert found == await direct(keypoint=0, as_picture=False, **full)
        assert (found.level, found.layer, found.head, found.mode, found.keypoint) == ("mhsa", 1, 2, "affect", "nose")
        found = await call("dependency", jpeg(), np.int64(1), layer=np.int64(1))
        assert found == await direct(keypoint=1, layer=1, as_picture=False)
        drawn = {"threshold": 0.25, "colormap": "viridis"}
        assert await call("dependency_png", path, "nose", **full, **drawn) == await direct(keypoint=0, **full, **drawn)
        assert await call("dependency_png", jpeg(), "all", level="mhsa", head="mean") == await direct(
            level="mhsa", mean_of_heads=True
        )
        asked = DependencyRequest(image=jpeg(), keypoint=3, level="mhsa", as_picture=False)
        assert (await call("explain", asked)).keypoint == "left_ear"

    talk(use, make_service(), protocol, surface)


def test_what_the_service_refuses_is_raised(protocol, surface):
    async def use(call: Calls, _: PoseService) -> None:
        with pytest.raises(InvalidParameter, match="layer is 4; allowed of level encoder: 0 to 3"):
            await call("dependency", jpeg(), "nose", layer=4)
        with pytest.raises(InvalidParameter, match="wholly outside"):
            await call("dependency_png", jpeg(), "all", box_xywh=(100, 100, 10, 10))
        for threshold in (1.5, float("nan"), float("inf")):
            with pytest.raises(InvalidParameter, match=r"threshold is .*; allowed: 0 to 1"):
                await call("dependency_png", jpeg(), "nose", threshold=threshold)
        with pytest.raises(NotAnImage):
            await call("dependency", b"text", "nose")

    talk(use, make_service(), protocol, surface)


def test_full_late_and_without_a_key(protocol, surface):
    async def full(call: Calls, _: PoseService) -> None:
        with pytest.raises(Overloaded, match="0 dependency maps are being worked on; allowed: at most 0") as caught:
            await call("dependency", jpeg(), "nose")
        assert caught.value.retry_after_s >= 1

    async def late(call: Calls, _: PoseService) -> None:
        estimator.gate.clear()
        try:
            with pytest.raises(Late):
                await call("dependency", jpeg(), "nose", timeout_s=0.05)
        finally:
            estimator.gate.set()

    async def strange(call: Calls, _: PoseService) -> None:
        with pytest.raises(Unauthenticated):
            await call("dependency_png", jpeg(), "nose")

    estimator = BrightestPixel()
    talk(full, make_service(admission=make_admission(max_dependencies=0)), protocol, surface)
    talk(late, make_service(estimator), protocol, surface)
    talk(strange, make_service(admission=make_admission(api_keys=ApiKeys([KEY]))), protocol, surface, api_key="no")


def test_the_model_says_what_attention_there_is(surface):
    async def use(call: Calls, service: PoseService) -> None:
        model = await call("model")
        assert model == service.info
        assert model.attention["encoder"] == AttentionShape(layers=4, heads=8)

    talk(use, make_service(), "http", surface)


def test_every_error_of_the_service_is_raised_again(server, surface):
    with opened(surface, server.address) as client:
        for kind in ALL_ERRORS:
            for ask in (client.dependency, client.dependency_png):
                with pytest.raises(PoseServiceError) as caught:
                    ask(kind.reason.encode(), "nose")
                assert type(caught.value) is kind
                assert str(caught.value) == f"the picture is {kind.reason}"
        with pytest.raises(Overloaded) as overloaded:
            client.dependency(b"overloaded", "nose")
        assert overloaded.value.retry_after_s == RETRY_AFTER_S


def test_the_key_and_the_request_id_are_sent(server, surface):
    with opened(surface, server.address, api_key="sesame") as client:
        assert client.dependency(b"\xff\xd8\xff", "nose", request_id="a-1") == some_map()
        assert client.dependency_png(b"picture", "all", request_id="a-2") == SOME_PNG
    for asked, number in zip(server.asked, (1, 2), strict=True):
        assert (asked.headers["x-api-key"], asked.headers["x-request-id"]) == ("sesame", f"a-{number}")
    assert [asked.image for asked in server.asked] == [b"\xff\xd8\xff", b"picture"]


REFUSED: list[tuple[str, str | int, dict[str, Any], str]] = [
    ("dependency", "", {}, "keypoint is ''; allowed: the name of a keypoint, or its index from 0"),
    ("dependency", "all", {}, "keypoint is 'all', which is a figure; allowed as numbers: one keypoint at a time"),
    ("dependency", "nose", {"level": "decoder"}, "level is 'decoder'; allowed: mhsa, encoder"),
    ("dependency", "nose", {"level": None}, "level is None; allowed: mhsa, encoder"),
    ("dependency", "nose", {"mode": "both"}, "mode is 'both'; allowed: dependency, affect"),
    ("dependency", "nose", {"layer": -1}, "layer is -1; allowed: a number from 0"),
    ("dependency", "nose", {"layer": 10**6}, "layer is 1000000; allowed: a number from 0"),
    ("dependency", "nose", {"layer": 2**40}, "allowed: a number from 0"),
    ("dependency", "nose", {"layer": 1.5}, "layer is 1.5; allowed: a number from 0"),
    ("dependency", "nose", {"layer": "mean"}, "layer is 'mean'; allowed: a number from 0"),
    ("dependency", "nose", {"head": "all"}, "head is 'all'; allowed: a number from 0, or 'mean'"),
    ("dependency", "nose", {"head": -1}, "head is -1; allowed: a number from 0, or 'mean'"),
    ("dependency", "nose", {"box_xywh": (1, 2, 3)}, "box_xywh is .*; allowed: four numbers x, y, width, height"),
    ("dependency_png", "nose", {"colormap": "jet"}, "colormap is 'jet'; allowed: inferno, "),
    ("dependency_png", "nose", {"colormap": ""}, "colormap is ''; allowed: inferno, "),
    ("dependency", "nose", {"request_id": "two words"}, "1 to 64"),
]


@pytest.mark.parametrize("keypoint", ["left_foot", 17, -1, "ALL", "1.0"])
def test_a_keypoint_that_is_not_there_is_refused_by_the_service_which_names_those_that_are(protocol, surface, keypoint):
    async def use(call: Calls, _: PoseService) -> None:
        with pytest.raises(InvalidParameter, match=f"keypoint is '{keypoint}'; allowed: nose, .*, right_ankle, their"):
            await call("dependency", jpeg(), keypoint)

    talk(use, make_service(), protocol, surface)


def test_what_cannot_be_asked_is_refused_before_it_is_sent(server, surface):
    with opened(surface, server.address) as client:
        for name, keypoint, how, words in REFUSED:
            with pytest.raises(InvalidParameter, match=words):
                getattr(client, name)(b"picture", keypoint, **how)
        with pytest.raises(ValueError, match="above 0"):
            client.dependency(b"picture", "nose", timeout_s=-1)
        with pytest.raises(FileNotFoundError):
            client.dependency_png(Path("nowhere.jpg"), "nose")
        both = DependencyRequest(image=b"picture", keypoint=0, head=1, mean_of_heads=True)
        if server.address.startswith("http"):
            with pytest.raises(InvalidParameter, match="head is 1, and their mean is asked for"):
                client.explain(both)
    assert not server.asked


def test_an_option_that_is_not_known_is_not_passed_over(server, surface):
    with opened(surface, server.address) as client:
        with pytest.raises(TypeError, match=r"unexpected lvl; allowed: box_xywh, head, layer, level, mode$"):
            client.dependency(b"picture", "nose", lvl="mhsa")
        with pytest.raises(TypeError, match="unexpected threshold"):
            client.dependency(b"picture", "nose", threshold=0.5)
        with pytest.raises(TypeError, match="unexpected color; allowed: box_xywh, colormap, head, "):
            client.dependency_png(b"picture", "nose", color="inferno")
    assert not server.asked
