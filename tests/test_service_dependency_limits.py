"""Few dependency maps at a time, whatever the protocol: who is refused, who is not, and that places are given back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import grpc
import pytest

from callers import MAP_PATH, Scene, play_served
from fakes import BrightestPixel
from grpc_clients import dependency_request, estimate_request, refused, trailing, until
from http_clients import assert_problem, idle, make_counted, outcomes
from http_clients import served as served_http
from pictures import jpeg
from service import core
from service.api_keys import ApiKeys
from wires import picture_request, wire

KEY = "the-key-of-a-camera"


def assert_overloaded(error: grpc.aio.AioRpcError, words: str) -> None:
    assert (error.code(), trailing(error)["reason"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "overloaded")
    assert words in str(error.details())
    assert int(trailing(error)["retry-after-ms"]) >= 1


def test_one_map_too_many_is_refused_over_both_protocols_and_poses_are_still_taken():
    async def use(scene: Scene) -> None:
        scene.estimator.gate.clear()
        maps = [scene.post(), scene.call()]
        await until(lambda: scene.maps == 2)
        words = "2 dependency maps are being worked on; allowed: at most 2. Try again later"
        response = await scene.post()
        assert_problem(response, 429, words)
        assert int(response.headers["retry-after"]) >= 1
        assert response.headers["connection"] == "close", "its picture was not read"
        assert_overloaded(await refused(scene.call()), words)
        poses = [scene.post("/pose"), asyncio.ensure_future(scene.to.poses.EstimatePose(estimate_request()))]
        await until(lambda: scene.service.admission.requests == 4)
        assert scene.maps == 2
        scene.estimator.gate.set()
        posted, called = await asyncio.gather(*maps)
        assert posted.content == called.png
        over_http, over_grpc = await asyncio.gather(*poses)
        assert len(over_http.json()["poses"]) == len(over_grpc.poses) == 1
        assert (await scene.post()).status_code == 200, "there is room again"

    assert play_served(use, max_dependencies=2) == [
        ("grpc", "dependency", "ok"),
        ("grpc", "dependency", "overloaded"),
        ("grpc", "pose", "ok"),
        ("http", "dependency", "ok"),
        ("http", "dependency", "ok"),
        ("http", "dependency", "overloaded"),
        ("http", "pose", "ok"),
    ]


def test_maps_count_among_all_requests():
    async def use(scene: Scene) -> None:
        scene.estimator.gate.clear()
        first = [scene.post("/pose"), scene.post()]
        await until(lambda: scene.service.admission.requests == 2)
        assert_problem(await scene.post(), 429, "2 requests are being worked on; allowed: at most 2")
        assert_problem(await scene.post("/pose"), 429, "2 requests are being worked on")
        scene.estimator.gate.set()
        assert [response.status_code for response in await asyncio.gather(*first)] == [200, 200]

    play_served(use, max_requests=2)


def test_after_every_kind_of_error_there_is_room_again():
    async def use(scene: Scene) -> None:
        for _ in range(3):
            assert (await scene.post("/dependency")).status_code == 422
            assert (await scene.post(content=b"text")).status_code == 400
            assert (await scene.post("/dependency?keypoint=nose&layer=77")).status_code == 422
            await refused(scene.to.poses.GetDependency(dependency_request(b"", keypoint="nose")))
            await refused(scene.to.poses.GetDependency(dependency_request(keypoint="")))
            scene.estimator.fails_with = RuntimeError("secret")
            assert (await scene.post()).status_code == 500
            await refused(scene.call())
            scene.estimator.fails_with = None
        assert (await scene.post()).status_code == 200
        assert (await scene.call()).png

    play_served(use, max_dependencies=1)


def test_a_call_that_is_cancelled_gives_its_place_back_and_is_not_computed():
    async def use(scene: Scene) -> None:
        scene.estimator.gate.clear()
        pose = scene.post("/pose")
        await until(lambda: scene.service._engine._batcher.running == 1)
        for _ in range(3):
            call = scene.call()
            await until(lambda: scene.service._engine.waiting == 1)
            call.cancel()
            await until(lambda: scene.maps == 0)
        scene.estimator.gate.set()
        assert (await pose).status_code == 200
        assert scene.estimator.levels == []
        assert (await scene.call()).png

    assert play_served(use, max_dependencies=1)[:3] == [("grpc", "dependency", "gone")] * 3


def test_a_client_who_leaves_gives_its_place_back_and_is_not_computed():
    estimator = BrightestPixel()
    service, metrics = make_counted(estimator, max_dependencies=1)
    question = picture_request(jpeg(), f"POST {MAP_PATH} HTTP/1.1")

    async def run() -> None:
        async with served_http(service, metrics) as port:
            estimator.gate.clear()
            try:
                async with wire(port, picture_request(jpeg())) as other:
                    await until(lambda: service._engine._batcher.running == 1)
                    for _ in range(3):
                        async with wire(port, question):
                            await until(lambda: service._engine.waiting == 1)
                        await until(lambda: service.admission.dependencies == 0)
                    async with wire(port, question[:-1]):  # never sent whole: it takes no place of a map
                        await until(lambda: service.admission.requests == 2)
                        assert service.admission.dependencies == 0
                    await until(lambda: service.admission.requests == 1)
                    estimator.gate.set()
                    assert (await other.answer()).status_code == 200
            finally:
                estimator.gate.set()
            assert estimator.levels == []
            async with wire(port, question) as connection:
                assert (await connection.answer()).status_code == 200
            await idle(service)

    asyncio.run(run())
    assert outcomes(metrics, "dependency") == {"gone": 4, "ok": 1}
    assert outcomes(metrics) == {"ok": 1}


def test_who_has_no_more_time_is_told_while_the_network_hangs():
    async def use(scene: Scene) -> None:
        scene.estimator.gate.clear()
        late = [scene.post(), scene.call(), scene.post(x_timeout_ms="5")]
        over_http, error, sooner = late[0], refused(late[1]), late[2]
        assert_problem(await over_http, 504, "there was no answer within 0.1 s")
        refusal = await error
        assert (refusal.code(), trailing(refusal)["reason"]) == (grpc.StatusCode.DEADLINE_EXCEEDED, "late")
        assert_problem(await sooner, 504, "within 0.005 s")
        await until(lambda: scene.maps == 0)

    assert {outcome for _, _, outcome in play_served(use, timeout_s=0.1)} == {"late"}


@pytest.fixture
def drawing(monkeypatch) -> Iterator[threading.Event]:
    """Whether a picture is being drawn, which does not end before the test."""
    begun, go_on = threading.Event(), threading.Event()

    def never_ready(*_: object) -> bytes:
        begun.set()
        go_on.wait(timeout=30)
        return b""

    monkeypatch.setattr(core, "dependency_png", never_ready)
    yield begun
    go_on.set()


@pytest.mark.parametrize("keypoint", ["nose", "all"])
def test_a_call_that_is_cancelled_while_its_picture_is_drawn_gives_its_place_back(drawing, keypoint):
    async def use(scene: Scene) -> None:
        call = scene.call(keypoint)
        await until(drawing.is_set)
        assert scene.maps == 1
        assert scene.service._engine.persons == 0, "the network is free while a picture is drawn"
        assert (await scene.post("/pose")).status_code == 200
        call.cancel()
        await until(lambda: scene.maps == 0)

    assert play_served(use, max_dependencies=1)[0] == ("grpc", "dependency", "gone")


def test_who_has_no_more_time_is_told_while_the_picture_is_drawn(drawing):
    async def use(scene: Scene) -> None:
        assert_problem(await scene.post(x_timeout_ms="500"), 504, "within 0.5 s")
        assert scene.maps == 0

    assert play_served(use) == [("http", "dependency", "late")]


def test_a_service_that_stops_takes_no_more_and_finishes_what_it_has():
    async def use(scene: Scene) -> None:
        scene.estimator.gate.clear()
        before = [scene.post(), scene.call()]
        await until(lambda: scene.service._engine.persons == 2)
        scene.service.stop()
        assert_problem(await scene.post(), 503, "not ready: the service is shutting down")
        error = await refused(scene.call())
        assert (error.code(), trailing(error)["reason"]) == (grpc.StatusCode.UNAVAILABLE, "unavailable")
        scene.estimator.gate.set()
        response, called = await asyncio.gather(*before)
        assert response.content == called.png

    play_served(use)


def test_a_key_is_asked_for():
    async def use(scene: Scene) -> None:
        refusal = await scene.post()
        assert_problem(refusal, 401, "API key")
        assert refusal.headers["connection"] == "close", "the picture of a stranger is not read"
        assert_problem(await scene.post(x_api_key="wrong"), 401, "API key")
        error = await refused(scene.call(metadata=(("x-api-key", "wrong"),)))
        assert (error.code(), trailing(error)["reason"]) == (grpc.StatusCode.UNAUTHENTICATED, "unauthenticated")
        assert scene.estimator.levels == []
        assert (await scene.post(authorization=f"Bearer {KEY}")).status_code == 200
        assert (await scene.call(metadata=(("x-api-key", KEY),))).png

    play_served(use, api_keys=ApiKeys([KEY]))
