"""Batch norm over the batches of all processes: what one process would compute on the joined batch.

torch's own SyncBatchNorm runs on CUDA devices only, and is what is used there. This one is for processes on CPUs, and
so for the tests of everything that builds on it. Parameters, statistics and their names are those of `nn.BatchNorm2d`.
"""

from __future__ import annotations

from inspect import signature
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

Net = TypeVar("Net", bound=nn.Module)

# torch 2.13 has a new name for it, and warns of the old one.
_SHARES_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in signature(DistributedDataParallel.__init__).parameters
)


class _Total(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:  # noqa: ARG004 (torch passes it)
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        return _Total.apply(gradients[0].contiguous())  # type: ignore[no-untyped-call]


class SyncBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose training statistics are those of all processes: [B, C, H, W] -> [B, C, H, W].

    Each process must have a batch of the same shape. Computes in float32, whatever comes in.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        x = input.float()
        count = dist.get_world_size() * x.numel() // x.shape[1]
        # Two passes, as torch takes: the difference of two large squares would lose digits.
        mean = _Total.apply(x.sum(dim=(0, 2, 3))) / count  # type: ignore[no-untyped-call]
        centred = x - mean[:, None, None]
        variance = _Total.apply(centred.square().sum(dim=(0, 2, 3))) / count  # type: ignore[no-untyped-call]
        self._remember(mean.detach(), variance.detach() * (count / max(count - 1, 1)))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of this batch."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.running_mean.lerp_(mean, self.momentum or 0.0)
        self.running_var.lerp_(variance, self.momentum or 0.0)
        self.num_batches_tracked += 1


def with_synced_norms(net: Net, device: torch.device) -> Net:
    """The network with each `nn.BatchNorm2d` replaced by one over all processes, weights and statistics kept.

    Raises ValueError for a norm that keeps no running statistics or has no weights.
    """
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, _synced(child))
    return net


def _synced(norm: nn.BatchNorm2d) -> SyncBatchNorm2d:
    if not norm.affine or not norm.track_running_stats or norm.momentum is None:
        raise ValueError(f"norm is {norm}; allowed: with weights, running statistics and a momentum")
    synced = SyncBatchNorm2d(norm.num_features, eps=norm.eps, momentum=norm.momentum)
    synced.weight, synced.bias = norm.weight, norm.bias
    synced.load_state_dict(norm.state_dict())
    return synced.train(norm.training)


def in_parallel(net: nn.Module, *, norms_synced: bool) -> DistributedDataParallel:
    """The same network in all processes: gradients are the means over them.

    norms_synced: whether its norms see the joined batch. If not, the statistics of the first process are everybody's
        from each forward pass on.
    """
    shares: dict[str, Any] = {_SHARES_BUFFERS: not norms_synced}
    return DistributedDataParallel(net, **shares)
