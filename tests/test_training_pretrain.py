"""Whole pre-training runs on drawn pictures with a tiny network: files, exact resume, errors."""

import dataclasses
import json
import math

import cv2
import pytest
import torch
from safetensors.torch import load_file

from drawings import draw_coco, noise_photograph
from model.btranspose import Backbone
from model.checkpoint import CheckpointError, load_checkpoint
from tiny_runs import tiny_dino_settings, tiny_variant_fixture  # noqa: F401 (a fixture)
from training.dino_checkpoint import load_backbone
from training.dino_trainer import DinoTrainer, picture_views
from training.divergence import TrainingDiverged
from training.views import ViewAugmentation

pytestmark = pytest.mark.usefixtures("tiny_variant")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """13 pictures of two kinds, each kind in a subfolder: coarse noise and fine noise."""
    path = tmp_path_factory.mktemp("pictures")
    for number in range(13):
        kind = "coarse" if number % 2 else "fine"
        (path / kind).mkdir(exist_ok=True)
        photograph = noise_photograph(90, 120, seed=number, blur=8.0 if number % 2 else 1.0)
        cv2.imwrite(str(path / kind / f"{number:02}.jpg"), photograph)
    return path


@pytest.fixture
def settings(folder, tmp_path):
    """13 pictures in batches of 4: 3 steps an epoch."""
    return tiny_dino_settings(folder, tmp_path / "run")


def cut_off(trainer, step):
    """Interrupt a run before a step."""
    take = trainer.learner.train_step

    def train_step(example):
        if trainer.learner.step == step:
            raise KeyboardInterrupt
        return take(example)

    trainer.learner.train_step = train_step
    return trainer


def log_lines(settings):
    return [json.loads(line) for line in (settings.run_dir / "log.jsonl").read_text().splitlines()]


def first_batch(trainer):
    return next(iter(trainer._loader(0, 0)))


def test_a_run_leaves_its_settings_state_backbone_and_log(settings, capsys):
    DinoTrainer(settings).run()
    names = {path.name for path in settings.run_dir.iterdir()}
    assert names == {
        "settings.json",
        "last.safetensors",
        "dino.safetensors",
        "dino.json",
        "dino.png",
        "samples.png",
        "log.jsonl",
        "tensorboard",
    }
    assert json.loads((settings.run_dir / "settings.json").read_text()) == json.loads(json.dumps(settings.to_json()))
    lines = log_lines(settings)
    assert [line["epoch"] for line in lines] == [1, 2]
    for line in lines:
        assert 0 < line["loss"] < 2 * math.log(16)
        assert line["divergence"] == pytest.approx(line["loss"] - line["entropy"], abs=1e-5)
        assert 0 <= line["loader_share"] <= 1
        assert line["gradient_norm"] > 0
        assert line["learning_rate"] > 0
        assert "knn" not in line
    assert "13 pictures, 3 steps of 4 an epoch, 2 epochs; ln(out_dim) is 2.773" in capsys.readouterr().out


def test_the_backbone_is_the_teachers_and_its_card_says_how_it_came_about(settings, folder):
    trainer = DinoTrainer(settings)
    trainer.run()
    weights, card = load_backbone(settings.run_dir / "dino.safetensors")
    teacher, student = trainer.learner.nets.teacher.backbone, trainer.learner.nets.student.backbone
    assert all(torch.equal(weight, weights[name]) for name, weight in teacher.state_dict().items())
    assert not torch.equal(weights["reduce.weight"], student.reduce.weight)
    Backbone(card.config).load_state_dict(weights)
    assert card.config.input_hw == (64, 48)
    assert card.training["task"] == "self-supervised (DINO)"
    assert card.training["data"] == {"images": ["/".join(folder.parts[-3:])], "boxes": [], "views_of": 13}
    assert (card.training["epochs"], card.training["epochs_planned"]) == (2, 2)
    assert str(settings.run_dir) not in (settings.run_dir / "dino.json").read_text()


def test_a_backbone_is_no_pose_checkpoint(settings):
    DinoTrainer(settings).run()
    with pytest.raises(CheckpointError, match=r"dino\.json has format 'btranspose-pretrained-backbone-1'"):
        load_checkpoint(settings.run_dir / "dino.safetensors")


@pytest.mark.parametrize(
    ("stop_at", "minutes_between_saves", "workers"),
    [(4, 0.0, 0), (5, 1e9, 0), (6, 1e9, 0), (5, 0.0, 2)],
    ids=["within an epoch", "back to the last save", "between epochs", "with loader processes"],
)
def test_a_run_that_was_cut_off_ends_as_it_would_have_ended(
    settings, tmp_path, stop_at, minutes_between_saves, workers
):
    settings = dataclasses.replace(settings, epochs=3, minutes_between_saves=minutes_between_saves)
    whole = dataclasses.replace(settings, run_dir=tmp_path / "whole")
    DinoTrainer(whole).run()
    with pytest.raises(KeyboardInterrupt):
        cut_off(DinoTrainer(dataclasses.replace(settings, workers=workers)), stop_at).run()
    again = DinoTrainer(settings)
    again.run()
    assert again.learner.step == 9
    for name in ("last.safetensors", "dino.safetensors"):
        got, expected = load_file(settings.run_dir / name), load_file(whole.run_dir / name)
        assert got.keys() == expected.keys()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in got.items())
    state = load_file(settings.run_dir / "last.safetensors")
    assert {"net.center", "optimizer.0.exp_avg"} <= state.keys()
    assert state["net.center"].abs().sum() > 0
    assert log_lines(settings)[-1]["epoch"] == 3


def test_a_run_of_so_many_steps_ends_within_an_epoch_and_resumes(settings, tmp_path):
    settings = dataclasses.replace(settings, steps=5, minutes_between_saves=0.0)
    whole = DinoTrainer(dataclasses.replace(settings, run_dir=tmp_path / "whole"))
    whole.run()
    assert (whole.learner.step, whole.plan.total_steps) == (5, 5)
    with pytest.raises(KeyboardInterrupt):
        cut_off(DinoTrainer(settings), 4).run()
    for _ in range(2):  # the second time there is nothing left to do
        DinoTrainer(settings).run()
    assert [line["epoch"] for line in log_lines(settings)] == [1, 2]
    got, expected = (load_file(folder / "dino.safetensors") for folder in (settings.run_dir, tmp_path / "whole"))
    assert all(torch.equal(tensor, expected[key]) for key, tensor in got.items())
    training = load_backbone(settings.run_dir / "dino.safetensors")[1].training
    assert (training["steps_planned"], training["epochs_planned"]) == (5, None)


def test_a_finished_run_is_not_trained_further(settings):
    DinoTrainer(settings).run()
    state = (settings.run_dir / "last.safetensors").read_bytes()
    DinoTrainer(settings).run()
    assert (settings.run_dir / "last.safetensors").read_bytes() == state
    assert len(log_lines(settings)) == 2


@pytest.mark.parametrize("changes", [{"batch_size": 2}, {"local_views": 0}, {"augmentation": ViewAugmentation(flip=0)}])
def test_a_run_does_not_go_on_with_settings_that_change_the_meaning_of_a_step(settings, changes):
    DinoTrainer(settings).run()
    with pytest.raises(ValueError, match=f"{next(iter(changes))}: .* -> .*; allowed: the same ones, or another"):
        DinoTrainer(dataclasses.replace(settings, **changes)).run()


def test_a_run_does_not_go_on_with_other_pictures(settings, folder):
    DinoTrainer(settings).run()
    with pytest.raises(ValueError, match="was started with other pictures"):
        DinoTrainer(dataclasses.replace(settings, images=(folder, folder / "fine"))).run()


def test_other_changes_are_told(settings, capsys):
    DinoTrainer(settings).run()
    DinoTrainer(dataclasses.replace(settings, clip_norm=1.0, workers=1)).run()
    assert "resumed with other settings than before: clip_norm: 3.0 -> 1.0\n" in capsys.readouterr().out


def test_the_loss_falls_because_pictures_are_told_apart(settings):
    """The same views of eight pictures, over and over. A quick centre: eight pictures are few."""
    calm = {"epochs": 1000, "warmup_epochs": 0, "frozen_epochs": 0, "momentum": 0.95, "center_momentum": 0.5}
    trainer = DinoTrainer(dataclasses.replace(settings, batch_size=8, learning_rate=0.03, **calm))
    views = picture_views(trainer.settings, trainer.pictures)
    example = [torch.stack(parts) for parts in zip(*(views[0, number] for number in range(8)), strict=True)]
    seen = [trainer.learner.train_step(example) for _ in range(48)]
    assert max(signals.loss for signals in seen) > math.log(16)
    assert max(signals.loss for signals in seen[-5:]) < 0.4 * math.log(16)
    # The teacher is surer of each picture than of all together: not the same answer for all.
    assert min(signals.marginal_entropy - signals.entropy for signals in seen[-5:]) > 0.3


def test_prototypes_do_not_learn_while_they_are_frozen(settings):
    trainer = DinoTrainer(dataclasses.replace(settings, frozen_epochs=2 / 3))
    example, student = first_batch(trainer), trainer.learner.nets.student
    before = {name: p.clone() for name, p in student.named_parameters()}
    for step in range(3):
        trainer.learner.train_step(example)
        moved = not torch.equal(student.head.prototypes.direction, before["head.prototypes.direction"])
        assert moved == (step == 2)
    assert not torch.equal(student.head.mlp[0].weight, before["head.mlp.0.weight"])


def test_the_rates_of_a_step_are_those_of_the_schedules(settings):
    trainer = DinoTrainer(
        dataclasses.replace(
            settings, warmup_epochs=1, teacher_temperature_end=0.07, teacher_temperature_epochs=1, batch_size=4
        )
    )
    learner, example = trainer.learner, first_batch(trainer)
    rates = []
    for _ in range(6):
        rates.append((learner.momentum, learner.teacher_temperature))
        learner.train_step(example)
        rates[-1] += tuple(learner.optimizer.param_groups[0][name] for name in ("lr", "weight_decay"))
    peak = 0.1 * 4 / 256
    for step, (momentum, temperature, rate, decay) in enumerate(rates):
        wave = (1 + math.cos(math.pi * step / 6)) / 2
        assert momentum == pytest.approx(1 - 0.01 * wave)
        assert temperature == pytest.approx(min(0.04 + 0.01 * step, 0.07))
        assert decay == pytest.approx(0.4 - 0.36 * wave)
        later = 1e-6 + (peak - 1e-6) * (1 + math.cos(math.pi * (step - 3) / 3)) / 2
        assert rate == pytest.approx(peak * (step + 1) / 3 if step < 3 else later)


def test_gradients_are_clipped_in_a_step(settings):
    norms = []
    for limit in (0.0, 0.01):
        trainer = DinoTrainer(dataclasses.replace(settings, clip_norm=limit, frozen_epochs=0))
        trainer.learner.train_step(first_batch(trainer))
        norms.append([float(p.grad.norm()) for p in trainer.learner.nets.student.parameters() if p.grad is not None])
    assert any(norm > 0.01 for norm in norms[0])
    assert norms[1] == pytest.approx([norm * min(1, 0.01 / (norm + 1e-6)) for norm in norms[0]], rel=1e-3, abs=1e-7)


def test_a_step_moves_the_centre_and_the_teacher(settings):
    learner = DinoTrainer(settings).learner
    nets, example = learner.nets, first_batch(DinoTrainer(settings))
    with torch.no_grad():
        logits, _ = nets.train().teacher(learner._views(example)[:1])
    momentum, before = learner.momentum, nets.teacher.backbone.reduce.weight.clone()
    learner.train_step(example)
    torch.testing.assert_close(nets.center, 0.1 * logits.mean(dim=0))
    expected = momentum * before + (1 - momentum) * nets.student.backbone.reduce.weight
    torch.testing.assert_close(nets.teacher.backbone.reduce.weight, expected)


def test_the_first_views_of_all_pictures_come_first(settings):
    trainer = DinoTrainer(settings)
    example = first_batch(trainer)
    example[2][:] = torch.tensor([1.0, 1, 1, 0, 0, 0, 0, 0])  # no colours
    example[2][2, 1, 0] = example[2][1, 3, 0] = 0.0  # but two views are black: a global one and a local one
    seen, local = trainer.learner._views(example)
    assert (seen.shape, local.shape) == ((8, 3, 64, 48), (8, 3, 32, 24))
    assert [view for view in range(8) if seen[view].std(dim=(1, 2)).max() < 1e-5] == [4 + 2]
    assert [view for view in range(8) if local[view].std(dim=(1, 2)).max() < 1e-5] == [4 + 1]
    red = example[0][0, 1, :, :, 0].float() / 255  # second view of the first picture
    torch.testing.assert_close(seen[4, 0], (red - 0.485) / 0.229, atol=1e-5, rtol=0)


def test_without_local_views_there_are_only_global_ones(settings):
    trainer = DinoTrainer(dataclasses.replace(settings, local_views=0))
    assert len(trainer.learner._views(first_batch(trainer))) == 1
    trainer.run()


@pytest.mark.parametrize("place", ["loss", "gradient"])
def test_what_is_not_finite_stops_the_run_before_the_weights_change(settings, place):
    learner = DinoTrainer(settings).learner
    example = first_batch(DinoTrainer(settings))
    student = learner.nets.student
    if place == "loss":
        with torch.no_grad():
            student.head.mlp[0].bias[0] = float("nan")
    else:
        student.backbone.reduce.weight.register_hook(lambda gradient: gradient * float("inf"))
    before = {name: p.clone() for name, p in learner.nets.named_parameters()}
    with pytest.raises(TrainingDiverged, match=f"the {place} is (nan|inf) at step 0"):
        learner.train_step(example)
    for name, p in learner.nets.named_parameters():
        torch.testing.assert_close(p, before[name], equal_nan=True, rtol=0, atol=0)


def test_a_collapse_is_told_once_an_epoch_and_logged(settings, capsys):
    trainer = DinoTrainer(settings)
    trainer.alarm.see = lambda *_: "drawn"
    trainer.run()
    assert capsys.readouterr().out.count("this looks like a collapse: drawn") == 2
    assert [line["collapse"] for line in log_lines(settings)] == ["drawn", "drawn"]


def test_a_picture_that_cannot_be_read_is_told_once(settings, tmp_path, capsys):
    pictures = tmp_path / "some"
    pictures.mkdir()
    for number in range(4):
        cv2.imwrite(str(pictures / f"{number}.png"), noise_photograph(60, 80, seed=number))
    (pictures / "2.png").write_bytes(b"broken")
    DinoTrainer(dataclasses.replace(settings, images=(pictures,), batch_size=2, epochs=3)).run()
    out = capsys.readouterr().out
    assert out.count("cannot be read") == 1
    assert "2.png" in out


def test_the_probe_is_logged_and_changes_nothing(settings, folder, tmp_path):
    probed = dataclasses.replace(settings, run_dir=tmp_path / "probed", epochs=3, probe=folder, probe_every=2)
    DinoTrainer(probed).run()
    DinoTrainer(dataclasses.replace(settings, epochs=3)).run()
    lines = log_lines(probed)
    assert ["knn" in line for line in lines] == [False, True, True]
    assert all(0.8 <= line["knn"] <= 1 for line in lines if "knn" in line)  # coarse and fine are easily told apart
    assert (probed.run_dir / "dino.safetensors").read_bytes() == (settings.run_dir / "dino.safetensors").read_bytes()


def test_persons_of_annotations_are_pictures(settings, tmp_path):
    trainer = DinoTrainer(dataclasses.replace(settings, images=(), annotations=(draw_coco(tmp_path, persons=8),)))
    assert trainer.plan.steps_per_epoch == 2
    trainer.learner.train_step(first_batch(trainer))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": ()}, "images is empty"),
        ({"batch_size": 14}, "batch_size is 14; allowed: at most the number of pictures, 13"),
        ({"batch_size": 1}, "batch_size is 1; allowed: at least 2"),
        ({"out_dim": 1}, "out_dim is 1"),
        ({"local_hw": (33, 24)}, "local_hw is .*; allowed: multiples of 8"),
        ({"global_hw": (60, 48)}, "global_hw is"),
        ({"variant": "c9"}, "variant is 'c9'"),
        ({"momentum": 1.1}, "momentum is 1.1"),
        ({"teacher_temperature": 0.0}, "teacher_temperature is 0.0"),
        ({"context": (2.0, 1.0)}, "context is"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"learning_rate": 1e-6}, "learning_rate_end is 1e-06; allowed: above 0, at most"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_the_first_step(settings, changes, message):
    with pytest.raises(ValueError, match=message):
        DinoTrainer(dataclasses.replace(settings, **changes))
    assert not settings.run_dir.exists()
