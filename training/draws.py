"""What the network draws while it trains (dropout), as a function of seed and step.

So a run that was cut off and resumed draws what it would have drawn. Draws of the data are functions of seed, epoch and
picture, see `training.dataset` and `training.views`.
"""

from __future__ import annotations

import torch

RUN_STRIDE = 1_000_003  # between the seeds of two runs; steps count up from each
PART_STRIDE = 7_919_000_003  # between the parts of one batch


def seed_draws(seed: int, step: int, *, part: int) -> None:
    """Seed torch for one part of the batch of a step: each process, and each piece of its share, draws its own."""
    torch.manual_seed(seed * RUN_STRIDE + step + part * PART_STRIDE)
