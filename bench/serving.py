"""What serving adds to the network: idle, with crowds, and to health checks: `python bench/serving.py --help`.

Part of `make bench`. Compares the service with the same network called directly in this process. What is compared is
measured in turns within one run, because machines are noisy. Clients and server share the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from functools import partial
from pathlib import Path

from alone import Alone
from clients import COLUMNS, PROTOCOLS, SIZE, WARM_UP_S, Figures, ask_in_turns, full_batch_rows
from drawn import crowd_boxes, drawn_jpeg
from load import GrpcClient, HttpClient, repeat
from results import Table, progress
from server import HOST, Server, add_options, started
from timing import in_ms, percentile, timed

CLIENTS = 16
CROWD = 8  # persons in a picture
PATHS = ("/healthz", "/readyz", "/metrics")


async def bench_idle(server: Server, alone: Alone, image: bytes, *, rounds: int, seconds: float) -> Table:
    """One client, nothing else going on."""
    http, grpc = HttpClient(HOST, server.http_port), GrpcClient(HOST, server.grpc_port)
    direct: list[float] = []
    over_http: list[float] = []
    over_grpc: list[float] = []
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}: one client")
        direct += timed(alone.one_picture, seconds=seconds)
        over_http += await repeat(partial(http.post, "/pose", image), seconds=seconds)
        over_grpc += await repeat(partial(grpc.post, image), seconds=seconds)
    http.close()
    await grpc.close()
    table = Table(
        f"idle-{server.crop}",
        f"One client, one person a picture of {SIZE[0]}x{SIZE[1]}: {server.serves}; rounds: {rounds}",
        ["asked", "p50 ms", "p95 ms", "p99 ms", "p50 above decode + network, ms"],
    )
    base = percentile(direct, 0.5)
    table.add("decode + network alone, no server", *in_ms(direct), "")
    for name, taken in (("over HTTP", over_http), ("over gRPC", over_grpc)):
        table.add(name, *in_ms(taken), f"{1000 * (percentile(taken, 0.5) - base):+.1f}")
    return table


def bench_crowds(server: Server, alone: Alone, image: bytes, *, rounds: int, seconds: float) -> Table:
    """Many clients, with pictures of many persons, in turns with full batches driven directly."""
    boxes = crowd_boxes(CROWD, width=SIZE[0], height=SIZE[1])
    figures = {protocol: Figures(persons=CROWD) for protocol in PROTOCOLS}
    batches: list[float] = []
    pictures: list[float] = []
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}: {CLIENTS} clients with crowds")
        batches.append(alone.batches(seconds))
        pictures.append(alone.pictures(seconds))
        for protocol, found in figures.items():
            asking = ask_in_turns(server, protocol, image, clients=CLIENTS, seconds=seconds, boxes=boxes)
            found.add(*asyncio.run(asking), full=batches[-1])
    table = Table(
        f"crowds-{server.crop}",
        f"{CLIENTS} clients, {CROWD} persons a picture of {SIZE[0]}x{SIZE[1]}: {server.serves}; rounds: {rounds}",
        ["asked", *COLUMNS],
    )
    full_batch_rows(table, server.max_batch, batches, pictures)
    for protocol, found in figures.items():
        table.add(f"over {protocol}", *found.cells())
    return table


async def bench_health(server: Server, image: bytes, *, seconds: float) -> Table:
    """Health checks while many clients load the service."""
    progress("health checks under load")
    probe = HttpClient(HOST, server.http_port)
    load = asyncio.create_task(ask_in_turns(server, "HTTP", image, clients=CLIENTS, seconds=seconds))
    taken: dict[str, list[float]] = {path: [] for path in PATHS}
    while not load.done():
        for path, times in taken.items():
            started = time.perf_counter()
            await probe.request("GET", path)
            times.append(time.perf_counter() - started)
            await asyncio.sleep(0.02)
    await load
    probe.close()
    table = Table(
        f"health-{server.crop}",
        f"Health checks while {CLIENTS} clients load it over HTTP: {server.serves}",
        ["asked", "answers", "p50 ms", "p95 ms", "p99 ms", "max ms"],
    )
    for path, times in taken.items():
        table.add(f"GET {path}", len(times), *in_ms(times), f"{1000 * max(times):.1f}")
    return table


def main() -> None:
    """Print the tables, and write them where results are kept."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser, rounds=3, seconds=3.0)
    given = parser.parse_args()
    rounds, seconds = given.rounds, given.seconds
    results: Path | None = given.results
    image = drawn_jpeg(*SIZE)
    with started(given) as server:
        alone = Alone(server.checkpoint, image, given.max_batch)
        alone.one_picture()
        asyncio.run(ask_in_turns(server, "HTTP", image, clients=CLIENTS, seconds=WARM_UP_S))
        asyncio.run(bench_idle(server, alone, image, rounds=rounds, seconds=seconds)).write(results)
        bench_crowds(server, alone, image, rounds=rounds, seconds=seconds).write(results)
        asyncio.run(bench_health(server, image, seconds=4 * seconds)).write(results)


if __name__ == "__main__":
    main()
