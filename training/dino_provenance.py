"""What a pre-trained backbone's card says about how it came about, and which settings a resumed run may not change."""

from __future__ import annotations

from typing import Any

import torch

from training.dino_data import Pictures
from training.dino_settings import PretrainSettings
from training.provenance import short_name

DINO_TASK = "self-supervised (DINO)"

TOLD = (
    "global_hw",
    "local_hw",
    "local_views",
    "epochs",
    "batch_size",
    "learning_rate",
    "momentum",
    "student_temperature",
    "teacher_temperature",
    "teacher_temperature_end",
    "out_dim",
    "seed",
)

# A step means something else with these. The shapes of the networks are checked when the state is loaded.
FIXED = {"context", "batch_size", "seed", "local_views", "global_hw", "local_hw", "augmentation"}

# These change nothing that is learned; that the pictures are the same is checked by their names, wherever they lie.
FREE = {"images", "annotations", "run_dir", "workers", "minutes_between_saves", "probe", "probe_every"}


def describe_pretraining(
    settings: PretrainSettings, pictures: Pictures, *, epochs: int, dtype: torch.dtype
) -> dict[str, Any]:
    """The `training` part of a card, as plain JSON. `epochs` are those done, of `settings.epochs` planned.

    Where a number of steps was planned instead, the last epoch may be a part.
    """
    told = settings.to_json()
    return {
        "task": DINO_TASK,
        "data": {
            "images": [short_name(path) for path in settings.images],
            "boxes": [short_name(path) for path, _ in settings.annotations],
            "views_of": len(pictures),
        },
        **{name: told[name] for name in TOLD},
        "epochs": epochs,
        "epochs_planned": settings.epochs if settings.steps is None else None,
        "steps_planned": settings.steps,
        "precision": str(dtype).removeprefix("torch."),
    }


def changed_settings(before: dict[str, Any], settings: PretrainSettings) -> str | None:
    """What a resumed run does otherwise than it began, in words; None if nothing.

    Raises ValueError if that would make a step mean something else.
    """
    changed = {
        name: f"{name}: {before.get(name)} -> {value}"
        for name, value in settings.to_json().items()
        if name not in FREE and before.get(name) != value
    }
    if fixed := changed.keys() & FIXED:
        raise ValueError(
            f"{settings.run_dir} was started with other settings: "
            + "; ".join(changed[name] for name in sorted(fixed))
            + "; allowed: the same ones, or another --run-dir"
        )
    return "; ".join(changed.values()) or None
