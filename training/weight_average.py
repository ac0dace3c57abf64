"""A moving average of a network's weights, which is often better than the weights themselves.

Knows nothing of optimisers or files.
"""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

Net = TypeVar("Net", bound=nn.Module)


class WeightAverage(Generic[Net]):
    """Weights and running statistics, each an exponential moving average over the steps so far.

    After step t (from 0) the old average counts min(decay, (1 + t) / (10 + t)): so the random start is soon forgotten,
    also in a short run. `net` is the network of the averages, in evaluation mode.
    """

    def __init__(self, net: Net, decay: float) -> None:
        self.net: Net = copy.deepcopy(net).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        """Take in the weights after step `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, now in zip(self.net.state_dict().values(), net.state_dict().values(), strict=True):
            if average.is_floating_point():
                average.lerp_(now, 1.0 - decay)
            else:
                average.copy_(now)  # counters
