"""How many replicas, cores and machines a rate takes: `python bench/capacity.py`, from times that were measured.

    python bench/capacity.py              plans, from the kept tables; and the model beside the kept run
    python bench/capacity.py --measure    measures here (a minute), and puts the model beside that

The model is `queueing`. Nothing is asserted; where the model and the machine differ, the table says so.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clients import SIZE, WARM_UP_S, ask_in_turns
from drawn import drawn_jpeg
from load import Tally
from queueing import Costs, Limits, Outcome, arrivals, simulate
from rates import SATURATING, ask_at_random
from results import Table, progress
from server import ROOT, Server, add_options, started
from timing import percentile
from watch import Seen

KEPT = ROOT / "benchmarks" / "results"
RATES = (10, 1_000, 100_000)
AIM = 0.6  # of what a replica could answer: see the table of loads
LOADS = (30, 50, 60, 70, 80, 90, 95)
P95_SIGMAS = 1.645  # of a normal distribution
CORES = 2  # of the machine of the kept tables, and so of a replica here

# Core-milliseconds of a picture beside the network, from benchmarks/README.md ("Where the time goes").
DECODE_CORE_MS, LOOP_CORE_MS, FEED_CORE_MS = 2.9, 1.5, 0.6


def costs_of(alone: dict[str, float], many: dict[str, float], *, decode_s: float) -> Costs:
    """The times of a replica.

    Args:
        alone: of one client: rate, busy, p50_s, p95_s.
        many: of so many that batches are full: rate, batch.
        decode_s: of a picture.
    """
    first_s = alone["busy"] / alone["rate"]
    person_s = (many["batch"] / many["rate"] - first_s) / (many["batch"] - 1)
    return Costs(
        fixed_s=max(0.0, first_s - person_s),
        person_s=person_s,
        decode_s=decode_s,
        other_s=max(0.0, alone["p50_s"] - first_s - decode_s),
        noise=math.log(alone["p95_s"] / alone["p50_s"]) / P95_SIGMAS,
    )


def kept_costs() -> Costs:
    """Crops of 128x96, from the tables of `bench/clients.py`; decoding from `bench/sizes.py`."""
    rows = {row["clients"]: row for row in _kept("clients-128x96")["rows"]}
    one, many = rows["1, HTTP"], rows[f"{SATURATING}, HTTP"]
    decode_ms = float(_kept("pixels-128x96")["rows"][0]["decode + crop ms"])
    return costs_of(
        {
            "rate": float(one["persons/s"]),
            "busy": float(one["engine busy"]),
            "p50_s": float(one["p50 ms"]) / 1000,
            "p95_s": float(one["p95 ms"]) / 1000,
        },
        {"rate": float(many["persons/s"]), "batch": float(many["persons a batch"])},
        decode_s=decode_ms / 1000,
    )


def kept_costs_of_the_papers_crop(small: Costs) -> Costs:
    """Crops of 256x192, measured with 16 clients only: batches of 7 took as long a person as one does alone.

    By the machine that the other tables are of; `clients-256x192` is another's.
    """
    many = {row["clients"]: row for row in _kept("capacity-clients-256x192")["rows"]}["16, HTTP"]
    return replace(small, fixed_s=0.0, person_s=1 / float(many["persons/s"]))


def _kept(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((KEPT / f"{name}.json").read_text())
    return content


def measured_costs(server: Server, image: bytes, *, clients: int, seconds: float) -> tuple[Costs, float]:
    """Of this machine, now; and what it answers to that many clients, in pictures a second."""

    def ask(clients: int) -> tuple[Tally, Seen]:
        progress(f"{clients} clients in a closed loop")
        return asyncio.run(ask_in_turns(server, "HTTP", image, clients=clients, seconds=seconds))

    asyncio.run(ask_in_turns(server, "HTTP", image, clients=min(16, clients), seconds=WARM_UP_S))
    one, seen_one = ask(1)
    many, seen_many = ask(clients)
    rate = len(many.taken) / seen_many.seconds
    costs = costs_of(
        {
            "rate": len(one.taken) / seen_one.seconds,
            "busy": seen_one.busy,
            "p50_s": percentile(one.taken, 0.5),
            "p95_s": percentile(one.taken, 0.95),
        },
        {"rate": rate, "batch": seen_many.persons_a_batch},
        decode_s=seen_one.stage_ms["decode"] / 1000,
    )
    return costs, rate


def said(costs: Costs) -> str:
    """Costs, for a title."""
    return (
        f"a batch of n takes {1000 * costs.fixed_s:.1f} + {1000 * costs.person_s:.1f} n ms, decoding "
        f"{1000 * costs.decode_s:.1f} ms, all else {1000 * costs.other_s:.1f} ms"
    )


def check_table(name: str, title: str, costs: Costs) -> Table:
    """Model and machine side by side."""
    columns = ["rate", "sent/s", "", "answered/s", "p50 ms", "p99 ms", "refused"]
    return Table(name, f"{title}; {said(costs)}", columns)


def add_model(table: Table, rate: str, sent: float, outcome: Outcome) -> None:
    """A row of the model."""
    answered = len(outcome.taken) / max(outcome.lasted_s, 1e-9)
    cells = (f"{1000 * percentile(outcome.taken, share):.0f}" for share in (0.5, 0.99))
    table.add(rate, f"{sent:.1f}", "model", f"{answered:.1f}", *cells, outcome.refused)


def beside_kept() -> Table:
    """The model beside the kept run of `bench/rates.py`: other minutes of the same day and machine."""
    costs, kept = kept_costs(), _kept("rates-128x96")
    seconds, most = (
        float(re.search(pattern, kept["title"])[1])  # type: ignore[index]
        for pattern in (r"arrivals for ([\d.]+) s", r"100 % is ([\d.]+) pictures/s")
    )
    table = check_table("capacity-kept", "The model beside rates-128x96.json, at the same moments", costs)
    for row in kept["rows"]:
        rate = row["rate"]
        if not rate.endswith("HTTP"):
            continue
        moments = arrivals(float(rate.split()[0]) / 100 * most, seconds, seed=0)
        cells = [f"{float(row[name]):.0f}" for name in ("p50 ms", "p99 ms")]
        table.add(rate, row["sent/s"], "measured", row["answered/s"], *cells, row["refused"])
        add_model(table, rate, len(moments) / seconds, simulate(costs, moments))
    return table


def beside_machine(server: Server, given: argparse.Namespace) -> Table:
    """The model beside this machine, at the same moments."""
    image = drawn_jpeg(*SIZE)
    clients = min(SATURATING, given.max_requests)
    limits = Limits(max_batch=given.max_batch, max_requests=given.max_requests)
    costs, most = measured_costs(server, image, clients=clients, seconds=given.seconds)
    table = check_table(
        "capacity-check",
        f"The model beside {server.serves}, at most {given.max_requests} requests at a time; 100 % is {most:.1f} "
        f"pictures/s, the closed loop of {clients} clients; {given.seconds:g} s each",
        costs,
    )
    for percent in given.percent:
        rate = percent / 100 * most
        progress(f"{percent} %")
        asking = ask_at_random(server, "HTTP", image, rate=rate, seconds=given.seconds, seed=given.seed)
        lasted, tally, _ = asyncio.run(asking)
        moments = arrivals(rate, given.seconds, given.seed)
        sent = len(moments) / given.seconds
        cells = (f"{1000 * percentile(tally.taken, share):.0f}" for share in (0.5, 0.99))
        answered = f"{len(tally.taken) / lasted:.1f}"
        table.add(f"{percent} %", f"{sent:.1f}", "measured", answered, *cells, tally.refused)
        add_model(table, f"{percent} %", sent, simulate(costs, moments, limits=limits))
    return table


def loads(sizes: dict[str, Costs], replicas: Sequence[int], seconds: float) -> Table:
    """What a load does to the time of an answer: alone, and where several share it."""
    table = Table(
        "capacity-loads",
        f"The model: milliseconds of an answer by load ({seconds:g} s of Poisson arrivals, pictures of one person), "
        f"for {' and '.join(map(str, replicas))} replicas of {CORES} cores behind leastconn",
        ["load", *(f"{size}, {n}: {what}" for size in sizes for n in replicas for what in ("p50", "p99"))],
    )
    for load in LOADS:
        cells = []
        for costs in sizes.values():
            for number in replicas:
                rate = load / 100 * number * costs.saturation(Limits().max_batch)
                outcome = simulate(costs, arrivals(rate, seconds, seed=1), replicas=number)
                cells += [f"{1000 * percentile(outcome.taken, share):.0f}" for share in (0.5, 0.99)]
        table.add(f"{load} %", *cells)
    return table


def plan(sizes: dict[str, Costs], picture_bytes: int) -> Table:
    """What the rates take, at AIM of saturation."""
    table = Table(
        "capacity-plan",
        f"Pictures of {SIZE[0]}x{SIZE[1]} ({picture_bytes / 1e6:.2f} MB), one person each, at {100 * AIM:.0f} % of "
        f"saturation; replicas of {CORES} cores; CPU only",
        [
            "pictures/s",
            *(f"{size}: {what}" for size in sizes for what in ("replicas", "cores")),
            "of them decoding",
            "event loops",
            "Gbit/s in",
        ],
    )
    for rate in RATES:
        cells: list[str] = []
        for costs in sizes.values():
            replicas = math.ceil(rate / (AIM * costs.saturation(Limits().max_batch)))
            cells += [f"{replicas:,}", f"{CORES * replicas:,}"]
        decoding, looping = (rate * each / 1000 for each in (DECODE_CORE_MS, LOOP_CORE_MS))
        bits = 8 * picture_bytes * rate / 1e9
        table.add(f"{rate:,}", *cells, f"{decoding:.3g}", f"{looping:.3g}", f"{bits:.3g}")
    return table


def main() -> None:
    """Print the tables, and write them where results are kept."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--measure", action="store_true", help="put the model beside this machine, as it is now")
    parser.add_argument("--percent", nargs="+", type=int, default=(50, 150), metavar="N", help="of the saturation rate")
    parser.add_argument("--seed", type=int, default=0, help="of the moments when requests are sent")
    parser.add_argument(
        "--max-requests",
        type=int,
        default=Limits.max_requests,
        help="of the service; few, for refusals in a short time",
    )
    parser.add_argument("--simulated-s", type=float, default=120.0, help="of the table of loads (120)")
    add_options(parser, rounds=1, seconds=10.0)
    given = parser.parse_args()
    results: Path | None = given.results
    if given.measure:
        with started(given, "--max-requests", str(given.max_requests)) as server:
            beside_machine(server, given).write(results)
        return
    small = kept_costs()
    sizes = {"128x96": small, "256x192": kept_costs_of_the_papers_crop(small)}
    beside_kept().write(results)
    loads(sizes, (1, 8), given.simulated_s).write(results)
    plan(sizes, len(drawn_jpeg(*SIZE))).write(results)


if __name__ == "__main__":
    main()
