"""Requests at random moments, at rates up to beyond what is possible: `python bench/rates.py`, part of `make bench`.

Users do not wait for each other. Here requests come by a Poisson process, and a time counts from the moment when the
request was due, so what queues in the client counts as what queues in the service. The rates are parts of what the
service answers to many clients in a closed loop, measured first. Clients and server share the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from clients import PROTOCOLS, SIZE, WARM_UP_S, ask_in_turns
from drawn import drawn_jpeg
from load import GrpcPool, HttpPool, Tally, open_loop
from results import Table, progress
from server import HOST, Server, add_options, started
from timing import in_ms
from watch import Seen, watched

PERCENT = (25, 50, 75, 90, 110, 150)
SATURATING = 64  # clients of the closed loop
COLUMNS = [
    "sent/s",
    "answered/s",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "refused",
    "errors",
    "peak PSS MiB",
    "peak RSS MiB",
]


@dataclass
class Figures:
    """Of one rate over one protocol, over all rounds."""

    tally: Tally = field(default_factory=Tally)
    sent: list[float] = field(default_factory=list)  # a second, while there was sending
    answered: list[float] = field(default_factory=list)  # a second, until the last answer
    seen: list[Seen] = field(default_factory=list)

    def add(self, lasted: float, tally: Tally, seen: Seen, *, seconds: float) -> None:
        """One round of which requests were sent for `seconds`."""
        answers = len(tally.taken)
        self.sent.append((answers + tally.refused + tally.errors.total()) / seconds)
        self.answered.append(answers / lasted)
        self.seen.append(seen)
        self.tally.taken += tally.taken
        self.tally.refused += tally.refused
        self.tally.errors += tally.errors

    def cells(self) -> list[str]:
        """See COLUMNS."""
        named = ", ".join(f"{name}: {times}" for name, times in sorted(self.tally.errors.items()))
        return [
            f"{statistics.median(self.sent):.1f}",
            f"{statistics.median(self.answered):.1f}",
            *in_ms(self.tally.taken),
            str(self.tally.refused),
            named or "0",
            f"{max(one.pss_mib for one in self.seen):.0f}",
            f"{max(one.rss_mib for one in self.seen):.0f}",
        ]


async def ask_at_random(
    server: Server, protocol: str, image: bytes, *, rate: float, seconds: float, seed: int
) -> tuple[float, Tally, Seen]:
    """One open loop: the seconds until its last answer, what came of it, and what the service did meanwhile."""
    https, grpcs = HttpPool(HOST, server.http_port), GrpcPool(HOST, server.grpc_port)
    ask = partial(https.post, "/pose", image) if protocol == "HTTP" else partial(grpcs.post, image)
    try:
        (lasted, tally), seen = await watched(server, open_loop(ask, rate=rate, seconds=seconds, seed=seed))
    finally:
        https.close()
        await grpcs.close()
    return lasted, tally, seen


def saturation(server: Server, image: bytes, seconds: float) -> float:
    """Pictures a second that the service answers over HTTP when it never lacks requests."""
    asyncio.run(ask_in_turns(server, "HTTP", image, clients=16, seconds=WARM_UP_S))
    tally, seen = asyncio.run(ask_in_turns(server, "HTTP", image, clients=SATURATING, seconds=seconds))
    if tally.refused or tally.errors:
        raise RuntimeError(f"{tally.refused} requests refused, and errors {dict(tally.errors)}; allowed: none")
    return len(tally.taken) / seen.seconds


def bench(server: Server, given: argparse.Namespace) -> Table:
    """The table."""
    image = drawn_jpeg(*SIZE)
    most = saturation(server, image, given.seconds)
    progress(f"saturated at {most:.1f} pictures a second")
    percent: Sequence[int] = given.percent
    figures = {(part, protocol): Figures() for part in percent for protocol in PROTOCOLS}
    for number in range(given.rounds):
        for (part, protocol), found in figures.items():
            progress(f"round {number + 1} of {given.rounds}: {part} % over {protocol}")
            rate, seconds = part / 100 * most, given.seconds
            asking = ask_at_random(server, protocol, image, rate=rate, seconds=seconds, seed=given.seed + number)
            found.add(*asyncio.run(asking), seconds=seconds)
    table = Table(
        f"rates-{server.crop}",
        f"Open loop, Poisson arrivals for {given.seconds:g} s, one person a picture of {SIZE[0]}x{SIZE[1]}: "
        f"{server.serves}; 100 % is {most:.1f} pictures/s, the closed loop of {SATURATING} clients; "
        f"rounds: {given.rounds}",
        ["rate", *COLUMNS],
    )
    for (part, protocol), found in figures.items():
        table.add(f"{part} %, {protocol}", *found.cells())
    return table


def main() -> None:
    """Print the table, and write it where results are kept."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--percent", nargs="+", type=int, default=PERCENT, metavar="N", help="of the saturation rate")
    parser.add_argument("--seed", type=int, default=0, help="of the moments when requests are sent")
    add_options(parser, rounds=1, seconds=12.0)
    given = parser.parse_args()
    with started(given) as server:
        table = bench(server, given)
    results: Path | None = given.results
    table.write(results)


if __name__ == "__main__":
    main()
