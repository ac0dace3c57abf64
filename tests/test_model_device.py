import pytest
import torch

from model.device import pick_device, pick_devices, pick_dtype


def test_the_cpu_is_a_device():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda")


@pytest.mark.parametrize("name", ["tpu", "", "cpu:x", "meta", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(ValueError, match=f"device is '{name}'"):
        pick_device(name)


def test_precisions_are_types():
    cpu = torch.device("cpu")
    assert pick_dtype("fp32", cpu) == torch.float32
    assert pick_dtype("bf16", cpu) == torch.bfloat16
    assert pick_dtype("auto", cpu) in (torch.float32, torch.bfloat16)
    with pytest.raises(ValueError, match="precision is 'fp16'; allowed: auto, fp32, bf16"):
        pick_dtype("fp16", cpu)


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, torch.bfloat16),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, torch.float32),
        ({"cpu_name": "AMD EPYC 9B14", "avx512_bf16": True}, torch.bfloat16),
        ({"cpu_name": "AMD EPYC 7B13", "avx512_bf16": False}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_a_cpu_takes_bf16_by_itself_only_where_that_is_faster(monkeypatch, capabilities, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert pick_dtype("auto", torch.device("cpu")) == dtype


def test_several_devices_are_named_with_commas(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert pick_devices("cpu") == [torch.device("cpu")]
    assert pick_devices("cuda:2, cuda:0") == [torch.device("cuda:2"), torch.device("cuda:0")]
    assert pick_devices("cuda") == [torch.device("cuda")]


@pytest.mark.parametrize("names", ["cuda:1,cuda:1", "cuda,cuda:0", "cpu,cpu", "cpu,cuda:0", "auto,cuda:0"])
def test_a_device_is_named_once_and_not_beside_one_of_another_kind(names, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    with pytest.raises(ValueError, match=f"device is '{names}'; allowed: auto, cpu, cuda, or cuda:N,cuda:M"):
        pick_devices(names)


def test_each_of_several_devices_must_be_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"device is 'cuda:1'; this machine has 1 CUDA devices"):
        pick_devices("cuda:0,cuda:1")
