"""The settings of a person finder's run: what it takes, what is allowed, and how they are written down."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from model.fields import require
from model.person_finder import COARSEST, FinderConfig
from training.finder_data import WindowAugmentation
from training.settings import Precision

FinderOptimizer = Literal["adamw", "muon"]


@dataclass(frozen=True, kw_only=True)
class FinderSettings:
    """Everything that decides the outcome of a run. Raises ValueError, naming field and value, if it cannot work.

    `train_set`, `val_set`: annotation file and image folder. `init`: a pose checkpoint whose stem and convolutional
    groups are begun from, where names and shapes agree, or another finder, to go on with; None: random weights.
    `frozen`: the trunk stays as it begins, norms included. `window_side`: of the windows that are trained on, which
    may be smaller than the network's input, for speed. `views`: different windows of each photograph; None: a new one
    in every epoch. `feature_cache`: a folder where what a frozen trunk sees in them is kept, in which case there must
    be so many `views`. `optimizer`: `muon` (`training.muon`) wants about the same learning rates.
    """

    run_dir: Path
    train_set: tuple[Path, Path]
    val_set: tuple[Path, Path]
    init: Path | None = None
    frozen: bool = False
    window_side: int = 256
    views: int | None = None
    feature_cache: Path | None = None
    epochs: int = 8
    steps: int | None = None
    batch_size: int = 8
    optimizer: FinderOptimizer = "adamw"
    learning_rate: float = 1e-3
    learning_rate_end: float = 1e-5
    warmup_steps: int = 100
    weight_decay: float = 0.01
    clip_norm: float = 10.0
    ema_decay: float = 0.998
    precision: Precision = "auto"
    workers: int = 0
    seed: int = 0
    val_every: int = 2
    minutes_between_saves: float = 3.0
    photograph_cache: Path | None = None
    cache_gib: float = 16.0
    network: FinderConfig = field(default_factory=FinderConfig)
    augmentation: WindowAugmentation = field(default_factory=WindowAugmentation)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "val_every"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("warmup_steps", "weight_decay", "clip_norm", "workers", "seed", "minutes_between_saves"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        require(self.steps is None or self.steps >= 1, "steps", self.steps, "at least 1, or none for whole epochs")
        side = self.window_side
        require(side > 0 and side % COARSEST == 0, "window_side", side, f"a multiple of {COARSEST}, above 0")
        require(self.views is None or self.views >= 1, "views", self.views, "at least 1, or none for ever new ones")
        require(0 < self.ema_decay < 1, "ema_decay", self.ema_decay, "between 0 and 1")
        require(self.precision in get_args(Precision), "precision", self.precision, ", ".join(get_args(Precision)))
        allowed = ", ".join(get_args(FinderOptimizer))
        require(self.optimizer in get_args(FinderOptimizer), "optimizer", self.optimizer, allowed)
        require(self.cache_gib > 0, "cache_gib", self.cache_gib, "above 0")
        rate = self.learning_rate_end
        require(0 < rate <= self.learning_rate, "learning_rate_end", rate, f"above 0, at most {self.learning_rate}")
        require(
            self.init is not None or not self.frozen, "frozen", self.frozen, "only with init: what is random must learn"
        )
        keeps_what_stays = self.feature_cache is None or (self.frozen and self.views is not None)
        require(keeps_what_stays, "feature_cache", str(self.feature_cache), "only with frozen and views")

    def to_json(self) -> dict[str, Any]:
        """Plain types only; paths as text."""
        plain: dict[str, Any] = asdict(self) | {"network": self.network.to_json()}
        for name in ("run_dir", "init", "photograph_cache", "feature_cache"):
            plain[name] = None if plain[name] is None else str(plain[name])
        for name in ("train_set", "val_set"):
            plain[name] = [str(path) for path in plain[name]]
        plain["augmentation"]["scale"] = list(plain["augmentation"]["scale"])
        return plain
