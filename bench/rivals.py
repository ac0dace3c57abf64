"""Our service beside other ways to serve the same network: `make rivals`, or `python bench/rivals.py --help`.

Two comparisons: the rivals as they come, with the network by torch in float32; and with the network by OpenVINO as our
service runs it, so that only the serving differs. All get the same picture from the same clients, in turns within one
run, because machines are noisy; servers whose turn it is not are held. Clients and servers share the machine's cores.
The rivals squash the picture to the crop and take the highest value of each heatmap, where our service keeps
proportions and places keypoints between pixels.

Rivals are optional: their scripts (`--peers`) and what they need (`make rivals-setup`) are no part of this repository;
where they are missing, this says so and ends well.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from load import Tally
from results import Table, machine, progress
from rival_bench import FACTORIES, MANY, OURS, SIZE, Bench
from rival_kinds import RIVALS, ROOT, Rival, missing, rival_env
from rival_turns import Row, ratio
from server import resized
from timing import percentile

from model.device import pick_dtype
from service.settings import BUNDLED_CHECKPOINT

INPUT = "256x192"  # the crop of the rivals' scripts
COLUMNS = [
    "server",
    "ready after s",
    "1 client: p50 ms",
    f"{MANY} clients: images/s",
    "p50 ms",
    "p99 ms",
    "errors",
    "memory MiB",
    "ours to it",
]


def our_flags(name: str) -> dict[str, tuple[str, ...]]:
    """Our service in a comparison: as it comes, and where the network is to be the same, as the rivals have it."""
    bf16 = pick_dtype("auto", torch.device("cpu")) == torch.bfloat16
    if name == "openvino":
        return {OURS: ("--runtime", "openvino", "--precision", "bf16" if bf16 else "fp32")}
    return {OURS: (), f"{OURS} by torch in float32, too": ("--runtime", "torch", "--precision", "fp32")}


def titled(name: str, rounds: int) -> str:
    """What a table is of."""
    network = {
        "torch": f"by torch in float32 and {OURS} as it comes",
        "openvino": f"and {OURS} both by OpenVINO in the same precision and with the same streams",
    }[name]
    return (
        f"Rivals with the same weights {network}: JPEG of {SIZE[0]}x{SIZE[1]}, crops of {INPUT}; "
        f"{rounds} rounds in turns; 'ours to it': images/s of {OURS} over HTTP by those of the row"
    )


def tabled(name: str, rows: list[Row], rounds: int) -> Table:
    """Medians over the rounds, percentiles over all answers, the most memory after any turn."""
    table = Table(f"rivals-{name}", titled(name, rounds), COLUMNS)
    for row in rows:
        table.add(row.name, *cells(row, rows[0]))
    return table


def cells(row: Row, ours: Row) -> list[str]:
    """Of one row, see COLUMNS."""
    if row.started is None:
        return [f"does not take part: {row.failed}".replace("|", "/"), *[""] * (len(COLUMNS) - 2)]
    alone, many = row.tallies[1], row.tallies[MANY]
    errors = sum(tally.refused + tally.errors.total() for tally in (alone, many))
    return [
        f"{row.started.ready_s:.1f}",
        in_ms(alone, 0.5, 1),
        f"{statistics.median(row.rates[MANY]):.2f}",
        in_ms(many, 0.5, 0),
        in_ms(many, 0.99, 0),
        f"{errors} of {errors + len(alone.taken) + len(many.taken)}",
        f"{row.memory_bytes / 2**20:.0f}",
        "1.00" if row is ours else f"{ratio(ours, row, MANY):.2f}",
    ]


def in_ms(tally: Tally, share: float, digits: int) -> str:
    """The time within which that share of the answers came, in milliseconds."""
    return f"{1000 * percentile(tally.taken, share):.{digits}f}" if tally.taken else "no answer"


async def fill_caches(ours: Bench, given: argparse.Namespace, rivals: tuple[Rival, ...]) -> None:
    """Let our service and the rivals convert the network where it has not been: no first start is measured."""
    progress("first starts, which convert the network and keep it")
    await ours.first_start(our_flags("openvino"))
    for venv, triton in ((given.venv, False), (given.triton_venv, True)):
        if of_venv := [rival for rival in rivals if rival.triton == triton]:
            code = "import rival_models; rival_models.openvino_net()"
            env = rival_env(of_venv[0], factory="openvino_net", threads=1)
            # What is wrong with it, if anything is, the rivals themselves will say.
            subprocess.run([venv / "bin" / "python", "-c", code], env=env, cwd=venv, check=False)


async def bench(given: argparse.Namespace, rivals: tuple[Rival, ...]) -> None:
    """All tables."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = resized(BUNDLED_CHECKPOINT, INPUT, Path(folder))
        benches = {name: Bench(name, given, folder=Path(folder), checkpoint=checkpoint) for name in FACTORIES}
        await fill_caches(benches["openvino"], given, rivals)
        if given.try_threads:
            rivals = await benches["torch"].try_threads(rivals)
        for name in given.networks:
            rows = await benches[name].run(rivals, our_flags(name))
            tabled(name, rows, given.rounds).write(given.results)


def options() -> argparse.ArgumentParser:
    """The command line."""
    names = {rival.key: rival for rival in RIVALS}
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=names, default=list(names), metavar="NAME", help=", ".join(names))
    parser.add_argument("--networks", nargs="*", choices=FACTORIES, default=list(FACTORIES), help="the rivals' (both)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of everything (3)")
    parser.add_argument("--seconds", type=float, default=3.0, help=f"of {MANY} clients in a turn; of one: half (3)")
    parser.add_argument("--try-threads", action="store_true", help="find each rival's number of torch's threads anew")
    parser.add_argument("--peers", type=Path, default=ROOT.parent / "shared" / "peers", help="the rivals' scripts")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-rivals", help="made by: make rivals-setup")
    parser.add_argument("--triton-venv", type=Path, default=ROOT / ".venv-triton", help="the same, for Triton")
    parser.add_argument("--results", type=Path, help="a folder for results as JSON and Markdown")
    return parser


def main() -> None:
    """Print the tables, and write them where results are kept."""
    given = options().parse_args()
    for name in ("peers", "venv", "triton_venv"):
        setattr(given, name, getattr(given, name).absolute())  # servers run elsewhere; what links there stays a link
    rivals = tuple(rival for rival in RIVALS if rival.key in given.only)
    lines = missing(peers=given.peers, venv=given.venv, triton_venv=given.triton_venv, rivals=rivals)
    if lines:
        print("\n".join(["The rivals are not compared with:", *lines]))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leave no held servers behind
    print(machine())
    asyncio.run(bench(given, rivals))


if __name__ == "__main__":
    main()
