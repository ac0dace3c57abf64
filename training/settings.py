"""The settings of a training run: what it takes, what is allowed, and how they are written beside its checkpoints."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from training.augment import Augmentation
from training.loss import Loss
from training.schedule import Schedule

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Everything that decides the outcome of a run. Raises ValueError, naming field and value, if it cannot work.

    `train_sets` and `val_set` are pairs of annotation file and image folder; `keypoints` is a TOML that describes their
    keypoints, `category` the name of theirs (see `training.keypoint_sets`). `learning_rate` falls to
    `learning_rate_end`; `warmup_epochs` may be a fraction. `clip_norm` 0 means no clipping. `minutes_between_saves` is
    how much work a crash can cost. `sinkhorn_weight` is the part of the divergence in loss `sinkhorn`, see
    `training.loss.heatmap_loss`; it does nothing in loss `mse`.
    """

    run_dir: Path
    train_sets: tuple[tuple[Path, Path], ...]
    val_set: tuple[Path, Path]
    keypoints: Path | None = None
    category: str | None = None
    variant: str = "c3a1-4"
    position: Literal["relative", "absolute"] = "relative"
    input_hw: tuple[int, int] = (256, 192)
    heatmap_sigma: float = 2.0
    dropout: float = 0.1
    loss: Loss = "mse"
    # Then both parts move the weights alike: on a trained network the divergence is about six times as large as the
    # squared error, and its gradient about a hundred times.
    sinkhorn_weight: float = 0.01
    epochs: int = 230
    batch_size: int = 16
    learning_rate: float = 1e-4
    learning_rate_end: float = 1e-5
    warmup_epochs: float = 0.0
    schedule: Schedule = "cosine"
    clip_norm: float = 0.0
    precision: Precision = "auto"
    device: str = "auto"
    workers: int = 1
    seed: int = 0
    init: Path | None = None
    val_every: int = 1
    minutes_between_saves: float = 5.0
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "val_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: at least 1")
        for name in ("warmup_epochs", "clip_norm", "workers", "seed", "minutes_between_saves"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: at least 0")
        if self.loss not in get_args(Loss):
            raise ValueError(f"loss is {self.loss!r}; allowed: {', '.join(get_args(Loss))}")
        if not 0 < self.sinkhorn_weight < math.inf:
            raise ValueError(
                f"sinkhorn_weight is {self.sinkhorn_weight}; allowed: finite and above 0 (loss mse is the one without)"
            )
        if not self.train_sets:
            raise ValueError("train_sets is empty; allowed: at least one annotation file and image folder")
        if not 0 < self.learning_rate_end <= self.learning_rate:
            raise ValueError(
                f"learning_rate_end is {self.learning_rate_end}; allowed: above 0, at most {self.learning_rate}"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain types only; paths as text."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
