"""The bundled network as rival servers take it: `MODEL_FACTORY=rival_models:torch_net`, or `rival_models:openvino_net`.

Both give a module from normalised crops [B, 3, 256, 192] float32 to heatmaps [B, 17, 64, 48] float32, so that a rival
has the weights that our service has, and only the serving differs. They run in the rivals' own environment, and need
nothing of this repository but `model`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from torch import nn

from model.btranspose import BTranspose
from model.checkpoint import load_checkpoint
from model.device import pick_dtype

CHECKPOINT = Path(__file__).resolve().parents[1] / "checkpoints" / "c3a1-4.safetensors"
INPUT_HW = (256, 192)
CACHE_VARIABLE = "RIVAL_CACHE_DIR"  # a folder for what OpenVINO compiled, so that a rival's next start is quick, too


def torch_net() -> nn.Module:
    """What comes of itself: the network by torch in float32."""
    return load_checkpoint(CHECKPOINT, input_hw=INPUT_HW)[0]


def openvino_net() -> nn.Module:
    """The network as our service runs it on a CPU: by OpenVINO, in the same precision and with the same streams."""
    net, card = load_checkpoint(CHECKPOINT, input_hw=INPUT_HW)
    folder = os.environ.get(CACHE_VARIABLE)
    dtype = pick_dtype("auto", torch.device("cpu"))
    return by_openvino(net, checkpoint_sha256=card.sha256, dtype=dtype, cache_dir=Path(folder) if folder else None)


def by_openvino(
    net: BTranspose, *, checkpoint_sha256: str, dtype: torch.dtype, cache_dir: Path | None = None
) -> nn.Module:
    """A network as a module that OpenVINO runs; see `rival_openvino.OpenVinoNet`."""
    # OpenVINO tells its makers over the network that it was imported, unless it does not find this module.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    from rival_openvino import OpenVinoNet  # only now, and not at all where torch runs the network

    return OpenVinoNet(net, checkpoint_sha256=checkpoint_sha256, dtype=dtype, cache_dir=cache_dir)
