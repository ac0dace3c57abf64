"""The network by OpenVINO: the same answers, whatever the batch, and a quick second start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import torch
from openvino import opset13 as opset

from drawings import lively_network, tiny_config
from model import openvino_runtime
from model.estimator import PoseEstimator
from model.openvino_runtime import OpenVinoRuntime, openvino_core, run
from model.runtime import TorchRuntime, drift, noise_crops
from model.variants import VARIANTS, variant

HW = tiny_config().input_hw
ROOT = Path(__file__).resolve().parents[1]
SHA = "0" * 64


def make(net=None, **options) -> OpenVinoRuntime:
    return OpenVinoRuntime(net or lively_network(tiny_config()), checkpoint_sha256=SHA, **options)


def never(*_):
    raise AssertionError("the network was converted again")


@pytest.fixture(scope="module")
def runtime() -> OpenVinoRuntime:
    return make()


@pytest.mark.parametrize("persons", [1, 2, 3, 7, 16])
def test_every_batch_has_the_answers_of_its_crops_in_their_order(runtime, persons):
    exact = TorchRuntime(lively_network(tiny_config()))
    crops = np.random.default_rng(persons).integers(0, 256, (persons, *HW, 3), dtype=np.uint8)
    found = runtime.heatmaps(crops)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact.heatmaps(crops), atol=1e-4, rtol=1e-4)


def test_an_answer_stays_as_it_was_when_the_next_batch_runs(runtime):
    crops = noise_crops(HW, 4)
    for part in (crops[:1], crops):
        first = runtime.heatmaps(part)
        copy = first.clone()
        runtime.heatmaps(255 - part)
        assert torch.equal(first, copy)


def test_a_network_that_fails_says_so_and_the_next_one_runs():
    rows = opset.parameter([-1, 3], dtype=np.uint8)
    of_one = opset.reshape(rows, np.array([1, 3]), special_zero=False)
    request = openvino_core().compile_model(ov.Model([of_one], [rows]), "CPU").create_infer_request()
    row = np.arange(3, dtype=np.uint8)[None]
    for _ in range(2):
        with pytest.raises(RuntimeError, match="Reshape"):
            run(request, np.repeat(row, 2, axis=0))
        assert run(request, row)[0].tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("position", ["relative", "absolute"])
def test_both_kinds_of_position_terms_are_converted(position):
    net = lively_network(tiny_config(position=position))
    assert drift(make(net), TorchRuntime(net), HW) < 1e-4


def test_half_precision_is_near():
    net = lively_network(tiny_config())
    runtime = make(net, dtype=torch.bfloat16)
    assert runtime.precision == "bfloat16"
    assert drift(runtime, TorchRuntime(net), HW) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("key", VARIANTS)
@pytest.mark.parametrize("position", ["relative", "absolute"])
def test_every_variant_is_converted(key, position):
    net = lively_network(variant(key, position=position, input_hw=(64, 48)))
    assert drift(make(net), TorchRuntime(net), (64, 48)) < 1e-3


def test_an_estimator_finds_the_same_keypoints_with_it(runtime):
    net = lively_network(tiny_config())
    crops = list(noise_crops(HW, 3))
    for flip_test in (False, True):
        expected = PoseEstimator(net).estimate(crops, flip_test=flip_test)
        found = PoseEstimator(net, runtime=runtime).estimate(crops, flip_test=flip_test)
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(one.points, other.points, atol=0.01)
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


def test_the_network_is_left_as_it_was(runtime):
    net = lively_network(tiny_config())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    make(net)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_the_second_start_converts_nothing(tmp_path, monkeypatch):
    net = lively_network(tiny_config())
    first = make(net, cache_dir=tmp_path / "new" / "folder")
    monkeypatch.setattr(openvino_runtime, "convert", never)
    second = make(net, cache_dir=tmp_path / "new" / "folder")
    crops = noise_crops(HW, 2)
    torch.testing.assert_close(first.heatmaps(crops), second.heatmaps(crops), atol=1e-5, rtol=1e-5)
    with pytest.raises(AssertionError, match="converted again"):
        make(net, cache_dir=tmp_path / "new" / "folder", fresh=True)


@pytest.mark.parametrize("other", [{"sha": "1" * 64}, {"position": "absolute"}, {"input_hw": (64, 64)}])
def test_another_network_is_converted_for_itself(other, tmp_path, monkeypatch):
    make(cache_dir=tmp_path)
    monkeypatch.setattr(openvino_runtime, "convert", never)
    sha = other.pop("sha", SHA)
    net = lively_network(tiny_config(**other))
    with pytest.raises(AssertionError, match="converted again"):
        OpenVinoRuntime(net, checkpoint_sha256=sha, cache_dir=tmp_path)


@pytest.mark.parametrize("spoil", [lambda file: file.write_bytes(file.read_bytes()[:100]), lambda file: file.unlink()])
@pytest.mark.parametrize("kind", ["xml", "bin"])
def test_a_damaged_file_of_what_was_kept_is_made_again(spoil, kind, tmp_path):
    net = lively_network(tiny_config())
    make(net, cache_dir=tmp_path)
    (kept,) = tmp_path.glob(f"*.{kind}")
    spoil(kept)
    assert drift(make(net, cache_dir=tmp_path), TorchRuntime(net), HW) < 1e-4
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_folder_that_cannot_be_one_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file, which cannot be written"):
        make(cache_dir=tmp_path / "file")


def test_other_precisions_are_refused():
    with pytest.raises(ValueError, match=r"dtype is torch.float16; allowed: torch.float32, torch.bfloat16"):
        make(dtype=torch.float16)


OFFLINE = """
import socket
def refuse(*_, **__):
    raise SystemExit("it wants to connect")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import model.openvino_runtime
import sys
from pathlib import Path
assert sys.modules["openvino_telemetry"] is None
"""


def test_importing_it_tells_nobody_and_leaves_nothing(tmp_path):
    environment = {**os.environ, "HOME": str(tmp_path)}
    environment.pop("CI", None)  # where it would be silent of its own accord
    done = subprocess.run([sys.executable, "-c", OFFLINE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


SIGNALS = """
import os, signal, sys
sys.path.insert(0, "tests")
from drawings import lively_network, tiny_config
from model.openvino_runtime import OpenVinoRuntime

signal.signal(signal.SIGTERM, lambda *_: print("still here"))
made = [OpenVinoRuntime(lively_network(tiny_config()), checkpoint_sha256="0" * 64) for _ in range(2)]
del made[0]  # in the order in which they were made
del made[0]
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_after_networks_were_let_go_ends_nobody():
    done = subprocess.run([sys.executable, "-c", SIGNALS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "still here\n"), done.stderr
