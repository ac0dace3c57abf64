"""What a checkpoint's card says about how its weights came about: data by name and count, settings, ancestors.

Names files by the last parts of their paths, which are enough to recognise them, and never a machine's folders.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from training.coco import KeypointData
from training.settings import TrainSettings


def describe_run(
    settings: TrainSettings,
    *,
    train_data: Sequence[KeypointData],
    val_data: KeypointData,
    epochs: int,
    dtype: torch.dtype,
    initialised_from: dict[str, Any] | None,
) -> dict[str, Any]:
    """The `training` part of a card, as plain JSON. `epochs` are those done, of `settings.epochs` planned.

    Where a number of steps was planned instead, the last epoch may be a part.
    """
    return {
        "task": "keypoints",
        "data": [describe_data(data) for data in train_data],
        "chosen_on": describe_data(val_data),
        "epochs": epochs,
        "epochs_planned": settings.epochs if settings.steps is None else None,
        "steps_planned": settings.steps,
        "batch_size": settings.batch_size,
        "optimizer": settings.optimizer,
        "weight_decay": settings.weight_decay,
        "learning_rate": [settings.learning_rate, settings.learning_rate_end],
        "schedule": settings.schedule,
        "loss": settings.loss,
        "sinkhorn_weight": settings.sinkhorn_weight if settings.loss == "sinkhorn" else None,
        "person_balance": settings.person_balance,
        "precision": str(dtype).removeprefix("torch."),
        "seed": settings.seed,
        "initialised_from": initialised_from,
    }


def describe_data(data: KeypointData) -> dict[str, Any]:
    """Which set it is, and how much of it there is."""
    return {
        "annotations": short_name(data.annotations_path),
        "photographs": data.num_images,
        "persons": len(data.persons),
    }


def short_name(path: Path) -> str:
    """The last three parts of a path."""
    return "/".join(path.resolve().parts[-3:])
