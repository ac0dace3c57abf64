"""`--run` and `--report` of `training.tables`: a table in small, from its arms to its report."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from training.tables_paper import ROWS
from training.tables_plan import Arm, Protocol, Sizes, check_arguments, plan_arms, read_sizes, stages
from training.tables_results import ArmResult, read_results
from training.tables_runner import Request, extend_request, locked, read_request, run_arm


def run_small(
    protocol: Protocol,
    rows: Sequence[str],
    seeds: Sequence[int],
    runs_dir: Path,
    *,
    same_compute: bool,
    threads: int | None,
    workers: int,
) -> bool:
    """Run every arm with every seed that is not finished. False if one failed.

    Raises ValueError, AnnotationError or RunsLocked before anything runs if it cannot work.
    """
    arms, sizes = _plan(Request(protocol, tuple(rows), tuple(seeds), same_compute))
    check_arguments(protocol, arms)
    with locked(runs_dir), _terminated_as_interrupted():
        extend_request(runs_dir, Request(protocol, tuple(rows), tuple(seeds), same_compute))
        _tell_plan(protocol, arms, seeds)
        well = True
        turns = [(arm, seed) for seed in seeds for arm in arms]  # a whole table first, then the next seed
        for number, (arm, seed) in enumerate(turns, start=1):
            title = f"[{number}/{len(turns)}] {arm.name}, seed {seed}"
            arm_stages = stages(arm, seed, protocol, sizes, runs_dir, workers=workers)
            well &= run_arm(title, arm_stages, threads=threads)
    return well


def read_small(runs_dir: Path, rows: Sequence[str] | None) -> tuple[Protocol, list[ArmResult]]:
    """What a folder of runs has come to, of some rows or all. Raises ValueError for a folder without runs."""
    request = read_request(runs_dir)
    if request is None:
        raise ValueError(f"{runs_dir} has no runs; start some with --run")
    arms, sizes = _plan(request)
    if rows is not None:
        arms = [arm for arm in arms if arm.row.key in rows]
    return request.protocol, read_results(request.protocol, arms, request.seeds, sizes, runs_dir)


def _plan(request: Request) -> tuple[list[Arm], Sizes]:
    arms = plan_arms(
        request.protocol,
        [row for key, row in ROWS.items() if key in request.rows],
        same_compute=request.same_compute,
    )
    return arms, read_sizes(request.protocol)


def _tell_plan(protocol: Protocol, arms: Sequence[Arm], seeds: Sequence[int]) -> None:
    for arm in arms:
        pictures = f", {arm.pictures:,} pictures before" if arm.pictures else ""
        print(f"{arm.name}: {arm.steps * protocol.batch_size:,} views{pictures}; {arm.flops / 1e15:.3g} PFLOP a seed")
    print(f"{len(arms)} arms, seeds {', '.join(map(str, seeds))}", flush=True)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends the command that runs, too, and is recorded."""

    def interrupt(_number: int, _frame: FrameType | None) -> Any:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
