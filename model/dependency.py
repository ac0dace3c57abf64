"""Dependency maps: which parts of the crop a predicted keypoint depends on (paper section 4.3, Figures 3 to 10).

A keypoint lies in one token of the feature map, the query. In an attention matrix [N, N], whose rows are queries and
sum to 1, the query's row says what that token looked at (`dependency`), and its column who looked at it (`affect`): the
two dependency areas of TransPose. The weights are those of the very pass that placed the keypoint; they come from an
`AttentionCollector`. Attention is what was read, not proof of what decided; no gradient is taken here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from model.geometry import Array
from model.levels import Level, Mode
from model.variants import TOKEN_STRIDE

Map = npt.NDArray[np.float32]


@dataclass(frozen=True)
class JointAttention:
    """What each of K keypoints looked at, and what looked at it, in every layer and head of one level.

    queries: [K, 2] int, row and column of each keypoint's token.
    dependency: [layers, heads, K, H, W] float32 over the tokens; every map is a row of the attention and sums to 1.
    affect: the same shape; every map is a column, each entry in 0..1.
    """

    level: Level
    queries: npt.NDArray[np.int64]
    dependency: Map
    affect: Map

    @property
    def layers(self) -> int:
        """Layers of the level; see `PoseConfig.attention_layers`."""
        return int(self.dependency.shape[0])

    @property
    def heads(self) -> int:
        """Attention heads of each layer."""
        return int(self.dependency.shape[1])

    def of(self, keypoint: int, *, layer: int, head: int | None, mode: Mode) -> Map:
        """One map, [H, W].

        Args:
            keypoint: 0 to K - 1.
            layer: 0 to `layers` - 1.
            head: 0 to `heads` - 1; None for their mean.
            mode: row or column of the attention.

        Raises IndexError for a layer, head or keypoint that is not there.
        """
        for name, value, limit in (
            ("keypoint", keypoint, len(self.queries)),
            ("layer", layer, self.layers),
            ("head", head or 0, self.heads),
        ):
            if not 0 <= value < limit:
                raise IndexError(f"{name} is {value}; allowed: 0 to {limit - 1}")
        maps = (self.dependency if mode == "dependency" else self.affect)[layer, :, keypoint]  # [heads, H, W]
        return maps.mean(axis=0) if head is None else maps[head]


def query_tokens(points_crop: Array, tokens_hw: tuple[int, int]) -> npt.NDArray[np.int64]:
    """The token that each point lies in: [K, 2] x, y in the crop frame -> [K, 2] row, column.

    Token (r, c) covers crop pixels 8 r - 0.5 to 8 r + 7.5 down and 8 c - 0.5 to 8 c + 7.5 across. A point outside the
    crop belongs to the nearest token.
    """
    columns_rows = np.floor((points_crop + 0.5) / TOKEN_STRIDE).astype(np.int64)
    return np.clip(columns_rows[:, ::-1], 0, np.array(tokens_hw) - 1)


def read_attention(
    weights: Sequence[Tensor], points_crop: Array, tokens_hw: tuple[int, int], level: Level
) -> JointAttention:
    """The maps of one person's keypoints.

    Args:
        weights: [A, N, N] for each layer: rows are queries.
        points_crop: [K, 2] x, y in the crop frame.
        tokens_hw: (H, W), H * W = N.
        level: what the weights are of.
    """
    queries = query_tokens(points_crop, tokens_hw)
    tokens = queries[:, 0] * tokens_hw[1] + queries[:, 1]  # [K]
    rows = [layer[:, tokens].float().cpu().numpy() for layer in weights]  # each [A, K, N]
    columns = [layer[:, :, tokens].transpose(1, 2).float().cpu().numpy() for layer in weights]
    shape = (len(weights), weights[0].shape[0], len(tokens), *tokens_hw)
    return JointAttention(level, queries, np.stack(rows).reshape(shape), np.stack(columns).reshape(shape))
