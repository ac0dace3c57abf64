"""What the settings make of devices: lanes, batch sizes, and what `GET /model` says of them."""

from __future__ import annotations

import pytest
import torch

from drawings import lively_network, tiny_config
from model import estimator as estimating
from model import pick_runtime as picking
from model.checkpoint import save_checkpoint
from model.cuda_runtime import Eager
from service import __main__ as service_main
from service.__main__ import build_service, read_settings
from service.metrics import Metrics


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, lively_network(tiny_config()), training={})
    return path


@pytest.fixture
def two_gpus(monkeypatch):
    """A machine that seems to have two CUDA devices; what they run, the CPU does. Gives the largest batch of each."""
    made = []

    class OnTheCpu(picking.CudaRuntime):
        def __init__(self, net, device, dtype, *, max_batch) -> None:
            super().__init__(net, "cpu", dtype, max_batch=1, record=Eager)
            made.append((str(device), max_batch))
            self.device = device

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(picking, "CudaRuntime", OnTheCpu)
    as_torch = estimating.TorchRuntime
    monkeypatch.setattr(estimating, "TorchRuntime", lambda net, _, dtype: as_torch(net, "cpu", dtype))
    monkeypatch.setattr(service_main, "take_own_stream", lambda _: None)
    return made


def build(*flags):
    service = build_service(read_settings([str(flag) for flag in flags]), Metrics(), None)
    assert service.close(timeout_s=30)
    return service


def test_a_cpu_has_one_lane(tiny, tmp_path):
    service = build("--checkpoint", tiny, "--device", "cpu", "--cache-dir", tmp_path / "cache")
    assert service._engine.lanes == 1
    assert service._engine._batcher.max_batch == 16
    assert service.info.device == "cpu"


def test_lanes_and_batches_are_as_the_settings_say(tiny, tmp_path):
    flags = ("--checkpoint", tiny, "--device", "cpu", "--cache-dir", tmp_path / "cache")
    service = build(*flags, "--lanes", 3, "--max-batch", 5)
    assert service._engine.lanes == 3
    assert service._engine._batcher.max_batch == 5


def test_each_of_several_devices_has_lanes_that_overlap(tiny, two_gpus):
    service = build("--checkpoint", tiny, "--device", "cuda:0,cuda:1")
    assert service._engine.lanes == 4
    assert two_gpus == [("cuda:0", 64), ("cuda:0", 64), ("cuda:1", 64), ("cuda:1", 64)]
    assert (service.info.runtime, service.info.device, service.info.precision) == ("torch", "cuda:0,cuda:1", "bfloat16")


def test_auto_is_the_first_cuda_device_where_there_is_one(tiny, two_gpus):
    service = build("--checkpoint", tiny, "--lanes", 1, "--max-batch", 8)
    assert two_gpus == [("cuda", 8)]
    assert service.info.device == "cuda"
