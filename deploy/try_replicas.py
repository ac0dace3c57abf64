"""Two replicas behind HAProxy, under load: one is killed, then all are exchanged. `python -m deploy.try_replicas`.

Prints what came of every request: of the killed replica, only what it was at is lost; of an exchange, nothing. Exits
with 1 if it is otherwise. Asks on the loopback interface only, a few requests a second; takes about a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.asking import Asking, Phase, drawn_picture, table, wait_for
from deploy.balancer import Balancer, Front, Replica
from deploy.fleet import ROOT

START_TIMEOUT_S = 240.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of it. `in_flight`: what the killed replica was at, when it was killed."""

    phases: Sequence[Phase]
    in_flight: int
    text: str

    @property
    def faults(self) -> list[str]:
        """What should not have happened."""
        faults = []
        for phase in self.phases:
            allowed = self.in_flight if phase.name == KILL else 0
            if phase.lost.total() > allowed:
                faults.append(f"{phase.name}: {phase.lost.total()} lost; allowed: {allowed}")
            if not all(phase.answered.values()) or len(phase.answered) < 3:
                faults.append(f"{phase.name}: not every kind of client was answered")
        return faults


KILL, EXCHANGE = "kill -9 of r1", "exchange of all"


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Trial:
    """The command of the operator in a process of its own, and a look at HAProxy from outside."""

    def __init__(self, folder: Path, flags: Sequence[str], *, replicas: int) -> None:
        self.http_port, self.grpc_port, self._stats_port = free_ports(3)
        self._folder = folder
        self._flags = flags
        self._replicas = replicas
        self._balancer: Balancer | None = None

    async def start(self, first_port: int) -> asyncio.subprocess.Process:
        """Start it; ready when `is_ready`."""
        command = [sys.executable, "-m", "deploy.replicas", "--replicas", str(self._replicas)]
        command += ["--http", f"127.0.0.1:{self.http_port}", "--grpc", f"127.0.0.1:{self.grpc_port}"]
        command += ["--stats", f"127.0.0.1:{self._stats_port}", "--slowstart-s", "2"]
        command += ["--first-port", str(first_port), "--run-dir", str(self._folder), "--", *self._flags]
        return await asyncio.create_subprocess_exec(*command, cwd=ROOT)

    def status(self) -> dict[str, dict[str, Any]]:
        """Of each replica: its process and ports."""
        found: dict[str, dict[str, Any]] = json.loads((self._folder / "replicas.json").read_text())
        return found

    async def all_up(self) -> bool:
        """Whether HAProxy sends requests to every replica."""
        try:
            told = [await self.look.is_up(name) for name in self.status()]
        except (OSError, ValueError):
            return False
        return len(told) == self._replicas and all(told)

    @property
    def look(self) -> Balancer:
        """The HAProxy of the command, to be asked and told."""
        if self._balancer is None:
            with tempfile.TemporaryDirectory() as folder:
                front = Front(socket=self._folder / "haproxy.sock")
                nobody = [Replica(name="r", http_port=1, grpc_port=1)]
                self._balancer = Balancer(front, nobody, Path(folder))
        return self._balancer


async def kill(trial: Trial, name: str) -> int:
    """Kill a replica with `kill -9`, and say how many requests it was at."""
    pid = trial.status()[name]["pid"]
    # It stands still while its requests are counted, so that none of them is answered in between.
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(0.3)  # and those that HAProxy sends it now are lost with it
    await trial.look.take(name, new_requests=False)  # none comes between the count and its end
    at = await trial.look.requests(name)
    os.kill(pid, signal.SIGKILL)
    await trial.look.take(name, new_requests=True)
    return at


async def try_replicas(trial: Trial, *, first_port: int, steady_s: float, pause_s: float) -> Outcome:
    """Start, kill, exchange, stop. Raises TimeoutError if something does not come back."""
    process = await trial.start(first_port)
    notes: dict[str, str] = {}
    try:
        ready_s = await wait_for(trial.all_up, START_TIMEOUT_S, "replicas that HAProxy takes for well")
        notes["start"] = f"all replicas were taken for well after {ready_s:.1f} s"
        http, grpc = f"http://127.0.0.1:{trial.http_port}", f"grpc://127.0.0.1:{trial.grpc_port}"
        asking = Asking(http=http, grpc=grpc, image=drawn_picture(), pause_s=pause_s)
        asking.begin("steady")
        await asking.asked_for(steady_s)

        before = trial.status()
        asking.begin(KILL)
        fell = await trial.look.falls("r1")
        at = await kill(trial, "r1")
        await wait_for(lambda: _changed(trial, before, ["r1"]), START_TIMEOUT_S, "another r1")
        started_s = time.monotonic()
        # Until it has looked, HAProxy takes the dead one for well, and so whoever comes into its place.
        await wait_for(lambda: _has_fallen(trial, "r1", fell), START_TIMEOUT_S, "r1 found to be dead")
        await wait_for(trial.all_up, START_TIMEOUT_S, "r1 well again")
        well_s = time.monotonic() - started_s
        notes[KILL] = f"it was at {at} requests; another one was taken for well {well_s:.1f} s after its start"
        await asking.asked_for()

        asking.begin("steady again")
        await asking.asked_for(steady_s)

        before = trial.status()
        asking.begin(EXCHANGE)
        process.send_signal(signal.SIGHUP)
        await wait_for(lambda: _changed(trial, before, list(before)), START_TIMEOUT_S, "other processes")
        await wait_for(trial.all_up, START_TIMEOUT_S, "replicas well after the exchange")
        await asking.asked_for()
        notes[EXCHANGE] = f"{asking.phase.streams_opened} streams were opened to go on where others had ended"

        asking.begin("after it")
        await asking.asked_for(steady_s)
        phases = await asking.end()
    finally:
        if process.returncode is None:
            process.terminate()
        code = await process.wait()
    notes["stop"] = f"exit code {code}"
    return Outcome(phases=phases, in_flight=at, text=table(phases, notes))


async def _has_fallen(trial: Trial, name: str, before: int) -> bool:
    return await trial.look.falls(name) > before


async def _changed(trial: Trial, before: dict[str, dict[str, Any]], names: list[str]) -> bool:
    now = trial.status()
    return all(now[name]["pid"] != before[name]["pid"] for name in names)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if nothing was lost but what a killed replica was at."""
    parser = argparse.ArgumentParser(prog="python -m deploy.try_replicas", description=__doc__.split("\n")[0])
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--checkpoint", type=Path, help="instead of the bundled one")
    parser.add_argument("--steady-s", type=float, default=5.0, help="of the phases in which nothing is done (5)")
    parser.add_argument("--pause-s", type=float, default=0.3, help="between the requests of a client (0.3)")
    given = parser.parse_args(arguments)
    flags = ["--log-level", "warning", *(("--checkpoint", str(given.checkpoint)) if given.checkpoint else ())]
    with tempfile.TemporaryDirectory(prefix="btranspose-try-") as folder:
        trial = Trial(Path(folder), flags, replicas=given.replicas)
        first_port = 20_000 + os.getpid() % 5_000
        outcome = asyncio.run(
            try_replicas(trial, first_port=first_port, steady_s=given.steady_s, pause_s=given.pause_s)
        )
    print(f"\n{outcome.text}")
    for fault in outcome.faults:
        print(f"NOT AS IT SHOULD BE: {fault}")
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
