"""ONNX files: the same answers in onnxruntime, for one batch or for any, and what the command says."""

from __future__ import annotations

import json
import sys

import numpy as np
import onnxruntime
import pytest
import torch

from drawings import lively_network, tiny_config
from model import export
from model.checkpoint import save_checkpoint
from model.export import difference, export_onnx, main
from model.runtime import TorchRuntime
from model.skeleton import COCO
from model.variants import VARIANTS, variant

HW = tiny_config().input_hw


def opened(path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(path, lively_network(tiny_config()), training={}, dtype=torch.float32)
    return path


@pytest.fixture(scope="module")
def any_batch(checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "any.onnx"
    assert main(["--checkpoint", str(checkpoint), "--out", str(path)]) == 0
    return path


@pytest.mark.parametrize("persons", [1, 2, 7])
def test_a_file_for_any_batch_answers_as_the_network_does(any_batch, persons):
    crops = np.random.default_rng(persons).integers(0, 256, (persons, *HW, 3), dtype=np.uint8)
    (found,) = opened(any_batch).run(["heatmaps"], {"pixels": crops})
    expected = TorchRuntime(lively_network(tiny_config())).heatmaps(crops)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_its_metadata_say_what_it_is_of(any_batch):
    about = opened(any_batch).get_modelmeta().custom_metadata_map
    assert about["label"] == "Tiny"
    assert json.loads(about["input_hw"]) == list(HW)
    assert json.loads(about["keypoints"]) == list(COCO.names)
    assert len(about["checkpoint_sha256"]) == 64


def test_a_file_for_one_batch_takes_no_other(checkpoint, tmp_path, capsys):
    path = tmp_path / "two.onnx"
    assert main(["--checkpoint", str(checkpoint), "--out", str(path), "--batch", "2"]) == 0
    said = capsys.readouterr().out
    assert "batch 2" in said
    assert "largest difference from torch in onnxruntime" in said
    assert opened(path).get_inputs()[0].shape == [2, *HW, 3]
    assert opened(path).get_inputs()[0].type == "tensor(uint8)"


def test_a_file_that_answers_otherwise_is_told_apart(any_batch):
    other = lively_network(tiny_config(), seed=1)
    assert difference(lively_network(tiny_config()), any_batch, batch=3) < 1e-4
    assert difference(other, any_batch, batch=3) > 0.1


def test_the_command_fails_if_the_file_answers_otherwise(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export, "difference", lambda *_, **__: float("nan"))
    monkeypatch.setattr(export, "export_onnx", lambda _, path, **__: path.touch())
    assert main(["--checkpoint", str(checkpoint), "--out", str(tmp_path / "x.onnx")]) == 1
    assert "nan" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("missing", "code", "said"),
    [("onnx", 2, "pip install '.[export]'"), ("onnxruntime", 0, "not compared with torch: onnxruntime")],
)
def test_packages_that_are_missing_are_named(missing, code, said, checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, missing, None)
    if missing == "onnxruntime":
        monkeypatch.setattr(export, "export_onnx", lambda _, path, **__: path.touch())
    assert main(["--checkpoint", str(checkpoint), "--out", str(tmp_path / "x.onnx")]) == code
    told = capsys.readouterr()
    assert said in told.out + told.err


def test_what_cannot_be_exported_is_one_clear_line(tmp_path, capsys):
    assert main(["--checkpoint", str(tmp_path / "none.safetensors"), "--out", str(tmp_path / "x.onnx")]) == 2
    assert "none.safetensors" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["--checkpoint", "x", "--out", "y", "--batch", "0"])
    assert stop.value.code == 2
    assert "--batch is 0; allowed: 1 to 1024" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("key", VARIANTS)
def test_every_variant_is_exported(key, tmp_path):
    net = lively_network(variant(key, input_hw=(64, 48)))
    export_onnx(net, tmp_path / "net.onnx", batch=None, about={})
    assert difference(net, tmp_path / "net.onnx", batch=3) < 1e-3
