"""The life of the running service in this process: both protocols, signals, and the orderly end."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import httpx
import pytest

from fakes import make_admission, make_engine, make_service
from grpc_clients import HeldBack, estimate_request, frame, refused, trailing, until
from pictures import jpeg
from service import running
from service.core import PoseService
from service.engine import Engine
from service.grpc_server import add_health, add_port, follow_readiness, make_grpc_server
from service.http_api import create_app
from service.http_server import HttpServer, make_http_server
from service.metrics import Metrics
from service.pb import pose_pb2_grpc
from service.record import RequestRecord

WHOLE = estimate_request()
LONG_S = 1000.0  # whoever waits this long fails by the limit on the whole test


@dataclass
class Running:
    """`serve` at work, and clients of both protocols."""

    service: PoseService
    estimator: HeldBack
    engine: Engine
    http_server: HttpServer
    code: asyncio.Task[int]
    http: httpx.AsyncClient
    grpc: grpc.aio.Channel
    records: list[RequestRecord]

    @property
    def poses(self) -> pose_pb2_grpc.PoseServiceStub:
        return pose_pb2_grpc.PoseServiceStub(self.grpc)

    def post(self) -> Awaitable[httpx.Response]:
        return self.http.post("/pose", content=jpeg(), headers={"Content-Type": "image/jpeg"})

    async def hold(self) -> tuple[asyncio.Future[httpx.Response], asyncio.Future[object]]:
        """A request of each protocol that is admitted and does not end until the gate is opened."""
        self.estimator.gate.clear()
        requests = asyncio.ensure_future(self.post()), asyncio.ensure_future(self.poses.EstimatePose(WHOLE))
        await until(lambda: self.engine.persons == 2)
        return requests

    async def stop(self, number: int = signal.SIGTERM) -> None:
        """Send the signal, and wait until it has been heard."""
        os.kill(os.getpid(), number)
        await until(self.service.stopping.is_set)


@asynccontextmanager
async def started(*, ready: bool = True, drain_timeout_s: float = 20.0, **options: float) -> AsyncIterator[Running]:
    """`serve` on free ports, with what a test needs to look at."""
    estimator = HeldBack()
    if not ready:
        estimator.gate.clear()
    engine = make_engine(estimator, max_batch=2)
    records: list[RequestRecord] = []
    service = make_service(engine=engine, admission=make_admission(observers=[records.append]))
    http_server = make_http_server(
        create_app(service, Metrics(), version="1", body_timeout_s=5), host="127.0.0.1", port=0
    )
    grpc_server = make_grpc_server(service, max_frames=4, max_requests=64)
    address = f"127.0.0.1:{add_port(grpc_server, '127.0.0.1:0')}"
    health = asyncio.create_task(follow_readiness(service, add_health(grpc_server)))
    code = asyncio.create_task(
        running.serve(service, http_server, grpc_server, drain_timeout_s=drain_timeout_s, **options)
    )
    try:
        await until(lambda: http_server.started and (not ready or service.admission.closed_because is None))
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{http_server.port}", timeout=20) as http,
            grpc.aio.insecure_channel(address) as channel,
        ):
            yield Running(service, estimator, engine, http_server, code, http, channel, records)
            await code
    finally:
        estimator.gate.set()
        code.cancel()
        await health


def play(story: Callable[[Running], Awaitable[None]], **options: float) -> tuple[int, Running]:
    """The exit code of a service that a story happens to."""

    async def run() -> tuple[int, Running]:
        async with started(**options) as service:
            await story(service)
            return await asyncio.wait_for(service.code, 30), service

    return asyncio.run(run())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_service_and_closes_its_ports(number):
    async def story(it: Running) -> None:
        assert (await it.post()).status_code == 200
        assert len((await it.poses.EstimatePose(WHOLE)).poses) == 1
        await it.stop(number)
        assert await it.code == 0
        with pytest.raises(httpx.ConnectError):
            await it.post()
        assert (await refused(it.poses.EstimatePose(WHOLE))).code() == grpc.StatusCode.UNAVAILABLE

    assert play(story)[0] == 0


def test_what_was_admitted_before_the_signal_is_answered_and_what_comes_after_it_is_refused():
    async def story(it: Running) -> None:
        posted, called = await it.hold()
        stream = it.poses.StreamPoses()
        await stream.write(frame(1))
        await until(lambda: it.engine.persons == 3)
        await it.stop()

        late = await it.post()
        assert (late.status_code, late.headers["connection"]) == (503, "close")
        assert "shutting down" in late.json()["detail"]
        error = await refused(it.poses.EstimatePose(WHOLE))
        assert (error.code(), trailing(error)["reason"]) == (grpc.StatusCode.UNAVAILABLE, "unavailable")
        assert (await it.http.get("/readyz")).status_code == 503
        assert (await it.http.get("/healthz")).status_code == 200
        assert not it.code.done()

        it.estimator.gate.set()
        assert (await posted).status_code == 200
        assert len((await called).poses) == 1
        assert (await stream.read()).frame_id == 1
        assert (await refused(stream.read())).code() == grpc.StatusCode.UNAVAILABLE

    code, it = play(story)
    assert code == 0
    assert sorted((record.caller.method, record.outcome) for record in it.records) == [
        ("frame", "ok"),
        ("pose", "ok"),
        ("pose", "ok"),
        ("pose", "unavailable"),
        ("pose", "unavailable"),
        ("stream", "unavailable"),
    ]


def test_with_a_delay_new_requests_are_answered_with_503_although_there_is_nothing_to_finish():
    async def story(it: Running) -> None:
        await it.stop()
        for _ in range(8):
            async with httpx.AsyncClient(base_url=it.http.base_url) as balancer:  # which has not noticed yet
                assert (await balancer.get("/readyz")).status_code == 503
                assert (await balancer.post("/pose", content=jpeg())).status_code == 503
            assert (await refused(it.poses.EstimatePose(WHOLE))).code() == grpc.StatusCode.UNAVAILABLE
            await asyncio.sleep(0.05)
        assert not it.code.done()
        os.kill(os.getpid(), signal.SIGTERM)  # the rest of the delay is not waited for, and nothing is lost by that

    assert play(story, drain_delay_s=LONG_S)[0] == 0


def test_a_network_that_hangs_does_not_keep_the_process(caplog):
    async def story(it: Running) -> None:
        posted, called = await it.hold()
        await it.stop()
        assert await it.code == 1
        assert (await posted).status_code >= 500
        assert (await refused(called)).code() == grpc.StatusCode.UNAVAILABLE
        assert not it.estimator.gate.is_set()  # it hangs still

    code, _ = play(story, drain_timeout_s=0.05)
    assert code == 1
    said = [line.getMessage() for line in caplog.records if line.levelno >= logging.ERROR]
    assert "2 requests did not finish within 0.05 s and are given up" in said
    assert "the network did not end what it was at; giving it up" in said


def test_a_network_that_hangs_though_nobody_waits_for_it_does_not_keep_the_process(monkeypatch):
    monkeypatch.setattr(running, "CLOSE_TIMEOUT_S", 0.05)

    async def story(it: Running) -> None:
        posted, called = await it.hold()
        posted.cancel()
        called.cancel()
        await until(lambda: it.service.admission.requests == 0)
        await it.stop()
        assert await it.code == 1
        assert not it.estimator.gate.is_set()

    assert play(story)[0] == 1


def test_a_second_signal_ends_at_once(monkeypatch, caplog):
    monkeypatch.setattr(running, "CLOSE_TIMEOUT_S", LONG_S)

    async def story(it: Running) -> None:
        it.http_server.config.timeout_graceful_shutdown = LONG_S
        posted, called = await it.hold()
        await it.stop()
        assert not it.code.done()
        os.kill(os.getpid(), signal.SIGTERM)
        assert await asyncio.wait_for(it.code, 15) == 1
        for request in (posted, called):
            request.cancel()
        await asyncio.gather(posted, called, return_exceptions=True)

    assert play(story, drain_timeout_s=LONG_S)[0] == 1
    assert "stopping at once: 2 requests are given up" in [line.getMessage() for line in caplog.records]


def test_a_signal_before_the_warm_up_is_over_ends_in_order():
    async def story(it: Running) -> None:
        assert (await it.http.get("/readyz")).status_code == 503
        await it.stop()
        it.estimator.gate.set()

    assert play(story, ready=False)[0] == 0


def test_a_server_that_ends_on_its_own_ends_the_other_and_the_process():
    async def story(it: Running) -> None:
        it.http_server.should_exit = True
        assert await it.code == 1
        assert (await refused(it.poses.EstimatePose(WHOLE))).code() == grpc.StatusCode.UNAVAILABLE

    assert play(story)[0] == 1


@pytest.mark.parametrize(
    ("failure", "words"),
    [(SystemExit(1), "the HTTP server did not start"), (RuntimeError("broken"), "the HTTP server failed")],
)
def test_a_server_that_does_not_start_ends_the_process_and_says_so(failure, words, monkeypatch, caplog):
    async def fail(*_: object, **__: object) -> None:
        raise failure

    async def run() -> int:
        service = make_service()
        http_server = make_http_server(
            create_app(service, Metrics(), version="1", body_timeout_s=5), host="127.0.0.1", port=0
        )
        monkeypatch.setattr(http_server, "startup", fail)
        grpc_server = make_grpc_server(service, max_frames=1, max_requests=1)
        add_port(grpc_server, "127.0.0.1:0")
        return await running.serve(service, http_server, grpc_server, drain_timeout_s=1)

    assert asyncio.run(run()) == 1
    assert [line.getMessage() for line in caplog.records if line.levelno >= logging.ERROR] == [words]


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("localhost", "localhost"), ("::1", "[::1]")])
def test_the_http_port_is_taken_before_anything_is_served_and_named_in_the_log(host, shown, caplog):
    if ":" in host and not has_ipv6():
        pytest.skip("this machine has no IPv6 on loopback")
    caplog.set_level(logging.INFO)

    async def run() -> None:
        service = make_service()
        app = create_app(service, Metrics(), version="1", body_timeout_s=5)
        server = make_http_server(app, host=host, port=0)
        server.listen()
        (address,) = re.findall(r"HTTP running on (\S+)", caplog.text)
        assert address.startswith(f"http://{shown}:")
        port = int(address.rpartition(":")[2])
        with pytest.raises(ValueError, match=f"HTTP cannot listen on {host}:{port}: address already in use"):
            make_http_server(app, host=host, port=port).listen()
        serving = asyncio.create_task(server.serve())
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{address}/healthz")).status_code == 200
        assert server.port == port
        server.should_exit = True
        await serving
        service.close(5.0)

    asyncio.run(run())


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True
