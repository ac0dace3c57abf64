"""Runs that are cut off and go on: exactly as they would have, or not at all."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from drawings import lively_network, tiny_config
from model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from model.variants import VARIANTS
from tiny_runs import (  # noqa: F401 (fixtures)
    WatchedTrainer,
    drawn_fixture,
    first_batch,
    log_lines,
    settings_fixture,
    tiny_variant_fixture,
)
from training.run_state import load_run, save_run
from training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("tiny_variant")


class CutOffWhileValidating(Trainer):
    """Is cut off in the validation after the epoch with this number, counted from 0."""

    def __init__(self, settings, epoch):
        super().__init__(settings)
        self.stop_epoch = epoch

    def _validate(self, epoch, figures):
        if epoch == self.stop_epoch:
            raise KeyboardInterrupt
        return super()._validate(epoch, figures)


@pytest.mark.parametrize(
    ("stop_at", "minutes_between_saves", "resumes_at"),
    [(4, 0.0, 4), (5, 1e9, 3), (6, 1e9, 6)],
    ids=["within an epoch", "back to the last save", "between epochs"],
)
def test_a_run_that_was_cut_off_takes_exactly_the_steps_it_would_have_taken(
    settings, tmp_path, stop_at, minutes_between_saves, resumes_at
):
    settings = dataclasses.replace(settings, epochs=3, minutes_between_saves=minutes_between_saves)
    whole = WatchedTrainer(dataclasses.replace(settings, run_dir=tmp_path / "whole"))
    whole.run()
    assert list(whole.losses) == list(range(9))

    first = WatchedTrainer(settings, stop_at=stop_at)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    second = WatchedTrainer(settings)
    second.run()
    assert list(second.losses) == list(range(resumes_at, 9))
    assert first.losses | second.losses == whole.losses
    for name in ("last.safetensors", "best.safetensors"):
        got, expected = load_file(settings.run_dir / name), load_file(tmp_path / "whole" / name)
        assert got.keys() == expected.keys()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in got.items())


@pytest.mark.parametrize(("epoch", "steps"), [(0, None), (1, None), (1, 5)])
def test_a_run_that_was_cut_off_while_validating_validates_again(settings, epoch, steps):
    settings = dataclasses.replace(settings, minutes_between_saves=0.0, steps=steps)
    with pytest.raises(KeyboardInterrupt):
        CutOffWhileValidating(settings, epoch).run()
    best_ap = Trainer(settings).run()
    assert best_ap == max(line["val_AP"] for line in log_lines(settings)) >= 0
    assert [line["epoch"] for line in log_lines(settings)] == [1, 2]
    load_checkpoint(settings.run_dir / "best.safetensors")


def test_a_finished_run_is_not_trained_further(settings):
    best_ap = Trainer(settings).run()
    state = (settings.run_dir / "last.safetensors").read_bytes()
    again = WatchedTrainer(settings)
    assert again.run() == best_ap
    assert again.losses == {}
    assert (settings.run_dir / "last.safetensors").read_bytes() == state
    assert len(log_lines(settings)) == 2


def test_a_run_that_goes_on_with_other_settings_says_so(settings, capsys):
    Trainer(settings).run()
    capsys.readouterr()
    Trainer(settings).run()
    assert "other settings" not in capsys.readouterr().out
    Trainer(dataclasses.replace(settings, clip_norm=2.0)).run()
    assert "resumed with other settings than before: clip_norm: 0.0 -> 2.0" in capsys.readouterr().out


def test_the_state_of_another_variant_is_refused(settings, monkeypatch):
    Trainer(settings).run()
    monkeypatch.setitem(VARIANTS, "tiny", tiny_config(model_dim=64))
    with pytest.raises(CheckpointError, match=r"last\.safetensors does not fit the network"):
        Trainer(settings).run()


@pytest.mark.parametrize("content", [b"", b"garbage", bytes(200)])
def test_a_damaged_state_is_refused(settings, content):
    settings.run_dir.mkdir()
    (settings.run_dir / "last.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"last\.safetensors is not the state of a training run"):
        Trainer(settings).run()


def test_weights_alone_are_not_a_state(settings):
    settings.run_dir.mkdir()
    save_checkpoint(settings.run_dir / "last.safetensors", lively_network(tiny_config()), training={})
    with pytest.raises(CheckpointError, match="is not the state of a training run"):
        Trainer(settings).run()


def test_a_state_keeps_weights_moments_and_facts(settings, tmp_path):
    one, other = Trainer(settings), Trainer(dataclasses.replace(settings, seed=8))
    one.train_step(first_batch(one))
    save_run(tmp_path / "state.safetensors", one.learner.net, one.learner.optimizer, {"step": 1})
    assert load_run(tmp_path / "state.safetensors", other.learner.net, other.learner.optimizer) == {"step": 1}
    for name, weight in one.learner.net.state_dict().items():
        assert torch.equal(weight, other.learner.net.state_dict()[name]), name
    left, right = one.learner.optimizer.state_dict()["state"], other.learner.optimizer.state_dict()["state"]
    assert left.keys() == right.keys()
    for number, moments in left.items():
        assert all(torch.equal(torch.as_tensor(moment), right[number][name]) for name, moment in moments.items())
    assert "optimizer.0.exp_avg_sq" in load_file(tmp_path / "state.safetensors")


@pytest.mark.parametrize("changes", [{"batch_size": 2}, {"seed": 8}])
def test_a_run_does_not_go_on_with_settings_that_change_the_meaning_of_a_step(settings, changes):
    Trainer(settings).run()
    with pytest.raises(ValueError, match=f"{next(iter(changes))}: .* -> .*; allowed: the same ones, or another"):
        Trainer(dataclasses.replace(settings, **changes)).run()


def test_a_resumed_run_does_not_need_the_checkpoint_that_it_started_from(settings, tmp_path):
    path = tmp_path / "first.safetensors"
    save_checkpoint(path, lively_network(tiny_config()), training={"task": "drawn"})
    settings = dataclasses.replace(settings, init=path)
    Trainer(settings).run()
    path.unlink()
    again = Trainer(dataclasses.replace(settings, epochs=3))
    again.run()
    assert again.initialised_from["task"] == "drawn"
