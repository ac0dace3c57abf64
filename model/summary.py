"""What each variant of the paper amounts to: parameters, GFLOPs and feature-map sizes (paper Tables 1-5).

    python -m model.summary
    python -m model.summary --json

Networks are built without memory for their weights, so this takes no more than a few seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from model.attention import AttentionCollector
from model.btranspose import BTranspose
from model.variants import VARIANTS, PoseConfig, variant

# The rows of the paper's Table 5; a variant has those that it needs.
PARTS = (
    "input image",
    "early conv layer",
    "conv block 1",
    "conv block 2",
    "conv block 3",
    "MHSA block 1",
    "MHSA block 2",
    "1x1 conv",
    "flatten and reshape",
    "transformer encoder",
    "output of backbone",
    "deconv layer",
    "final 1x1 conv",
)


def count_parameters(config: PoseConfig) -> int:
    """Learned numbers of the network of a configuration."""
    with torch.device("meta"):
        net = BTranspose(config)
    return sum(parameter.numel() for parameter in net.parameters())


def count_flops(config: PoseConfig) -> int:
    """Floating-point operations for one crop: two for each multiply-add of convolutions and matrix products."""
    with torch.device("meta"):
        net, crops = BTranspose(config).eval(), torch.empty(1, 3, *config.input_hw)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(crops, AttentionCollector())  # the explicit path: every product is counted
    return int(counter.get_total_flops())


def feature_maps(config: PoseConfig) -> dict[str, list[int]]:
    """The size of one crop's features after each part, named as in the paper's Table 5."""
    with torch.device("meta"):
        net, crops = BTranspose(config).eval(), torch.empty(1, 3, *config.input_hw)
    backbone, head = net.backbone, net.head
    sizes: dict[str, list[int]] = {"input image": list(crops.shape[1:])}

    def through(name: str, part: nn.Module, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = part(x)
        sizes[name] = list(out.shape[1:])
        return out

    with torch.no_grad():
        x = through("early conv layer", backbone.stem, crops)
        for number, conv_group in enumerate(backbone.conv_groups, start=1):
            x = through(f"conv block {number}", conv_group, x)
        for number, mhsa_group in enumerate(backbone.mhsa_groups, start=1):
            assert isinstance(mhsa_group, nn.ModuleList)
            x = through(f"MHSA block {number}", nn.Sequential(*mhsa_group), x)
        x = through("1x1 conv", backbone.reduce, x)
        tokens = x.flatten(2).transpose(1, 2)
        sizes["flatten and reshape"] = list(tokens.shape[1:])
        tokens = through("transformer encoder", nn.Sequential(*backbone.encoder), tokens)
        x = tokens.transpose(1, 2).reshape(x.shape)
        sizes["output of backbone"] = list(x.shape[1:])
        x = through("deconv layer", head.deconv, x)
        through("final 1x1 conv", head.heatmaps, x)
    return sizes


def summarise(key: str) -> dict[str, Any]:
    """One row of the table, as `--json` prints it."""
    config = variant(key)
    return {
        "key": key,
        "label": config.label,
        "parameters": {
            position: count_parameters(variant(key, position=position)) for position in ("relative", "absolute")
        },
        "gflops": round(count_flops(config) / 1e9, 2),
        "input_hw": list(config.input_hw),
        "mhsa_heads": config.mhsa_heads,
        "feature_maps": feature_maps(config),
    }


def as_text(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as two tables for a terminal: what each variant costs, and its feature maps."""
    lines = [f"{'key':<14}{'label':<15}{'parameters: relative':>21}{'absolute':>10}{'GFLOPs':>8}  (one 256x192 crop)"]
    for row in rows:
        relative, absolute = (row["parameters"][position] / 1e6 for position in ("relative", "absolute"))
        lines.append(f"{row['key']:<14}{row['label']:<15}{relative:>19.2f} M{absolute:>8.2f} M{row['gflops']:>8.1f}")
    lines += ["", "GFLOPs: two operations for each multiply-add, as computed with relative positions.", ""]
    lines.append(f"{'feature maps of one crop':<25}" + "".join(f"{row['label']:>15}" for row in rows))
    for name in PARTS:
        sizes = ("x".join(map(str, row["feature_maps"].get(name, ["-"]))) for row in rows)
        lines.append(f"{name:<25}" + "".join(f"{size:>15}" for size in sizes))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, or with `--json` an array of rows."""
    parser = argparse.ArgumentParser(prog="python -m model.summary", description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="machine-readable")
    given = parser.parse_args(argv)
    rows = [summarise(key) for key in VARIANTS]
    if given.json:
        print(json.dumps(rows, indent=2))
        return 0
    print(as_text(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
