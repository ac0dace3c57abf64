"""What every service owes its operator over HTTP: keys, limits, deadlines, shutdown, names for requests, no leaks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest

from fakes import BrightestPixel, make_admission, make_service
from http_clients import JPEG, ask, assert_problem, client_of, idle, make_counted, outcomes, post, until
from pictures import jpeg
from service import errors
from service.api_keys import ApiKeys
from service.core import PoseService
from service.engine import LATE
from service.http_problem import STATUS_OF_ERROR

KEY = "the-key-of-a-camera"
PUBLIC = ("/model", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs")


def post_picture(client: httpx.AsyncClient, headers: dict[str, str] | None = None, **options: object):
    return client.post("/pose", content=jpeg(), headers={**JPEG, **(headers or {})}, **options)


def with_held_network(
    use: Callable[[httpx.AsyncClient, PoseService, BrightestPixel], Awaitable[None]], **settings: object
) -> None:
    """Run a scene in which the network does not answer until the scene opens the gate, or ends."""

    async def run() -> None:
        estimator = BrightestPixel()
        service, _ = make_counted(estimator, **settings)
        async with client_of(service) as client:
            estimator.gate.clear()
            try:
                await use(client, service, estimator)
            finally:
                estimator.gate.set()
            await idle(service)

    asyncio.run(run())


def test_every_error_has_one_status():
    def leaves(kind: type) -> set[type]:
        return {kind} if not kind.__subclasses__() else set().union(*map(leaves, kind.__subclasses__()))

    raised_by_the_service = {kind for kind in leaves(errors.PoseServiceError) if kind.__module__ == errors.__name__}
    assert set(errors.ALL_ERRORS) == set(STATUS_OF_ERROR) == raised_by_the_service
    assert len(set(STATUS_OF_ERROR.values())) == len(STATUS_OF_ERROR)


@pytest.mark.parametrize("error", errors.ALL_ERRORS)
def test_every_error_is_told_as_a_problem(error, monkeypatch):
    async def fails(*_: object) -> None:
        raise error("what is wrong")

    service = make_service()
    monkeypatch.setattr(service, "estimate", fails)
    assert_problem(post(jpeg(), service), STATUS_OF_ERROR[error], "what is wrong")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"x-api-key": "wrong"}, 401),
        ({"x-api-key": ""}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": f"Basic {KEY}"}, 401),
        ({"authorization": KEY}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"x-api-key": KEY}, 200),
        ({"authorization": f"Bearer {KEY}"}, 200),
        ({"authorization": f"bearer  {KEY} "}, 200),
        ({"x-api-key": "wrong", "authorization": f"Bearer {KEY}"}, 401),
    ],
)
def test_keys(headers, status):
    service, metrics = make_counted(api_keys=ApiKeys([KEY]))
    response = ask(lambda client: post_picture(client, headers), service)
    if status == 200:
        assert response.status_code == 200
    else:
        assert_problem(response, 401, "API key")
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.headers["connection"] == "close", "the picture of a stranger is not read"
        assert outcomes(metrics) == {"unauthenticated": 1}
    assert KEY not in response.text


def test_a_picture_without_a_key_is_not_read_and_what_is_public_stays_public():
    read = []

    async def body():
        read.append(1)
        yield jpeg()

    async def run() -> None:
        async with client_of(make_service(admission=make_admission(api_keys=ApiKeys([KEY])))) as client:
            assert (await client.post("/pose", content=body(), headers=JPEG)).status_code == 401
            for path in PUBLIC:
                assert (await client.get(path)).status_code == 200

    asyncio.run(run())
    assert not read


def assert_told_to_come_again(response: httpx.Response, detail: str) -> None:
    assert_problem(response, 429, detail)
    assert int(response.headers["retry-after"]) >= 1


def test_one_request_too_many():
    async def scene(client: httpx.AsyncClient, service: PoseService, estimator: BrightestPixel) -> None:
        first = [asyncio.create_task(post_picture(client)) for _ in range(2)]
        await until(lambda: service.admission.requests == 2)
        refused = await post_picture(client)
        assert_told_to_come_again(refused, "2 requests are being worked on; allowed: at most 2")
        assert refused.headers["connection"] == "close", "its picture is not read"
        estimator.gate.set()
        assert [(await one).status_code for one in first] == [200, 200]
        assert (await post_picture(client)).status_code == 200

    with_held_network(scene, max_requests=2)


def test_one_person_too_many():
    two = {"boxes": "[[0, 0, 60, 80], [0, 0, 30, 80]]"}

    async def scene(client: httpx.AsyncClient, service: PoseService, estimator: BrightestPixel) -> None:
        first = asyncio.create_task(post_picture(client, params=two))
        await until(lambda: service._engine.persons == 2)
        assert_told_to_come_again(await post_picture(client, params=two), "2 persons are being worked on")
        assert (await post_picture(client, params={"boxes": "[]"})).status_code == 200, "nobody fits anywhere"
        estimator.gate.set()
        assert (await first).status_code == 200
        assert (await post_picture(client, params=two)).status_code == 200

    with_held_network(scene, max_waiting=3)


def test_one_byte_too_many():
    size = len(jpeg())

    async def scene(client: httpx.AsyncClient, service: PoseService, estimator: BrightestPixel) -> None:
        first = asyncio.create_task(post_picture(client))
        await until(lambda: service._engine.persons == 1)
        refused = await post_picture(client)
        assert_told_to_come_again(refused, f"pictures of {size} bytes are being worked on")
        estimator.gate.set()
        assert (await first).status_code == 200
        assert (await post_picture(client)).status_code == 200

    with_held_network(scene, max_held_bytes=2 * size - 1)


def test_what_is_full_says_when_to_come_again_by_what_is_waiting(monkeypatch):
    async def fails(*_: object) -> None:
        raise errors.Overloaded("full", retry_after_s=7.2)

    service = make_service()
    monkeypatch.setattr(service, "estimate", fails)
    assert post(jpeg(), service).headers["retry-after"] == "8"


def test_draining_refuses_what_is_new_and_finishes_what_was_taken():
    async def scene(client: httpx.AsyncClient, service: PoseService, estimator: BrightestPixel) -> None:
        taken = asyncio.create_task(post_picture(client))
        await until(lambda: service._engine.persons == 1)
        service.stop()
        assert_problem(await post_picture(client), 503, "shutting down")
        assert_problem(await client.get("/readyz"), 503, "shutting down")
        assert (await client.head("/readyz")).status_code == 503
        for path in ("/healthz", "/metrics", "/model"):
            assert (await client.get(path)).status_code == 200
        estimator.gate.set()
        assert (await taken).status_code == 200

    with_held_network(scene)


def test_before_the_network_has_run_nothing_is_taken():
    async def run() -> None:
        estimator = BrightestPixel()
        estimator.fails_with = RuntimeError("secret")
        service, metrics = make_counted(estimator)
        async with client_of(service, wait=False) as client:
            assert_problem(await post_picture(client), 503, "warming up")
            await until(lambda: service.admission.closed_because != "the network is warming up")
            for response in (await client.get("/readyz"), await post_picture(client)):
                assert_problem(response, 503, "the network failed its first run; see the log")
            assert (await client.get("/healthz")).status_code == 200
        assert outcomes(metrics) == {"unavailable": 2}

    asyncio.run(run())


def assert_late(response: httpx.Response, limit: str) -> None:
    assert_problem(response, 504, "")
    assert response.json()["detail"] in (f"there was no answer within {limit}", LATE)


@pytest.mark.parametrize(
    ("headers", "timeout_s", "said"), [({"x-timeout-ms": "50"}, 30.0, "0.05 s"), ({}, 0.06, "0.06 s")]
)
def test_a_late_answer_is_504_whoever_set_the_limit(headers, timeout_s, said):
    async def scene(client: httpx.AsyncClient, service: PoseService, estimator: BrightestPixel) -> None:
        assert_late(await post_picture(client, headers), said)
        assert (service.admission.requests, service._engine.waiting) == (0, 0)

    with_held_network(scene, timeout_s=timeout_s)


def test_a_caller_cannot_ask_for_more_time_than_the_service_gives():
    async def scene(client: httpx.AsyncClient, service: PoseService, estimator: BrightestPixel) -> None:
        assert_late(await post_picture(client, {"x-timeout-ms": "900000"}), "0.05 s")

    with_held_network(scene, timeout_s=0.05)


def test_a_deadline_holds_while_the_body_is_read_too():
    async def stalls():
        yield jpeg()[:100]
        await asyncio.Event().wait()

    service, metrics = make_counted()
    response = ask(
        lambda client: client.post("/pose", content=stalls(), headers={**JPEG, "x-timeout-ms": "50"}), service
    )
    assert_problem(response, 504, "within 0.05 s")
    assert response.headers["connection"] == "close"
    assert outcomes(metrics) == {"late": 1}


@pytest.mark.parametrize(
    "value", ["0", "-5", "1.5", "1e3", "", "abc", "٥", "0x10", "+5", "1_000", "1000000000", "9" * 5000]
)
def test_a_bad_timeout_is_refused(value):
    service, metrics = make_counted()
    response = ask(lambda client: post_picture(client, {"x-timeout-ms": value.encode()}), service)
    assert_problem(response, 422, "allowed: a whole number of milliseconds, 1 to 999999999")
    assert len(response.content) < 1000
    assert outcomes(metrics) == {"invalid_parameter": 1}


@pytest.mark.parametrize("value", ["1", "00050", "999999999"])
def test_a_good_timeout_is_taken(value):
    assert ask(lambda client: post_picture(client, {"x-timeout-ms": value})).status_code in (200, 504)
