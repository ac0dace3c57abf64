"""What training minimises: squared error of heatmaps, alone or together with how far their mass must travel."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from training.sinkhorn import sinkhorn_divergence, unit_mass

Loss = Literal["mse", "sinkhorn"]


def heatmap_loss(predicted: Tensor, target: Tensor, weights: Tensor, *, loss: Loss, sinkhorn_weight: float) -> Tensor:
    """`heatmap_mse`, and in loss `sinkhorn` also `sinkhorn_weight` times `heatmap_sinkhorn`.

    The divergence alone (the paper's section 4.2 tells of no other part) would leave the height of the peaks without a
    meaning, and a pose's confidence with it; the squared error gives it one. Raises ValueError for another loss.

    Args:
        predicted, target: [B, K, H, W] float32. weights: [B, K], 0 or 1.

    Returns:
        scalar.
    """
    if loss not in get_args(Loss):
        raise ValueError(f"loss is {loss!r}; allowed: {', '.join(get_args(Loss))}")
    squared_error = heatmap_mse(predicted, target, weights)
    if loss == "mse":
        return squared_error
    return squared_error + sinkhorn_weight * heatmap_sinkhorn(predicted, target, weights)


def heatmap_mse(predicted: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Half the squared error of the heatmaps, averaged over everything (HRNet's and TransPose's joint MSE).

    Joints that do not count contribute zero but stay in the denominator, as in the published recipe.

    Args:
        predicted, target: [B, K, H, W]. weights: [B, K]: 0 or 1, or as `balanced` has them.

    Returns:
        scalar.
    """
    error = (predicted - target).square() * weights[:, :, None, None]
    return 0.5 * error.mean()


def balanced(weights: Tensor, balance: float) -> Tensor:
    """Weights with which persons count more alike, however few of their joints can be seen.

    Squared error is a sum over joints, OKS a mean over those of a person: where six joints of one person count and one
    of another, the recipe listens six times as much to the first.

    Args:
        weights: [B, K], 0 or 1. balance: 0, as they are, to 1, where the weights of every person add up to K.

    Returns:
        [B, K].
    """
    counted = weights.sum(dim=1, keepdim=True).clamp(min=1)
    return weights * (weights.shape[1] / counted) ** balance


def heatmap_sinkhorn(predicted: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Sinkhorn divergence of the heatmaps as distributions, averaged over all joints as in `heatmap_mse`.

    A joint whose peak is off by d contributes about d^2, also where the peaks do not overlap and the squared error has
    nothing to say about the direction.

    Args:
        predicted, target: [B, K, H, W]. weights: [B, K], 0 or 1.

    Returns:
        scalar, in squared heights (longer sides) of the crop.
    """
    return (sinkhorn_divergence(unit_mass(predicted), unit_mass(target)) * weights).mean()
