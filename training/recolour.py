"""The colours of views, for a whole batch at once, on the device that trains.

Each view has its own row of numbers (`training.views.COLUMNS`), drawn where the view was drawn; nothing is random here.
Jitter in the view's own order, grey, blur, solarise: the operations and the order of DINO's published augmentation.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from model.crop import MEAN_RGB, STD_RGB
from training.views import COLUMNS, NEUTRAL

GREY_RGB = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601
SOLARISE_FROM = 128 / 255

ORDERED = torch.tensor(list(itertools.permutations(range(4))))  # [24, 4]: which operation comes first, second, ...


def recolour(pixels: Tensor, colours: Tensor) -> Tensor:
    """Views in the colours that were drawn for them.

    Args:
        pixels: [N, H, W, 3] uint8, RGB, on any device.
        colours: [N, 8] float32 on the CPU, columns as `training.views.COLUMNS`.

    Returns:
        [N, 3, H, W] float32 in 0..1 (to rounding), on the device of `pixels`.
    """
    images = pixels.permute(0, 3, 1, 2).contiguous().float() / 255.0
    _jitter(images, colours)
    column = {name: colours[:, number] for number, name in enumerate(COLUMNS)}
    for name, change in (("grey", _greyed), ("blur", blurred), ("solarise", _solarised)):
        chosen = column[name].nonzero()[:, 0]
        if len(chosen):
            there = chosen.to(images.device)
            images[there] = change(images[there], column[name][chosen].to(images.device))
    return images


def standardised(images: Tensor) -> Tensor:
    """[N, 3, H, W] in 0..1 -> the network's input: as `model.crop.normalise` gives it, in channels-last memory."""
    mean = torch.tensor(MEAN_RGB, device=images.device)[:, None, None]
    std = torch.tensor(STD_RGB, device=images.device)[:, None, None]
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def _jitter(images: Tensor, colours: Tensor) -> None:
    """Brightness, contrast, saturation and hue of each view in its own order, in place.

    Views that come to the same operation at the same place are changed together.
    """
    operation_at = ORDERED[colours[:, 4].long()]  # [N, 4]
    changes = colours[:, :4] != torch.from_numpy(NEUTRAL[:4])  # [N, 4], by operation
    for place in range(4):
        for operation, change in enumerate((_brightened, _contrasted, _saturated, _turned)):
            chosen = ((operation_at[:, place] == operation) & changes[:, operation]).nonzero()[:, 0]
            if len(chosen):
                there = chosen.to(images.device)
                factor = colours[chosen, operation].to(images.device)[:, None, None, None]
                images[there] = change(images[there], factor)


def _luma(images: Tensor) -> Tensor:
    red, green, blue = images.unbind(1)
    return (GREY_RGB[0] * red + GREY_RGB[1] * green + GREY_RGB[2] * blue)[:, None]  # [N, 1, H, W]


def _brightened(images: Tensor, factor: Tensor) -> Tensor:
    return (images * factor).clamp_(0, 1)


def _contrasted(images: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(_luma(images).mean(dim=(2, 3), keepdim=True), images, factor).clamp_(0, 1)


def _saturated(images: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(_luma(images), images, factor).clamp_(0, 1)


def _turned(images: Tensor, shift: Tensor) -> Tensor:
    """Hues moved round the circle by `shift` of it; value and saturation (HSV) stay.

    The hue is the place on a hexagon whose corners are the pure colours; a channel is full within one side of its own
    corner, none beyond two sides, and linear between (Smith 1978).
    """
    value, strongest = images.max(dim=1)
    chroma = value - images.amin(dim=1)
    red, green, blue = images.unbind(1)
    sixths = torch.stack(((green - blue), (blue - red), (red - green)), dim=1)  # by which channel is strongest
    sixths = sixths.gather(1, strongest[:, None])[:, 0] / chroma.clamp(min=1e-6) + 2 * strongest
    sixths = sixths + 6 * shift[:, 0]
    corners = torch.tensor((0.0, 2.0, 4.0), device=images.device)[:, None, None]
    away = (torch.remainder(sixths[:, None] - corners + 3, 6) - 3).abs()  # [N, 3, H, W], 0..3 sides
    return value[:, None] - chroma[:, None] * (away - 1).clamp_(0, 1)


def _greyed(images: Tensor, _: Tensor) -> Tensor:
    return _luma(images).expand_as(images)


def blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """[N, 3, H, W] under Gaussians of `sigma` [N] pixels: one matrix for the rows, one for the columns."""
    rows, columns = (_smoothing(length, sigma) for length in images.shape[-2:])
    return rows[:, None] @ images @ columns[:, None].transpose(-1, -2)


def _smoothing(length: int, sigma: Tensor) -> Tensor:
    """[N, length, length]: each row a Gaussian around its own place, of sum 1 also at the borders."""
    place = torch.arange(length, device=sigma.device, dtype=torch.float32)
    weights = torch.exp(-(place[:, None] - place[None, :]).square() / (2 * sigma[:, None, None].square()))
    return weights / weights.sum(dim=-1, keepdim=True)


def _solarised(images: Tensor, _: Tensor) -> Tensor:
    return torch.where(images >= SOLARISE_FROM, 1 - images, images)
