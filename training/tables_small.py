"""`--run` and `--report` of `training.tables`: a table in small, from its arms to its report."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from training.tables_paper import ROWS
from training.tables_plan import Arm, check_arguments, count_costs, plan_arms, plan_stages, read_sizes
from training.tables_protocol import Protocol
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
    sizes = read_sizes(protocol)
    costs = count_costs(protocol, {ROWS[key].variant for key in rows})
    asked = Request(protocol, tuple(rows), tuple(seeds), same_compute, costs)
    arms = _plan(asked)
    check_arguments(protocol, arms)
    with locked(runs_dir), _terminated_as_interrupted():
        extend_request(runs_dir, asked)
        _tell_plan(protocol, arms, seeds)
        well = True
        turns = [(arm, seed) for seed in seeds for arm in arms]  # a whole table first, then the next seed
        for number, (arm, seed) in enumerate(turns, start=1):
            title = f"[{number}/{len(turns)}] {arm.name}, seed {seed}"
            arm_stages = plan_stages(arm, seed, protocol, sizes, runs_dir, workers=workers)
            well &= run_arm(title, arm_stages, threads=threads)
    return well


def read_small(runs_dir: Path, rows: Sequence[str] | None) -> tuple[Protocol, list[ArmResult]]:
    """What a folder of runs has come to, of some rows or all. Raises ValueError for a folder without runs."""
    request = read_request(runs_dir)
    if request is None:
        raise ValueError(f"{runs_dir} has no runs; start some with --run")
    arms = _plan(request)
    if rows is not None:
        arms = [arm for arm in arms if arm.row.key in rows]
    return request.protocol, read_results(request.protocol, arms, request.seeds, runs_dir)


def _plan(request: Request) -> list[Arm]:
    rows = [row for key, row in ROWS.items() if key in request.rows]
    return plan_arms(request.protocol, rows, request.costs, same_compute=request.same_compute)


def _tell_plan(protocol: Protocol, arms: Sequence[Arm], seeds: Sequence[int]) -> None:
    for arm in arms:
        pictures = f", {arm.pictures:,} pictures before" if arm.pictures else ""
        print(f"{arm.name}: {arm.steps * protocol.batch_size:,} views{pictures}; {arm.flops / 1e12:.1f} TFLOP a seed")
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
