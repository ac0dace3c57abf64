"""The Transformer encoder at the top of the network (paper section 3.1): post-norm layers over the tokens of a map."""

from __future__ import annotations

from torch import Tensor, nn

from model.attention import AttentionCollector, attend


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward network, each followed by "add and norm": [B, N, C] -> [B, N, C]."""

    def __init__(self, dim: int, heads: int, ff_dim: int, dropout: float) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"heads is {heads}; allowed: a divisor of dim = {dim}")
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, ff_dim), nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Linear(ff_dim, dim)
        )
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, tokens: Tensor, collector: AttentionCollector | None = None) -> Tensor:
        tokens = self.norm1(tokens + self.dropout(self._attention(tokens, collector)))
        return self.norm2(tokens + self.dropout(self.feed_forward(tokens)))

    def _attention(self, tokens: Tensor, collector: AttentionCollector | None) -> Tensor:
        batch, length, dim = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, length, 3, self.heads, dim // self.heads)  # [B, N, 3, A, D]
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each [B, A, N, D]
        weights_out = collector.weights_out("encoder") if collector is not None else None
        out = attend(query, key, value, scale=(dim // self.heads) ** -0.5, weights_out=weights_out)
        return self.out(out.transpose(1, 2).reshape(batch, length, dim))
