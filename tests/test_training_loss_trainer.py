"""The loss that a run is told to minimise: in its steps, its files and its command line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from drawings import draw_coco
from tiny_runs import CutOffTrainer, tiny_pose_settings, tiny_variant_fixture  # noqa: F401 (a fixture)
from training.loss import heatmap_loss
from training.train import build_parser, main
from training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("tiny_variant")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw_coco(tmp_path_factory.mktemp("coco"), persons=8)


@pytest.fixture
def settings(drawn, tmp_path):
    """8 persons in batches of 4: 2 steps an epoch."""
    return tiny_pose_settings(
        drawn,
        tmp_path / "run",
        dropout=0.0,
        loss="sinkhorn",
        epochs=3,
        learning_rate=3e-3,
        warmup_epochs=0.0,
        minutes_between_saves=0.0,
    )


def test_the_balance_of_persons_is_that_of_the_settings(settings, monkeypatch):
    seen = []

    def watched(predicted, target, weights, **options):
        seen.append(weights)
        return heatmap_loss(predicted, target, weights, **options)

    monkeypatch.setattr("training.pose_learner.heatmap_loss", watched)
    for balance in (0.0, 1.0):
        trainer = Trainer(dataclasses.replace(settings, person_balance=balance))
        trainer.train_step(next(iter(trainer._loader(0, 0))))
    plain, even = seen
    assert set(plain.unique().tolist()) <= {0.0, 1.0}
    assert even.sum(dim=1).unique().tolist() == [17.0]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_minimises_the_loss_of_the_settings(settings, monkeypatch, precision):
    seen = []

    def watched(predicted, target, weights, **options):
        value = heatmap_loss(predicted, target, weights, **options)
        seen.append((predicted.dtype, value.dtype, options))
        return value

    monkeypatch.setattr("training.pose_learner.heatmap_loss", watched)
    losses = {}
    for loss, sinkhorn_weight in (("mse", 0.01), ("sinkhorn", 0.01), ("sinkhorn", 1.0)):
        changes = {"loss": loss, "sinkhorn_weight": sinkhorn_weight}
        trainer = Trainer(dataclasses.replace(settings, precision=precision, **changes))
        losses[loss, sinkhorn_weight] = trainer.train_step(next(iter(trainer._loader(0, 0))))
        assert seen[-1] == (torch.float32, torch.float32, changes)
    divergence = losses["sinkhorn", 1.0] - losses["mse", 0.01]
    assert divergence > 1e-2
    assert losses["sinkhorn", 0.01] == pytest.approx(losses["mse", 0.01] + 0.01 * divergence)


def test_one_batch_is_learned_by_heart(settings):
    trainer = Trainer(dataclasses.replace(settings, epochs=1000))
    batch = next(iter(trainer._loader(0, 0)))
    losses = [trainer.train_step(batch) for _ in range(80)]
    assert losses[-1] < losses[0] / 10


def test_a_run_that_was_cut_off_takes_exactly_the_steps_it_would_have_taken(settings, tmp_path):
    Trainer(dataclasses.replace(settings, run_dir=tmp_path / "whole")).run()
    with pytest.raises(KeyboardInterrupt):
        CutOffTrainer(settings, stop_at=3).run()
    Trainer(settings).run()
    got, expected = (load_file(folder / "last.safetensors") for folder in (settings.run_dir, tmp_path / "whole"))
    assert got.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in got.items())


def test_a_run_that_goes_on_with_another_loss_says_so(settings, capsys):
    settings = dataclasses.replace(settings, epochs=1)
    Trainer(settings).run()
    stored = json.loads((settings.run_dir / "settings.json").read_text())
    assert (stored["loss"], stored["sinkhorn_weight"]) == ("sinkhorn", 0.01)
    Trainer(dataclasses.replace(settings, loss="mse")).run()
    assert "resumed with other settings than before: loss: sinkhorn -> mse" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "wing"}, "loss is 'wing'; allowed: mse, sinkhorn"),
        ({"person_balance": 1.5}, "person_balance is 1.5; allowed: 0 to 1"),
        ({"sinkhorn_weight": 0.0}, "sinkhorn_weight is 0.0; allowed: finite and above 0"),
        ({"sinkhorn_weight": -1.0}, "sinkhorn_weight is -1.0; allowed"),
        ({"sinkhorn_weight": float("inf")}, "sinkhorn_weight is inf; allowed"),
        ({"sinkhorn_weight": float("nan")}, "sinkhorn_weight is nan; allowed"),
    ],
)
def test_a_loss_that_cannot_be_is_refused(settings, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(settings, **changes)


def test_the_command_line_chooses_the_loss(drawn, tmp_path, capsys):
    data = [str(path) for path in drawn]
    argv = ["--train", *data, "--val", *data, "--run-dir", str(tmp_path / "run"), "--loss", "sinkhorn"]
    assert build_parser().parse_args(argv).loss == "sinkhorn"
    assert build_parser().parse_args([*argv, "--sinkhorn-weight", "0.5"]).sinkhorn_weight == 0.5
    assert main([*argv, "--sinkhorn-weight", "0"]) == 2
    assert "sinkhorn_weight is 0.0; allowed" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        build_parser().parse_args([*argv[:-1], "wing"])
    assert not Path(tmp_path / "run").exists()
