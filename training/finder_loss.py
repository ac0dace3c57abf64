"""What the person finder learns from: where centres are (a focal loss), and boxes (generalised overlap).

Centres as in CornerNet and CenterNet: the loss of places beside a centre counts less. Boxes as in TTFNet (Liu et al.
2020): every place near a centre learns the box, weighted by how near it is, so that a few epochs are enough.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from model.person_finder import STRIDE, decode_boxes

SPREAD = 0.54 / 6  # of a centre, as a part of the box: its standard deviation (TTFNet)
MIN_SPREAD = 0.45  # places
LEARNS_BOX = 0.2  # a place as near to a centre as this learns its box
BOX_WEIGHT = 2.0


def targets(edges: Tensor, map_hw: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """What the maps should say.

    Args:
        edges: [B, P, 4] in input pixels, large persons first; zeros: nobody.
        map_hw: of the maps.

    Returns:
        centres [B, h, w] in 0..1, exactly 1 at the place of each centre; boxes [B, h, w, 4], edges; and weights
        [B, h, w] of the boxes, which sum to 1 over the places of each person who is not covered by smaller ones.
    """
    exists = (edges[..., 2] > edges[..., 0]) & (edges[..., 3] > edges[..., 1])  # [B, P]
    center = (edges[..., :2] + edges[..., 2:]) / 2 / STRIDE
    spread = ((edges[..., 2:] - edges[..., :2]) / STRIDE * SPREAD).clamp(min=MIN_SPREAD)
    limit = torch.tensor([map_hw[1] - 1, map_hw[0] - 1], device=edges.device)
    place = torch.minimum(center.floor().clamp(min=0), limit)
    axes = []
    for axis, length in ((1, map_hw[0]), (0, map_hw[1])):
        away = torch.arange(length, device=edges.device) - place[..., axis, None]  # [B, P, length]
        axes.append(torch.exp(-away.square() / (2 * spread[..., axis, None].square())))
    bells = axes[0][..., :, None] * axes[1][..., None, :] * exists[..., None, None]  # [B, P, h, w]
    centres = bells.amax(dim=1)
    # Small persons come last, and take the places that they share with larger ones.
    owner = ((bells > LEARNS_BOX) * torch.arange(1, bells.shape[1] + 1, device=edges.device)[:, None, None]).amax(1)
    owned = owner[:, None] == torch.arange(1, bells.shape[1] + 1, device=edges.device)[:, None, None]
    share = bells * owned
    share = share / share.sum(dim=(2, 3), keepdim=True).clamp(min=1e-6)
    numbers = (owner - 1).clamp(min=0).flatten(1)[..., None].expand(-1, -1, 4)
    boxes = edges.gather(1, numbers).reshape(-1, *map_hw, 4)
    return centres, boxes, share.sum(dim=1)


def finder_loss(found: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """The losses of centres and of boxes, each per person.

    Args:
        found: [B, 5, h, w], what `PersonFinder` says.
        edges: [B, P, 4], see `targets`.
    """
    height, width = found.shape[-2:]
    centres, boxes, weights = targets(edges, (height, width))
    logits = found[:, 0]
    likely = logits.sigmoid()
    at_centre = centres == 1
    hit = -F.logsigmoid(logits) * (1 - likely).square()
    miss = -F.logsigmoid(-logits) * likely.square() * (1 - centres).pow(4)
    persons = weights.sum().clamp(min=1.0)
    centre_loss = torch.where(at_centre, hit, miss).sum() / persons
    learning = weights > 0
    overlap = generalised_overlap(decode_boxes(found)[learning], boxes[learning])
    box_loss = ((1 - overlap) * weights[learning]).sum() / persons
    return centre_loss, box_loss


def generalised_overlap(one: Tensor, other: Tensor) -> Tensor:
    """Edges [N, 4] and [N, 4] -> [N] in -1..1: intersection over union, less the part of the hull that neither covers.

    Rezatofighi et al. 2019.
    """
    inside = (torch.minimum(one[:, 2:], other[:, 2:]) - torch.maximum(one[:, :2], other[:, :2])).clamp(min=0).prod(1)
    hull = (torch.maximum(one[:, 2:], other[:, 2:]) - torch.minimum(one[:, :2], other[:, :2])).prod(1).clamp(min=1e-6)
    union = (one[:, 2:] - one[:, :2]).prod(1) + (other[:, 2:] - other[:, :2]).prod(1) - inside
    return inside / union.clamp(min=1e-6) - (hull - union) / hull
