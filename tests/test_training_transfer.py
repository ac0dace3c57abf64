"""Starting a network from a pose checkpoint or a pre-trained backbone."""

import dataclasses
import json
import re

import pytest
import torch

from drawings import TINY_HW, draw_coco, lively_network, tiny_config
from model.btranspose import BTranspose
from model.checkpoint import CheckpointError, save_checkpoint
from model.variants import VARIANTS
from tiny_runs import tiny_pose_settings
from training.dino_checkpoint import save_backbone
from training.train import main
from training.trainer import Trainer
from training.transfer import initialise


def fresh(**changes):
    torch.manual_seed(99)
    return BTranspose(tiny_config(**changes))


def state_of(net):
    return {name: weight.clone() for name, weight in net.state_dict().items()}


@pytest.fixture
def backbone_path(tmp_path):
    path = tmp_path / "dino.safetensors"
    save_backbone(path, lively_network(tiny_config()).backbone, tiny_config(), training={"task": "drawn", "epochs": 3})
    return path


def test_a_backbone_is_loaded_whole_and_the_head_starts_fresh(backbone_path, capsys):
    net = fresh()
    head = {name: weight.clone() for name, weight in net.head.state_dict().items()}
    before = initialise(net, backbone_path)
    source = lively_network(tiny_config()).backbone.state_dict()
    assert all(torch.equal(weight, source[name]) for name, weight in net.backbone.state_dict().items())
    assert all(torch.equal(weight, head[name]) for name, weight in net.head.state_dict().items())
    assert (before["task"], before["epochs"], before["input_hw"]) == ("drawn", 3, list(TINY_HW))
    assert re.fullmatch("[0-9a-f]{64}", before["sha256"])
    out = capsys.readouterr().out
    assert f"{len(source)} tensors of the backbone; the {len(head)} of the head start fresh" in out
    assert "dino.safetensors (Tiny, drawn)" in out


def test_a_backbone_starts_a_network_of_another_crop_size(backbone_path):
    net = fresh(input_hw=(96, 72))
    initialise(net, backbone_path)
    source = lively_network(tiny_config()).backbone.state_dict()
    for name, weight in net.backbone.state_dict().items():
        if name.endswith(("_table", "position_embedding")):
            assert weight.shape != source[name].shape
        else:
            assert torch.equal(weight, source[name]), name


@pytest.mark.parametrize("changes", [{"model_dim": 64}, {"position": "absolute"}, {"encoder_layers": 2}])
def test_a_backbone_of_another_variant_is_refused(backbone_path, changes):
    net = fresh(**changes)
    before = state_of(net)
    with pytest.raises(CheckpointError, match=r"dino\.safetensors does not fit .* \(a backbone of Tiny, not of Tiny\)"):
        initialise(net, backbone_path)
    assert all(torch.equal(weight, before[name]) for name, weight in net.state_dict().items())


def test_a_damaged_backbone_is_refused(backbone_path):
    content = bytearray(backbone_path.read_bytes())
    content[-1] ^= 1
    backbone_path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"dino\.safetensors is damaged or not the file of its card"):
        initialise(fresh(), backbone_path)
    backbone_path.unlink()
    with pytest.raises(CheckpointError, match=r"cannot read .*dino\.safetensors"):
        initialise(fresh(), backbone_path)


@pytest.mark.parametrize("spoil", [{"config": {}}, {"sha256": None, "config": None}])
def test_a_card_of_the_right_format_that_makes_no_sense_is_refused(backbone_path, spoil):
    card = backbone_path.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | spoil))
    with pytest.raises(CheckpointError, match=r"dino\.json is not a card of this format"):
        initialise(fresh(), backbone_path)


def test_a_backbone_that_is_not_finite_is_not_saved(tmp_path):
    net = lively_network(tiny_config())
    with torch.no_grad():
        net.backbone.reduce.weight[0] = float("nan")
    with pytest.raises(CheckpointError, match=r"reduce\.weight has values that are not finite"):
        save_backbone(tmp_path / "dino.safetensors", net.backbone, net.config, training={})
    assert not list(tmp_path.iterdir())


def test_a_pose_checkpoint_is_loaded_with_its_head(tmp_path):
    source = lively_network(tiny_config())
    save_checkpoint(tmp_path / "pose.safetensors", source, training={"task": "keypoints"}, dtype=torch.float32)
    net = fresh()
    assert initialise(net, tmp_path / "pose.safetensors")["task"] == "keypoints"
    assert all(torch.equal(weight, source.state_dict()[name]) for name, weight in net.state_dict().items())


def test_pose_training_starts_from_a_backbone_and_its_card_says_so(backbone_path, tmp_path, monkeypatch):
    monkeypatch.setitem(VARIANTS, "tiny", tiny_config())
    drawn = draw_coco(tmp_path / "coco", persons=8)
    settings = tiny_pose_settings(drawn, tmp_path / "run", epochs=1, init=backbone_path)
    trainer = Trainer(settings)
    assert trainer.initialised_from["task"] == "drawn"
    trainer.run()
    card = json.loads((settings.run_dir / "best.json").read_text())
    assert card["training"]["initialised_from"]["epochs"] == 3
    assert (
        Trainer(dataclasses.replace(settings, run_dir=tmp_path / "other")).initialised_from == trainer.initialised_from
    )


def test_the_command_names_a_start_that_does_not_fit(backbone_path, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(VARIANTS, "tiny", tiny_config(model_dim=64))
    data = [str(path) for path in draw_coco(tmp_path / "coco", persons=8)]
    sizes = ["--variant", "tiny", "--input", "64x48", "--batch-size", "4", "--device", "cpu"]
    run = ["--run-dir", str(tmp_path / "run"), "--init", str(backbone_path)]
    assert main(["--train", *data, "--val", *data, *sizes, *run]) == 2
    assert "dino.safetensors does not fit the network" in capsys.readouterr().err
