"""Resampling of learned positions, so that one set of weights serves other crop sizes.

A network trained on small crops continues on large ones (and the reverse): what was learned about a place on the body
is kept, whatever the number of tokens that now cover it. Used when a checkpoint is loaded at another input size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def resample_table(table: Tensor, length: int) -> Tensor:
    """Resample a table of vectors along its second-to-last axis, end to end, linearly.

    Offset tables (2H-1 rows, the middle one being offset 0) keep their middle, because the ends stay the ends.

    Args:
        table: [..., L, D], any float type.
        length: the wanted L.

    Returns:
        [..., length, D], same type.
    """
    if table.shape[-2] == length:
        return table
    flat = table.float().flatten(0, -3) if table.dim() > 2 else table.float()[None]  # [..., L, D] -> [X, L, D]
    resampled = F.interpolate(flat.transpose(1, 2), size=length, mode="linear", align_corners=True)  # [X, D, length]
    return resampled.transpose(1, 2).reshape(*table.shape[:-2], length, table.shape[-1]).to(table.dtype)


def resample_grid(embedding: Tensor, from_hw: tuple[int, int], to_hw: tuple[int, int]) -> Tensor:
    """Resample one vector per token from one token grid to another, bicubically.

    Args:
        embedding: [H*W, C] for `from_hw` = (H, W), row by row.
        to_hw: the wanted (rows, columns).

    Returns:
        [H'*W', C], same type.
    """
    if from_hw == to_hw:
        return embedding
    grid = embedding.float().T.reshape(1, -1, *from_hw)  # [N, C] -> [1, C, H, W]
    resampled = F.interpolate(grid, size=to_hw, mode="bicubic", align_corners=False)  # [1, C, H', W']
    return resampled.flatten(2)[0].T.contiguous().to(embedding.dtype)


def resample_state(
    state: dict[str, Tensor], wanted: dict[str, torch.Size], from_hw: tuple[int, int], to_hw: tuple[int, int]
) -> dict[str, Tensor]:
    """Fit the learned positions of a network's state to another token grid; everything else is passed on as it is.

    Args:
        state: the weights as stored, for a token grid of `from_hw`.
        wanted: the shapes that the network for `to_hw` expects; a name it lacks is passed on for the strict load to
            report.
    """
    resampled = {}
    for name, weight in state.items():
        leaf = name.rpartition(".")[2]
        if name in wanted and weight.shape != wanted[name]:
            if leaf in ("row_table", "column_table"):
                weight = resample_table(weight, wanted[name][-2])
            elif leaf == "position_embedding":
                weight = resample_grid(weight, from_hw, to_hw)
        resampled[name] = weight
    return resampled
