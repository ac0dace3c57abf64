"""Keypoints from heatmaps: each where it is expected to earn most OKS, with what it is expected to earn as its score.

A network trained by squared error against Gaussians around the annotated joint predicts their mean over all places that
it holds possible. What a place x earns in OKS is such a mean too, of a Gaussian with another width:

    heatmap        h(x) = E[exp(-|x - joint|^2 / (2 sigma^2))]      sigma, of the targets, the same for all joints
    expected OKS   s(x) = E[exp(-|x - joint|^2 / (2 kappa^2))]      kappa = 2 k sqrt(area), COCO's, wide for a hip

and the wider Gaussian is the narrower one blurred by sqrt(kappa^2 - sigma^2), times a constant. So blurred heatmaps are
maps of expected OKS; their peaks are the best answer (a heatmap's own peak is the best only if a hip had to be found as
exactly as an eye), and their heights are scores that mean something: joints with a score of 0.8 earn 0.8 on average.

A joint with kappa below sigma (eyes) cannot be sharpened so. Its place is the heatmap's peak; how wide the belief
around it is, tau, follows from the height sigma^2 / (sigma^2 + tau^2) that a Gaussian belief has, and so does the
score, kappa^2 / (kappa^2 + tau^2).

Known limit: beyond the crop there is no heatmap, so a blurred peak within 3 sigma of the border is drawn inwards.
Joints inside their box lie further away (`model.geometry` pads it).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from model.heatmap import find_peaks, heatmap_to_crop
from model.variants import PoseConfig

# sqrt(area of a person / area of the padded region): median over 6,148 persons of COCO; the middle half 0.40 to 0.52.
PERSON_OF_REGION = 0.457


class KeypointDecoder:
    """Decodes the heatmaps of one network.

    `kappa` [K] is the width of each joint's OKS in heatmap pixels.
    """

    def __init__(self, config: PoseConfig) -> None:
        height, width = config.heatmap_hw
        sigma, person = config.heatmap_sigma, PERSON_OF_REGION * math.sqrt(height * width)
        self.kappa = 2 * torch.tensor(config.skeleton.oks_sigmas, dtype=torch.float64) * person
        rows = [_Blur(height, sigma, wanted) for wanted in self.kappa.tolist()]
        columns = [_Blur(width, sigma, wanted) for wanted in self.kappa.tolist()]
        blurred_to = torch.tensor([blur.width for blur in rows], dtype=torch.float64)
        # A certain peak has height 1 again.
        scale = torch.tensor([blur.gain for blur in rows], dtype=torch.float64).square()
        self._tables = (
            (torch.stack([blur.matrix for blur in rows]) * scale[:, None, None]).float(),  # [K, H, H]
            torch.stack([blur.matrix for blur in columns]).float(),  # [K, W, W]
            self.kappa.square().float(),
            blurred_to.square().float(),
        )

    def __call__(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints with sub-pixel precision.

        Args:
            heatmaps: [B, K, H, W] float, of the network's size.

        Returns:
            points_crop: [B, K, 2] float32 in the crop frame.
            scores: [B, K] float32 in 0..1: the similarity (that joint's part of OKS) that each is expected to earn.
        """
        if heatmaps.device != self._tables[0].device:  # once: they stay where they were needed last
            self._tables = tuple(table.to(heatmaps.device) for table in self._tables)  # type: ignore[assignment]
        rows, columns, kappa, width = self._tables
        found = find_peaks(_blurred(heatmaps.float(), rows, columns))
        # The height between pixels; no belief is sharper than a certain one.
        sharpest = (found.points_heatmap - found.pixels).square().sum(dim=-1) / (2 * width)
        height = (found.heights * found.rises.clamp(min=0).minimum(sharpest).exp()).clamp(0.0, 1.0).float()
        scores = kappa * height / (kappa * height + width * (1 - height))
        return heatmap_to_crop(found.points_heatmap).float(), scores


def _blurred(maps: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Rows [K, H, H] x maps [B, K, H, W] x columns [K, W, W], both symmetric: one product for each joint and side."""
    batch, keypoints, height, width = maps.shape
    along_x = maps.transpose(0, 1).reshape(keypoints, batch * height, width) @ columns
    turned = along_x.reshape(keypoints, batch, height, width).transpose(2, 3)  # [K, B, W, H]
    along_y = turned.reshape(keypoints, batch * width, height) @ rows
    return along_y.reshape(keypoints, batch, width, height).permute(1, 0, 3, 2).contiguous()


class _Blur:
    """Along one side of `pixels`: from Gaussians of `sigma` to those of `wanted`, if that is wider.

    matrix [N, N], symmetric; width of what comes out; gain: what makes the top of a blurred Gaussian 1 again.
    """

    def __init__(self, pixels: int, sigma: float, wanted: float) -> None:
        reach = math.ceil(5 * max(wanted, sigma))
        steps = torch.arange(-reach, reach + 1, dtype=torch.float64)
        variance = wanted**2 - sigma**2
        kernel = (steps == 0).double() if variance <= 0 else torch.exp(-steps.square() / (2 * variance))
        kernel /= kernel.sum()
        self.width = math.sqrt(sigma**2 + float((kernel * steps.square()).sum()))
        self.gain = 1 / float((kernel * torch.exp(-steps.square() / (2 * sigma**2))).sum())
        distance = torch.arange(pixels)[:, None] - torch.arange(pixels)
        within = distance.abs() <= reach
        self.matrix = torch.where(within, kernel[distance.clamp(-reach, reach) + reach], 0.0)
