"""The HTTP server against real sockets: heads of requests that are too large or too slow."""

from __future__ import annotations

import asyncio

import pytest

from fakes import BrightestPixel
from http_clients import idle, make_counted, outcomes, served, until
from pictures import jpeg
from service import http_protocol, http_server
from service.http_protocol import MAX_HEAD_BYTES, GuardedProtocol
from wires import GET, HEALTHY, Wire, assert_refused, head, naming, on_a_server, picture_request, wire

ENDLESS = b"x" * 2000


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(GuardedProtocol, "head_timeout_s", 0.1)
    monkeypatch.setattr(http_protocol, "LINGER_S", 0.1)


HUGE = MAX_HEAD_BYTES + 1
TOO_LARGE_HEADS = {
    "in one header": [head("GET /healthz HTTP/1.1", x="y" * HUGE)],
    "in many headers": [head("GET /healthz HTTP/1.1", **{f"x{n}": "y" * 100 for n in range(HUGE // 100)})],
    "in a long URL": [head(f"GET /healthz?{'x' * HUGE} HTTP/1.1")],
    "in pieces": [b"GET /healthz HTTP/1.1\r\nhost: test\r\n", *[b"x: " + ENDLESS + b"\r\n"] * (HUGE // 2000 + 1)],
    "in pieces of one header": [b"GET /healthz HTTP/1.1\r\nhost: test\r\nx: ", *[ENDLESS] * (HUGE // 2000 + 1)],
    "in pieces of a URL": [b"GET /", *[ENDLESS] * (HUGE // 2000 + 1)],
    "in one piece without end": [b"GET /healthz HTTP/1.1\r\nhost: test\r\nx: " + b"y" * HUGE],
    "of a request with a body": [head(content_type="image/jpeg", content_length=10, x="y" * HUGE) + bytes(10)],
}


def test_a_head_that_is_too_large():
    async def scene(port: int) -> None:
        for what, sent in TOO_LARGE_HEADS.items():
            async with wire(port) as connection:
                for piece in sent:
                    await connection.send(piece)
                    await asyncio.sleep(0)  # so that the server meets them one by one
                with naming(what):
                    await assert_refused(connection, 431, f"at most {MAX_HEAD_BYTES} bytes")

    assert on_a_server(scene) == {}


def test_a_head_of_the_largest_size_is_taken():
    line = "GET /healthz HTTP/1.1"
    spare = MAX_HEAD_BYTES - len(head(line, x=""))

    async def scene(port: int) -> None:
        async with wire(port, *[head(line, x="y" * spare)] * 3) as connection:
            for _ in range(3):
                assert (await connection.answer()).content == HEALTHY

    on_a_server(scene)


def test_the_head_of_a_pipelined_request_is_bounded_while_the_first_is_at_work():
    """Otherwise memory is there for the taking, for as long as the network takes."""
    estimator = BrightestPixel()
    service, metrics = make_counted(estimator)
    most = 200 * MAX_HEAD_BYTES

    async def run() -> int:
        sent = 0
        async with served(service, metrics) as port:
            estimator.gate.clear()
            async with wire(port, picture_request(jpeg()), b"GET /healthz HTTP/1.1\r\n") as connection:
                while sent < most and await connection.send(b"x: " + ENDLESS + b"\r\n"):
                    sent += len(ENDLESS)
                    await asyncio.sleep(0)
                await assert_refused(connection, 431, "too large")
            await until(lambda: service.admission.requests == 0)
            estimator.gate.set()
            await idle(service)
        return sent

    try:
        assert asyncio.run(run()) < most
    finally:
        estimator.gate.set()
    assert outcomes(metrics) == {"gone": 1}


@pytest.mark.parametrize("sent", [b"", GET])
def test_an_idle_connection_is_closed_in_the_end(sent, monkeypatch):
    monkeypatch.setattr(http_server, "KEEP_ALIVE_S", 0.3)

    async def scene(port: int) -> None:
        async with wire(port, sent) as connection:
            if sent:
                assert (await connection.answer()).status_code == 200
            assert await connection.closed()

    assert on_a_server(scene) == {}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("sent", [b"G", b"GET /hea", b"GET /healthz HTTP/1.1\r\nhost: test\r\n", b"\r\n\r\n"])
def test_a_head_that_does_not_come(sent):
    async def scene(port: int) -> None:
        async with wire(port, sent) as connection:
            await assert_refused(connection, 408, "did not arrive within 0.1 s")

    assert on_a_server(scene) == {}


@pytest.mark.usefixtures("impatient")
def test_a_head_that_comes_byte_by_byte():
    async def drip(connection: Wire) -> None:
        for byte in GET * 1000:
            if not await connection.send(bytes([byte])):
                return
            await asyncio.sleep(0.01)
        raise AssertionError("nobody lost patience")

    async def scene(port: int) -> None:
        async with wire(port) as connection:
            dripping = asyncio.create_task(drip(connection))
            await assert_refused(connection, 408, "did not arrive within 0.1 s")
            await dripping

    assert on_a_server(scene) == {}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("sent", [b"G", b"\r", GET[:-2]])
def test_a_second_head_may_not_be_slow_either(sent):
    async def scene(port: int) -> None:
        async with wire(port, GET) as connection:
            assert (await connection.answer()).status_code == 200
            await asyncio.sleep(0.15)  # an idle connection is kept for longer than a head may take
            await connection.send(GET)
            assert (await connection.answer()).status_code == 200
            await connection.send(sent)
            await assert_refused(connection, 408, "did not arrive within 0.1 s")

    on_a_server(scene)


@pytest.mark.usefixtures("impatient")
def test_the_limit_on_heads_is_none_on_answers():
    """A request that is being worked on, or whose body comes slowly, is not cut off by the limit on heads."""
    estimator = BrightestPixel()
    request = picture_request(jpeg())

    async def scene(port: int) -> None:
        estimator.gate.clear()
        async with wire(port, request[:-10]) as connection:
            await asyncio.sleep(0.15)
            await connection.send(request[-10:])
            await asyncio.sleep(0.15)
            estimator.gate.set()
            assert (await connection.answer()).status_code == 200

    assert on_a_server(scene, estimator=estimator) == {"ok": 1}


@pytest.mark.usefixtures("impatient")
def test_a_head_that_begins_before_the_answer_to_the_first_may_not_be_slow_either():
    estimator = BrightestPixel()

    async def scene(port: int) -> None:
        estimator.gate.clear()
        async with wire(port, picture_request(jpeg()) + GET[:-2]) as connection:
            await asyncio.sleep(0.15)
            estimator.gate.set()
            assert (await connection.answer()).status_code == 200, "it is not cut off by what comes after it"
            await assert_refused(connection, 408, "did not arrive within 0.1 s")

    assert on_a_server(scene, estimator=estimator) == {"ok": 1}
