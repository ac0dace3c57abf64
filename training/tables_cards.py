"""What this repository has measured of a row of the paper: found in the cards of checkpoints, by what they say.

A card belongs to a row if its network is the row's, its loss is the row's, and its weights began as the row's do: in
DINO, however many trainings ago, or at random. Its name says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.checkpoint import CheckpointCard, CheckpointError, read_card
from training.dino_provenance import DINO_TASK
from training.tables_paper import PaperRow
from training.transfer import RESNET_TASK


@dataclass(frozen=True)
class MeasuredCard:
    """A checkpoint of poses that has been measured."""

    path: Path
    card: CheckpointCard


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One figure of ours with its protocol: what the paper's is to be compared with, and by how little it may be."""

    checkpoint: str
    ap: float
    ar: float
    annotations: str
    images: int
    boxes: str
    flip_test: bool | None
    input_hw: tuple[int, int]
    position: str


def read_cards(folder: Path) -> list[MeasuredCard]:
    """The cards below a folder that have measurements; other files are passed over. Raises ValueError if it is none."""
    if not folder.is_dir():
        raise ValueError(f"checkpoints is {folder}, which is not a folder")
    found = []
    for path in sorted(folder.rglob("*.json")):
        try:
            card = read_card(path)
        except CheckpointError:
            continue
        if card.metrics:
            found.append(MeasuredCard(path, card))
    return found


def measurements(row: PaperRow, cards: Sequence[MeasuredCard]) -> list[Measurement]:
    """Of each checkpoint of the row one figure for each protocol: annotations, boxes, flip test."""
    found: dict[tuple[Any, ...], Measurement] = {}
    for one in cards:
        if not belongs(row, one.card):
            continue
        for metrics in one.card.metrics:
            protocol = (metrics.get("annotations"), metrics.get("boxes"), metrics.get("flip_test"))
            if "AP" in metrics:
                found.setdefault((one.path, *protocol), _measurement(one, metrics))
    return list(found.values())


def belongs(row: PaperRow, card: CheckpointCard) -> bool:
    """Whether a checkpoint is of this row."""
    tasks = ancestors(card.training)
    if RESNET_TASK in tasks:  # no row of the paper begins there
        return False
    loss = card.training.get("loss", "mse")  # cards of before there was a choice do not say
    return card.config.key == row.variant and loss == row.loss and (DINO_TASK in tasks) == row.dino


def ancestors(training: dict[str, Any]) -> list[str]:
    """What was done before, the latest first: the tasks that the weights come from, and theirs."""
    tasks = []
    before = training.get("initialised_from")
    while isinstance(before, dict):
        tasks.append(str(before.get("task")))
        before = before.get("initialised_from")
    return tasks


def _measurement(one: MeasuredCard, metrics: dict[str, Any]) -> Measurement:
    config = one.card.config
    return Measurement(
        checkpoint=str(one.path.with_suffix("")),
        ap=float(metrics["AP"]),
        ar=float(metrics["AR"]),
        annotations=str(metrics.get("annotations", "unknown annotations")),
        images=int(metrics.get("images", 0)),
        boxes=str(metrics.get("boxes", "unknown")),
        flip_test=metrics.get("flip_test"),
        input_hw=config.input_hw,
        position=config.position,
    )
