"""A client that is answered before it has sent everything can read that answer."""

from __future__ import annotations

import asyncio
import socket

import pytest

from fakes import BrightestPixel, make_admission, make_service
from http_clients import PATIENCE_S, assert_problem, idle, served
from pictures import jpeg
from service import http_protocol
from service.api_keys import ApiKeys
from service.http_api import create_app
from service.http_protocol import GuardedProtocol
from service.http_server import make_http_server
from service.metrics import Metrics
from wires import GET, head, picture_request, wire

LARGE = jpeg() + bytes(400_000)


def told_early(keys: ApiKeys | None, *parts: bytes, then: bytes) -> tuple[int, bool]:
    """The status that a client reads who goes on sending after its answer was written, and whether it then ends.

    However slow the client is, it is lingered for.
    """
    service = make_service(BrightestPixel(), admission=make_admission(api_keys=keys))

    async def run() -> tuple[int, bool]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(http_protocol, "LINGER_S", PATIENCE_S)
            return await talk()

    async def talk() -> tuple[int, bool]:
        async with served(service, Metrics()) as port, wire(port, *parts) as client:
            await client.is_answered()
            await idle(service)
            for start in range(0, len(then), 50_000):
                assert await client.send(then[start : start + 50_000]), "the server reset the connection"
                await asyncio.sleep(0.002)
            answer = await client.answer()
            assert_problem(answer, answer.status_code, "")
            return answer.status_code, await client.closed()

    return asyncio.run(run())


def test_who_is_late_with_its_body_reads_that_it_is_late():
    whole = picture_request(LARGE, x_timeout_ms=30)
    assert told_early(None, whole[:1000], then=whole[1000:]) == (504, True)


def test_who_has_no_key_reads_that_it_needs_one():
    whole = picture_request(LARGE)
    assert told_early(ApiKeys(["k" * 16]), whole[:1000], then=whole[1000:]) == (401, True)


def test_the_rest_of_a_refused_head_is_thrown_away():
    lines = [b"x: " + b"y" * 2000 + b"\r\n"] * 17
    assert told_early(None, b"GET / HTTP/1.1\r\n", *lines, then=lines[0] * 50) == (431, True)


def test_no_more_than_a_limit_is_read_after_the_answer(monkeypatch):
    monkeypatch.setattr(http_protocol, "LINGER_BYTES", 10_000)
    with pytest.raises(AssertionError, match="reset"):
        told_early(ApiKeys(["k" * 16]), head(content_type="image/jpeg", content_length=10**7), then=bytes(9_000_000))


def test_the_body_of_an_answer_does_not_wait_for_its_head_to_be_acknowledged(monkeypatch):
    """With Nagle's algorithm on, a client that acknowledges late gets every answer 40 ms late."""
    undelayed: list[int] = []
    made = GuardedProtocol.connection_made

    def connection_made(self, transport):
        made(self, transport)
        undelayed.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(GuardedProtocol, "connection_made", connection_made)

    async def run() -> None:
        service = make_service()
        server = make_http_server(
            create_app(service, Metrics(), version="1", body_timeout_s=5), host="127.0.0.1", port=0
        )
        server.listen()
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.001)
        async with wire(server.port, GET) as client:
            assert (await client.answer()).status_code == 200
        server.should_exit = True
        await serving
        service.close()

    asyncio.run(run())
    assert undelayed
    assert all(undelayed)
