"""How DINO's student is optimised: AdamW, no decay where there is nothing to decay, gradients clipped one by one."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

PUBLISHED_BATCH = 256  # the batch that a learning rate is given for


def adamw(net: nn.Module) -> torch.optim.AdamW:
    """AdamW in two groups: matrices and kernels, which decay, and biases, norms and other vectors, which do not.

    Learning rate and weight decay are those that `set_rates` gives before each step.
    """
    learned = [parameter for parameter in net.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in learned if parameter.dim() > 1], "decays": True},
        {"params": [parameter for parameter in learned if parameter.dim() <= 1], "decays": False},
    ]
    return torch.optim.AdamW(groups, lr=0.0, weight_decay=0.0)


def set_rates(optimizer: torch.optim.Optimizer, learning_rate: float, weight_decay: float) -> None:
    """The rates of the next step; groups that do not decay keep a weight decay of 0."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
        group["weight_decay"] = weight_decay if group["decays"] else 0.0


@torch.no_grad()
def clip_each(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Shorten each gradient that is longer than `limit` to it, tensor by tensor; 0 shortens none.

    Returns the norms [number of gradients] before that, without waiting for the device.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = torch.stack([gradient.norm() for gradient in gradients])
    if limit > 0:
        for gradient, norm in zip(gradients, norms, strict=True):
            gradient.mul_((limit / (norm + 1e-6)).clamp(max=1.0))
    return norms
