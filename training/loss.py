"""What training minimises."""

from __future__ import annotations

from torch import Tensor


def heatmap_mse(predicted: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Half the squared error of the heatmaps, averaged over everything (HRNet's and TransPose's joint MSE).

    Joints that do not count contribute zero but stay in the denominator, as in the published recipe.

    Args:
        predicted, target: [B, K, H, W]. weights: [B, K], 0 or 1.

    Returns:
        scalar.
    """
    error = (predicted - target) * weights[:, :, None, None]
    return 0.5 * error.square().mean()
