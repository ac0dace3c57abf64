"""Which runtime a network runs on, and the check that it answers as the network does."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from model.btranspose import BTranspose
from model.cuda_runtime import LARGEST, CudaRuntime
from model.quantised import INT8
from model.runtime import Runtime, TorchRuntime, cloud_crops, drift
from model.variants import PoseConfig

RUNTIMES = ("auto", "torch", "openvino")

# Of the largest heatmap value, by precision. bfloat16 has eight bits, and rounds in every layer. int8 is calibrated on
# photographs, so it is compared on clouds, which resemble them: there the bundled network drifts by 0.06, as on
# photographs. (On noise, where it sees nobody and its heatmaps are low, it drifts by 0.66 and loses no accuracy.) What
# is wrong lies above: 0.46 for heatmaps one pixel aside, 0.91 for red and blue exchanged, 1 for those of another crop
# or no answer.
MAX_DRIFT = {"float32": 0.002, "bfloat16": 0.05, INT8: 0.25}
CLOUDS = 4


def pick_runtime(
    name: str,
    net: BTranspose,
    device: torch.device,
    dtype: torch.dtype,
    *,
    checkpoint_sha256: str,
    threads: int = 0,
    cache_dir: Path | None = None,
    quantised: Path | None = None,
    max_batch: int = LARGEST,
) -> Runtime:
    """The runtime of a name: `auto` is OpenVINO on a CPU where it is installed, otherwise torch.

    Args:
        name: one of `RUNTIMES`.
        net: the network, on the CPU.
        device, dtype: where and in what it is to run.
        checkpoint_sha256: of the weights.
        threads: of a CPU; 0: as the runtime chooses. (How many torch uses is set for the process.)
        cache_dir: where converted networks may be kept; None: nowhere.
        quantised: the network's file, to run it in int8 (`model.quantised`); `dtype` is then that of what is left.
        max_batch: the most persons that CUDA prepares for; more run in parts.

    Raises ValueError for a runtime that is not known, is not installed, does not run on the device or in int8, or
    answers otherwise than the network in float32 by torch; and as `model.quantised.read_quantised`.
    """
    exact = TorchRuntime(net)
    if _which(name, device, int8=quantised is not None) == "torch":
        on_cuda = device.type == "cuda"
        torch_runtime: Runtime = (
            CudaRuntime(net, device, dtype, max_batch=max_batch) if on_cuda else TorchRuntime(net, device, dtype)
        )
        return _checked(torch_runtime, exact, net.config, remedy="--precision fp32, or --device cpu")
    from model.openvino_runtime import OpenVinoRuntime

    make = partial(
        OpenVinoRuntime,
        net,
        checkpoint_sha256=checkpoint_sha256,
        dtype=dtype,
        threads=threads,
        cache_dir=cache_dir,
        quantised=quantised,
    )
    if quantised is not None:  # the file is as it is
        return _checked(make(), exact, net.config, remedy="--precision auto")
    try:
        return _checked(make(), exact, net.config, remedy="")
    except Drifted:  # what was kept may come from another version of this program
        return _checked(make(fresh=True), exact, net.config, remedy="--runtime torch, or --precision fp32")


class Drifted(ValueError):
    """A runtime answers otherwise than the network in float32 by torch."""


def _checked(runtime: Runtime, exact: Runtime, config: PoseConfig, *, remedy: str) -> Runtime:
    """The same, if it answers as the exact one does. Raises Drifted otherwise."""
    crops = cloud_crops(config.input_hw, CLOUDS) if runtime.precision == INT8 else None
    found = drift(runtime, exact, config.input_hw, crops=crops)
    if found > MAX_DRIFT[runtime.precision]:
        raise Drifted(
            f"runtime {runtime.name!r} in {runtime.precision} answers otherwise than torch in float32, by {found:.2%} "
            f"of the largest value; allowed: {MAX_DRIFT[runtime.precision]:.1%}. Try {remedy}"
        )
    return runtime


def _which(name: str, device: torch.device, *, int8: bool) -> str:
    """`torch` or `openvino`. Raises ValueError for what is not known or not installed, or cannot run there or so."""
    if name not in RUNTIMES:
        raise ValueError(f"runtime is {name!r}; allowed: {', '.join(RUNTIMES)}")
    if int8 and name == "torch":
        raise ValueError("precision is 'int8' and runtime is 'torch'; allowed with int8: auto, openvino")
    if int8 and device.type != "cpu":
        raise ValueError(f"precision is 'int8' and device is {str(device)!r}; allowed with int8: cpu")
    installed = find_spec("openvino") is not None
    if name == "auto" and not int8:
        return "openvino" if device.type == "cpu" and installed else "torch"
    if name == "torch":
        return name
    if device.type != "cpu":
        raise ValueError(f"runtime is 'openvino' and device is {str(device)!r}; allowed with openvino: cpu")
    if not installed:
        raise ValueError("runtime is 'openvino', which is not installed; try: pip install openvino")
    return "openvino"
