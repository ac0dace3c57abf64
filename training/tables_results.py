"""What the arms of a small table have come to, read from their folders."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.coco import read_json
from training.tables_plan import Arm, Sizes, Stage, plan_stages
from training.tables_protocol import Protocol
from training.tables_runner import is_done, read_record

FIGURES = ("AP", "AP50", "mean_oks", "pck", "loss", "loss_ratio")
MIN_LOSS = 1e-12  # persons who are all alike leave a constant prediction without any


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """One arm with one seed. `figures` is empty until it is finished; `state` says how far it is, in words.

    figures: AP, AP50, mean_oks, pck (all joints), loss (of heatmaps, measured persons, not augmented) and loss_ratio
    (to the loss of the best constant prediction). seconds: of its commands, a pre-training that it shares included.
    """

    arm: Arm
    seed: int
    views: int
    seconds: float
    state: str
    figures: dict[str, float]
    mean_pose: dict[str, float]

    @property
    def finished(self) -> bool:
        return bool(self.figures)


def read_results(protocol: Protocol, arms: Sequence[Arm], seeds: Sequence[int], runs_dir: Path) -> list[ArmResult]:
    """Every arm with every seed, finished or not."""
    unread = Sizes(1, 1)  # decides how commands are put, and not where their records are
    return [
        _read(arm, seed, protocol, plan_stages(arm, seed, protocol, unread, runs_dir, workers=0))
        for arm in arms
        for seed in seeds
    ]


def _read(arm: Arm, seed: int, protocol: Protocol, arm_stages: Sequence[Stage]) -> ArmResult:
    records = [read_record(stage) for stage in arm_stages]
    measured = read_json(arm_stages[-1].folder / "figures.json") if all(map(is_done, arm_stages)) else None
    return ArmResult(
        arm=arm,
        seed=seed,
        views=arm.steps * protocol.batch_size,
        seconds=sum(record.seconds for record in records if record),
        state=_state(arm_stages),
        figures=_figures(measured) if measured else {},
        mean_pose=measured["baselines"]["mean_pose"] if measured else {},
    )


def _figures(measured: dict[str, Any]) -> dict[str, float]:
    loss = measured["baselines"]["heatmap_loss"]
    values = (
        measured["AP"],
        measured["AP50"],
        measured["mean_oks"],
        measured["pck"]["all"],
        loss["network"],
        loss["network"] / max(loss["constant"], MIN_LOSS),
    )
    return dict(zip(FIGURES, values, strict=True))


def _state(arm_stages: Sequence[Stage]) -> str:
    for stage in arm_stages:
        record = read_record(stage)
        if record is None:
            return f"waits for {stage.name}"
        if record.returncode is None:
            return f"cut off in {stage.name}"
        if record.returncode:
            return f"FAILED in {stage.name}: {record.last_words}"
    return "finished"


def by_seed(results: Sequence[ArmResult], name: str, figure: str) -> dict[int, float]:
    """A figure of an arm, for the seeds that are finished."""
    return {one.seed: one.figures[figure] for one in results if one.arm.name == name and one.finished}


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the standard deviation; None of one value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
