"""Multi-head self-attention over a feature map with 2-D position terms, and its bottleneck.

Paper section 3.1 and Figure 1 (b), after Bottleneck Transformers. The logit of query i and key j is

    relative   (q_i . k_j + q_i . row[y_j - y_i] + q_i . column[x_j - x_i]) / sqrt(D)
    absolute   (q_i . k_j + q_i . row[y_j]       + q_i . column[x_j])       / sqrt(D)

In both modes the position term is folded into longer query and key vectors, so that one ordinary fused attention call
computes it and no N x N matrix is ever stored. Who wants the weights passes a collector; then they are computed
explicitly.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.levels import LEVELS, Level
from model.positions import resample_table
from model.resnet import Shortcut, zero_norm
from model.variants import EXPANSION, Position

# Up to so many tokens plain products are faster in bf16 on a CPU than the fused kernel: in training about twice as fast
# (where freed memory is kept, training.kept_memory), and there the limit is what the stored weights weigh.
SHORT_ON_CPU = 256
SHORT_IN_TRAINING_ON_CPU = 1024

POSITION_STD = 0.02  # small, so that attention starts from content; N(0, 1) tables are known to derail C2A2


@dataclass
class AttentionCollector:
    """Receives the attention weights of one forward pass, in the order in which the layers run.

    `mhsa`: one [B, A, N, N] tensor per attention bottleneck; `encoder`: one per encoder layer. Rows (axis 2) are
    queries and sum to 1. Only the `levels` that are asked for are collected; the others take the fused path.
    """

    levels: Collection[Level] = LEVELS
    mhsa: list[Tensor] = field(default_factory=list)
    encoder: list[Tensor] = field(default_factory=list)

    def weights_out(self, level: Level) -> list[Tensor] | None:
        """Where a layer of this level puts its weights; None if nobody wants them."""
        if level not in self.levels:
            return None
        return self.mhsa if level == "mhsa" else self.encoder


def attend(query: Tensor, key: Tensor, value: Tensor, *, scale: float, weights_out: list[Tensor] | None) -> Tensor:
    """Softmax attention.

    Args:
        query, key: [B, A, N, E].
        value: [B, A, N, D].
        scale: factor on the logits.
        weights_out: None for the fused kernel; a list to compute the weights explicitly and append them, [B, A, N, N].

    Returns:
        [B, A, N, D].
    """
    if weights_out is not None or _plain_is_faster(query):
        weights = (query @ key.transpose(-1, -2) * scale).softmax(dim=-1)
        if weights_out is not None:
            weights_out.append(weights)
        return weights.to(value.dtype) @ value
    # The fused CPU kernel needs values as long as the queries: pad with zeros, cut them off again.
    padding = query.shape[-1] - value.shape[-1]
    padded = F.pad(value, (0, padding)) if padding else value
    return F.scaled_dot_product_attention(query, key, padded, scale=scale)[..., : value.shape[-1]]


def _plain_is_faster(query: Tensor) -> bool:
    """Than the fused kernel, which on a CPU is slow in bf16."""
    short = SHORT_IN_TRAINING_ON_CPU if query.requires_grad else SHORT_ON_CPU
    return query.device.type == "cpu" and query.dtype == torch.bfloat16 and query.shape[-2] <= short


class MHSA2d(nn.Module):
    """All-to-all self-attention over a feature map: [B, planes, H, W] -> [B, planes, H, W]. No output projection.

    `relative` has bias-free q/k/v and offset tables shared by the heads (2H-1 and 2W-1 vectors of the head
    dimension). `absolute` has the released code's parameters: biased q/k/v and one vector per row, per column and head.
    (Its position term follows Bottleneck Transformers, query times position; the released code transposes it.)

    Maps of another size than `tokens_hw`: smaller ones use the middle of the offset tables (the same offsets mean the
    same vectors); anything else resamples the tables.
    """

    def __init__(self, planes: int, heads: int, tokens_hw: tuple[int, int], position: Position) -> None:
        super().__init__()
        if planes % heads:
            raise ValueError(f"heads is {heads}; allowed: a divisor of planes = {planes}")
        self.heads = heads
        self.position = position
        self.scale = 1.0 / math.sqrt(planes // heads)
        self.qkv = nn.Conv2d(planes, 3 * planes, kernel_size=1, bias=position == "absolute")
        head_dim = planes // heads
        height, width = tokens_hw
        if position == "relative":
            self.row_table = nn.Parameter(torch.empty(2 * height - 1, head_dim))
            self.column_table = nn.Parameter(torch.empty(2 * width - 1, head_dim))
        else:
            self.row_table = nn.Parameter(torch.empty(heads, height, head_dim))
            self.column_table = nn.Parameter(torch.empty(heads, width, head_dim))
        nn.init.trunc_normal_(self.row_table, std=POSITION_STD)
        nn.init.trunc_normal_(self.column_table, std=POSITION_STD)

    def forward(self, x: Tensor, collector: AttentionCollector | None = None) -> Tensor:
        batch, planes, height, width = x.shape
        qkv = self.qkv(x).reshape(batch, 3, self.heads, planes // self.heads, height * width)  # [B, 3, A, D, N]
        query, key, value = qkv.transpose(-1, -2).unbind(1)  # each [B, A, N, D]
        if self.position == "relative":
            query, key = self._with_relative_position(query, key, height, width)
        else:
            key = key + self._absolute_position(height, width)
        weights_out = collector.weights_out("mhsa") if collector is not None else None
        out = attend(query, key, value, scale=self.scale, weights_out=weights_out)  # [B, A, N, D]
        return out.transpose(-1, -2).reshape(batch, planes, height, width)

    def _with_relative_position(self, query: Tensor, key: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Lengthen queries by q . table[offset to each row and column], and keys by their one-hot row and column.

        The dot product of the two is then q . k plus the entries of the key's own row and column.
        """
        batch, heads, tokens, head_dim = query.shape
        rows = _offset_vectors(self.row_table, height).to(query.dtype)  # [H, H, D]: from row, to row
        columns = _offset_vectors(self.column_table, width).to(query.dtype)  # [W, W, D]
        grid = query.reshape(batch, heads, height, width, head_dim)  # [B, A, N, D] -> [B, A, H, W, D]
        to_row = torch.einsum("bahwd,hkd->bahwk", grid, rows).reshape(batch, heads, tokens, height)  # [B, A, N, H]
        to_column = torch.einsum("bahwd,wkd->bahwk", grid, columns).reshape(batch, heads, tokens, width)  # [B, A, N, W]
        place = _one_hot_places(height, width, like=key).expand(batch, heads, -1, -1)  # [B, A, N, H + W]
        return torch.cat((query, to_row, to_column), dim=-1), torch.cat((key, place), dim=-1)

    def _absolute_position(self, height: int, width: int) -> Tensor:
        rows = resample_table(self.row_table, height)[:, :, None]  # [A, H, 1, D]
        columns = resample_table(self.column_table, width)[:, None]  # [A, 1, W, D]
        return (rows + columns).flatten(1, 2)  # [A, N, D]


def _offset_vectors(table: Tensor, length: int) -> Tensor:
    """[2L-1, D] -> [length, length, D]: entry (i, j) is the vector of offset j - i."""
    if length > (table.shape[0] + 1) // 2:
        table = resample_table(table, 2 * length - 1)
    place = torch.arange(length, device=table.device)
    middle = table.shape[0] // 2
    return table[place[None, :] - place[:, None] + middle]


def _one_hot_places(height: int, width: int, *, like: Tensor) -> Tensor:
    """[H*W, H + W]: for each token the one-hot of its row, then the one-hot of its column."""
    rows = torch.eye(height, dtype=like.dtype, device=like.device)[:, None].expand(-1, width, -1)  # [H, W, H]
    columns = torch.eye(width, dtype=like.dtype, device=like.device)[None].expand(height, -1, -1)  # [H, W, W]
    return torch.cat((rows, columns), dim=-1).flatten(0, 1)


class AttentionBottleneck(nn.Module):
    """A ResNet bottleneck with MHSA as its middle: [B, in_channels, H, W] -> [B, 4 * planes, H, W]."""

    def __init__(
        self, in_channels: int, planes: int, *, heads: int, tokens_hw: tuple[int, int], position: Position
    ) -> None:
        super().__init__()
        out_channels = planes * EXPANSION
        self.conv1 = nn.Conv2d(in_channels, planes, kernel_size=1, bias=False)
        self.norm1 = nn.BatchNorm2d(planes)
        self.attention = MHSA2d(planes, heads, tokens_hw, position)
        self.norm2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out_channels, kernel_size=1, bias=False)
        self.norm3 = zero_norm(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = (
            Shortcut(in_channels, out_channels, bias=position == "absolute")
            if in_channels != out_channels
            else nn.Identity()
        )

    def forward(self, x: Tensor, collector: AttentionCollector | None = None) -> Tensor:
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.relu(self.norm2(self.attention(out, collector)))
        out = self.norm3(self.conv3(out))
        return self.relu(out + self.shortcut(x))
