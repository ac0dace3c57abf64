"""Hours of ordinary trouble in minutes: `python bench/soak.py --minutes 15`. Not part of any test.

Starts `python -m service` and keeps it busy with good pictures over both protocols, crowds, streams with bad frames,
and clients that send rubbish, ask the impossible, or leave before their answer. Afterwards: how often each request had
which answer, whether any was not to be expected, and how much memory the service held.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
from drawn import crowd_boxes, drawn_jpeg, pose_path
from load import HttpClient
from results import Table, progress
from server import served, wait_until_ready
from watch import memory_mib

from service.pb import pose_pb2 as pb
from service.pb import pose_pb2_grpc

CROWD = pose_path(crowd_boxes(8, width=640, height=480))
WARM_UP_S = 120.0  # memory is compared with what it was then
EVERY_S = 15.0


@dataclass(frozen=True)
class Kind:
    """One kind of request: what it does, and the answers that are to be expected."""

    ask: Callable[[], Awaitable[str]]
    expected: frozenset[str]
    share: float


class Traffic:
    """Everything that clients do."""

    def __init__(self, http_port: int, grpc_port: int, rng: random.Random) -> None:
        self._http_port = http_port
        self._rng = rng
        self._pictures = [drawn_jpeg(320, 240), drawn_jpeg(640, 480), drawn_jpeg(1280, 720)]
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}")
        self._stub = pose_pb2_grpc.PoseServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self.answers: collections.Counter[tuple[str, str]] = collections.Counter()
        self.unexpected: list[str] = []
        busy = "429"
        self.kinds = {
            "HTTP": self._kind(lambda: self._http("/pose", self._picture()), 6, "200", busy),
            "HTTP, eight persons": self._kind(lambda: self._http(CROWD, self._pictures[1]), 1, "200", busy),
            "HTTP, rubbish": self._kind(lambda: self._http("/pose", rng.randbytes(2000)), 1, "400", busy),
            "HTTP, cut off": self._kind(lambda: self._http("/pose", self._picture()[:9000]), 1, "400", busy),
            "HTTP, impossible box": self._kind(
                lambda: self._http("/pose?boxes=[[1,1,0,5]]", self._picture()), 1, "422", busy
            ),
            "HTTP, 30 MB": self._kind(lambda: self._http("/pose", bytes(30_000_000)), 0.1, "413", "closed", busy),
            "HTTP, 20 ms to live": self._kind(self._impatient, 1, "504", "200", busy),
            "HTTP, leaves": self._kind(self._leaves, 2, "left"),
            "HTTP, half a head": self._kind(self._half_a_head, 0.5, "left"),
            "gRPC": self._kind(lambda: self._grpc(self._picture()), 3, "OK", "RESOURCE_EXHAUSTED"),
            "gRPC, rubbish": self._kind(lambda: self._grpc(b"rubbish"), 1, "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"),
            "gRPC, leaves": self._kind(self._grpc_leaves, 1, "left"),
            "gRPC, 30 frames": self._kind(self._stream, 0.3, "30 in order, 3 bad", "RESOURCE_EXHAUSTED"),
        }

    @staticmethod
    def _kind(ask: Callable[[], Awaitable[str]], share: float, *expected: str) -> Kind:
        return Kind(ask, frozenset(expected), share)

    async def client(self, until: float) -> None:
        """One client that draws what to do next until the time is over."""
        names = list(self.kinds)
        shares = [self.kinds[name].share for name in names]
        while time.monotonic() < until:
            (name,) = self._rng.choices(names, shares)
            try:
                answer = await self.kinds[name].ask()
            except Exception as error:
                answer = type(error).__name__
            self.answers[name, answer] += 1
            if answer not in self.kinds[name].expected:
                self.unexpected.append(f"{name}: {answer}")

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    def _picture(self) -> bytes:
        return self._rng.choice(self._pictures)

    async def _http(self, path: str, body: bytes) -> str:
        client = HttpClient("127.0.0.1", self._http_port)
        await client.connect()
        try:
            return str((await client.request("POST", path, body))[0])
        except ConnectionError:
            return "closed"  # while it was still sending
        finally:
            client.close()

    async def _send_and_leave(self, head: bytes) -> str:
        _, writer = await asyncio.open_connection("127.0.0.1", self._http_port)
        writer.write(head)
        await writer.drain()
        await asyncio.sleep(self._rng.uniform(0, 0.1))
        writer.close()
        return "left"

    async def _leaves(self) -> str:
        body = self._picture()
        head = f"POST /pose HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
        return await self._send_and_leave(head.encode() + body)

    async def _half_a_head(self) -> str:
        return await self._send_and_leave(b"POST /pose HTTP/1.1\r\nHost: x\r\nContent-")

    async def _impatient(self) -> str:
        body = self._picture()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._http_port)
        try:
            writer.write(
                f"POST /pose HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nX-Timeout-Ms: 20\r\n"
                f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            return (await reader.read()).split(b" ", 2)[1].decode()
        finally:
            writer.close()

    async def _grpc(self, image: bytes) -> str:
        try:
            await self._stub.EstimatePose(pb.EstimatePoseRequest(image=image))
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"

    async def _grpc_leaves(self) -> str:
        call = self._stub.EstimatePose(pb.EstimatePoseRequest(image=self._picture()))
        await asyncio.sleep(self._rng.uniform(0, 0.1))
        call.cancel()
        return "left"

    async def _stream(self) -> str:
        async def frames() -> AsyncIterator[pb.StreamPosesRequest]:
            for number in range(30):
                image = b"rubbish" if number % 10 == 5 else self._pictures[0]
                yield pb.StreamPosesRequest(frame_id=number, image=image)

        try:
            answers = [answer async for answer in self._stub.StreamPoses(frames())]
        except grpc.aio.AioRpcError as error:
            return error.code().name
        in_order = [answer.frame_id for answer in answers] == list(range(30))
        bad = sum(answer.HasField("error") for answer in answers)
        return f"{len(answers)} {'in order' if in_order else 'out of order'}, {bad} bad"


async def soak(http_port: int, grpc_port: int, pid: int, given: argparse.Namespace) -> bool:
    """Keep the service busy, and tell how it went: True if all was as expected."""
    await wait_until_ready(http_port)
    started = time.monotonic()
    until = started + 60 * given.minutes
    traffic = Traffic(http_port, grpc_port, random.Random(given.seed))
    working = [asyncio.create_task(traffic.client(until)) for _ in range(given.clients)]
    memory: list[tuple[float, float]] = []
    while time.monotonic() < until:
        await asyncio.sleep(EVERY_S)
        memory.append((time.monotonic() - started, memory_mib(pid)[1]))
        progress(f"{memory[-1][0]:5.0f} s  {memory[-1][1]:6.0f} MiB  {sum(traffic.answers.values())} answers")
    await asyncio.gather(*working)
    await traffic.close()
    results: Path | None = given.results
    answers = Table("soak", f"{given.minutes:g} minutes of {given.clients} clients", ["request", "answer", "times"])
    for (name, answer), times in sorted(traffic.answers.items()):
        answers.add(name, answer, times)
    answers.write(results)
    if len(warm := [mib for seconds, mib in memory if seconds > WARM_UP_S]) >= 4:
        held_table(warm).write(results)
    print(f"\nunexpected answers: {len(traffic.unexpected)} {traffic.unexpected[:10]}")
    return not traffic.unexpected


def held_table(warm: list[float]) -> Table:
    """Resident MiB of the service once it is warm, at least two numbers in the order of time."""
    table = Table("soak-memory", "Resident memory after warm-up, MiB", ["", "median", "least", "most"])
    half = len(warm) // 2
    for name, part in (("first half", warm[:half]), ("second half", warm[half:])):
        table.add(name, *(f"{figure:.0f}" for figure in (statistics.median(part), min(part), max(part))))
    return table


def main() -> int:
    """1 if any answer was not to be expected."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, help="a folder for results as JSON and Markdown")
    given = parser.parse_args()
    with served() as (http_port, grpc_port, pid):
        as_expected = asyncio.run(soak(http_port, grpc_port, pid, given))
    return 0 if as_expected else 1


if __name__ == "__main__":
    raise SystemExit(main())
