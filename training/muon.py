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
from torch import Tensor, nn

from model.device import pick_dtype
from training.world import World

ADAM_RMS = 0.2  # of the entries of Adam's updates, in multiples of the learning rate
ROUNDS = 5
TRAVELS = torch.bfloat16  # orthogonal matrices, from process to process
QUINTIC = (3.4445, -4.7750, 2.0315)  # brings singular values from 0.01..1 to about 0.7..1.2 in so many rounds


class Muon(torch.optim.Optimizer):
    """Orthogonal momentum for some parameters, Adam for the others.

    Args:
        matrices: each parameter with how many matrices lie in it, one below the other (3 for a joint projection to
            queries, keys and values). Of a parameter [O, ...] each is [O / count, product of the rest].
        others: all other parameters.
        lr: learning rate of both. momentum: of the first. betas, eps: of Adam. weight_decay: what is taken off the
            first in each step, as a part of them and times the learning rate.
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
        weight_decay: float = 0.0,
        world: World | None = None,
    ) -> None:
        for weight, count in matrices:
            if weight.dim() < 2 or count < 1 or weight.shape[0] % count:
                raise ValueError(f"{count} matrices in {tuple(weight.shape)}; allowed: a divisor of its first axis")
        groups: list[dict[str, Any]] = [
            {"params": [weight for weight, _ in matrices], "counts": [count for _, count in matrices]},
            {"params": list(others), "counts": None},
        ]
        super().__init__(
            groups, {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )
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
        self._move_as_adam(others)

    def _move_orthogonally(self, group: dict[str, Any]) -> None:
        """Matrices of one shape are moved together: few large products instead of many small ones."""
        stacks: dict[tuple[int, torch.Size], list[tuple[Tensor, Tensor]]] = {}
        counts = dict(zip(group["params"], group["counts"], strict=True))
        for weight, ahead in self._ahead(group):
            matrices = ahead.reshape(counts[weight], weight.shape[0] // counts[weight], -1)  # [count, rows, columns]
            stacks.setdefault((self._owners[weight], matrices.shape[1:]), []).append((weight, matrices))
        updates = {
            (owner, shape): self._update(owner, [matrices for _, matrices in stack])
            for (owner, shape), stack in stacks.items()
        }
        for owner in range(self._world.size):
            self._world.copy_from(owner, [update for (whose, _), update in updates.items() if whose == owner])
        for (owner, shape), stack in stacks.items():
            weights = [weight for weight, _ in stack]
            parts = torch.split(updates[owner, shape].to(weights[0].dtype), [len(matrices) for _, matrices in stack])
            if group["weight_decay"]:
                torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            # An orthogonal matrix has entries of root mean square 1 / sqrt(its longer side).
            size = ADAM_RMS * math.sqrt(max(shape))
            torch._foreach_add_(
                weights,
                [part.reshape(weight.shape) for weight, part in zip(weights, parts, strict=True)],
                alpha=-group["lr"] * size,
            )

    def _update(self, owner: int, ahead: list[Tensor]) -> Tensor:
        """[S, rows, columns], in the process `owner`; the same room in the others, to be filled by it."""
        if owner == self._world.rank:
            return orthogonal(torch.cat(ahead)).to(TRAVELS).contiguous()
        shape = sum(map(len, ahead)), *ahead[0].shape[1:]
        return torch.empty(shape, dtype=TRAVELS, device=ahead[0].device)

    def _ahead(self, group: dict[str, Any]) -> Iterable[tuple[Tensor, Tensor]]:
        """Each weight that has a gradient, and where its momentum will be (Nesterov's)."""
        weights = [weight for weight in group["params"] if weight.grad is not None]
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        if not weights:
            return ()
        gradients = [weight.grad for weight in weights]
        momenta = [self.state[weight]["momentum"] for weight in weights]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        return zip(weights, torch._foreach_lerp(gradients, momenta, group["momentum"]), strict=True)

    def _move_as_adam(self, group: dict[str, Any]) -> None:
        """Weights that have moved equally often are moved together."""
        first, second = group["betas"]
        by_steps: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        for weight in group["params"]:
            if weight.grad is None:
                continue
            state = self.state[weight]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
            state["step"] += 1
            weights, gradients = by_steps.setdefault(int(state["step"]), ([], []))
            weights.append(weight)
            gradients.append(weight.grad)
        for steps, (weights, gradients) in by_steps.items():
            means = [self.state[weight]["exp_avg"] for weight in weights]
            squares = [self.state[weight]["exp_avg_sq"] for weight in weights]
            torch._foreach_lerp_(means, gradients, 1 - first)
            torch._foreach_lerp_(squares, torch._foreach_mul(gradients, gradients), 1 - second)
            sizes = torch._foreach_div(squares, 1 - second**steps)
            torch._foreach_sqrt_(sizes)
            torch._foreach_add_(sizes, group["eps"])
            torch._foreach_addcdiv_(weights, means, sizes, value=-group["lr"] / (1 - first**steps))


def muon_of(
    net: nn.Module,
    *,
    last: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.0,
    world: World | None = None,
) -> Muon:
    """Muon for the kernels and matrices between features of a network, Adam for its other weights.

    Tables of positions are looked up, not multiplied with features in turn, and the rows of the `last` layer are
    answers, each for itself: both are Adam's.
    """
    matrices: list[tuple[Tensor, int]] = []
    for path, module in net.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)) and module is not last:
            queries_keys_values = path.rsplit(".", 1)[-1] == "qkv"
            matrices.append((module.weight, 3 if queries_keys_values else 1))
    taken = {id(weight) for weight, _ in matrices}
    others = [weight for weight in net.parameters() if id(weight) not in taken]
    return Muon(matrices, others, lr=learning_rate, weight_decay=weight_decay, world=world)


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices with the same singular vectors and singular values near 1 (about 0.7 to 1.2), by Newton-Schulz rounds.

    In bf16 where the device multiplies faster in it: its roundings are far below what the rounds leave. A CPU that has
    to emulate it would take more than thirty times as long. Zero stays zero.

    Args:
        matrices: [S, rows, columns].

    Returns:
        [S, rows, columns], bf16 or float32.
    """
    first, third, fifth = QUINTIC
    x = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=1e-12)  # no singular value above 1
    x = x.to(pick_dtype("auto", matrices.device))
    tall = x.shape[1] > x.shape[2]
    if tall:  # the smaller of the two Gram matrices is enough
        x = x.mT
    for _ in range(ROUNDS):
        gram = torch.bmm(x, x.mT)
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
