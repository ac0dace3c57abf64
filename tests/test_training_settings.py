import argparse
import json
from dataclasses import replace
from pathlib import Path

import pytest

from drawings import draw_coco
from training.settings import TrainSettings
from training.train import build_parser, main, parse_input_hw

GOOD = TrainSettings(
    run_dir=Path("run"), train_sets=((Path("a.json"), Path("a")),), val_set=(Path("b.json"), Path("b"))
)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, "epochs is 0; allowed: at least 1"),
        ("steps", 0, "steps is 0; allowed: at least 1, or none for whole epochs"),
        ("batch_size", 0, "batch_size is 0; allowed: at least 1"),
        ("val_every", 0, "val_every is 0; allowed: at least 1"),
        ("warmup_epochs", -1.0, "warmup_epochs is -1.0; allowed: at least 0"),
        ("clip_norm", -1.0, "clip_norm is -1.0; allowed: at least 0"),
        ("workers", -1, "workers is -1; allowed: at least 0"),
        ("seed", -1, "seed is -1; allowed: at least 0"),
        ("minutes_between_saves", -1.0, "minutes_between_saves is -1.0; allowed: at least 0"),
        ("train_sets", (), "train_sets is empty"),
        ("learning_rate_end", 0.0, "learning_rate_end is 0.0; allowed: above 0, at most 0.0001"),
        ("cache_gib", 0.0, "cache_gib is 0.0; allowed: above 0"),
        ("learning_rate_end", 1.0, "learning_rate_end is 1.0; allowed: above 0, at most 0.0001"),
    ],
)
def test_impossible_settings_are_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        replace(GOOD, **{field: value})


def test_settings_are_written_as_plain_json():
    stored = json.loads(json.dumps(GOOD.to_json()))
    assert stored["run_dir"] == "run"
    assert stored["train_sets"] == [["a.json", "a"]]
    assert stored["init"] is None
    assert stored["augmentation"]["flip"] == 0.5


def test_the_command_line_has_the_defaults_of_the_settings():
    argv = ["--train", "a.json", "a", "--val", "b.json", "b", "--run-dir", "run"]
    given = vars(build_parser().parse_args(argv))
    for name, value in given.items():
        default = getattr(GOOD, name, None) if hasattr(GOOD, name) else getattr(GOOD.augmentation, name, None)
        if name not in ("train", "val", "run_dir"):
            assert value == default, name


def test_a_crop_size_is_rows_by_columns():
    assert parse_input_hw("256x192") == (256, 192)


@pytest.mark.parametrize("text", ["256", "256x", "x192", "axb", "-8x8", "8 x 8", ""])
def test_a_malformed_crop_size_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="allowed: ROWSxCOLUMNS"):
        parse_input_hw(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch-size", "5"], "batch_size is 5; allowed: 1 to the number of persons, 4"),
        (["--flip", "2"], "flip is 2.0; allowed: a probability"),
        (["--epochs", "0"], "epochs is 0"),
        (["--init", "none.safetensors"], "cannot read none."),
        (["--device", "tpu"], "device is 'tpu'"),
    ],
)
def test_a_command_that_cannot_work_says_why_and_returns_2(tmp_path, capsys, options, message):
    annotations_path, images_dir = draw_coco(tmp_path, persons=4)
    data = [str(annotations_path), str(images_dir)]
    argv = ["--train", *data, "--val", *data, "--run-dir", str(tmp_path / "run"), "--input", "64x48"]
    assert main([*argv, "--variant", "c2a1-4", "--batch-size", "2", *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
