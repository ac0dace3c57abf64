"""How the pose network is optimised: by Adam, as in the paper, or by Muon, which lowers the loss sooner."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from model.btranspose import BTranspose
from training.muon import muon_of
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
    """
    if name not in get_args(Optimizer):
        raise ValueError(f"optimizer is {name!r}; allowed: {', '.join(get_args(Optimizer))}")
    if name == "adam":
        return torch.optim.Adam(net.parameters(), lr=learning_rate)
    return muon_of(net, last=net.head.heatmaps, learning_rate=learning_rate, weight_decay=weight_decay, world=world)
