"""More and more clients, each asking again when it is answered: `python bench/clients.py`, part of `make bench`.

Beside what the service answers stands what its network gives when full batches of crops are put into it directly, in
turns within one run, because machines are noisy. Clients and server share the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from alone import Alone
from drawn import drawn_jpeg, pose_path
from load import Ask, GrpcClient, HttpClient, Tally, closed_loop
from results import Table, progress
from server import HOST, Server, add_options, started
from timing import in_ms
from watch import Seen, watched

CLIENTS = (1, 4, 16, 64)
PROTOCOLS = ("HTTP", "gRPC")
SIZE = (640, 480)
WARM_UP_S = 1.0
COLUMNS = [
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "persons/s",
    "errors",
    "of full batches",
    "engine busy",
    "persons a batch",
    "peak PSS MiB",
    "peak RSS MiB",
]


@dataclass
class Figures:
    """Of one number of clients over one protocol, over all rounds."""

    persons: int = 1  # in a picture
    tally: Tally = field(default_factory=Tally)
    rates: list[float] = field(default_factory=list)  # persons a second
    shares: list[float] = field(default_factory=list)  # of those of full batches
    seen: list[Seen] = field(default_factory=list)

    def add(self, tally: Tally, seen: Seen, *, full: float) -> None:
        """One round; `full`: persons a second of full batches in it."""
        rate = self.persons * len(tally.taken) / seen.seconds
        self.rates.append(rate)
        self.shares.append(rate / full)
        self.seen.append(seen)
        self.tally.taken += tally.taken
        self.tally.errors += tally.errors
        self.tally.refused += tally.refused

    def cells(self) -> list[str]:
        """Medians over the rounds, percentiles over all answers, the most memory of any round; see COLUMNS."""
        failed = self.tally.refused + self.tally.errors.total()
        busy, filled = ([getattr(one, name) for one in self.seen] for name in ("busy", "persons_a_batch"))
        return [
            *in_ms(self.tally.taken),
            f"{statistics.median(self.rates):.1f}",
            str(failed),
            f"{statistics.median(self.shares):.2f}",
            f"{statistics.median(busy):.2f}",
            f"{statistics.median(filled):.1f}",
            f"{max(one.pss_mib for one in self.seen):.0f}",
            f"{max(one.rss_mib for one in self.seen):.0f}",
        ]


async def ask_in_turns(
    server: Server, protocol: str, image: bytes, *, clients: int, seconds: float, boxes: list[list[int]] | None = None
) -> tuple[Tally, Seen]:
    """Clients that each ask again when they are answered: what came of it, and what the service did meanwhile."""
    tally = Tally()
    https = [HttpClient(HOST, server.http_port) for _ in range(clients if protocol == "HTTP" else 0)]
    grpcs = [GrpcClient(HOST, server.grpc_port) for _ in range(clients if protocol == "gRPC" else 0)]
    path = pose_path(boxes) if boxes else "/pose"
    asks: list[Ask] = [partial(client.post, path, image) for client in https]
    asks += [partial(client.post, image, boxes) for client in grpcs]
    try:
        counted: list[Ask] = [partial(tally.ask, ask) for ask in asks]
        _, seen = await watched(server, closed_loop(counted, seconds=seconds))
    finally:
        for client in https:
            client.close()
        await asyncio.gather(*(client.close() for client in grpcs))
    return tally, seen


def full_batch_rows(table: Table, max_batch: int, batches: list[float], pictures: list[float]) -> None:
    """What the rest is compared with: persons a second of the network alone, without and with decoding."""
    blank = [""] * 3
    rate = f"{statistics.median(batches):.1f}"
    table.add(f"no server: full batches of {max_batch} crops", *blank, rate, "", "1.00", *[""] * 4)
    share = statistics.median(one / two for one, two in zip(pictures, batches, strict=True))
    rate = f"{statistics.median(pictures):.1f}"
    table.add("no server: the same, decoding each picture", *blank, rate, "", f"{share:.2f}", *[""] * 4)


def bench(server: Server, given: argparse.Namespace) -> Table:
    """The table."""
    image = drawn_jpeg(*SIZE)
    alone = Alone(server.checkpoint, image, given.max_batch)
    alone.one_picture()
    asyncio.run(ask_in_turns(server, "HTTP", image, clients=16, seconds=WARM_UP_S))
    figures = {(clients, protocol): Figures() for clients in given.clients for protocol in PROTOCOLS}
    batches: list[float] = []
    pictures: list[float] = []
    for number in range(given.rounds):
        for clients in given.clients:
            progress(f"round {number + 1} of {given.rounds}: {clients} clients")
            full = alone.batches(given.seconds)
            for protocol in PROTOCOLS:
                asking = ask_in_turns(server, protocol, image, clients=clients, seconds=given.seconds)
                figures[clients, protocol].add(*asyncio.run(asking), full=full)
        batches.append(full)
        pictures.append(alone.pictures(given.seconds))
    table = Table(
        f"clients-{server.crop}",
        f"Closed loop, one person a picture of {SIZE[0]}x{SIZE[1]}: {server.serves}; rounds: {given.rounds}",
        ["clients", *COLUMNS],
    )
    full_batch_rows(table, given.max_batch, batches, pictures)
    for (clients, protocol), found in figures.items():
        table.add(f"{clients}, {protocol}", *found.cells())
    return table


def main() -> None:
    """Print the table, and write it where results are kept."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clients", nargs="+", type=int, default=CLIENTS, metavar="N")
    add_options(parser, rounds=3, seconds=4.0)
    given = parser.parse_args()
    with started(given) as server:
        table = bench(server, given)
    results: Path | None = given.results
    table.write(results)


if __name__ == "__main__":
    main()
