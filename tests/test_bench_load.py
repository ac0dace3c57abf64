"""The load generators of bench/: what is sent when, and what is counted as what. No timing is asserted."""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from fakes import make_engine, make_service
from grpc_clients import HeldBack, Served, ask
from pictures import jpeg

sys.path.append(str(Path(__file__).resolve().parents[1] / "bench"))  # no package: its scripts import each other by name
load = importlib.import_module("load")


class Answerer:
    """A server that gives the next of some answers to each request, and remembers what it was asked."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.heads: list[str] = []
        self.connections = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self.answers:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(line for line in head.splitlines() if line.startswith("Content-Length"))
                await reader.readexactly(int(length.split()[1]))
                self.heads.append(head)
                answer = self.answers.pop(0)
                writer.write(answer)
                if b"close" in answer or not answer:
                    break
        except EOFError:
            pass
        finally:
            writer.close()


def answer(status: int = 200, more: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\n{more}\r\nOK".encode()


def test_a_connection_is_kept_and_made_anew_only_where_it_was_closed():
    answerer = Answerer(answer(), answer(429, "Connection: close\r\n"), answer(), b"", answer(503))

    async def run() -> None:
        async with answerer.listening() as port:
            client = load.HttpClient("127.0.0.1", port)
            await client.post("/pose", b"picture")
            with pytest.raises(load.Refused):
                await client.post("/pose", b"picture")
            assert await client.request("GET", "/readyz", headers={"X-Api-Key": "k"}) == (200, b"OK")
            with pytest.raises((EOFError, OSError)):
                await client.post("/pose", b"picture")
            with pytest.raises(RuntimeError, match="503"):
                await client.post("/pose", b"picture")
            client.close()

    asyncio.run(run())
    assert answerer.connections == 3
    assert "X-Api-Key: k\r\n" in answerer.heads[2]
    assert "Content-Type: image/jpeg\r\n" in answerer.heads[0]


def test_a_pool_has_a_connection_for_each_that_asks_at_a_time():
    answerer = Answerer(*[answer()] * 6)

    async def run() -> None:
        async with answerer.listening() as port:
            pool = load.HttpPool("127.0.0.1", port)
            for _ in range(3):
                await pool.post("/pose", b"")
            assert answerer.connections == 1
            await asyncio.gather(*(pool.post("/pose", b"") for _ in range(3)))
            assert answerer.connections == 3
            pool.close()

    asyncio.run(run())


def test_what_comes_of_requests_is_counted_apart():
    async def run() -> None:
        async def fine() -> None:
            pass

        def failing(error: Exception):
            async def fail() -> None:
                raise error

            return fail

        tally = load.Tally()
        await tally.ask(fine)
        await tally.ask(fine, since=time.perf_counter() - 100)
        for error in (load.Refused("busy"), RuntimeError("504: late"), ConnectionResetError(), RuntimeError("504: x")):
            await tally.ask(failing(error))
        assert len(tally.taken) == 2
        assert tally.taken[1] > 100, "counted from when it was due"
        assert tally.refused == 1
        assert tally.errors == {"504": 2, "ConnectionResetError": 1}
        with pytest.raises(KeyError):  # a mistake of ours is none of the service's failures
            await tally.ask(failing(KeyError()))

    asyncio.run(run())


def test_an_open_loop_does_not_wait_for_answers_and_repeats_itself():
    async def run(seed: int) -> int:
        enough = asyncio.Event()
        asked = 0

        async def one() -> None:
            nonlocal asked
            asked += 1
            if asked == 10:
                enough.set()
            await enough.wait()

        _, tally = await load.open_loop(one, rate=400, seconds=0.1, seed=seed)
        assert len(tally.taken) == asked
        return asked

    first, again, other = (asyncio.run(asyncio.wait_for(run(seed), 30)) for seed in (0, 0, 3))
    assert first == again != other


def test_a_rate_that_is_none_is_refused():
    with pytest.raises(ValueError, match="rate is 0; allowed: above 0"):
        asyncio.run(load.open_loop(None, rate=0, seconds=1, seed=0))


def test_over_grpc_too_much_is_refused_and_the_rest_is_an_error():
    estimator = HeldBack()

    async def talk(to: Served) -> None:
        host, port = to.address.split(":")
        client, pool = load.GrpcClient(host, int(port)), load.GrpcPool(host, int(port))
        await client.post(jpeg(), [[10, 10, 30, 30]])
        await pool.post(jpeg())
        with pytest.raises(grpc.aio.AioRpcError, match="INVALID_ARGUMENT"):
            await client.post(b"rubbish")
        held = await estimator.hold(to)
        with pytest.raises(load.Refused):
            await pool.post(jpeg())
        estimator.gate.set()
        await held
        await client.close()
        await pool.close()

    ask(make_service(engine=make_engine(estimator, max_waiting=1)), talk)
