import dataclasses
import json
import math
from functools import partial

import pytest
import torch

from drawings import TINY_HW, lively_network, tiny_config
from model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from model.crop import normalise
from tiny_runs import (  # noqa: F401 (fixtures)
    WatchedTrainer,
    drawn_fixture,
    first_batch,
    log_lines,
    settings_fixture,
    tiny_variant_fixture,
)
from training.augment import Augmentation
from training.coco import AnnotationError
from training.divergence import TrainingDiverged
from training.oks import ScorerMissing
from training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("tiny_variant")


def test_a_run_leaves_its_settings_state_best_checkpoint_and_log(settings):
    best_ap = Trainer(settings).run()
    names = {path.name for path in settings.run_dir.iterdir()}
    assert names == {
        "settings.json",
        "last.safetensors",
        "best.safetensors",
        "best.json",
        "best.png",
        "samples.png",
        "log.jsonl",
        "tensorboard",
    }
    assert json.loads((settings.run_dir / "settings.json").read_text()) == settings.to_json()
    assert [line["epoch"] for line in log_lines(settings)] == [1, 2]
    assert all(line["loss"] > 0 and 0 <= line["val_AP"] <= 1 for line in log_lines(settings))
    for line in log_lines(settings):
        assert line["gradient_norm"] > 0
        assert 0 <= line["loader_share"] <= 1
        assert line["device"] == "CPU"
    assert log_lines(settings)[0]["learning_rate"] > log_lines(settings)[1]["learning_rate"] > 1e-5
    assert best_ap == max(line["val_AP"] for line in log_lines(settings))


def test_the_best_checkpoint_loads_and_says_how_it_came_about(settings, drawn):
    Trainer(settings).run()
    net, card = load_checkpoint(settings.run_dir / "best.safetensors")
    assert net.config == tiny_config()
    assert card.training["data"] == [{"annotations": "/".join(drawn[0].parts[-3:]), "photographs": 6, "persons": 12}]
    assert card.training["epochs"] == 1
    assert card.training["epochs_planned"] == 2
    assert card.training["initialised_from"] is None
    assert str(settings.run_dir) not in (settings.run_dir / "best.json").read_text()


def test_validation_can_be_rarer_but_never_misses_the_last_epoch(settings):
    Trainer(dataclasses.replace(settings, epochs=3, val_every=2)).run()
    assert ["val_AP" in line for line in log_lines(settings)] == [False, True, True]


def test_loader_processes_and_a_cache_change_nothing(settings, tmp_path):
    plain = WatchedTrainer(dataclasses.replace(settings, run_dir=tmp_path / "plain"))
    plain.run()
    cached = WatchedTrainer(dataclasses.replace(settings, workers=2, photograph_cache=tmp_path / "kept"))
    cached.run()
    assert cached.losses == plain.losses
    assert len(list((tmp_path / "kept").glob("*.rgb"))) == 6  # two persons a photograph


def test_a_run_of_so_many_steps_stretches_its_schedule_and_validates_at_its_end(settings):
    settings = dataclasses.replace(settings, steps=5, val_every=9)
    trainer = WatchedTrainer(settings)
    trainer.run()
    assert list(trainer.losses) == list(range(5))
    rates = [group["lr"] for group in trainer.learner.optimizer.param_groups]
    assert rates == [pytest.approx(1e-5 + (1e-3 - 1e-5) * (1 + math.cos(math.pi * 2 / 3)) / 2)]  # 2 of 3 after warm-up
    assert [(line["epoch"], "val_AP" in line) for line in log_lines(settings)] == [(1, False), (2, True)]
    card = load_checkpoint(settings.run_dir / "best.safetensors")[1]
    assert (card.training["steps_planned"], card.training["epochs_planned"]) == (5, None)
    again = WatchedTrainer(settings)
    again.run()
    assert (again.losses, len(log_lines(settings))) == ({}, 2)


def test_the_seed_decides_the_weights(settings):
    def start(seed):
        return Trainer(dataclasses.replace(settings, seed=seed)).learner.net.state_dict()

    assert all(torch.equal(weight, start(7)[name]) for name, weight in start(7).items())
    assert not torch.equal(start(7)["backbone.stem.conv.weight"], start(8)["backbone.stem.conv.weight"])


def test_a_loss_that_is_not_finite_stops_training_before_the_weights_change(settings):
    trainer = Trainer(settings)
    with torch.no_grad():
        trainer.learner.net.head.heatmaps.bias[0] = float("nan")
    before = trainer.learner.net.backbone.reduce.weight.clone()
    with pytest.raises(TrainingDiverged, match="the loss is nan at step 0"):
        trainer.train_step(first_batch(trainer))
    assert trainer.learner.step == 0
    assert torch.equal(trainer.learner.net.backbone.reduce.weight, before)


def test_a_compiled_network_takes_the_same_steps(settings, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # traced; no compiler is needed
    whole = dataclasses.replace(settings, dropout=0.0)
    plain, compiled = Trainer(whole), Trainer(dataclasses.replace(whole, compile=True))
    batch = first_batch(plain)
    for _ in range(2):
        assert compiled.train_step(batch) == pytest.approx(plain.train_step(batch), rel=1e-4)
    assert compiled.learner.forward is not compiled.learner.net
    assert compiled.learner.net.state_dict().keys() == plain.learner.net.state_dict().keys()


def test_views_are_seen_in_their_colours(settings):
    trainer = Trainer(dataclasses.replace(settings, augmentation=Augmentation(grey=1.0)))
    pixels, colours, points, labelled = first_batch(trainer)
    without = pixels.float().mul(torch.tensor([0.299, 0.587, 0.114])).sum(dim=-1, keepdim=True).expand_as(pixels)
    seen = []
    trainer.learner.forward = lambda crops: seen.append(crops) or trainer.learner.net(crops)
    trainer.train_step((pixels, colours, points, labelled))
    torch.testing.assert_close(seen[0], normalise(without.round().to(torch.uint8)), atol=0.02, rtol=0)


def test_one_batch_is_learned_by_heart(settings):
    calm = dataclasses.replace(settings, epochs=1000, learning_rate=3e-3, warmup_epochs=0.0, dropout=0.0)
    trainer = Trainer(calm)
    batch = first_batch(trainer)
    losses = [trainer.train_step(batch) for _ in range(80)]
    assert losses[-1] < losses[0] / 10


def test_clipping_limits_the_step(settings):
    """Adam does not care about the length of all gradients together, so look at the gradients themselves."""
    trainer = Trainer(dataclasses.replace(settings, clip_norm=1e-4))
    trainer.train_step(first_batch(trainer))
    norm = torch.stack([p.grad.norm() for p in trainer.learner.net.parameters() if p.grad is not None]).norm()
    assert norm.item() == pytest.approx(1e-4, rel=1e-3)


def test_the_learning_rate_of_a_step_is_that_of_the_schedule(settings):
    trainer = Trainer(dataclasses.replace(settings, warmup_epochs=1.0))
    batch = first_batch(trainer)
    rates = []
    for _ in range(6):
        trainer.train_step(batch)
        rates.append(trainer.learner.optimizer.param_groups[0]["lr"])
    assert rates[:3] == pytest.approx([1e-3 / 3, 2e-3 / 3, 1e-3])
    assert rates[3] == pytest.approx(1e-3)
    assert rates[3] > rates[4] > rates[5] > 1e-5


def test_a_run_starts_from_a_checkpoint_of_another_crop_size(settings, tmp_path):
    path = tmp_path / "large.safetensors"
    save_checkpoint(path, lively_network(tiny_config(input_hw=(128, 96))), training={"task": "drawn"})
    trainer = Trainer(dataclasses.replace(settings, init=path))
    expected, _ = load_checkpoint(path, input_hw=TINY_HW)
    for name, weight in expected.state_dict().items():
        assert torch.equal(trainer.learner.net.state_dict()[name], weight), name
    before = trainer.initialised_from
    assert (before["task"], before["input_hw"]) == ("drawn", [128, 96])
    trainer.train_step(first_batch(trainer))


def test_a_checkpoint_of_another_variant_is_no_start(settings, tmp_path):
    path = tmp_path / "other.safetensors"
    save_checkpoint(path, lively_network(tiny_config(model_dim=64)), training={})
    with pytest.raises(CheckpointError, match=r"other\.safetensors does not fit the network"):
        Trainer(dataclasses.replace(settings, init=path))


def test_several_training_sets_are_joined(settings, drawn):
    trainer = Trainer(dataclasses.replace(settings, train_sets=(drawn, drawn), val_set=drawn))
    assert len(trainer.persons) == 24
    assert trainer.plan.steps_per_epoch == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 13}, "batch_size is 13"),
        ({"variant": "c9"}, "variant is 'c9'"),
        ({"input_hw": (60, 44)}, "input_hw is"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"precision": "fp8"}, "precision is 'fp8'"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_the_first_step(settings, changes, message):
    with pytest.raises(ValueError, match=message):
        Trainer(dataclasses.replace(settings, **changes))


def test_missing_annotations_are_refused_before_the_first_step(settings, tmp_path):
    with pytest.raises(AnnotationError, match=r"cannot read .*none\.json"):
        Trainer(dataclasses.replace(settings, val_set=(tmp_path / "none.json", tmp_path)))
    assert not settings.run_dir.exists()


def test_augmentation_reaches_the_examples(settings):
    still = Augmentation(half_body=0.0, scale=0.0, rotation_degrees=0.0, rotation_probability=0.0, flip=0.0)
    moved, plain = Trainer(settings), Trainer(dataclasses.replace(settings, augmentation=still))
    assert not torch.equal(first_batch(moved)[0], first_batch(plain)[0])


def test_a_gradient_that_is_not_finite_stops_training_before_the_weights_change(settings):
    trainer = Trainer(settings)
    before = {name: weight.clone() for name, weight in trainer.learner.net.named_parameters()}
    trainer.learner.net.head.heatmaps.weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(TrainingDiverged, match="the gradient is nan at step 0"):
        trainer.train_step(first_batch(trainer))
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.learner.net.named_parameters())


def test_without_a_scorer_the_latest_network_is_kept(settings, monkeypatch, capsys):
    def missing(*_):
        raise ScorerMissing("scoring needs pycocotools")

    monkeypatch.setattr("training.trainer.score_results", missing)
    Trainer(settings).run()
    assert "Training without validation" in capsys.readouterr().out
    _, card = load_checkpoint(settings.run_dir / "best.safetensors")
    assert card.training["epochs"] == 2


def test_an_empty_validation_set_is_refused_before_the_first_step(settings, drawn, tmp_path):
    empty = tmp_path / "empty.json"
    empty.write_text(json.dumps({"images": [], "annotations": []}))
    with pytest.raises(ValueError, match="has no persons"):
        Trainer(dataclasses.replace(settings, val_set=(empty, drawn[1])))
