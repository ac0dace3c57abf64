import pytest
import torch

from model.device import pick_device, pick_dtype


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
