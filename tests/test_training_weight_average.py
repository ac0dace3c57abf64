"""The moving average of weights: its formula, and that a run validates, keeps and resumes it."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from drawings import draw_coco, lively_network, tiny_config
from model.checkpoint import load_checkpoint
from tiny_runs import CutOffTrainer, tiny_pose_settings, tiny_variant_fixture  # noqa: F401 (a fixture)
from training.trainer import Trainer
from training.weight_average import WeightAverage

pytestmark = pytest.mark.usefixtures("tiny_variant")


@pytest.fixture
def settings(tmp_path):
    drawn = draw_coco(tmp_path / "coco", persons=8)
    return tiny_pose_settings(drawn, tmp_path / "run", learning_rate=3e-3, ema_decay=0.9)


def test_the_average_is_that_of_its_formula():
    nets = [lively_network(tiny_config(), seed=seed) for seed in range(20)]
    average = WeightAverage(nets[0], 0.6)
    expected = nets[0].state_dict()["backbone.stem.norm.running_var"].double()
    for step, net in enumerate(nets[1:]):
        average.update(net, step)
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * net.state_dict()["backbone.stem.norm.running_var"].double()
    found = average.net.state_dict()["backbone.stem.norm.running_var"]
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)
    assert not average.net.training
    assert not any(parameter.requires_grad for parameter in average.net.parameters())


def test_counters_are_not_averaged():
    net = lively_network(tiny_config())
    average = WeightAverage(net, 0.9)
    net.backbone.stem.norm.num_batches_tracked.fill_(7)
    average.update(net, 3)
    assert average.net.backbone.stem.norm.num_batches_tracked == 7


def test_a_run_keeps_the_average_and_not_the_weights(settings):
    trainer = Trainer(dataclasses.replace(settings, epochs=1))
    trainer.run()
    kept, _ = load_checkpoint(settings.run_dir / "best.safetensors")
    name = "backbone.reduce.weight"
    average = trainer.learner.average.net.state_dict()[name]
    torch.testing.assert_close(kept.state_dict()[name], average, rtol=1e-3, atol=1e-5)  # stored in half precision
    assert not torch.allclose(average, trainer.learner.net.state_dict()[name], rtol=1e-3, atol=1e-5)


def test_a_resumed_run_ends_with_the_average_of_a_whole_one(settings, tmp_path):
    settings = dataclasses.replace(settings, minutes_between_saves=0.0)
    Trainer(dataclasses.replace(settings, run_dir=tmp_path / "whole")).run()

    with pytest.raises(KeyboardInterrupt):
        CutOffTrainer(settings, stop_at=3).run()
    Trainer(settings).run()
    got, expected = (load_file(folder / "last.safetensors") for folder in (settings.run_dir, tmp_path / "whole"))
    assert got.keys() == expected.keys()
    assert any(name.startswith("average.") for name in got)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in got.items())


def test_an_average_that_was_not_kept_before_begins_at_the_weights(settings):
    Trainer(dataclasses.replace(settings, epochs=1, ema_decay=0.0)).run()
    trainer = Trainer(settings)
    trainer._resume()
    weights = trainer.learner.net.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in trainer.learner.average.net.state_dict().items())


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2.0])
def test_a_decay_that_cannot_be_is_refused(settings, decay):
    with pytest.raises(ValueError, match=f"ema_decay is {decay}; allowed: 0"):
        dataclasses.replace(settings, ema_decay=decay)
