"""Heatmaps from keypoints, and keypoints from heatmaps: the two halves of one contract.

A heatmap pixel with index u lies at crop coordinate  stride * (u + 0.5) - 0.5,  so the heatmap covers exactly the
area of the crop and mirrors with it. Targets are Gaussians around the real-valued position. Decoding is
distribution-aware (DARK): the logarithm of a Gaussian is a paraboloid, whose top is found exactly. Where DARK blurs the
map and takes finite differences at the peak, this fits the paraboloid by least squares in a small window, weighted by
the heatmap: the same estimate on a clean Gaussian, no bias near the border, and noise is averaged.

What a network predicts is rarely one clean Gaussian; `model.expected_oks` reads its maps, with the peaks found here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model.variants import HEATMAP_STRIDE

WINDOW = 5  # heatmap pixels on a side of the fitted window
MAX_REFINEMENT = 1.0  # heatmap pixels; a larger step means that the window does not hold one clean peak


def encode_heatmaps(points_crop: Tensor, heatmap_hw: tuple[int, int], sigma: float) -> Tensor:
    """Target heatmaps.

    Args:
        points_crop: [B, K, 2] float, in the crop frame; may lie outside the crop.
        heatmap_hw: (rows, columns) of the heatmaps.
        sigma: standard deviation in heatmap pixels.

    Returns:
        [B, K, H, W] in 0..1; the value is 1 exactly at the point.
    """
    points = crop_to_heatmap(points_crop)
    height, width = heatmap_hw
    columns = torch.arange(width, dtype=points.dtype, device=points.device) - points[..., 0:1]  # [B, K, W]
    rows = torch.arange(height, dtype=points.dtype, device=points.device) - points[..., 1:2]  # [B, K, H]
    along_x = torch.exp(-columns.square() / (2 * sigma**2))
    along_y = torch.exp(-rows.square() / (2 * sigma**2))
    return along_y[..., :, None] * along_x[..., None, :]


def target_weights(points_crop: Tensor, labelled: Tensor, heatmap_hw: tuple[int, int], sigma: float) -> Tensor:
    """Which targets count: labelled ones whose Gaussian (3 sigma) reaches into the heatmap.

    Args:
        points_crop: [B, K, 2] float. labelled: [B, K] bool.

    Returns:
        [B, K] float, 0 or 1.
    """
    points = crop_to_heatmap(points_crop)
    height, width = heatmap_hw
    limit = torch.tensor([width - 1, height - 1], dtype=points.dtype, device=points.device)
    reaches = ((points >= -3 * sigma) & (points <= limit + 3 * sigma)).all(dim=-1)
    return (labelled & reaches).to(points.dtype)


class Peaks(NamedTuple):
    """The highest place of each map.

    points_heatmap: [B, K, 2] float64, x and y with sub-pixel precision, cut to the map. pixels: [B, K, 2], x and y of
    the highest pixel. heights: [B, K], its value. rises: [B, K] float64, the logarithm of how much higher the peak is
    than that pixel.
    """

    points_heatmap: Tensor
    pixels: Tensor
    heights: Tensor
    rises: Tensor


def decode_heatmaps(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse of `encode_heatmaps`, with sub-pixel precision.

    Args:
        heatmaps: [B, K, H, W] float, at least `WINDOW` pixels each way.

    Returns:
        points_crop: [B, K, 2] float32 in the crop frame.
        heights: [B, K] float32 in 0..1: the height of the peak, cut to that range.
    """
    found = find_peaks(heatmaps.float())
    return heatmap_to_crop(found.points_heatmap).float(), found.heights.clamp(0.0, 1.0)


def find_peaks(maps: Tensor) -> Peaks:
    """The peak of each map [B, K, H, W] float32, at least `WINDOW` pixels each way."""
    batch, keypoints, height, width = maps.shape
    heights, index = maps.flatten(2).max(dim=-1)  # [B, K]
    pixels = torch.stack((index % width, torch.div(index, width, rounding_mode="floor")), dim=-1)  # [B, K, 2], x and y
    offsets, rises = _fit_paraboloid(maps.flatten(0, 1), pixels.flatten(0, 1))
    refined = _within(pixels + offsets.reshape(batch, keypoints, 2), -0.5, (width - 0.5, height - 0.5))
    return Peaks(refined, pixels, heights, rises.reshape(batch, keypoints))


def flip_heatmaps(heatmaps: Tensor, flip_order: Sequence[int]) -> Tensor:
    """The heatmaps of a mirrored crop, as those of the crop itself: [B, K, H, W], mirrored, left and right swapped.

    `flip_order`: [K], of the skeleton.
    """
    return heatmaps.flip(-1)[:, list(flip_order)]


def crop_to_heatmap(points_crop: Tensor) -> Tensor:
    """[..., 2] crop pixels -> [..., 2] heatmap pixels."""
    return (points_crop + 0.5) / HEATMAP_STRIDE - 0.5


def heatmap_to_crop(points_heatmap: Tensor) -> Tensor:
    """[..., 2] heatmap pixels -> [..., 2] crop pixels."""
    return (points_heatmap + 0.5) * HEATMAP_STRIDE - 0.5


def _within(points: Tensor, low: float, high: tuple[float, float]) -> Tensor:
    """[..., 2] x and y, each cut to `low` and its own `high`."""
    return torch.stack((points[..., 0].clamp(low, high[0]), points[..., 1].clamp(low, high[1])), dim=-1)


def _fit_paraboloid(maps: Tensor, peak: Tensor) -> tuple[Tensor, Tensor]:
    """The top of a paraboloid fitted to the logarithm around each peak: where, and how much higher than at the peak.

    Args:
        maps: [M, H, W]. peak: [M, 2], x and y of the largest pixel.

    Returns:
        offset: [M, 2] in heatmap pixels, float64, each coordinate within `MAX_REFINEMENT`; 0 where there is no top.
        rise: [M] of the logarithm, at that offset.
    """
    count, height, width = maps.shape
    # The window is moved, not cut, at the border: it always holds WINDOW x WINDOW real pixels.
    first = _within(peak - WINDOW // 2, 0, (width - WINDOW, height - WINDOW))  # [M, 2]
    steps = torch.arange(WINDOW, device=peak.device)
    columns, rows = first[:, 0:1] + steps, first[:, 1:2] + steps  # [M, WINDOW]
    batch = torch.arange(count, device=peak.device)[:, None, None]
    values = maps[batch, rows[:, :, None], columns[:, None, :]].double().clamp(min=1e-10)  # [M, WINDOW, WINDOW]
    values = values / values.amax(dim=(1, 2), keepdim=True)

    x = (columns - peak[:, 0:1]).double()[:, None, :].expand_as(values)
    y = (rows - peak[:, 1:2]).double()[:, :, None].expand_as(values)
    terms = torch.stack((torch.ones_like(x), x, y, x * x, y * y, x * y), dim=-1).flatten(1, 2)  # [M, P, 6]
    # Least squares on the logarithm: weighting by the value squared keeps the error of the *value* even.
    weighted = terms * values.flatten(1)[..., None].square()
    normal = weighted.transpose(1, 2) @ terms  # [M, 6, 6]
    right = (weighted * values.flatten(1).log()[..., None]).sum(dim=1)  # [M, 6]
    ridge = 1e-9 * torch.eye(6, dtype=normal.dtype, device=normal.device)
    # Nothing of this waits for the device: a device that is asked whether all went well is idle meanwhile.
    fitted, _ = torch.linalg.solve_ex(normal + ridge, right)
    _, bx, by, cxx, cyy, cxy = fitted.unbind(-1)

    determinant = 4 * cxx * cyy - cxy**2
    has_top = (cxx < 0) & (cyy < 0) & (determinant > 1e-9)
    safe = torch.where(has_top, determinant, torch.ones_like(determinant))
    top = torch.stack((cxy * by - 2 * cyy * bx, cxy * bx - 2 * cxx * by), dim=-1) / safe[:, None]
    offset = torch.where(has_top[:, None], top.clamp(-MAX_REFINEMENT, MAX_REFINEMENT), torch.zeros_like(top))
    dx, dy = offset.unbind(-1)
    return offset, bx * dx + by * dy + cxx * dx.square() + cyy * dy.square() + cxy * dx * dy
