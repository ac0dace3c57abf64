"""From a checkpoint to what estimates poses with it: where network, device, precision and runtime come together."""

from __future__ import annotations

from pathlib import Path

import torch

from model.checkpoint import CheckpointCard, load_checkpoint
from model.cuda_runtime import LARGEST
from model.device import pick_dtype
from model.estimator import PoseEstimator
from model.pick_runtime import pick_runtime
from model.quantised import INT8, quantised_path


def load_estimators(
    checkpoint: Path,
    device: torch.device,
    *,
    precision: str = "auto",
    runtime: str = "auto",
    threads: int = 0,
    cache_dir: Path | None = None,
    max_batch: int = LARGEST,
    input_hw: tuple[int, int] | None = None,
    count: int = 1,
) -> tuple[list[PoseEstimator], CheckpointCard]:
    """Estimators that may run at the same time on one device, each in a thread of its own, and what they estimate with.

    Args:
        checkpoint: NAME.safetensors.
        device: for all of them.
        precision: auto, fp32, bf16, or int8 (then NAME.int8.xml is run; attention is collected as in auto).
        runtime, threads, cache_dir, max_batch: as `model.pick_runtime` has them.
        input_hw: as `model.checkpoint.load_checkpoint` has it.
        count: how many.

    Raises ValueError for a checkpoint that cannot be read, or what cannot be had here.
    """
    int8 = precision == INT8
    dtype = pick_dtype("auto" if int8 else precision, device)  # in int8: of what is not quantised
    net, card = load_checkpoint(checkpoint, input_hw=input_hw)
    # All before the network moves to the device: they are compared with it on the CPU.
    runtimes = [
        pick_runtime(
            runtime,
            net,
            device,
            dtype,
            checkpoint_sha256=card.sha256,
            threads=threads,
            cache_dir=cache_dir,
            quantised=quantised_path(checkpoint) if int8 else None,
            max_batch=max_batch,
        )
        for _ in range(count)
    ]
    return [PoseEstimator(net, device, dtype, runtime=each) for each in runtimes], card
