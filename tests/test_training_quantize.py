"""A network in int8: made from drawn photographs, evaluated, served, and refused where it does not belong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from drawings import draw_coco, lively_network, tiny_config
from model.checkpoint import load_checkpoint, save_checkpoint
from model.estimator import crop_person
from model.openvino_runtime import convert
from model.pick_runtime import pick_runtime
from model.quantised import quantised_path
from model.runtime import TorchRuntime
from service.settings import BUNDLED_CHECKPOINT
from training import quantize
from training.coco import read_persons
from training.dataset import read_image
from training.evaluate import main as evaluate
from training.quantize import calibration_crops, main

ROOT = Path(__file__).resolve().parents[1]
COCO = ROOT.parent / "shared" / "data" / "coco"
CPU = torch.device("cpu")
PERSONS = 8
# nncf imports what it does not use, and some of that is old.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> tuple[Path, Path]:
    return draw_coco(tmp_path_factory.mktemp("quantize"), persons=PERSONS)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(path, lively_network(tiny_config()), training={})
    return path


@pytest.fixture(scope="module")
def quantised(drawn, tiny) -> Path:
    """The checkpoint, with its network in int8 beside it."""
    assert run(tiny, drawn) == 0
    return tiny


def run(checkpoint: Path, drawn: tuple[Path, Path], *options: object) -> int:
    given = ["--checkpoint", checkpoint, "--annotations", drawn[0], "--images", drawn[1], *options]
    return main([str(option) for option in given])


def crops_of(drawn: tuple[Path, Path], config) -> np.ndarray:
    persons = read_persons(*drawn).persons
    return np.stack([crop_person(read_image(one.image_path), one.box_xywh, config).pixels for one in persons])


def test_it_answers_nearly_as_the_network_whatever_the_batch(quantised, drawn):
    net, card = load_checkpoint(quantised)
    runtime = pick_runtime(
        "auto", net, CPU, torch.float32, checkpoint_sha256=card.sha256, quantised=quantised_path(quantised)
    )
    assert (runtime.name, runtime.precision) == ("openvino", "int8")
    crops = crops_of(drawn, net.config)
    expected = TorchRuntime(net).heatmaps(crops)
    for persons in (1, 3, PERSONS):
        off = (runtime.heatmaps(crops[:persons]) - expected[:persons]).abs().max() / expected.abs().max()
        assert 1e-4 < off < 0.15, "the same numbers to the last digits would not be int8"


def test_its_weights_take_a_quarter(quantised):
    net, _ = load_checkpoint(quantised)
    weights = sum(parameter.numel() for parameter in net.parameters())
    assert quantised_path(quantised).with_suffix(".bin").stat().st_size < 2.5 * weights
    assert {path.name for path in quantised.parent.glob("*int8*")} == {"tiny.int8.xml", "tiny.int8.bin"}
    assert not [path for path in quantised.parent.iterdir() if path.is_dir()], "nothing unfinished is left"


def test_it_tells_where_it_comes_from_and_nothing_of_this_machine(quantised, drawn):
    text = quantised_path(quantised).read_text()
    assert load_checkpoint(quantised)[1].sha256 in text
    assert "annotations.json" in text
    assert str(drawn[1]) not in text
    assert str(Path.home()) not in text


def test_calibration_spreads_over_the_data(drawn):
    data = read_persons(*drawn)
    every = crops_of(drawn, tiny_config())
    np.testing.assert_array_equal(calibration_crops(data, tiny_config(), persons=99), every)
    np.testing.assert_array_equal(calibration_crops(data, tiny_config(), persons=3), every[[0, 4, 7]])


def test_evaluating_it(quantised, drawn, tmp_path):
    given = ["--checkpoint", quantised, "--annotations", drawn[0], "--images", drawn[1], "--precision", "int8"]
    assert evaluate([str(option) for option in [*given, "--device", "cpu", "--out", tmp_path / "out.json"]]) == 0
    assert json.loads((tmp_path / "out.json").read_text())["runtime"] == "openvino cpu int8"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--persons", 0], "--persons is 0; allowed: at least 1"),
        (["--out", "x.xml"], "--out is x.xml; allowed: a name that ends in .int8.xml"),
    ],
)
def test_options_that_do_not_work(options, complaint, drawn, tiny, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(tiny, drawn, *options)
    assert complaint in capsys.readouterr().err


def test_files_that_do_not_work_are_one_clear_line(drawn, tiny, tmp_path, capsys):
    nobody = tmp_path / "nobody.json"
    nobody.write_text(json.dumps({"images": [], "annotations": []}))
    for checkpoint, truth, complaint in (
        (tmp_path / "none.safetensors", drawn[0], "cannot read"),
        (tiny, tmp_path / "none.json", "cannot read"),
        (tiny, nobody, "nobody.json has no person with a labelled joint"),
    ):
        assert run(checkpoint, (truth, drawn[1])) == 2
        said = capsys.readouterr().err
        assert said.startswith("training.quantize: ")
        assert complaint in said


def test_without_nncf_it_says_what_to_install(drawn, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "nncf", None)
    assert run(tiny, drawn, "--out", tmp_path / "x.int8.xml") == 2
    assert "try: pip install '.[quantize]'" in capsys.readouterr().err


def test_what_answers_otherwise_than_the_network_is_not_written(drawn, tiny, tmp_path, monkeypatch, capsys):
    other = lively_network(tiny_config(), seed=1)
    monkeypatch.setattr(quantize, "quantise", lambda *_: convert(other))
    assert run(tiny, drawn, "--out", tmp_path / "x.int8.xml") == 2
    assert "in int8 answers otherwise than torch" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


OFFLINE = """
import socket, sys
def refuse(*_, **__):
    raise SystemExit("it wants to connect")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from training.quantize import main
code = main(sys.argv[1:])
assert not any(name.startswith("openvino_telemetry") and module for name, module in sys.modules.items())
sys.exit(code)
"""


def test_it_tells_nobody_and_leaves_nothing_at_home(tiny, drawn, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_CURRENT_TEST")}
    given = ["--checkpoint", tiny, "--annotations", drawn[0], "--images", drawn[1], "--persons", 2]
    command = [sys.executable, "-c", OFFLINE, *map(str, given), "--out", str(tmp_path / "new" / "other.int8.xml")]
    done = subprocess.run(
        command, cwd=ROOT, env={**environment, "HOME": str(home)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not list(home.iterdir())
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"other.int8.xml", "other.int8.bin"}
    assert "MiB with other.int8.bin" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not COCO.is_dir(), reason="needs the COCO photographs in ../shared/data")
def test_the_bundled_network_loses_less_than_half_a_point(tmp_path):
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"net{suffix}").write_bytes(BUNDLED_CHECKPOINT.with_suffix(suffix).read_bytes())
    annotations = COCO / "annotations"
    checkpoint = tmp_path / "net.safetensors"
    assert run(checkpoint, (annotations / "person_keypoints_train.json", COCO / "train")) == 0
    given = ["--checkpoint", checkpoint, "--annotations", annotations / "person_keypoints_dev.json"]
    given += ["--images", COCO / "dev", "--device", "cpu", "--precision", "int8", "--out", tmp_path / "out.json"]
    given += ["--no-flip-test"]
    assert evaluate([str(option) for option in given]) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    (exact,) = [
        known
        for known in load_checkpoint(checkpoint)[1].metrics
        if known["runtime"] == "torch cpu float32" and known["boxes"] == "gt" and not known["flip_test"]
    ]
    assert found["AP"] > exact["AP"] - 0.005
