"""Settings of runs whose steps take milliseconds, for tests of whatever runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from drawings import TINY_HW, draw_coco, tiny_config
from model.variants import VARIANTS
from training.dino_settings import PretrainSettings
from training.settings import TrainSettings
from training.trainer import Trainer


@pytest.fixture(name="tiny_variant")
def tiny_variant_fixture(monkeypatch):
    """The variant `tiny` can be named like the paper's."""
    monkeypatch.setitem(VARIANTS, "tiny", tiny_config())


def tiny_pose_settings(data: tuple[Path, Path], run_dir: Path, **changes: Any) -> TrainSettings:
    """Two epochs in batches of 4, trained and validated on the same persons; exact from run to run."""
    fields: dict[str, Any] = {
        "variant": "tiny",
        "input_hw": TINY_HW,
        "heatmap_sigma": 1.5,
        "epochs": 2,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "warmup_epochs": 0.5,
        "precision": "fp32",
        "device": "cpu",
        "workers": 0,
        "seed": 7,
    }
    return TrainSettings(run_dir=run_dir, train_sets=(data,), val_set=data, **(fields | changes))


def tiny_dino_settings(pictures: Path, run_dir: Path, **changes: Any) -> PretrainSettings:
    """Two epochs in batches of 4, warm enough for weights to move."""
    fields: dict[str, Any] = {
        "variant": "tiny",
        "global_hw": (64, 48),
        "local_hw": (32, 24),
        "epochs": 2,
        "batch_size": 4,
        "learning_rate": 0.1,
        "warmup_epochs": 0.5,
        "hidden_dim": 24,
        "bottleneck_dim": 8,
        "out_dim": 16,
        "precision": "fp32",
        "device": "cpu",
        "workers": 0,
        "seed": 7,
    }
    return PretrainSettings(run_dir=run_dir, images=(pictures,), **(fields | changes))


class CutOffTrainer(Trainer):
    """Is cut off before step `stop_at`; never if that is None."""

    def __init__(self, settings: TrainSettings, stop_at: int | None) -> None:
        super().__init__(settings)
        self.stop_at = stop_at

    def train_step(self, example: Any) -> float:
        if self.learner.step == self.stop_at:
            raise KeyboardInterrupt
        return super().train_step(example)


@pytest.fixture(name="drawn", scope="module")
def drawn_fixture(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Annotations and photographs of 12 persons."""
    return draw_coco(tmp_path_factory.mktemp("coco"), persons=12)


@pytest.fixture(name="settings")
def settings_fixture(drawn: tuple[Path, Path], tmp_path: Path) -> TrainSettings:
    """They are trained on in batches of 4: 3 steps an epoch."""
    return tiny_pose_settings(drawn, tmp_path / "run")


class WatchedTrainer(CutOffTrainer):
    """Notes the loss of every step, too."""

    def __init__(self, settings: TrainSettings, stop_at: int | None = None) -> None:
        super().__init__(settings, stop_at)
        self.losses: dict[int, float] = {}

    def train_step(self, example: Any) -> float:
        step = self.learner.step
        self.losses[step] = super().train_step(example)
        return self.losses[step]


def log_lines(settings: TrainSettings) -> list[dict[str, Any]]:
    """What is logged of each epoch."""
    return [json.loads(line) for line in (settings.run_dir / "log.jsonl").read_text().splitlines()]


def first_batch(trainer: Trainer) -> Any:
    return next(iter(trainer._loader(0, 0)))
