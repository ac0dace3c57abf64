import math

import numpy as np
import pytest
import torch
from torch import nn

from model.attention import (
    SHORT_IN_TRAINING_ON_CPU,
    SHORT_ON_CPU,
    AttentionBottleneck,
    AttentionCollector,
    MHSA2d,
    attend,
)

PLANES, HEADS = 8, 2
HEAD_DIM = PLANES // HEADS
POSITIONS = ("relative", "absolute")


def random_mhsa(position, tokens_hw, *, seed=0):
    """In double precision, with position tables as large as the contents."""
    torch.manual_seed(seed)
    mhsa = MHSA2d(PLANES, HEADS, tokens_hw, position).double()
    nn.init.normal_(mhsa.row_table)
    nn.init.normal_(mhsa.column_table)
    return mhsa


def random_map(hw, *, seed=1):
    return torch.randn(2, PLANES, *hw, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def naive_attention(mhsa, feature_map, position_logit):
    """The formula at the top of `model.attention`, one query and one key at a time.

    feature_map: [PLANES, H, W]. position_logit: head, q, place of the query (y, x), place of the key -> number.
    """
    height, width = feature_map.shape[1:]
    matrix = mhsa.qkv.weight.detach().numpy().reshape(3 * PLANES, PLANES)
    bias = np.zeros(3 * PLANES) if mhsa.qkv.bias is None else mhsa.qkv.bias.detach().numpy()
    projected = np.einsum("oc,chw->ohw", matrix, feature_map.numpy()) + bias[:, None, None]
    query, key, value = projected.reshape(3, HEADS, HEAD_DIM, height, width)
    places = [(y, x) for y in range(height) for x in range(width)]
    out = np.zeros((HEADS, HEAD_DIM, height, width))
    for head in range(HEADS):
        for at in places:
            q = query[head, :, *at]
            logits = [(q @ key[head, :, *to] + position_logit(head, q, at, to)) / math.sqrt(HEAD_DIM) for to in places]
            weights = np.exp(logits) / np.exp(logits).sum()
            for weight, to in zip(weights, places, strict=True):
                out[head, :, *at] += weight * value[head, :, *to]
    return out.reshape(PLANES, height, width)


def relative_logit(rows, columns):
    """rows: [2H-1, D] and columns: [2W-1, D], the middle being offset 0."""

    def logit(head, q, at, to):
        row = rows[to[0] - at[0] + len(rows) // 2]
        column = columns[to[1] - at[1] + len(columns) // 2]
        return q @ row + q @ column

    return logit


def absolute_logit(rows, columns):
    """rows: [A, H, D] and columns: [A, W, D]."""
    return lambda head, q, at, to: q @ rows[head, to[0]] + q @ columns[head, to[1]]


def tables(mhsa):
    return mhsa.row_table.detach().numpy(), mhsa.column_table.detach().numpy()


@pytest.mark.parametrize(("position", "logit"), [("relative", relative_logit), ("absolute", absolute_logit)])
@pytest.mark.parametrize("collect", [False, True])
def test_attention_is_the_formula_of_the_docstring(position, logit, collect):
    mhsa = random_mhsa(position, (3, 4))
    x = random_map((3, 4))
    out = mhsa(x, AttentionCollector() if collect else None).detach().numpy()
    for got, feature_map in zip(out, x, strict=True):
        np.testing.assert_allclose(got, naive_attention(mhsa, feature_map, logit(*tables(mhsa))), atol=1e-9)


def test_a_smaller_map_uses_the_same_vectors_for_the_same_offsets():
    mhsa = random_mhsa("relative", (5, 6))
    x = random_map((3, 2))
    expected = naive_attention(mhsa, x[0], relative_logit(*tables(mhsa)))
    np.testing.assert_allclose(mhsa(x)[0].detach().numpy(), expected, atol=1e-9)


def stretched(table, length):
    old, new = np.linspace(0, 1, len(table)), np.linspace(0, 1, length)
    return np.stack([np.interp(new, old, column) for column in table.T], axis=-1)


def test_a_larger_map_stretches_the_offset_tables():
    mhsa = random_mhsa("relative", (2, 3))
    x = random_map((4, 5))
    rows, columns = tables(mhsa)
    expected = naive_attention(mhsa, x[0], relative_logit(stretched(rows, 7), stretched(columns, 9)))
    np.testing.assert_allclose(mhsa(x)[0].detach().numpy(), expected, atol=1e-5)  # tables are resampled in float32


@pytest.mark.parametrize("hw", [(2, 3), (5, 6)])
def test_another_map_stretches_absolute_tables(hw):
    mhsa = random_mhsa("absolute", (3, 4))
    x = random_map(hw)
    rows, columns = tables(mhsa)
    rows = np.stack([stretched(table, hw[0]) for table in rows])
    columns = np.stack([stretched(table, hw[1]) for table in columns])
    expected = naive_attention(mhsa, x[0], absolute_logit(rows, columns))
    np.testing.assert_allclose(mhsa(x)[0].detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("position", POSITIONS)
def test_collected_weights_are_those_of_the_formula_and_sum_to_one(position):
    mhsa = random_mhsa(position, (3, 4))
    x = random_map((3, 4))
    collector = AttentionCollector()
    out = mhsa(x, collector)
    (weights,) = collector.mhsa
    assert weights.shape == (2, HEADS, 12, 12)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, HEADS, 12, dtype=torch.float64))
    value = mhsa.qkv(x).reshape(2, 3, HEADS, HEAD_DIM, 12)[:, 2].transpose(-1, -2)
    torch.testing.assert_close((weights @ value).transpose(-1, -2).reshape(out.shape), out)
    assert collector.encoder == []


def gradients(mhsa, x, collector):
    x = x.clone().requires_grad_()
    out = mhsa(x, collector)
    return torch.autograd.grad(out.sin().sum(), (x, *mhsa.parameters()))


@pytest.mark.parametrize("position", POSITIONS)
def test_the_fused_path_has_the_gradients_of_the_explicit_one(position):
    mhsa = random_mhsa(position, (3, 4))
    x = random_map((3, 4))
    fused, explicit = gradients(mhsa, x, None), gradients(mhsa, x, AttentionCollector())
    assert len(fused) == (4 if position == "relative" else 5)
    for name, left, right in zip(("x", *dict(mhsa.named_parameters())), fused, explicit, strict=True):
        assert left.abs().max() > 1e-6, name
        torch.testing.assert_close(left, right, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("tokens", [12, SHORT_ON_CPU, SHORT_ON_CPU + 1])
@pytest.mark.parametrize("collect", [False, True])
def test_bfloat16_attention_is_close_to_float32_at_any_length(tokens, collect):
    """Short ones take another path on the CPU. The values are narrower than the queries, as with positions."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, HEADS, tokens, width, generator=generator) for width in (10, 10, HEAD_DIM))
    rough = [tensor.bfloat16() for tensor in (query, key, value)]
    got = attend(*rough, scale=0.5, weights_out=[] if collect else None)
    expected = attend(*(tensor.float() for tensor in rough), scale=0.5, weights_out=None)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), expected, atol=0.03, rtol=0)


@pytest.mark.parametrize("tokens", [SHORT_ON_CPU + 1, SHORT_IN_TRAINING_ON_CPU + 1])
def test_bfloat16_gradients_are_close_to_float32_on_either_path(tokens):
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(1, HEADS, tokens, width, generator=generator) for width in (10, 10, HEAD_DIM)]
    gradients = []
    for dtype in (torch.bfloat16, torch.float32):
        leaves = [tensor.to(dtype).requires_grad_() for tensor in tensors]
        attend(*leaves, scale=0.3, weights_out=None).square().sum().backward()
        gradients.append([leaf.grad.float() for leaf in leaves])
    for rough, exact in zip(*gradients, strict=True):
        assert (rough - exact).norm() < 0.03 * exact.norm()


def test_heads_must_divide_planes():
    with pytest.raises(ValueError, match="heads is 3; allowed: a divisor of planes = 8"):
        MHSA2d(8, 3, (3, 4), "relative")


def test_tables_have_the_shapes_of_their_mode_and_start_small():
    relative, absolute = MHSA2d(8, 2, (3, 5), "relative"), MHSA2d(8, 2, (3, 5), "absolute")
    assert (relative.row_table.shape, relative.column_table.shape) == ((5, 4), (9, 4))
    assert (absolute.row_table.shape, absolute.column_table.shape) == ((2, 3, 4), (2, 5, 4))
    assert relative.qkv.bias is None
    assert absolute.qkv.bias is not None
    for table in (relative.row_table, relative.column_table, absolute.row_table, absolute.column_table):
        assert 0 < table.abs().max() < 0.1


@pytest.mark.parametrize("position", POSITIONS)
def test_a_bottleneck_of_unchanged_channels_adds_its_input(position):
    block = AttentionBottleneck(32, 8, heads=2, tokens_hw=(3, 4), position=position).eval()
    nn.init.zeros_(block.norm3.weight)
    x = torch.randn(2, 32, 3, 4)
    torch.testing.assert_close(block(x), x.relu())


@pytest.mark.parametrize(("position", "has_bias"), [("relative", False), ("absolute", True)])
def test_a_bottleneck_that_widens_projects_its_input(position, has_bias):
    block = AttentionBottleneck(16, 8, heads=2, tokens_hw=(3, 4), position=position).eval()
    nn.init.zeros_(block.norm3.weight)
    x = torch.randn(2, 16, 3, 4)
    torch.testing.assert_close(block(x), block.shortcut(x).relu())
    assert ("shortcut.conv.bias" in block.state_dict()) == has_bias
