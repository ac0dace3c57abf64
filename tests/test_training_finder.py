"""Training of the person finder: windows and their boxes, what is learned from them, and a run that can be cut off."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from drawings import draw_coco, lively_network, tiny_config
from model.checkpoint import load_checkpoint, save_checkpoint
from model.finder_checkpoint import load_finder
from model.person_finder import STRIDE, FinderConfig
from training.coco import read_persons
from training.finder_data import PeoplePicture, WindowAugmentation, Windows, boxes_in_window, by_photograph
from training.finder_features import TrunkFeatures
from training.finder_loss import finder_loss, generalised_overlap, targets
from training.finder_settings import FinderSettings
from training.finder_trainer import FinderTrainer, evaluate_finder
from training.recolour import recolour, standardised
from training.train_detector import main

# Trunk as in the tiny pose network of these tests, so that it can begin from it.
SMALL = FinderConfig(input_side=96, stem_channels=64, planes=(8, 8, 8, 8), blocks=(1, 1, 1, 1), neck_channels=16)
GENTLE = WindowAugmentation(scale=(0.8, 1.2), brightness=0.0, contrast=0.0, saturation=0.0, seen=0.3)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[Path, Path]:
    return draw_coco(tmp_path_factory.mktemp("people"), persons=16)


@pytest.fixture(scope="module")
def poses(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("poses") / "poses.safetensors"
    save_checkpoint(path, lively_network(tiny_config()), training={})
    return path


def settings(run_dir: Path, data: tuple[Path, Path], **changes) -> FinderSettings:
    given = {"window_side": 64, "batch_size": 4, "steps": 4, "warmup_steps": 1, "network": SMALL, "val_every": 100}
    return FinderSettings(run_dir=run_dir, train_set=data, val_set=data, **(given | changes))


@pytest.mark.parametrize("seed", range(6))
def test_boxes_lie_on_their_people_in_every_window(seed):
    image = np.zeros((80, 120, 3), dtype=np.uint8)
    image[20:60, 30:60] = 255
    picture = PeoplePicture(Path("drawn"), np.array([[30.0, 20.0, 30.0, 40.0]]))
    augmentation = replace(GENTLE, scale=(0.5, 2.0), seen=0.0)
    windows = Windows(
        [picture], window_side=64, input_side=64, augmentation=augmentation, seed=seed, read=lambda _: image
    )
    pixels, edges, _ = windows[0, 0]
    columns, rows = (np.nonzero(pixels.numpy()[..., 0].max(axis=axis) > 127)[0] for axis in (0, 1))
    assert (edges[1:] == 0).all()
    if edges[0].any():
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(edges[0], found, atol=1.01)
    else:  # out of the window, or as good as
        assert min(len(columns), len(rows)) <= 5


def test_windows_are_a_function_of_seed_epoch_and_photograph_and_come_again_after_so_many_views(data):
    pictures = by_photograph(read_persons(*data).persons)

    def windows(views=None):
        return Windows(pictures, window_side=64, input_side=96, augmentation=WindowAugmentation(), seed=3, views=views)

    first, again = windows(), windows()
    for one, other in zip(first[3, 1], again[3, 1], strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(first[0, 1][0], first[2, 1][0])
    few = windows(views=2)
    assert torch.equal(few[0, 1][0], few[2, 1][0])
    assert not torch.equal(few[0, 1][0], few[1, 1][0])


def test_people_who_are_hardly_in_the_window_do_not_count():
    boxes = np.array([[0.0, 0, 40, 20], [50, 0, 20, 20], [0, 50, 100, 100], [10, 10, 3, 20]])
    edges = boxes_in_window(boxes, np.array([[1.0, 0, 0], [0, 1, 0]]), 64, seen=0.3)
    np.testing.assert_allclose(edges, [[0, 0, 40, 20], [50, 0, 64, 20]])  # 14 % and 3 pixels are too little


def test_each_person_has_a_centre_and_places_that_learn_the_box():
    edges = torch.zeros(2, 5, 4)
    edges[0, 0] = torch.tensor([0.0, 0, 64, 64])
    edges[0, 1] = torch.tensor([26.0, 30, 34, 40])  # a child before the middle of a grown-up
    centres, boxes, weights = targets(edges, (8, 8))
    assert (centres == 1).sum() == 2
    assert centres[0, 4, 4] == centres[0, 4, 3] == 1
    assert (centres[1] == 0).all()
    assert (weights[1] == 0).all()
    torch.testing.assert_close(weights.sum(), torch.tensor(2.0))
    assert torch.equal(boxes[0, 4, 3], edges[0, 1])
    assert torch.equal(boxes[0, 5, 5], edges[0, 0])


def test_the_loss_is_least_for_maps_that_say_what_is_there():
    edges = torch.zeros(1, 3, 4)
    edges[0, 0] = torch.tensor([8.0, 4, 50, 60])
    centres, boxes, _ = targets(edges, (8, 8))
    x, y = (torch.arange(8) + 0.5) * STRIDE, (torch.arange(8)[:, None] + 0.5) * STRIDE
    sides = torch.stack((x - boxes[0, ..., 0], y - boxes[0, ..., 1], boxes[0, ..., 2] - x, boxes[0, ..., 3] - y))
    right = torch.cat((torch.where(centres == 1, 9.0, -9.0), sides.clamp(min=0.1).div(STRIDE).log()))[None]
    centre_loss, box_loss = finder_loss(right, edges)
    assert centre_loss < 0.01
    assert box_loss < 0.01
    moved = right.roll(2, dims=3)
    worse_centre, worse_box = finder_loss(moved, edges)
    assert worse_centre > 5
    assert worse_box > 0.2
    nobody, _ = finder_loss(right, torch.zeros_like(edges))
    assert torch.isfinite(nobody)


def test_generalised_overlap_by_hand():
    one = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 1, 1]])
    other = torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2], [3, 0, 4, 1]])
    torch.testing.assert_close(generalised_overlap(one, other), torch.tensor([1.0, 1 / 3, -0.5]))


def test_it_begins_from_the_pose_networks_trunk_which_may_stay_as_it_is(data, poses, tmp_path):
    trainer = FinderTrainer(settings(tmp_path / "run", data, init=poses, frozen=True))
    begun = {name: weight.clone() for name, weight in trainer.net.state_dict().items()}
    stored, _ = load_checkpoint(poses)
    torch.testing.assert_close(begun["trunk.stem.conv.weight"], stored.backbone.stem.conv.weight.data)
    torch.testing.assert_close(
        begun["trunk.group8.0.conv2.weight"], stored.backbone.conv_groups[1][0].conv2.weight.data
    )
    trainer.run()
    changed = {name for name, weight in trainer.net.state_dict().items() if not torch.equal(weight, begun[name])}
    assert not [name for name in changed if name.startswith("trunk.")]
    assert {"head.weight", "group32.0.conv2.weight", "norm.running_mean"} <= changed


def test_kept_features_are_what_the_trunk_sees(data, poses, tmp_path):
    trainer = FinderTrainer(settings(tmp_path / "run", data, init=poses, frozen=True, views=2))
    windows = trainer.loader._loader.dataset
    trunk = trainer.net.trunk.eval()
    for _ in range(2):  # made, then read
        features, edges = TrunkFeatures(windows, trunk, tmp_path / "kept")[3, 1]
        pixels, expected_edges, colours = windows[1, 1]
        with torch.inference_mode():
            expected = trunk(standardised(recolour(pixels[None], colours[None])))[0]
        torch.testing.assert_close(features, expected, atol=0.01, rtol=0.01)
        assert torch.equal(edges, expected_edges)
        assert len(list((tmp_path / "kept").iterdir())) == 1
    (kept,) = (tmp_path / "kept").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    torch.testing.assert_close(TrunkFeatures(windows, trunk, tmp_path / "kept")[3, 1][0], features)


@pytest.mark.parametrize(("kept", "optimizer"), [(False, "adamw"), (True, "adamw"), (False, "muon"), (True, "muon")])
def test_a_run_that_was_cut_off_ends_as_one_that_was_not(kept, optimizer, data, poses, tmp_path):
    changes = {"init": poses, "steps": 5, "optimizer": optimizer}
    if kept:
        changes |= {"frozen": True, "views": 2, "feature_cache": tmp_path / "kept"}
    whole = FinderTrainer(settings(tmp_path / "whole", data, **changes))
    whole.run()
    cut = FinderTrainer(settings(tmp_path / "cut", data, **changes))
    for number, example in enumerate(cut.loader.epoch(0, 0)):
        if number == 1:
            break
        cut.train_step(example)
    cut._save()
    resumed = FinderTrainer(settings(tmp_path / "cut", data, **changes))
    resumed.run()
    for name, weight in whole.average.net.state_dict().items():
        torch.testing.assert_close(resumed.average.net.state_dict()[name], weight)
    _, card = load_finder(tmp_path / "cut" / "person-finder.safetensors")
    assert card.training["initialised_from"]["checkpoint"] == "tiny"
    assert card.training["data"][0]["persons"] == 16
    assert card.training["optimizer"] == optimizer


@pytest.mark.parametrize(("optimizer", "learning_rate", "steps"), [("adamw", 3e-3, 60), ("muon", 1e-2, 100)])
def test_it_learns_to_find_drawn_people(optimizer, learning_rate, steps, data, tmp_path):
    changes = {"optimizer": optimizer, "learning_rate": learning_rate, "steps": steps, "ema_decay": 0.9}
    trainer = FinderTrainer(settings(tmp_path / "run", data, **changes))
    assert evaluate_finder(trainer.net, trainer.val_data)["recall"] == 0.0
    figures = trainer.run()
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["centre_loss"] < 0.6 * rows[0]["centre_loss"]
    assert figures["recall"] > 0.25


def test_the_command_says_what_cannot_work(data, tmp_path, capsys):
    given = ["--train", *map(str, data), "--val", *map(str, data), "--run-dir", str(tmp_path / "run")]
    assert main([*given, "--frozen"]) == 2
    assert "frozen is True; allowed: only with init" in capsys.readouterr().err
    assert main([*given, "--views", "2", "--feature-cache", str(tmp_path)]) == 2
    assert "allowed: only with frozen and views" in capsys.readouterr().err
    assert main([*given, "--window", "100"]) == 2
    assert "window_side is 100; allowed: a multiple of 32" in capsys.readouterr().err
    assert main([*given, "--scale", "2", "1"]) == 2
    assert "scale is (2.0, 1.0); allowed: two factors" in capsys.readouterr().err


def test_another_plan_does_not_go_on_with_a_run(data, tmp_path):
    FinderTrainer(settings(tmp_path / "run", data, steps=1))._save()
    with pytest.raises(ValueError, match="batch_size: 4 -> 2; allowed: the same ones, or another --run-dir"):
        FinderTrainer(settings(tmp_path / "run", data, batch_size=2)).run()
    with pytest.raises(ValueError, match="optimizer: adamw -> muon; allowed: the same ones, or another --run-dir"):
        FinderTrainer(settings(tmp_path / "run", data, optimizer="muon")).run()
    with pytest.raises(ValueError, match="optimizer is 'sgd'; allowed: adamw, muon"):
        settings(tmp_path, data, optimizer="sgd")


def test_the_trunk_runs_in_the_precision_that_is_asked_for_and_the_card_tells_it(data, tmp_path):
    seen = {}
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        trainer = FinderTrainer(settings(tmp_path / precision, data, precision=precision, steps=1))
        trainer.net.trunk.register_forward_hook(lambda _, __, out, name=precision: seen.update({name: out.dtype}))
        trainer.run()
        assert seen[precision] == dtype
        _, card = load_finder(tmp_path / precision / "person-finder.safetensors")
        assert card.training["precision"] == str(dtype).removeprefix("torch.")
    with pytest.raises(ValueError, match="precision is 'int8'; allowed: auto, fp32, bf16"):
        settings(tmp_path, data, precision="int8")
