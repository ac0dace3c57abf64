"""Clients that ask without end while something is done to whom they ask, and what came of it, phase by phase.

A request counts in the phase in which it ended. Nothing is asked a second time, but the frames of a stream that broke
off unanswered: its client opens another one, as a video's would.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from service.client import Frame, connect_async
from service.errors import Overloaded, PoseServiceError, Unavailable

HTTP, GRPC, FRAMES = "HTTP", "gRPC", "frames"
KINDS = (HTTP, GRPC, FRAMES)
TIMEOUT_S = 30.0
ANSWERED_TIMEOUT_S = 120.0


@dataclass
class Phase:
    """What happened in one stretch of time: answers, refusals and losses by kind; why, by kind and reason."""

    name: str
    started_s: float = field(default_factory=time.monotonic)
    ended_s: float = 0.0
    answered: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    why: Counter[str] = field(default_factory=Counter)
    streams_opened: int = 0
    slowest_s: float = 0.0

    @property
    def seconds(self) -> float:
        """Until it ended, or now."""
        return (self.ended_s or time.monotonic()) - self.started_s


class Asking:
    """Clients of one address, each asking again a moment after it was answered.

    Args:
        http: http://host:port. grpc: grpc://host:port; None: over HTTP only.
        image: what all of them send.
        http_clients, grpc_clients, streams: how many of each.
        pause_s: between an answer and the next question of a client, and between the frames of a stream.
    """

    def __init__(
        self,
        *,
        http: str,
        grpc: str | None,
        image: bytes,
        http_clients: int = 3,
        grpc_clients: int = 2,
        streams: int = 1,
        pause_s: float = 0.3,
    ) -> None:
        self._http, self._grpc = http, grpc
        self._image = image
        self._counts = {HTTP: http_clients, GRPC: grpc_clients if grpc else 0, FRAMES: streams if grpc else 0}
        self._pause_s = pause_s
        self._over = False
        self._tasks: list[asyncio.Task[None]] = []
        self.phases: list[Phase] = []
        self.in_flight: Counter[str] = Counter()

    @property
    def phase(self) -> Phase:
        """The one at hand."""
        return self.phases[-1]

    def begin(self, name: str) -> Phase:
        """End the phase before, and begin another."""
        now_s = time.monotonic()
        if self.phases:
            self.phase.ended_s = now_s
        self.phases.append(Phase(name))
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._stream() if kind == FRAMES else self._ask(kind))
                for kind in KINDS
                for _ in range(self._counts[kind])
            ]
        return self.phase

    async def asked_for(self, seconds: float = 0.0) -> None:
        """Return when so much time went by and clients of every kind were answered in this phase.

        Raises TimeoutError if one is not.
        """
        await asyncio.sleep(seconds)
        await wait_for(self._all_answered, ANSWERED_TIMEOUT_S, f"answers to clients of every kind: {self.phase.name}")

    async def _all_answered(self) -> bool:
        return all(self.phase.answered[kind] for kind, count in self._counts.items() if count)

    async def end(self) -> list[Phase]:
        """Ask nothing more, wait for what was asked, and give all phases."""
        self._over = True
        await asyncio.gather(*self._tasks)
        self.phase.ended_s = time.monotonic()
        return self.phases

    async def _ask(self, kind: str) -> None:
        address = self._http if kind == HTTP else self._grpc
        assert address is not None
        async with connect_async(address, timeout_s=TIMEOUT_S) as client:
            while not self._over:
                started_s = time.monotonic()
                self.in_flight[kind] += 1
                try:
                    await client.estimate(self._image)
                except PoseServiceError as error:
                    self._failed(kind, error)
                else:
                    self._answered(kind, time.monotonic() - started_s)
                finally:
                    self.in_flight[kind] -= 1
                await asyncio.sleep(self._pause_s)

    async def _stream(self) -> None:
        """One video: every frame is to be answered, in whichever stream."""
        assert self._grpc is not None
        unanswered: dict[int, float] = {}  # frames, and when they were sent first
        following = opened = 0

        async def frames(again: Sequence[int], stream: int) -> AsyncIterator[Frame]:
            nonlocal following
            for number in again:
                yield Frame(number, self._image)
            while stream == opened and not self._over:  # frames of one that broke off would be lost
                number, following = following, following + 1
                unanswered[number] = time.monotonic()
                yield Frame(number, self._image)
                await asyncio.sleep(self._pause_s)

        async with connect_async(self._grpc, timeout_s=TIMEOUT_S) as client:
            while not self._over or unanswered:
                self.phase.streams_opened += 1
                opened += 1
                try:
                    async for answer in client.stream(frames(sorted(unanswered), opened)):
                        taken_s = time.monotonic() - unanswered.pop(answer.frame_id)
                        if answer.error is None:
                            self._answered(FRAMES, taken_s)
                        else:
                            self._failed(FRAMES, answer.error)
                except PoseServiceError as error:
                    if not isinstance(error, Unavailable):
                        self.phase.why[f"a stream: {error.reason}"] += 1
                    await asyncio.sleep(0.2)

    def _answered(self, kind: str, taken_s: float) -> None:
        self.phase.answered[kind] += 1
        self.phase.slowest_s = max(self.phase.slowest_s, taken_s)

    def _failed(self, kind: str, error: PoseServiceError) -> None:
        if isinstance(error, Overloaded):
            self.phase.refused[kind] += 1
        else:
            self.phase.lost[kind] += 1
            self.phase.why[f"{kind}: {error.reason}: {str(error)[:90]}"] += 1


def drawn_picture(width: int = 320, height: int = 240) -> bytes:
    """A JPEG with detail everywhere."""
    noise = np.random.default_rng(0).normal(size=(height // 8, width // 8, 3))
    pixels = np.clip(128 + 50 * noise, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def table(phases: Sequence[Phase], notes: dict[str, str]) -> str:
    """All phases side by side, and what was lost and why."""
    columns = ("phase", "seconds", "HTTP answered", "gRPC answered", "frames answered", "refused", "lost", "slowest s")
    rows = [
        (
            phase.name,
            f"{phase.seconds:.1f}",
            *(str(phase.answered[kind]) for kind in KINDS),
            str(phase.refused.total()),
            str(phase.lost.total()),
            f"{phase.slowest_s:.2f}",
        )
        for phase in phases
    ]
    widths = [max(len(row[column]) for row in (columns, *rows)) for column in range(len(columns))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (columns, ["-" * width for width in widths], *rows)
    ]
    for phase in phases:
        lines += [f"{phase.name}: {times} times {why}" for why, times in sorted(phase.why.items())]
    return "\n".join([*lines, *(f"{name}: {note}" for name, note in notes.items())])


async def wait_for(condition: Callable[[], Awaitable[bool]], timeout_s: float, what: str) -> float:
    """Seconds until an async function gives True. Raises TimeoutError, saying what did not come about."""
    started_s = time.monotonic()
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while not await condition():
                await asyncio.sleep(0.1)
            return time.monotonic() - started_s
    raise TimeoutError(f"not within {timeout_s:g} s: {what}")
