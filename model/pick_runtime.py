"""Which runtime a network runs on, and the check that it answers as the network does."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

from model.btranspose import BTranspose
from model.runtime import Runtime, TorchRuntime, drift

RUNTIMES = ("auto", "torch", "openvino")

# Of the largest heatmap value; bfloat16 has eight bits, and rounds in every layer.
MAX_DRIFT = {torch.float32: 0.002, torch.bfloat16: 0.05}


def pick_runtime(
    name: str,
    net: BTranspose,
    device: torch.device,
    dtype: torch.dtype,
    *,
    checkpoint_sha256: str,
    threads: int = 0,
    cache_dir: Path | None = None,
) -> Runtime:
    """The runtime of a name: `auto` is OpenVINO on a CPU where it is installed, otherwise torch.

    Args:
        name: one of `RUNTIMES`.
        net: the network, on the CPU.
        device, dtype: where and in what it is to run.
        checkpoint_sha256: of the weights.
        threads: of a CPU; 0: as the runtime chooses. (How many torch uses is set for the process.)
        cache_dir: where converted networks may be kept; None: nowhere.

    Raises ValueError for a runtime that is not known, is not installed, does not run on the device, or answers
    otherwise than the network in float32 by torch.
    """
    if name not in RUNTIMES:
        raise ValueError(f"runtime is {name!r}; allowed: {', '.join(RUNTIMES)}")
    installed = find_spec("openvino") is not None
    if name == "torch" or (name == "auto" and (device.type != "cpu" or not installed)):
        return TorchRuntime(net, device, dtype)
    if device.type != "cpu":
        raise ValueError(f"runtime is 'openvino' and device is {str(device)!r}; allowed with openvino: cpu")
    if not installed:
        raise ValueError("runtime is 'openvino', which is not installed; try: pip install openvino")
    from model.openvino_runtime import OpenVinoRuntime

    exact = TorchRuntime(net)
    for fresh in (False, True):  # what was kept may come from another version of this program
        runtime = OpenVinoRuntime(
            net, checkpoint_sha256=checkpoint_sha256, dtype=dtype, threads=threads, cache_dir=cache_dir, fresh=fresh
        )
        found = drift(runtime, exact, net.config.input_hw)
        if found <= MAX_DRIFT[dtype]:
            return runtime
    raise ValueError(
        f"runtime 'openvino' in {runtime.precision} answers otherwise than torch, by {found:.2%} of the largest value; "
        f"allowed: {MAX_DRIFT[dtype]:.1%}. Try --runtime torch, or --precision fp32"
    )
