"""The command line of pre-training: a whole run, the contact sheet, defaults, recipes, errors."""

import cv2
import pytest

from drawings import noise_photograph, tiny_config
from model.variants import VARIANTS
from training.dino_settings import RECIPES, PretrainSettings
from training.pretrain import main, parse_settings


@pytest.fixture(autouse=True)
def tiny_variant(monkeypatch):
    monkeypatch.setitem(VARIANTS, "tiny", tiny_config())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """13 pictures."""
    path = tmp_path_factory.mktemp("pictures")
    for number in range(13):
        cv2.imwrite(str(path / f"{number:02}.jpg"), noise_photograph(90, 120, seed=number))
    return path


def command(folder, *more):
    sizes = ["--variant", "tiny", "--global-view", "64x48", "--local-view", "32x24", "--out-dim", "16"]
    run = ["--batch-size", "4", "--epochs", "1", "--workers", "0", "--device", "cpu", "--precision", "fp32"]
    return ["--images", str(folder), *sizes, *run, *map(str, more)]


def test_the_command_trains(folder, tmp_path, capsys):
    assert main(command(folder, "--run-dir", tmp_path / "run", "--learning-rate", 0.01)) == 0
    assert "dino.safetensors; start training.train with --init on it" in capsys.readouterr().out
    assert (tmp_path / "run" / "dino.safetensors").exists()


def test_the_command_draws_views(folder, tmp_path, capsys):
    assert main(command(folder, "--show-views", tmp_path / "views.png")) == 0
    assert cv2.imread(str(tmp_path / "views.png")).shape == (12 * 68, 68 + 2 * 52 + 2 * 28, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["views.png"]


def test_the_command_says_what_is_wrong(folder, tmp_path, capsys):
    assert main(command(folder / "none", "--run-dir", tmp_path / "run")) == 2
    assert "training.pretrain: image folder" in capsys.readouterr().err
    assert main(command(folder, "--run-dir", tmp_path / "run", "--flip", "2")) == 2
    assert "flip is 2.0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(command(folder))
    assert "--run-dir is needed" in capsys.readouterr().err


def test_the_defaults_of_the_command_are_those_of_the_settings(tmp_path):
    parsed, sheet = parse_settings(["--images", str(tmp_path), "--run-dir", "run"])
    assert parsed == PretrainSettings(images=(tmp_path,), run_dir=parsed.run_dir)
    assert sheet is None


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_gives_defaults_that_flags_override(recipe, tmp_path):
    given = ["--recipe", recipe, "--images", str(tmp_path), "--run-dir", "run", "--batch-size", "48"]
    parsed, _ = parse_settings([*given, "--blur", "0.5", "0.4", "0.3"])
    assert parsed.batch_size == 48
    assert parsed.augmentation.blur == (0.5, 0.4, 0.3)
    for name, value in RECIPES[recipe].items():
        if name != "batch_size":
            assert getattr(parsed.augmentation if name == "global_scale" else parsed, name) == value
