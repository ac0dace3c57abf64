"""The file of a network in int8: taken where it belongs, refused elsewhere. What makes it is tested with training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from drawings import lively_network, tiny_config
from model import openvino_runtime
from model import pick_runtime as picking
from model.estimator import PoseEstimator
from model.openvino_runtime import convert, keep
from model.pick_runtime import MAX_DRIFT, pick_runtime
from model.quantised import quantised_path, sign
from model.runtime import TorchRuntime, drift, noise_crops

CPU = torch.device("cpu")
CONFIG = tiny_config()
SHA = "0" * 64


def pick(file: Path, name: str = "auto", device: torch.device = CPU, **options):
    given = {"net": lively_network(CONFIG), "checkpoint_sha256": SHA, "dtype": torch.float32} | options
    net, dtype = given.pop("net"), given.pop("dtype")
    return pick_runtime(name, net, device, dtype, quantised=file, **given)


@pytest.fixture
def file(tmp_path) -> Path:
    """Not quantised at all, but signed as if it were: what it answers is another matter."""
    path = quantised_path(tmp_path / "tiny.safetensors")
    model = convert(lively_network(CONFIG))
    sign(model, CONFIG, checkpoint_sha256=SHA, calibration={"persons": 3})
    keep(model, path)
    return path


@pytest.mark.parametrize("name", ["c3a1-4", "best.v2"])
def test_its_name_comes_from_the_checkpoint(name):
    assert quantised_path(Path(f"runs/{name}.safetensors")) == Path(f"runs/{name}.int8.xml")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_runs_in_place_of_the_network_and_says_so(file, dtype, monkeypatch):
    monkeypatch.setattr(openvino_runtime, "convert", None)  # nothing is converted
    runtime = pick(file, dtype=dtype)
    assert (runtime.name, runtime.precision) == ("openvino", "int8")
    assert drift(runtime, TorchRuntime(lively_network(CONFIG)), CONFIG.input_hw) < 0.1


def test_attention_is_collected_beside_it(file):
    net = lively_network(CONFIG)
    crops = list(noise_crops(CONFIG.input_hw, 1))
    (found,) = PoseEstimator(net, runtime=pick(file)).explain(crops)
    (expected,) = PoseEstimator(net).explain(crops)
    assert found.points.tolist() == expected.points.tolist()


def test_what_is_compiled_of_it_is_kept(file, tmp_path):
    cache = tmp_path / "cache"
    first = pick(file, cache_dir=cache)
    kept = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert kept
    second = pick(file, cache_dir=cache)
    assert {path.name: path.stat().st_mtime_ns for path in cache.iterdir()} == kept
    crops = noise_crops(CONFIG.input_hw, 2)
    torch.testing.assert_close(first.heatmaps(crops), second.heatmaps(crops), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["xml", "bin"])
def test_a_missing_file_is_named_with_the_command_that_makes_it(kind, file):
    file.with_suffix(f".{kind}").unlink()
    command = rf"python -m training.quantize --checkpoint {file.parent}/tiny\.safetensors --annotations JSON"
    with pytest.raises(ValueError, match=rf"tiny\.int8\.{kind} does not exist, and precision is 'int8'; .*{command}"):
        pick(file)


@pytest.mark.parametrize(
    "spoil",
    [lambda file: file.write_bytes(file.read_bytes()[:100]), lambda file: file.with_suffix(".bin").write_text("")],
)
def test_a_damaged_file_is_refused(spoil, file):
    spoil(file)
    with pytest.raises(ValueError, match=r"tiny\.int8\.xml is damaged, or not .*; make it by: python -m training"):
        pick(file)


def test_a_network_that_does_not_say_where_it_comes_from_is_refused(tmp_path):
    keep(convert(lively_network(CONFIG)), tmp_path / "x.int8.xml")
    with pytest.raises(ValueError, match=r"x\.int8\.xml is damaged, or not a network of training.quantize"):
        pick(tmp_path / "x.int8.xml")


def test_that_of_another_checkpoint_or_crop_size_is_refused(file):
    with pytest.raises(ValueError, match=f"belongs to another network: its checkpoint_sha256 is '{SHA}'; allowed: '1"):
        pick(file, checkpoint_sha256="1" * 64)
    larger = replace(CONFIG, input_hw=(96, 72))
    with pytest.raises(ValueError, match=r"its input_hw is \[64, 48\]; allowed: \[96, 72\]\. To replace it, make it"):
        pick(file, net=lively_network(larger))


def test_it_is_for_openvino_on_a_cpu(file, monkeypatch):
    with pytest.raises(ValueError, match="precision is 'int8' and runtime is 'torch'; allowed with int8: auto, openvi"):
        pick(file, "torch")
    for name in ("auto", "openvino"):
        with pytest.raises(ValueError, match="precision is 'int8' and device is 'cuda:1'; allowed with int8: cpu"):
            pick(file, name, torch.device("cuda:1"))
    monkeypatch.setattr(picking, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match="'openvino', which is not installed"):
        pick(file)


def test_one_that_answers_otherwise_is_refused_at_once(file, monkeypatch):
    model = convert(lively_network(CONFIG, seed=1))
    sign(model, CONFIG, checkpoint_sha256=SHA, calibration={})
    keep(model, file)
    with pytest.raises(ValueError, match=r"in int8 answers otherwise .*allowed: 25\.0%\. Try --precision auto"):
        pick(file)
    assert MAX_DRIFT["int8"] < 1, "no answer at all drifts by 1"


def test_what_does_not_pass_its_check_is_not_kept(tmp_path):
    def refuse(written: Path) -> None:
        assert written.with_suffix(".bin").exists()
        raise ValueError("no")

    (tmp_path / "x.int8.xml").write_text("before")
    with pytest.raises(ValueError, match="no"):
        keep(convert(lively_network(CONFIG)), tmp_path / "x.int8.xml", check=refuse)
    assert [path.name for path in tmp_path.iterdir()] == ["x.int8.xml"]
    assert (tmp_path / "x.int8.xml").read_text() == "before"
