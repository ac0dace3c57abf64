"""Replicas of the service on this machine: started, started again when they die, and exchanged one after the other.

Whoever sends them requests is told by the functions that a `Fleet` is given. Knows nothing of HAProxy.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

log = logging.getLogger("deploy.replicas")

ROOT = Path(__file__).resolve().parents[1]
READY_PERIOD_S = 0.25
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0  # before a replica that dies again and again is started again
WELL_AFTER_S = 60.0  # a replica that lived so long may be started again at once


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A place for a replica: its name and ports stay when its process changes.

    flags: of `python -m service`. answer_timeout_s: for whether it is ready; one that is slower is not.
    """

    name: str
    http_port: int
    grpc_port: int
    flags: tuple[str, ...] = ()
    answer_timeout_s: float = 2.0

    def command(self) -> list[str]:
        ports = ("--http-port", str(self.http_port), "--grpc-port", str(self.grpc_port))
        return [sys.executable, "-m", "service", "--host", "127.0.0.1", *ports, *self.flags]

    def is_ready(self) -> bool:
        """Whether it takes pictures. Blocks for a moment."""
        try:
            with urlopen(f"http://127.0.0.1:{self.http_port}/readyz", timeout=self.answer_timeout_s) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError, ValueError):
            return False


@dataclass(kw_only=True)
class Hooks:
    """What is called around the exchange of a replica, by its name.

    before: it will be told to stop; afterwards it must not be sent anything new.
    after: it is ready again, or was given up; then it may become ready later.
    """

    before: Callable[[str], Awaitable[None]]
    after: Callable[[str], Awaitable[None]]


class Fleet:
    """Keeps one process alive in each slot.

    Args:
        slots: of different ports.
        start_timeout_s: for a replica to become ready.
        stop_timeout_s: for one that was told to stop; longer than its --drain-timeout-s.
        status: a file that says which process each slot has.
    """

    def __init__(
        self, slots: Sequence[Slot], *, start_timeout_s: float, stop_timeout_s: float, status: Path | None = None
    ) -> None:
        self.slots = tuple(slots)
        self.restarts = dict.fromkeys((slot.name for slot in slots), 0)  # of those that died by themselves
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._status = status
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._stopping = False

    def pid(self, name: str) -> int:
        """The process in a slot; the last one where it has died."""
        return self._processes[name].pid

    async def start(self) -> None:
        """Start all, and wait until they are ready. Raises RuntimeError if one does not become so."""
        for slot in self.slots:
            await self._spawn(slot)
            self._keepers[slot.name] = asyncio.create_task(self._keep(slot))
        await asyncio.gather(*map(self.wait_until_ready, self.slots))

    async def wait_until_ready(self, slot: Slot) -> None:
        """Return when it takes pictures. Raises RuntimeError if that takes too long."""
        end_s = time.monotonic() + self._start_timeout_s
        while not await asyncio.to_thread(slot.is_ready):
            if time.monotonic() > end_s:
                raise RuntimeError(f"{slot.name} is not ready after {self._start_timeout_s:g} s; its log says why")
            await asyncio.sleep(READY_PERIOD_S)

    async def exchange(self, slot: Slot, hooks: Hooks) -> None:
        """Stop one replica in order and start another in its place. Raises RuntimeError if that is not ready."""
        await hooks.before(slot.name)
        try:
            self._keepers.pop(slot.name).cancel()
            await self._end(slot.name)
            await self._spawn(slot)
            self._keepers[slot.name] = asyncio.create_task(self._keep(slot))
            await self.wait_until_ready(slot)
        finally:
            await hooks.after(slot.name)

    async def stop(self) -> bool:
        """Stop all in order, at a time. False if one had to be killed or lost work."""
        self._stopping = True
        for keeper in self._keepers.values():
            keeper.cancel()
        return all(await asyncio.gather(*map(self._end, self._processes)))

    async def _spawn(self, slot: Slot) -> None:
        # A group of its own: Ctrl-C is for this process, which then stops its replicas in order.
        process = await asyncio.create_subprocess_exec(*slot.command(), cwd=ROOT, start_new_session=True)
        self._processes[slot.name] = process
        log.info("%s started: process %d, HTTP %d, gRPC %d", slot.name, process.pid, slot.http_port, slot.grpc_port)
        self._write_status()

    async def _keep(self, slot: Slot) -> None:
        """Start a replica again whenever it dies, ever more rarely if it does not live."""
        pause_s = FIRST_PAUSE_S / 2
        while True:
            started_s = time.monotonic()
            code = await self._processes[slot.name].wait()
            lived_s = time.monotonic() - started_s
            pause_s = FIRST_PAUSE_S if lived_s > WELL_AFTER_S else min(LONGEST_PAUSE_S, 2 * pause_s)
            how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            log.error("%s ended %s after %.0f s; another is started in %.1f s", slot.name, how, lived_s, pause_s)
            self.restarts[slot.name] += 1
            await asyncio.sleep(pause_s)
            await self._spawn(slot)

    async def _end(self, name: str) -> bool:
        process = self._processes[name]
        if process.returncode is None:
            process.terminate()
        try:
            code = await asyncio.wait_for(process.wait(), self._stop_timeout_s)
        except TimeoutError:
            log.error("%s did not stop within %g s and is killed", name, self._stop_timeout_s)
            process.kill()
            code = await process.wait()
        log.info("%s stopped with exit code %d", name, code)
        return code == 0

    def _write_status(self) -> None:
        if self._status is None:
            return
        told = {
            slot.name: {
                "pid": self.pid(slot.name) if slot.name in self._processes else None,
                "http_port": slot.http_port,
                "grpc_port": slot.grpc_port,
                "restarts": self.restarts[slot.name],
            }
            for slot in self.slots
        }
        written = self._status.with_suffix(".new")
        written.write_text(json.dumps(told, indent=1) + "\n")
        os.replace(written, self._status)
