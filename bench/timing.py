"""How long calls take, and the figures that are shown of many."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch


def median_ms(
    run: Callable[[], object],
    *,
    seconds: float,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Median milliseconds of a call by a clock, over about `seconds` and at least three calls, after one to warm up."""
    run()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        started = clock()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(clock() - started)
    return 1000 * statistics.median(times)


def timed(run: Callable[[], object], *, seconds: float) -> list[float]:
    """How long each call took, in seconds."""
    taken = []
    end = time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        run()
        taken.append(time.perf_counter() - started)
    return taken


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies; not a number where there are none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def in_ms(seconds: Sequence[float], shares: Sequence[float] = (0.5, 0.95, 0.99)) -> list[str]:
    """Percentiles of times in seconds, as cells of a table in milliseconds."""
    return [f"{1000 * percentile(seconds, share):.1f}" for share in shares]
