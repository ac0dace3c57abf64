"""Muon: momentum that is made orthogonal, matrix by matrix, before it moves the weights; Adam for everything else.

Of a matrix's gradient a few directions are large and most are small, step after step, and Adam, which scales entry by
entry, leaves that so. Muon (Jordan et al. 2024) moves along all of them alike: where the momentum is U S V^T, the
update is U V^T, which a few matrix products come close to. A kernel of a convolution is the matrix of what it makes
by what it sees. Vectors, tables and whatever is not `matrices` are Adam's.

Updates have the size of Adam's (Liu et al. 2025, "Muon is scalable for LLM training", section 2.2), so that one
learning rate serves both. Torch's own Muon takes neither kernels nor several matrices in one parameter.

Of several processes, which all have the same gradients, each makes a part of the matrices orthogonal for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from training.world import World

ADAM_RMS = 0.2  # of the entries of Adam's updates, in multiples of the learning rate
ROUNDS = 5
STORED = torch.bfloat16  # of orthogonal matrices
QUINTIC = (3.4445, -4.7750, 2.0315)  # brings singular values from 0.01..1 to about 0.7..1.2 in so many rounds


class Muon(torch.optim.Optimizer):
    """Orthogonal momentum for some parameters, Adam for the others.

    Args:
        matrices: each parameter with how many matrices lie in it, one below the other (3 for a joint projection to
            queries, keys and values). Of a parameter [O, ...] each is [O / count, product of the rest].
        others: all other parameters.
        lr: learning rate of both. momentum: of the first. betas, eps: of Adam.
        world: the processes that take the same steps; none for one alone.

    Raises ValueError for a parameter that cannot be cut into so many matrices.
    """

    def __init__(
        self,
        matrices: Sequence[tuple[Tensor, int]],
        others: Iterable[Tensor],
        *,
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        world: World | None = None,
    ) -> None:
        for weight, count in matrices:
            if weight.dim() < 2 or count < 1 or weight.shape[0] % count:
                raise ValueError(f"{count} matrices in {tuple(weight.shape)}; allowed: a divisor of its first axis")
        groups: list[dict[str, Any]] = [
            {"params": [weight for weight, _ in matrices], "counts": [count for _, count in matrices]},
            {"params": list(others), "counts": None},
        ]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps})
        self._world = world or World(device=torch.device("cpu"))
        works = [_work(weight.numel(), len(weight), count) for weight, count in matrices]
        self._owners = dict(zip((weight for weight, _ in matrices), _shared_out(works, self._world.size), strict=True))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        if closure is not None:
            raise ValueError("closure is given; allowed: none, gradients are computed before")
        matrices, others = self.param_groups
        self._move_orthogonally(matrices)
        for weight in others["params"]:
            if weight.grad is not None:
                self._move_as_adam(weight, weight.grad, others)

    def _move_orthogonally(self, group: dict[str, Any]) -> None:
        ahead = {  # Nesterov's: where the momentum will be; [count, rows, columns]
            weight: self._ahead(weight, weight.grad, group).reshape(count, weight.shape[0] // count, -1)
            for weight, count in zip(group["params"], group["counts"], strict=True)
            if weight.grad is not None
        }
        for owner in range(self._world.size):
            theirs = {weight: stacked for weight, stacked in ahead.items() if self._owners[weight] == owner}
            mine = owner == self._world.rank
            updates = [
                orthogonal(one).contiguous() if mine else torch.empty(one.shape, dtype=STORED, device=one.device)
                for one in theirs.values()
            ]
            self._world.copy_from(owner, updates)
            for (weight, stacked), update in zip(theirs.items(), updates, strict=True):
                # An orthogonal matrix has entries of root mean square 1 / sqrt(its longer side).
                size = ADAM_RMS * math.sqrt(max(stacked.shape[1:]))
                weight.add_(update.reshape(weight.shape).to(weight.dtype), alpha=-group["lr"] * size)

    def _ahead(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        return gradient.lerp(momentum, group["momentum"])

    def _move_as_adam(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        first, second = group["betas"]
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
        state["step"] += 1
        steps = int(state["step"])
        mean = state["exp_avg"].lerp_(gradient, 1 - first)
        square = state["exp_avg_sq"].lerp_(gradient.square(), 1 - second)
        size = (square / (1 - second**steps)).sqrt_().add_(group["eps"])
        weight.addcdiv_(mean, size, value=-group["lr"] / (1 - first**steps))


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices with the same singular vectors and singular values near 1 (about 0.7 to 1.2), by Newton-Schulz rounds.

    In bf16, where these products take half of float32's time and the roundings are far below what the rounds leave.
    Zero stays zero.

    Args:
        matrices: [S, rows, columns].

    Returns:
        [S, rows, columns] bf16.
    """
    first, third, fifth = QUINTIC
    x = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=1e-12)  # no singular value above 1
    x = x.to(STORED)
    tall = x.shape[1] > x.shape[2]
    if tall:  # the smaller of the two Gram matrices is enough
        x = x.mT
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth), x, beta=first)
    return x.mT if tall else x


def _work(entries: int, rows: int, count: int) -> int:
    """Of `count` matrices in one parameter, in multiplications: each round's products go over the shorter side."""
    rows //= count
    return entries * min(rows, entries // (count * rows))


def _shared_out(works: Sequence[int], size: int) -> list[int]:
    """Who does each of these works, so that all have about the same to do: the largest first, to whom has least."""
    owners, loads = [0] * len(works), [0] * size
    for number in sorted(range(len(works)), key=lambda number: -works[number]):
        owners[number] = loads.index(min(loads))
        loads[owners[number]] += works[number]
    return owners
