"""Clients that do little themselves (raw HTTP/1.1 on kept connections, gRPC), in closed and open loops.

A load generator on the machine of its server takes from the server what it uses, so this one uses as little as it can.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import grpc

from service.pb import pose_pb2 as pb
from service.pb import pose_pb2_grpc

Ask = Callable[[], Awaitable[None]]

CHANNELS = 8  # of an open loop over gRPC: a connection carries many calls at a time


class Refused(RuntimeError):
    """The service has too much to do, and says so: 429, or RESOURCE_EXHAUSTED."""


class HttpClient:
    """One kept connection; made with the first request, or before by `connect`, and anew when it was closed."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._ends: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def connect(self) -> None:
        """Open the connection."""
        self._ends = await asyncio.open_connection(self._host, self._port)

    async def request(
        self, method: str, path: str, body: bytes = b"", *, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of an answer. Raises OSError or EOFError where the connection breaks."""
        lines = {"Host": self._host, "Content-Type": "image/jpeg", "Content-Length": str(len(body)), **(headers or {})}
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        if self._ends is None:
            await self.connect()
        assert self._ends is not None
        reader, writer = self._ends
        kept = False
        try:
            writer.write(head.encode() + b"\r\n" + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in answer.split(b"\r\n")[1:] if line)
            content = await reader.readexactly(int(fields[b"content-length"]))
            kept = fields.get(b"connection") != b"close"
        finally:
            if not kept:
                self.close()
        return int(answer.split(b" ", 2)[1]), content

    async def post(self, path: str, body: bytes, *, headers: Mapping[str, str] | None = None) -> None:
        """Send a body. Raises Refused for 429, RuntimeError for any other answer but 200."""
        status, content = await self.request("POST", path, body, headers=headers)
        if status == 429:
            raise Refused(f"{content[:300]!r}")
        if status != 200:
            raise RuntimeError(f"{status}: {content[:300]!r}")

    def close(self) -> None:
        """Close the connection."""
        if self._ends is not None:
            self._ends[1].close()
            self._ends = None


class HttpPool:
    """As many connections as there are requests at a time, each kept for a later one."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._free: list[HttpClient] = []

    async def post(self, path: str, body: bytes) -> None:
        """As `HttpClient.post`."""
        client = self._free.pop() if self._free else HttpClient(self._host, self._port)
        try:
            await client.post(path, body)
        finally:
            self._free.append(client)

    def close(self) -> None:
        """Close the connections; nobody may be asking."""
        for client in self._free:
            client.close()


class GrpcClient:
    """One channel."""

    def __init__(self, host: str, port: int) -> None:
        # Channels to one address share a connection unless told otherwise.
        self._channel = grpc.aio.insecure_channel(f"{host}:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
        self._stub = pose_pb2_grpc.PoseServiceStub(self._channel)  # type: ignore[no-untyped-call]

    async def post(self, image: bytes, boxes_xywh: list[list[int]] | None = None) -> None:
        """Ask for the poses of a picture. Raises Refused for RESOURCE_EXHAUSTED, otherwise gRPC's own errors."""
        boxes = [pb.Box(x=x, y=y, width=width, height=height) for x, y, width, height in boxes_xywh or ()]
        try:
            await self._stub.EstimatePose(pb.EstimatePoseRequest(image=image, boxes=boxes))
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise Refused(error.details()) from error
            raise

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


class GrpcPool:
    """A few channels that take turns."""

    def __init__(self, host: str, port: int) -> None:
        self._clients = [GrpcClient(host, port) for _ in range(CHANNELS)]
        self._turns = itertools.cycle(self._clients)

    async def post(self, image: bytes) -> None:
        """As `GrpcClient.post`."""
        await next(self._turns).post(image)

    async def close(self) -> None:
        """Close the channels."""
        await asyncio.gather(*(client.close() for client in self._clients))


@dataclass
class Tally:
    """What came of requests: the seconds that each answer took, refusals, and other failures by their name."""

    taken: list[float] = field(default_factory=list)
    refused: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    async def ask(self, ask: Ask, *, since: float | None = None) -> None:
        """Ask, and count what comes of it. `since`: of `time.perf_counter`, when the request was due; None: now."""
        since = time.perf_counter() if since is None else since
        try:
            await ask()
        except Refused:
            self.refused += 1
        except grpc.aio.AioRpcError as error:
            self.errors[error.code().name] += 1
        except (RuntimeError, OSError, EOFError) as error:
            self.errors[str(error)[:3] if type(error) is RuntimeError else type(error).__name__] += 1
        else:
            self.taken.append(time.perf_counter() - since)


async def repeat(ask: Ask, *, seconds: float) -> list[float]:
    """Ask again and again, and note how long each answer took, in seconds."""
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        await ask()
        taken.append(time.perf_counter() - started)
    return taken


async def closed_loop(asks: list[Ask], *, seconds: float) -> tuple[float, list[float]]:
    """Several clients at a time, each asking again when it is answered: answers a second, and how long each took."""
    started = time.perf_counter()
    taken = await asyncio.gather(*(repeat(ask, seconds=seconds) for ask in asks))
    answers = [one for client in taken for one in client]
    return len(answers) / (time.perf_counter() - started), answers


async def open_loop(ask: Ask, *, rate: float, seconds: float, seed: int) -> tuple[float, Tally]:
    """Requests at random moments (Poisson), `rate` a second, whether earlier ones have been answered or not.

    An answer's time counts from the moment when its request was due, so that neither a slow service nor a slow client
    hides what a user would have waited. The same seed gives the same moments, scaled by the rate.

    Returns the seconds until the last answer, and what came of the requests. Raises ValueError for a rate that is not
    above 0.
    """
    if not rate > 0:
        raise ValueError(f"rate is {rate}; allowed: above 0")
    rng = random.Random(seed)
    tally = Tally()
    due = started = time.perf_counter()
    async with asyncio.TaskGroup() as asking:
        while (due := due + rng.expovariate(rate)) < started + seconds:
            await asyncio.sleep(due - time.perf_counter())  # what is late is sent at once
            asking.create_task(tally.ask(ask, since=due))
    return time.perf_counter() - started, tally
