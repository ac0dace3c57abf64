"""DINO's loss: the student's views shall give the distribution that the teacher gives to another view of the picture.

Caron et al. 2021, "Emerging Properties in Self-Supervised Vision Transformers", section 3.1 and algorithm 1; paper
section 3.2. Pure functions. Knows nothing of networks, optimisers or processes: whoever trains on several devices
passes an `average` over them to `moved_center` and `read_signals`, where their batches meet, and averages gradients
outside.
Shapes: B pictures, V views of each, the two global ones first; P prototypes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Signals(NamedTuple):
    """What a step tells of its health; averages over the batch, entropies in nats, at most ln(P).

    `entropy`: of the teacher's distributions. `marginal_entropy`: of their average over pictures; 0 if all pictures go
    to one prototype. `divergence`: KL(teacher || student), so loss = entropy + divergence; 0 if there is nothing left
    to learn, which is what a collapse looks like. `spread`: of the teacher's features, see `feature_spread`.
    """

    loss: float
    entropy: float
    marginal_entropy: float
    divergence: float
    spread: float


def teacher_distributions(logits: Tensor, center: Tensor, temperature: float) -> Tensor:
    """Centred and sharpened: softmax((logits - center) / temperature), [N, P] and [P] -> [N, P]."""
    return ((logits - center) / temperature).softmax(dim=-1)


def dino_loss(student_logits: Tensor, teacher: Tensor, *, student_temperature: float) -> Tensor:
    """Cross-entropy of each view of the student with each other view of the teacher, averaged.

    Args:
        student_logits: [V, B, P]. teacher: [2, B, P] distributions of the first two views.

    Returns:
        scalar: the mean over pictures and over the 2 * (V - 1) pairs of different views.
    """
    log_student = F.log_softmax(student_logits / student_temperature, dim=-1)
    views, pictures = student_logits.shape[:2]
    pairs = -torch.einsum("tbp,vbp->tv", teacher, log_student) / pictures  # [2, V]
    same = torch.eye(len(teacher), views, dtype=torch.bool, device=pairs.device)
    return pairs.masked_fill(same, 0.0).sum() / (len(teacher) * (views - 1))


def moved_center(
    center: Tensor, logits: Tensor, momentum: float, average: Callable[[Tensor], Tensor] = lambda mean: mean
) -> Tensor:
    """The centre [P] after a batch of the teacher's logits [N, P]: their moving average.

    `average` makes the batch's mean [P] that of all processes, where there are several.
    """
    return momentum * center + (1.0 - momentum) * average(logits.mean(dim=0))


@torch.no_grad()
def read_signals(
    loss: Tensor, teacher: Tensor, features: Tensor, average: Callable[[Tensor], Tensor] = lambda mean: mean
) -> Signals:
    """The signals of a step, with one transfer from the device. `average` as in `moved_center`.

    Args:
        loss: scalar. teacher: [2, B, P] distributions. features: [N, C] of the teacher.
    """
    entropy = torch.special.entr(teacher).sum(dim=-1).mean()
    loss, entropy, spread = average(torch.stack((loss, entropy, feature_spread(features))))
    marginal_entropy = torch.special.entr(average(teacher.flatten(0, 1).mean(dim=0))).sum()
    return Signals(*torch.stack((loss, entropy, marginal_entropy, loss - entropy, spread)).tolist())


def feature_spread(features: Tensor) -> Tensor:
    """How far the directions of features [N, C] are apart: 0 if they are one, about 1 if they are random.

    The standard deviation over the batch of each channel of the unit vectors, averaged over channels, times sqrt(C).
    """
    return F.normalize(features, dim=-1).std(dim=0, correction=0).mean() * features.shape[-1] ** 0.5
