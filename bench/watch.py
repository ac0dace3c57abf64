"""What the service does while it is asked: how busy its network is, how full its batches, how much memory it holds.

Read from outside: its own metrics before and after, and what the kernel says of its process meanwhile.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from load import HttpClient
from server import HOST, Server

EVERY_S = 0.5  # asking the kernel costs the process some milliseconds
STAGES = ("read", "decode", "queue", "engine")

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a service did during a load.

    seconds: how long it was watched. busy: the part of it in which the network ran. persons_a_batch: mean.
    stage_ms: mean milliseconds of a request in each stage. pss_mib, rss_mib: the most memory at any moment, the
    first without the parts of what other processes share.
    """

    seconds: float
    busy: float
    persons_a_batch: float
    stage_ms: dict[str, float]
    pss_mib: float
    rss_mib: float


async def watched(server: Server, load: Awaitable[Result]) -> tuple[Result, Seen]:
    """What a load gives, and what the service did until it was over."""
    probe = HttpClient(HOST, server.http_port)
    before = await counters(probe)
    probe.close()  # the service does, too, if it hears nothing for long
    started = time.perf_counter()
    working = asyncio.ensure_future(load)
    held = [await asyncio.to_thread(memory_mib, server.pid)]
    while not working.done():
        await asyncio.wait({working}, timeout=EVERY_S)
        held.append(await asyncio.to_thread(memory_mib, server.pid))
    seconds = time.perf_counter() - started
    after = await counters(probe)
    probe.close()
    pss, rss = (max(column) for column in zip(*held, strict=True))
    return working.result(), _seen(before, after, seconds=seconds, pss=pss, rss=rss)


def _seen(before: dict[str, float], after: dict[str, float], *, seconds: float, pss: float, rss: float) -> Seen:
    grown = {name: value - before.get(name, 0.0) for name, value in after.items()}

    def mean(name: str, labels: str = "") -> float:
        many = grown[f"btranspose_{name}_count{labels}"]
        return grown[f"btranspose_{name}_sum{labels}"] / many if many else float("nan")

    return Seen(
        seconds=seconds,
        busy=grown["btranspose_batch_duration_seconds_sum"] / seconds,
        persons_a_batch=mean("batch_persons"),
        stage_ms={stage: 1000 * mean("stage_duration_seconds", f'{{stage="{stage}"}}') for stage in STAGES},
        pss_mib=pss,
        rss_mib=rss,
    )


async def counters(probe: HttpClient) -> dict[str, float]:
    """Every series of `GET /metrics`, by its name with its labels."""
    text = (await probe.request("GET", "/metrics"))[1].decode()
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def memory_mib(pid: int) -> tuple[float, float]:
    """Memory of a process by the kernel's account, without and with the parts of what others share: PSS and RSS.

    Raises RuntimeError if the process has ended.
    """
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise RuntimeError(f"process {pid} has ended") from error
    found = {name: int(kib) / 1024 for name, kib in re.findall(r"^(Pss|Rss):\s+(\d+) kB", text, re.MULTILINE)}
    return found["Pss"], found["Rss"]
