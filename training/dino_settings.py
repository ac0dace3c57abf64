"""The settings of a pre-training run: what it takes, what is allowed, and the published values beside ours."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from model.device import pick_device, pick_dtype
from model.variants import Position, variant
from training.settings import Precision
from training.views import ViewAugmentation

VIEW_MULTIPLE = 8  # pixels that become one token
MIN_VIEW = 16

# Values that differ from the defaults, which are for some thousand pictures on a small machine.
RECIPES: dict[str, dict[str, Any]] = {
    "small": {},
    # Caron et al. 2021, for 1.3 million pictures in batches of 1024: ViT-S for 300 epochs.
    "published": {
        "local_views": 8,
        "epochs": 300,
        "batch_size": 1024,
        "hidden_dim": 2048,
        "bottleneck_dim": 256,
        "out_dim": 65536,
        "teacher_temperature_end": 0.07,
        "teacher_temperature_epochs": 30.0,
        "momentum": 0.996,
    },
    # The paper's: two global views of 256x192, no local ones, a head of two layers, batches of 192.
    "paper": {
        "local_views": 0,
        "global_scale": (0.14, 1.0),
        "epochs": 300,
        "batch_size": 192,
        "head_layers": 2,
        "hidden_dim": 1024,
        "bottleneck_dim": 256,
        "out_dim": 32768,
        "momentum": 0.996,
        "precision": "fp32",
    },
}


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """Everything that decides the outcome of a run. Raises ValueError, naming field and value, if it cannot work.

    `images`: folders, searched to any depth. `annotations`: pairs of COCO JSON and image folder, of which persons'
    boxes are looked at, with a context around them of `context` times the box. `global_hw`, `local_hw`: (rows, columns)
    of the views; the card's crop size is `global_hw`. `learning_rate` is for a batch of 256 and scales with
    `batch_size`; `learning_rate_end` does not. Momentum and weight decay change along a cosine over the run, the
    teacher's temperature in a line over its epochs. `steps`, where given, are taken instead of whole `epochs`, the last
    of which may then be a part. `clip_norm` is for each tensor, 0 for none. `frozen_epochs`: the prototypes do not
    learn during these. `norm_last_layer`: prototypes of length 1. `batch_size` counts the pictures of all processes;
    `sync_norm`: batch norms see the views of all of them. Epochs of warm-up, freezing and temperature may be fractions.
    `probe`: a folder with a subfolder of images for each class, classified by nearest neighbours every `probe_every`
    epochs.
    """

    run_dir: Path
    images: tuple[Path, ...] = ()
    annotations: tuple[tuple[Path, Path], ...] = ()
    context: tuple[float, float] = (1.0, 2.0)
    variant: str = "c3a1-4"
    position: Position = "relative"
    dropout: float = 0.1
    global_hw: tuple[int, int] = (256, 192)
    local_hw: tuple[int, int] = (128, 96)
    local_views: int = 2
    epochs: int = 100
    steps: int | None = None
    batch_size: int = 32
    learning_rate: float = 5e-4
    learning_rate_end: float = 1e-6
    warmup_epochs: float = 10.0
    weight_decay: float = 0.04
    weight_decay_end: float = 0.4
    clip_norm: float = 3.0
    frozen_epochs: float = 1.0
    momentum: float = 0.99
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    teacher_temperature_end: float = 0.04
    teacher_temperature_epochs: float = 0.0
    center_momentum: float = 0.9
    head_layers: int = 3
    hidden_dim: int = 512
    bottleneck_dim: int = 128
    out_dim: int = 1024
    norm_last_layer: bool = True
    sync_norm: bool = True
    precision: Precision = "auto"
    device: str = "auto"
    workers: int = 1
    seed: int = 0
    minutes_between_saves: float = 5.0
    probe: Path | None = None
    probe_every: int = 10
    augmentation: ViewAugmentation = field(default_factory=ViewAugmentation)

    def __post_init__(self) -> None:
        if not self.images and not self.annotations:
            raise ValueError("images is empty; allowed: at least one folder, or annotations with persons")
        self._check_sizes()
        self._check_rates()
        pick_dtype(self.precision, pick_device(self.device))
        variant(self.variant, position=self.position, dropout=self.dropout, input_hw=self.global_hw)

    def _check_sizes(self) -> None:
        for name in ("epochs", "hidden_dim", "bottleneck_dim", "head_layers", "probe_every"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _require(self.steps is None or self.steps >= 1, "steps", self.steps, "at least 1, or none for whole epochs")
        # A centre, and a batch norm, of one picture leave nothing of it.
        for name in ("batch_size", "out_dim"):
            _require(getattr(self, name) >= 2, name, getattr(self, name), "at least 2")
        for name in (
            "local_views",
            "workers",
            "seed",
            "minutes_between_saves",
            "warmup_epochs",
            "frozen_epochs",
            "teacher_temperature_epochs",
        ):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        for name in ("global_hw", "local_hw"):
            sizes = getattr(self, name)
            fits = all(size >= MIN_VIEW and size % VIEW_MULTIPLE == 0 for size in sizes)
            _require(fits, name, sizes, f"multiples of {VIEW_MULTIPLE}, at least {MIN_VIEW}")
        low, high = self.context
        _require(0 < low <= high, "context", self.context, "two factors above 0, the lower first")

    def _check_rates(self) -> None:
        for name in ("student_temperature", "teacher_temperature", "teacher_temperature_end"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        for name in ("momentum", "center_momentum"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "0..1")
        for name in ("weight_decay", "weight_decay_end", "clip_norm"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        _require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        fits = 0 < self.learning_rate_end <= self.peak_learning_rate
        allowed = f"above 0, at most learning_rate * batch_size / 256 = {self.peak_learning_rate:g}"
        _require(fits, "learning_rate_end", self.learning_rate_end, allowed)

    @property
    def peak_learning_rate(self) -> float:
        """What the warm-up reaches: `learning_rate` scaled from the published batch to this one."""
        return self.learning_rate * self.batch_size / 256

    def to_json(self) -> dict[str, Any]:
        """Plain types only; paths as text."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def _require(condition: bool, name: str, value: object, allowed: str) -> None:
    if not condition:
        raise ValueError(f"{name} is {value}; allowed: {allowed}")


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
