"""How the pose network is optimised: by Adam, as in the paper, or by Muon, which lowers the loss sooner."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from model.btranspose import BTranspose
from training.muon import Muon
from training.world import World

Optimizer = Literal["adam", "muon"]


def pose_optimizer(
    net: BTranspose,
    name: Optimizer,
    learning_rate: float,
    world: World | None = None,
    *,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """The optimiser of all weights of `net`, in all processes of `world`.

    Raises ValueError for another name than Adam's and Muon's.

    Muon's are the kernels and matrices between features; tables of positions are looked up, not multiplied with
    features in turn, and the last layer's rows are joints, each for itself: both are Adam's.
    """
    if name not in get_args(Optimizer):
        raise ValueError(f"optimizer is {name!r}; allowed: {', '.join(get_args(Optimizer))}")
    if name == "adam":
        return torch.optim.Adam(net.parameters(), lr=learning_rate)
    matrices: list[tuple[Tensor, int]] = []
    for path, module in net.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)) and module is not net.head.heatmaps:
            queries_keys_values = path.rsplit(".", 1)[-1] == "qkv"
            matrices.append((module.weight, 3 if queries_keys_values else 1))
    taken = {id(weight) for weight, _ in matrices}
    others = [weight for weight in net.parameters() if id(weight) not in taken]
    return Muon(matrices, others, lr=learning_rate, weight_decay=weight_decay, world=world)
