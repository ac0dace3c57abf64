"""What a run shows while it trains: to TensorBoard, as files, once, and never at the cost of the run."""

import json
import sys

import cv2
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.run_figures import MOST_SHEETS, RunFigures, device_name
from training.settings import TrainSettings


@pytest.fixture
def run_dir(tmp_path):
    settings = TrainSettings(run_dir=tmp_path, train_sets=(("a.json", "a"),), val_set=("b.json", "b"), epochs=4)
    (tmp_path / "settings.json").write_text(json.dumps(settings.to_json(), default=str))
    (tmp_path / "log.jsonl").write_text(json.dumps({"epoch": 1, "loss": 0.5}) + "\n")
    return tmp_path


def sheet():
    return np.full((40, 60, 3), 99, dtype=np.uint8)


def events(run_dir):
    accumulated = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    accumulated.Reload()
    return accumulated


def test_steps_and_epochs_become_curves(run_dir):
    asked = []

    def values():
        asked.append(None)
        return {"train/loss": 0.25}

    with RunFigures(run_dir, epochs=4, every=5) as figures:
        for step in range(1, 13):
            figures.after_step(step, values)
        figures.after_epoch({"epoch": 3, "loss": 0.5, "val_AP": 0.125, "device": "CPU"})
    seen = events(run_dir)
    assert [(point.step, point.value) for point in seen.Scalars("train/loss")] == [(5, 0.25), (10, 0.25)]
    assert len(asked) == 2
    assert [(point.step, point.value) for point in seen.Scalars("epoch/val_AP")] == [(3, 0.125)]
    assert set(seen.Tags()["scalars"]) == {"train/loss", "epoch/loss", "epoch/val_AP"}
    assert cv2.imread(str(run_dir / "best.png")) is not None


def test_samples_go_to_tensorboard_and_those_to_keep_into_a_file(run_dir):
    with RunFigures(run_dir, epochs=4, every=5) as figures:
        figures.samples(sheet, 1, keep=False)
        assert not (run_dir / "samples.png").exists()
        figures.samples(sheet, 2, keep=True)
    assert np.array_equal(cv2.imread(str(run_dir / "samples.png")), sheet())
    assert [image.step for image in events(run_dir).Images("samples")] == [1, 2]


def test_a_long_run_shows_a_bounded_number_of_sheets_the_last_one_too(run_dir):
    drawn = []
    with RunFigures(run_dir, epochs=1000, every=5) as figures:
        for epoch in range(1, 1001):
            figures.samples(lambda epoch=epoch: drawn.append(epoch) or sheet(), epoch, keep=False)
    assert len(drawn) == MOST_SHEETS
    assert drawn[-1] == 1000


def test_quick_epochs_are_drawn_together_and_the_last_one_is_drawn(run_dir, monkeypatch):
    drawn = []
    monkeypatch.setattr("training.run_figures.write_summary", lambda folder: drawn.append(folder))
    with RunFigures(run_dir, epochs=40, every=5) as figures:
        figures.after_epoch({"epoch": 1, "loss": 0.5})
        assert drawn == [run_dir]
        monkeypatch.setattr(figures, "_due_from", float("inf"))
        for epoch in range(2, 41):
            figures.after_epoch({"epoch": epoch, "loss": 0.5})
        assert len(drawn) == 1
    assert len(drawn) == 2


def test_a_process_that_does_not_write_leaves_nothing(run_dir):
    before = sorted(run_dir.iterdir())

    def never():
        raise AssertionError("was drawn")

    with RunFigures(run_dir, epochs=4, every=1, writes=False) as figures:
        figures.after_step(1, never)
        figures.after_epoch({"epoch": 1, "loss": 0.5})
        figures.samples(never, 1, keep=True)
    assert sorted(run_dir.iterdir()) == before


def test_without_tensorboard_the_rest_is_drawn_and_it_is_said_once(run_dir, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with RunFigures(run_dir, epochs=4, every=1) as figures:
        for epoch in (1, 2):
            figures.after_step(epoch, dict)
            figures.samples(sheet, epoch, keep=True)
            figures.after_epoch({"epoch": epoch, "loss": 0.5})
    assert capsys.readouterr().out.count("TensorBoard is not installed") == 1
    assert (run_dir / "best.png").exists()
    assert (run_dir / "samples.png").exists()
    assert not (run_dir / "tensorboard").exists()


def test_a_picture_that_fails_is_said_once_and_ends_nothing(run_dir, capsys):
    def broken():
        raise OSError("no space left")

    with RunFigures(run_dir, epochs=4, every=1) as figures:
        for epoch in (1, 2):
            figures.samples(broken, epoch, keep=True)
            figures.after_epoch({"epoch": epoch, "loss": 0.5})
    said = capsys.readouterr().out
    assert said.count("samples cannot be drawn: OSError('no space left')") == 1
    assert "summary" not in said


def test_an_interruption_is_not_swallowed(run_dir):
    def interrupted():
        raise KeyboardInterrupt

    with RunFigures(run_dir, epochs=4, every=1) as figures, pytest.raises(KeyboardInterrupt):
        figures.samples(interrupted, 1, keep=True)


def test_a_device_has_a_name():
    assert device_name(torch.device("cpu")) == "CPU"
