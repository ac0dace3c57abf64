"""Replicas behind HAProxy: its configuration, processes that are kept alive and exchanged, and the whole under load."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass

import pytest

from deploy.asking import wait_for
from deploy.balancer import SERVICE_NAME, SERVING, Front, Replica, configuration, haproxy, health_check_request
from deploy.balancer import main as print_configuration
from deploy.fleet import Fleet, Hooks, Slot
from deploy.replicas import read_arguments, slots
from deploy.try_replicas import Trial, free_ports, try_replicas
from drawings import lively_network, tiny_config
from fakes import make_service
from grpc_clients import Served, ask
from model.checkpoint import save_checkpoint

HAS_HAPROXY = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin") is not None
needs_haproxy = pytest.mark.skipif(not HAS_HAPROXY, reason="haproxy is not installed")


def test_the_health_check_of_haproxy_is_understood_by_the_service_and_follows_its_readiness():
    async def talk(to: Served) -> None:
        async def check(name: str) -> bytes:
            reader, writer = await asyncio.open_connection(*to.address.rsplit(":", 1))
            writer.write(health_check_request(name))
            said = b""
            # A status of the call comes last; 0x1 ends a stream.
            while b"grpc-status" not in said and SERVING not in said and (more := await reader.read(4096)):
                said += more
            writer.close()
            return said

        async def serving() -> bool:
            return SERVING in await check(SERVICE_NAME)

        await wait_for(serving, 10, "a service that says it is well")
        assert SERVING not in await check("somebody.Else")
        to.service.stop()

        async def stopped() -> bool:
            return not await serving()

        await wait_for(stopped, 10, "a service that says it stops")

    ask(make_service(), talk)


@pytest.mark.parametrize("tls", [False, True])
def test_every_replica_is_in_both_backends(tmp_path, tls, capsys):
    replicas = [Replica(name=f"r{n}", http_port=8000 + n, grpc_port=9000 + n) for n in (1, 2)]
    front = Front(socket=tmp_path / "s", tls_pem=tmp_path / "tls.pem" if tls else None)
    text = configuration(front, replicas)
    for line in ("server r1 127.0.0.1:8001", "server r2 127.0.0.1:9002 proto h2"):
        assert f"    {line}\n" in text
    assert ("ssl crt" in text) == tls
    assert "$" not in text
    if HAS_HAPROXY and not tls:
        (tmp_path / "haproxy.cfg").write_text(text)
        checked = subprocess.run([haproxy(), "-c", "-f", tmp_path / "haproxy.cfg"], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        assert print_configuration(["--server", "a=::1:8000:50051"]) == 0
        assert "server a ::1:50051 proto h2" in capsys.readouterr().out


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_replicas_that_cannot_be_told_apart_are_refused(names):
    with pytest.raises(ValueError, match="allowed: one or more, of different names"):
        configuration(Front(), [Replica(name=name, http_port=1, grpc_port=2) for name in names])


def test_cores_and_devices_are_shared_and_what_is_given_wins(monkeypatch):
    monkeypatch.setenv("BTRANSPOSE_DRAIN_TIMEOUT_S", "7")
    first, _, third = slots(3, first_port=18_001, flags=["--precision=fp32"], devices=["cuda:0", "cuda:1"], cores=8)
    assert first.flags == ("--threads", "2", "--drain-delay-s", "3", "--precision=fp32", "--device", "cuda:0")
    assert (third.name, third.http_port, third.grpc_port, third.flags[-1]) == ("r3", 18_003, 28_003, "cuda:0")
    (alone,) = slots(1, first_port=18_001, flags=["--threads", "5"], cores=8)
    assert alone.flags.count("--threads") == 1
    assert read_arguments(["--replicas", "4", "--", "--replicas"]).flags == ["--replicas"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"replicas": 0}, "0 replicas"),
        ({"first_port": 60_000}, "from port 60000"),
        ({"flags": ["--http-port=1"]}, "--http-port=1 after `--`"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        slots(**{"replicas": 2, "first_port": 18_001, **options})


ANSWERS_READY = """
import http.server, sys
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""


@dataclass(frozen=True, kw_only=True)
class Stub(Slot):
    """Says at once that it is ready, and ends by SIGTERM; `never`: does not begin at all."""

    never: bool = False
    answer_timeout_s: float = 30.0

    def command(self) -> list[str]:
        return [sys.executable, "-c", "raise SystemExit(3)" if self.never else ANSWERS_READY, str(self.http_port)]


def play_fleet(scenario, *, never: bool = False, start_timeout_s: float = 20.0) -> None:
    places = [Stub(name=f"r{n}", http_port=port, grpc_port=1, never=never) for n, port in enumerate(free_ports(2), 1)]
    fleet = Fleet(places, start_timeout_s=start_timeout_s, stop_timeout_s=10)

    async def run() -> None:
        try:
            await scenario(fleet)
        finally:
            await fleet.stop()

    asyncio.run(asyncio.wait_for(run(), 60))


def test_a_replica_that_dies_is_started_again_in_its_place():
    async def scenario(fleet: Fleet) -> None:
        await fleet.start()
        first = fleet.pid("r1")
        os.kill(first, signal.SIGKILL)

        async def another() -> bool:
            return fleet.pid("r1") != first

        await wait_for(another, 20, "another process")
        await fleet.wait_until_ready(fleet.slots[0])
        assert fleet.restarts == {"r1": 1, "r2": 0}

    play_fleet(scenario)


def test_an_exchanged_replica_gets_nothing_new_from_before_it_stops_until_it_is_ready():
    async def scenario(fleet: Fleet) -> None:
        await fleet.start()
        slot, told = fleet.slots[1], []

        async def before(name: str) -> None:
            told.append((name, "before", slot.is_ready(), fleet.pid(name)))

        async def after(name: str) -> None:
            told.append((name, "after", slot.is_ready(), fleet.pid(name)))

        await fleet.exchange(slot, Hooks(before=before, after=after))
        assert [one[:3] for one in told] == [("r2", "before", True), ("r2", "after", True)]
        assert told[0][3] != told[1][3]
        assert fleet.restarts == {"r1": 0, "r2": 0}, "an exchange is no death"

    play_fleet(scenario)


def test_one_that_does_not_become_ready_is_told_of():
    async def scenario(fleet: Fleet) -> None:
        with pytest.raises(RuntimeError, match=r"r\d is not ready after 0\.6 s"):
            await fleet.start()

    play_fleet(scenario, never=True, start_timeout_s=0.6)


@pytest.mark.slow
@needs_haproxy
def test_under_load_a_killed_replica_loses_what_it_was_at_and_an_exchange_loses_nothing(tmp_path):
    checkpoint = tmp_path / "tiny.safetensors"
    save_checkpoint(checkpoint, lively_network(tiny_config()), training={})
    flags = ["--checkpoint", str(checkpoint), "--log-level", "warning", "--device", "cpu", "--runtime", "torch"]
    trial = Trial(tmp_path, [*flags, "--precision", "fp32", "--threads", "1"], replicas=2)
    first_port = 20_000 + os.getpid() % 5_000
    outcome = asyncio.run(try_replicas(trial, first_port=first_port, steady_s=1.0, pause_s=0.1))
    print(outcome.text)  # noqa: T201 (shown if it fails)
    assert not outcome.faults, outcome.text
    assert "exit code 0" in outcome.text
