"""A checkpoint as an ONNX file, for onnxruntime, TensorRT or Triton: `python -m model.export --help`.

    python -m model.export --checkpoint checkpoints/c3a1-4.safetensors --out c3a1-4.onnx            # any batch
    python -m model.export --checkpoint checkpoints/c3a1-4.safetensors --out c3a1-4.onnx --batch 8  # this one

The graph has its normalisation inside. Input `pixels` [B, H, W, 3] uint8 RGB, crops as `model.estimator.crop_person`
makes them; output `heatmaps` [B, K, H/4, W/4] float32, to be read as `model.expected_oks` does. The file's
metadata name the keypoints, the crop's size and the checkpoint. Attention maps are not part of it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.btranspose import BTranspose
from model.checkpoint import load_checkpoint
from model.runtime import FromPixels, TorchRuntime, noise_crops

INPUT, OUTPUT = "pixels", "heatmaps"
MAX_BATCH = 1024
MAX_DIFFERENCE = 1e-4  # of a heatmap value, between the file by onnxruntime and the network by torch, in float32


def export_onnx(net: BTranspose, path: Path, *, batch: int | None, about: dict[str, str]) -> None:
    """Write the network.

    Args:
        net: on the CPU.
        path: the file; weights and all are in it.
        batch: how many crops it takes; None for any number up to `MAX_BATCH`.
        about: what the file's metadata tell.

    Raises ModuleNotFoundError without the packages `onnx` and `onnxscript`.
    """
    import onnx

    pixels = torch.zeros(batch or 2, *net.config.input_hw, 3, dtype=torch.uint8)
    shapes: Any = None if batch else {INPUT: {0: torch.export.Dim("batch", min=1, max=MAX_BATCH)}}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of every package that it could also use
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            FromPixels(net).eval(),
            (pixels,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=shapes,
            dynamo=True,
        )
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, about)
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString())


def difference(net: BTranspose, path: Path, *, batch: int) -> float:
    """The largest difference of a heatmap value between the file by onnxruntime and the network by torch.

    Raises ModuleNotFoundError without the package `onnxruntime`.
    """
    import onnxruntime

    crops = noise_crops(net.config.input_hw, batch)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run([OUTPUT], {INPUT: crops})
    return float(np.abs(found - TorchRuntime(net).heatmaps(crops).numpy()).max())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 1 if the file answers otherwise than the network, 2 for what does not work."""
    parser = argparse.ArgumentParser(
        prog="python -m model.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="NAME.safetensors, with NAME.json beside it")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.onnx")
    parser.add_argument("--batch", type=int, metavar="N", help=f"crops at a time; by default any number to {MAX_BATCH}")
    given = parser.parse_args(argv)
    if given.batch is not None and not 1 <= given.batch <= MAX_BATCH:
        parser.error(f"--batch is {given.batch}; allowed: 1 to {MAX_BATCH}")
    try:
        net, card = load_checkpoint(given.checkpoint)
        about = {
            "label": net.config.label,
            "checkpoint_sha256": card.sha256,
            "input_hw": json.dumps(net.config.input_hw),
            "keypoints": json.dumps(net.config.skeleton.names),
        }
        export_onnx(net, given.out, batch=given.batch, about=about)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        hint = "; try: pip install '.[export]'" if isinstance(error, ModuleNotFoundError) else ""
        print(f"model.export: {error}{hint}", file=sys.stderr)
        return 2
    print(f"{given.out}: {given.out.stat().st_size / 2**20:.1f} MiB, batch {given.batch or 'any'}")
    return _compare(net, given.out, batch=given.batch or 3)


def _compare(net: BTranspose, path: Path, *, batch: int) -> int:
    try:
        found = difference(net, path, batch=batch)
    except ModuleNotFoundError:
        print("not compared with torch: onnxruntime is not installed")
        return 0
    print(f"largest difference from torch in onnxruntime: {found:.1e} (allowed: {MAX_DIFFERENCE:g})")
    return int(not found <= MAX_DIFFERENCE)


if __name__ == "__main__":
    sys.exit(main())
