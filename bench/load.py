"""Clients that do little themselves: raw HTTP/1.1 on kept connections, and gRPC, in closed loops.

A load generator on the machine of its server takes from the server what it uses, so this one uses as little as it can.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import grpc

from service.pb import pose_pb2 as pb
from service.pb import pose_pb2_grpc

Ask = Callable[[], Awaitable[None]]


class HttpClient:
    """One kept connection."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port

    async def connect(self) -> None:
        """Open the connection."""
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)

    async def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of an answer."""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: image/jpeg\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in answer.split(b"\r\n")[1:] if line)
        content = await self._reader.readexactly(int(fields[b"content-length"]))
        return int(answer.split(b" ", 2)[1]), content

    async def post(self, path: str, body: bytes) -> None:
        """Send a body. Raises RuntimeError for any answer but 200."""
        status, content = await self.request("POST", path, body)
        if status != 200:
            raise RuntimeError(f"{status}: {content[:300]!r}")

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


class GrpcClient:
    """One channel."""

    def __init__(self, host: str, port: int) -> None:
        # Channels to one address share a connection unless told otherwise.
        self._channel = grpc.aio.insecure_channel(f"{host}:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
        self._stub = pose_pb2_grpc.PoseServiceStub(self._channel)  # type: ignore[no-untyped-call]

    async def post(self, image: bytes) -> None:
        """Ask for the poses of a picture."""
        await self._stub.EstimatePose(pb.EstimatePoseRequest(image=image))

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


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
