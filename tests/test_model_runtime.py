"""Runtimes: what they answer, how far they are from each other, and which one is picked."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from drawings import lively_network, plain_skeleton, tiny_config
from model import pick_runtime as picking
from model.crop import normalise
from model.openvino_runtime import OpenVinoRuntime
from model.pick_runtime import pick_runtime
from model.runtime import TorchRuntime, cloud_crops, drift, noise_crops

CPU = torch.device("cpu")
HW = tiny_config().input_hw


def pick(name: str = "auto", dtype: torch.dtype = torch.float32, device: torch.device = CPU, **options):
    return pick_runtime(name, lively_network(tiny_config()), device, dtype, checkpoint_sha256="0" * 64, **options)


class Spoiled(TorchRuntime):
    """Torch with a constant added to every heatmap."""

    def __init__(self, *arguments, error: float) -> None:
        super().__init__(*arguments)
        self._error = error

    def heatmaps(self, crops):
        return super().heatmaps(crops) + self._error


def test_torch_answers_with_the_networks_heatmaps():
    net = lively_network(tiny_config())
    crops = noise_crops(HW, 3)
    with torch.no_grad():
        expected = net.eval()(normalise(torch.from_numpy(crops)))
    runtime = TorchRuntime(net)
    assert (runtime.name, runtime.precision, runtime.device) == ("torch", "float32", CPU)
    torch.testing.assert_close(runtime.heatmaps(crops), expected, atol=1e-5, rtol=0)


def test_the_crops_that_runtimes_are_compared_on_are_all_different():
    crops = noise_crops((64, 48), 5)
    assert crops.shape == (5, 64, 48, 3)
    assert crops.dtype == np.uint8
    assert len({crop.tobytes() for crop in crops}) == 5


def test_drift_is_a_part_of_the_largest_value():
    net = lively_network(tiny_config())
    exact = TorchRuntime(net)
    largest = float(exact.heatmaps(noise_crops(HW, 2)).abs().max())
    assert drift(TorchRuntime(net), exact, HW) == 0.0
    assert drift(Spoiled(net, error=0.1 * largest), exact, HW) == pytest.approx(0.1, rel=1e-3)
    assert drift(Spoiled(net, error=math.nan), exact, HW) == math.inf


@pytest.mark.parametrize("wrong", [1, 2])
def test_drift_is_seen_whether_it_is_of_one_person_or_of_several(wrong):
    net = lively_network(tiny_config())

    class Sometimes(TorchRuntime):
        def heatmaps(self, crops):
            return super().heatmaps(crops) + (1.0 if len(crops) == wrong else 0.0)

    assert drift(Sometimes(net), TorchRuntime(net), HW) > 0.1


def test_drift_from_a_network_with_other_keypoints_is_infinite():
    other = TorchRuntime(lively_network(tiny_config(skeleton=plain_skeleton(5))))
    assert drift(other, TorchRuntime(lively_network(tiny_config())), HW) == math.inf


def test_auto_is_openvino_on_a_cpu_where_it_is_installed(monkeypatch):
    assert pick().name == "openvino"
    assert pick("torch").name == "torch"
    monkeypatch.setattr(picking, "find_spec", lambda _: None)
    assert pick().name == "torch"
    with pytest.raises(ValueError, match="not installed"):
        pick("openvino")


def test_auto_is_torch_on_cuda_and_openvino_is_refused_there(monkeypatch):
    asked = []

    def on_the_cpu_instead(net, device, dtype, *, max_batch):
        asked.append((device, max_batch))
        return TorchRuntime(net)

    monkeypatch.setattr(picking, "CudaRuntime", on_the_cpu_instead)
    cuda = torch.device("cuda:1")
    assert pick(device=cuda, max_batch=24).name == "torch"
    assert asked == [(cuda, 24)]
    with pytest.raises(ValueError, match="device is 'cuda:1'; allowed with openvino: cpu"):
        pick("openvino", device=cuda)


@pytest.mark.parametrize("device", [CPU, torch.device("cuda:0")])
def test_torch_in_bfloat16_is_compared_with_float32_too(device, monkeypatch):
    def spoiled(net, device, dtype, **_):
        runtime = Spoiled(net, error=1e3)
        runtime.precision = "bfloat16"
        return runtime

    monkeypatch.setattr(picking, "CudaRuntime", spoiled)
    monkeypatch.setattr(
        picking, "TorchRuntime", lambda net, *given: spoiled(net, *given) if given else TorchRuntime(net)
    )
    with pytest.raises(ValueError, match=r"runtime 'torch' in bfloat16 answers otherwise .*Try --precision fp32"):
        pick("torch", torch.bfloat16, device=device)


def test_a_runtime_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="runtime is 'tensorrt'; allowed: auto, torch, openvino"):
        pick("tensorrt")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_runtime_that_drifts_is_refused_and_says_by_how_much(dtype, monkeypatch):
    made = []

    class Drifting(Spoiled):
        def __init__(self, net, **options) -> None:
            largest = float(TorchRuntime(net).heatmaps(noise_crops(HW, 2)).abs().max())
            precision = str(options["dtype"]).removeprefix("torch.")
            super().__init__(net, error=largest * 1.1 * picking.MAX_DRIFT[precision])
            self.precision = precision
            made.append(options.get("fresh", False))

    monkeypatch.setattr("model.openvino_runtime.OpenVinoRuntime", Drifting)
    with pytest.raises(
        ValueError, match=r"answers otherwise than torch in float32, by .*%.*allowed: .*Try --runtime torch"
    ):
        pick("openvino", dtype)
    assert made == [False, True]  # what was kept might have been to blame


def test_what_was_kept_of_another_network_under_the_same_name_is_made_anew(tmp_path):
    torch.manual_seed(1)
    other = lively_network(tiny_config())
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    OpenVinoRuntime(other, checkpoint_sha256="0" * 64, cache_dir=tmp_path)
    net = lively_network(tiny_config())
    runtime = pick_runtime("openvino", net, CPU, torch.float32, checkpoint_sha256="0" * 64, cache_dir=tmp_path)
    assert drift(runtime, TorchRuntime(net), HW) < 1e-4


def test_clouds_have_the_spectrum_of_photographs_and_little_colour():
    crops = cloud_crops((96, 72), 3)
    assert (crops.shape, crops.dtype) == ((3, 96, 72, 3), np.uint8)
    assert np.array_equal(crops, cloud_crops((96, 72), 3))
    assert len({crop.tobytes() for crop in crops}) == 3
    for crop in crops:
        assert 40 < crop.std() < 60
        light = crop.mean(axis=2)
        assert (crop - light[..., None]).std() < 0.6 * light.std()
        power = np.abs(np.fft.rfft2(light - light.mean())) ** 2
        frequency = np.hypot(np.fft.fftfreq(96)[:, None], np.fft.rfftfreq(72)[None])
        low, high = ((frequency > at / 1.5) & (frequency < at * 1.5) for at in (0.05, 0.3))
        assert 10 < power[low].mean() / power[high].mean() < 120  # one over the squared frequency: 36


def test_drift_is_measured_on_the_crops_that_are_given():
    net = lively_network(tiny_config())
    exact, crops = TorchRuntime(net), cloud_crops(tiny_config().input_hw, 3)
    seen = []

    class Aside(TorchRuntime):
        def heatmaps(self, crops):
            seen.append(crops)
            return super().heatmaps(crops).roll(1, -1)

    assert drift(exact, exact, tiny_config().input_hw, crops=crops) == 0
    assert drift(Aside(net), exact, tiny_config().input_hw, crops=crops) > 0.1
    assert [len(one) for one in seen] == [1, 3]
    assert np.array_equal(seen[1], crops)
