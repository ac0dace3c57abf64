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
        averages, now = ([*one.parameters(), *one.buffers()] for one in (self.net, net))
        pairs = list(zip(averages, now, strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        # In one call: with one for each, a GPU would wait for its orders.
        torch._foreach_lerp_([average for average, _ in floats], [weight for _, weight in floats], 1.0 - decay)
        for average, counter in pairs:
            if not average.is_floating_point():
                average.copy_(counter)
