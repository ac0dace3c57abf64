"""What a request costs as its work grows: more persons, more pixels: `python bench/sizes.py`, part of `make bench`.

One client over HTTP, nothing else going on. Times of stages are the service's own, means of the same requests; what is
compared is measured in turns within one run, because machines are noisy.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from drawn import crowd_boxes, drawn_jpeg, pose_path
from load import Ask, HttpClient, repeat
from results import Table, progress
from server import HOST, Server, add_options, started
from timing import in_ms, percentile
from watch import watched

CROWD_SIZE = (1280, 960)
PERSONS = (1, 2, 5, 10, 20, 40)
PICTURES = ((640, 480), (1152, 864), (1632, 1224), (2832, 2124), (4000, 3000), (5664, 4248))  # to 24 megapixels
SHARES = (0.5, 0.95)  # there are too few answers to large requests for more


@dataclass
class Figures:
    """Of one kind of request, over all rounds: seconds of each answer, and means of stages by round."""

    taken: list[float] = field(default_factory=list)
    stage_ms: list[dict[str, float]] = field(default_factory=list)

    @property
    def p50_ms(self) -> float:
        """Median milliseconds of an answer."""
        return 1000 * percentile(self.taken, 0.5)

    def stage(self, name: str) -> float:
        """Milliseconds in a stage: the median round's mean."""
        return statistics.median(one[name] for one in self.stage_ms)


async def measure_in_turns(server: Server, asks: dict[str, Ask], *, rounds: int, seconds: float) -> list[Figures]:
    """Each request again and again, by one client; the first answer to each is not counted."""
    figures = {name: Figures() for name in asks}
    for number in range(rounds):
        for name, ask in asks.items():
            progress(f"round {number + 1} of {rounds}: {name}")
            await ask()
            taken, seen = await watched(server, repeat(ask, seconds=seconds))
            figures[name].taken += taken
            figures[name].stage_ms.append(seen.stage_ms)
    return list(figures.values())


async def bench_persons(server: Server, given: argparse.Namespace) -> Table:
    """More persons in one picture."""
    width, height = CROWD_SIZE
    image, client = drawn_jpeg(width, height), HttpClient(HOST, server.http_port)
    counts: Sequence[int] = given.persons
    asks: dict[str, Ask] = {
        f"{count} persons": partial(client.post, pose_path(crowd_boxes(count, width=width, height=height)), image)
        for count in counts
    }
    found = await measure_in_turns(server, asks, rounds=given.rounds, seconds=given.seconds)
    client.close()
    table = Table(
        f"persons-{server.crop}",
        f"More persons in one picture of {width}x{height}, each in a box of {width // 8}x{height // 5}; "
        f"one client over HTTP: {server.serves}; rounds: {given.rounds}",
        ["persons", "answers", "p50 ms", "p95 ms", "p50 ms a person", "decode + crop ms", "engine ms"],
    )
    for count, one in zip(counts, found, strict=True):
        stages = (f"{one.stage(name):.1f}" for name in ("decode", "engine"))
        table.add(count, len(one.taken), *in_ms(one.taken, SHARES), f"{one.p50_ms / count:.1f}", *stages)
    return table


async def bench_pixels(server: Server, given: argparse.Namespace) -> Table:
    """Larger pictures."""
    client = HttpClient(HOST, server.http_port)
    images = {f"{width}x{height}": drawn_jpeg(width, height) for width, height in PICTURES}
    asks: dict[str, Ask] = {name: partial(client.post, "/pose", image) for name, image in images.items()}
    found = await measure_in_turns(server, asks, rounds=given.rounds, seconds=given.seconds)
    client.close()
    table = Table(
        f"pixels-{server.crop}",
        f"Larger pictures (JPEG), the whole picture one person; one client over HTTP: {server.serves}; "
        f"rounds: {given.rounds}",
        [
            "picture",
            "megapixels",
            "MB",
            "answers",
            "p50 ms",
            "p95 ms",
            "read ms",
            "decode + crop ms",
            "engine ms",
            "decode + crop, part of p50",
        ],
    )
    for (width, height), image, one in zip(PICTURES, images.values(), found, strict=True):
        stages = (f"{one.stage(name):.1f}" for name in ("read", "decode", "engine"))
        part = f"{one.stage('decode') / one.p50_ms:.2f}"
        size = (f"{width * height / 1e6:.1f}", f"{len(image) / 1e6:.2f}", len(one.taken))
        table.add(f"{width}x{height}", *size, *in_ms(one.taken, SHARES), *stages, part)
    return table


def main() -> None:
    """Print the tables, and write them where results are kept."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--persons", nargs="+", type=int, default=PERSONS, metavar="N", help="up to 40")
    add_options(parser, rounds=3, seconds=2.0)
    given = parser.parse_args()
    results: Path | None = given.results
    with started(given) as server:
        for bench in (bench_persons, bench_pixels):
            asyncio.run(bench(server, given)).write(results)


if __name__ == "__main__":
    main()
