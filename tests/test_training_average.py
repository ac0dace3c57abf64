"""The mean of checkpoints' weights."""

import pytest
import torch

from drawings import lively_network, tiny_config
from model.btranspose import BTranspose
from model.checkpoint import load_checkpoint, save_checkpoint
from training.average import main


def saved(path, net, **training):
    save_checkpoint(path, net, training=training, dtype=torch.float32)
    return str(path)


def moved(net, by):
    """The same network with every float `by` away."""
    other = BTranspose(net.config)
    other.load_state_dict(
        {name: weight + by if weight.is_floating_point() else weight + 5 for name, weight in net.state_dict().items()}
    )
    return other


def test_every_weight_is_the_mean_and_the_card_has_all_origins(tmp_path, capsys):
    net = lively_network(tiny_config())
    paths = [
        saved(tmp_path / f"{number}.safetensors", moved(net, by), seed=number)
        for number, by in enumerate((0.0, 0.5, 1.0))
    ]
    out = tmp_path / "mean.safetensors"
    assert main([*paths, "--out", str(out)]) == 0
    assert "the mean of 3 checkpoints" in capsys.readouterr().out
    mean, card = load_checkpoint(out)
    expected = net.state_dict()
    for name, weight in mean.state_dict().items():
        if weight.is_floating_point():
            torch.testing.assert_close(weight, expected[name] + 0.5, atol=2e-3, rtol=2e-3)  # float16
        else:
            assert torch.equal(weight, expected[name] + 5)
    assert card.training["task"] == "average of weights"
    assert [one["seed"] for one in card.training["of"]] == [0, 1, 2]
    assert len({one["sha256"] for one in card.training["of"]}) == 3


def test_checkpoints_of_different_networks_are_refused(tmp_path, capsys):
    one = saved(tmp_path / "one.safetensors", lively_network(tiny_config()))
    other = saved(tmp_path / "other.safetensors", lively_network(tiny_config(input_hw=(96, 72))))
    assert main([one, other, "--out", str(tmp_path / "mean.safetensors")]) == 2
    assert "with other settings than" in capsys.readouterr().err
    assert not (tmp_path / "mean.safetensors").exists()


@pytest.mark.parametrize("names", [["one"], ["one", "missing"]])
def test_one_checkpoint_or_a_missing_one_is_an_error(tmp_path, capsys, names):
    saved(tmp_path / "one.safetensors", lively_network(tiny_config()))
    paths = [str(tmp_path / f"{name}.safetensors") for name in names]
    assert main([*paths, "--out", str(tmp_path / "mean.safetensors")]) == 2
    said = capsys.readouterr().err
    assert ("missing.safetensors" if len(names) > 1 else "allowed: at least two") in said
