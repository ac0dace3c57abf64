"""The settings of a training run: what it takes, what is allowed, and how they are written beside its checkpoints."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from training.augment import Augmentation
from training.loss import Loss
from training.pose_optimizer import Optimizer
from training.schedule import Schedule

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Everything that decides the outcome of a run. Raises ValueError, naming field and value, if it cannot work.

    `train_sets` and `val_set` are pairs of annotation file and image folder; `keypoints` is a TOML that describes their
    keypoints, `category` the name of theirs (see `training.keypoint_sets`). `learning_rate` falls to
    `learning_rate_end`; `warmup_epochs` may be a fraction. `steps`, where given, are taken instead of whole `epochs`,
    the last of which may then be a part. `clip_norm` 0 means no clipping. `batch_size` is the number of images that an
    optimiser step sees, over all processes; each process takes its share in `accumulate` pieces, one after the other.
    `sync_norm`: batch norms see the pieces of all processes. `ema_decay` of the moving average of the weights that is
    validated and kept; 0 keeps the weights themselves. `minutes_between_saves` is how much work a crash can cost.
    `sinkhorn_weight` is the part of the divergence in loss `sinkhorn`, see `training.loss.heatmap_loss`; it does
    nothing in loss `mse`. `person_balance` 0: every joint counts alike, as in the recipe; 1: every person
    (`training.loss.balanced`). `optimizer`: `adam`, the recipe's, or `muon` (`training.muon`), at the same
    learning rates; `weight_decay` is what Muon takes off its matrices in each step, times the learning rate. `compile`
    makes machine code of the network first (torch.compile), which takes a minute. `photograph_cache`: a folder where
    decoded photographs are kept, up to `cache_gib`; they change nothing but speed.
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
    person_balance: float = 0.0
    optimizer: Optimizer = "adam"
    weight_decay: float = 0.0
    epochs: int = 230
    steps: int | None = None
    batch_size: int = 16
    accumulate: int = 1
    sync_norm: bool = True
    ema_decay: float = 0.0
    learning_rate: float = 1e-4
    learning_rate_end: float = 1e-5
    warmup_epochs: float = 0.0
    schedule: Schedule = "cosine"
    clip_norm: float = 0.0
    precision: Precision = "auto"
    compile: bool = False
    device: str = "auto"
    workers: int = 1
    seed: int = 0
    init: Path | None = None
    val_every: int = 1
    minutes_between_saves: float = 5.0
    photograph_cache: Path | None = None
    cache_gib: float = 16.0
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "val_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: at least 1")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps is {self.steps}; allowed: at least 1, or none for whole epochs")
        for name in ("warmup_epochs", "clip_norm", "workers", "seed", "minutes_between_saves"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: at least 0")
        if not self.cache_gib > 0:
            raise ValueError(f"cache_gib is {self.cache_gib}; allowed: above 0")
        if not self.train_sets:
            raise ValueError("train_sets is empty; allowed: at least one annotation file and image folder")
        self._check_learning()

    def _check_learning(self) -> None:
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"ema_decay is {self.ema_decay}; allowed: 0 (none) up to, but not including, 1")
        if self.loss not in get_args(Loss):
            raise ValueError(f"loss is {self.loss!r}; allowed: {', '.join(get_args(Loss))}")
        if self.optimizer not in get_args(Optimizer):
            raise ValueError(f"optimizer is {self.optimizer!r}; allowed: {', '.join(get_args(Optimizer))}")
        if not 0.0 <= self.weight_decay < 1.0:
            raise ValueError(f"weight_decay is {self.weight_decay}; allowed: in [0, 1)")
        if self.weight_decay and self.optimizer != "muon":
            raise ValueError(f"weight_decay is {self.weight_decay}; allowed: 0, except with optimizer muon")
        if not 0 < self.sinkhorn_weight < math.inf:
            raise ValueError(
                f"sinkhorn_weight is {self.sinkhorn_weight}; allowed: finite and above 0 (loss mse is the one without)"
            )
        if not 0.0 <= self.person_balance <= 1.0:
            raise ValueError(f"person_balance is {self.person_balance}; allowed: 0 to 1")
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
