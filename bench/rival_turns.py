"""One server of `bench/rivals.py`: its start, its turns, and what came of them."""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
from load import Ask, GrpcClient, HttpClient, Tally, closed_loop
from rival_processes import Processes
from server import HOST

START_TIMEOUT_S = 120.0
ANSWER_TIMEOUT_S = 60.0
PORTS = 3  # next to each other: Triton and our service take more than one

Answer = TypeVar("Answer")


class Failed(RuntimeError):
    """A server that does not take part. Says why."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A server that is to take part.

    start: starts it on the first of `PORTS` ports. path, headers: of its requests. over_grpc: asked by our gRPC on the
    second port, too. rival: answers as the other rivals do.
    """

    name: str
    start: Callable[[int], Processes]
    path: str = "/pose"
    headers: dict[str, str] = field(default_factory=dict)
    over_grpc: bool = False
    rival: bool = True


@dataclass(frozen=True)
class Started:
    """A server that answers: its entry, processes and first port, the seconds until it did, and its first answer."""

    entry: Entry
    processes: Processes
    port: int
    ready_s: float
    answer: bytes


@dataclass
class Row:
    """One way to ask one server, and what came of it in all rounds, by the number of clients."""

    name: str
    started: Started | None = None
    grpc: bool = False
    failed: str = ""
    rates: dict[int, list[float]] = field(default_factory=dict)  # answers a second
    tallies: dict[int, Tally] = field(default_factory=dict)
    memory_bytes: int = 0

    async def turn(self, image: bytes, clients: int, *, seconds: float) -> None:
        """Clients that each ask again when they are answered; the server runs, and is held again afterwards."""
        if self.started is None:
            return
        started, tally = self.started, Tally()
        started.processes.go_on()
        try:
            await load(started, image, clients=1, seconds=0, grpc=self.grpc)  # it may have been held for long
            rate = await load(started, image, clients=clients, seconds=seconds, grpc=self.grpc, tally=tally)
            self.memory_bytes = max(self.memory_bytes, started.processes.memory_bytes())
        finally:
            started.processes.hold()
        self.rates.setdefault(clients, []).append(rate)
        so_far = self.tallies.setdefault(clients, Tally())
        so_far.taken += tally.taken
        so_far.refused += tally.refused
        so_far.errors += tally.errors


async def load(
    started: Started, image: bytes, *, clients: int, seconds: float, grpc: bool = False, tally: Tally | None = None
) -> float:
    """A closed loop on new connections: good answers a second. Each client asks at least once, `seconds` being 0."""
    tally = Tally() if tally is None else tally
    https = [HttpClient(HOST, started.port) for _ in range(0 if grpc else clients)]
    grpcs = [GrpcClient(HOST, started.port + 1) for _ in range(clients if grpc else 0)]
    entry = started.entry
    asks: list[Ask] = [partial(client.post, entry.path, image, headers=entry.headers) for client in https]
    asks += [partial(client.post, image) for client in grpcs]
    try:
        counted: list[Ask] = [partial(tally.ask, partial(_patiently, ask)) for ask in asks]
        if seconds == 0:
            await asyncio.gather(*(ask() for ask in counted))
            return float("nan")
        rate, times = await closed_loop(counted, seconds=seconds)
    finally:
        for client in https:
            client.close()
        await asyncio.gather(*(client.close() for client in grpcs))
    return rate * len(tally.taken) / len(times)


async def _patiently(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask, with what may come of it as errors that are counted. Raises OSError, EOFError or RuntimeError."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):  # what it raises is an OSError
            return await ask()
    except KeyError as error:  # some servers' errors come in chunks
        raise RuntimeError(f"an answer without {error}") from error


async def start(entry: Entry, image: bytes) -> Started:
    """Start a server and wait for its first answer. Raises Failed, and then leaves nothing running."""
    port = free_ports()
    try:
        processes = entry.start(port)
    except OSError as error:
        raise Failed(f"it cannot be started: {error}") from error
    client = HttpClient(HOST, port)
    ask = partial(client.request, "POST", entry.path, image, headers=entry.headers)
    try:
        while True:
            try:
                status, answer = await _patiently(ask)
                if status == 200:
                    return Started(entry, processes, port, time.perf_counter() - processes.started, answer)
            except (OSError, EOFError, RuntimeError):
                status = 0
            if not processes.alive():
                raise Failed(f"it ended: {processes.last_words()}")
            if time.perf_counter() - processes.started > START_TIMEOUT_S:
                raise Failed(f"no answer within {START_TIMEOUT_S:.0f} s, the last with status {status}")
            await asyncio.sleep(0.1)
    except BaseException:
        processes.stop()
        raise
    finally:
        client.close()


def free_ports() -> int:
    """The first of `PORTS` free ports next to each other."""
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            first: int = probe.getsockname()[1]
        if all(_is_free(port) for port in range(first, first + PORTS)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return False
    return True


def confidences(answer: bytes) -> list[float]:
    """Of the 17 keypoints in a rival's answer: JSON, or Triton's JSON with the numbers behind it. Raises Failed."""
    try:
        if answer.startswith(b'{"model_name"'):
            return [float(one) for one in np.frombuffer(answer[-17 * 3 * 4 :], dtype="<f4")[2::3]]
        return [float(point[2]) for point in json.loads(answer)["keypoints"]]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise Failed(f"it does not answer with keypoints: {answer[:60]!r}") from error


def ratio(ours: Row, other: Row, clients: int) -> float:
    """How many times as many answers a second ours gives: the median over the rounds, for noise hits both alike.

    Not a number where ours gave none.
    """
    pairs = zip(ours.rates.get(clients, []), other.rates.get(clients, []), strict=False)
    ratios = [one / two if two else float("inf") for one, two in pairs]
    return statistics.median(ratios) if ratios else float("nan")
