"""The encoder layer against an independent implementation: that of PyTorch."""

import pytest
import torch
from torch import nn

from model.attention import AttentionCollector
from model.encoder import EncoderLayer

DIM, HEADS, FF_DIM = 32, 4, 48


def random_pair(seed=0):
    """Our layer and PyTorch's post-norm layer with the same random weights, in evaluation mode."""
    torch.manual_seed(seed)
    theirs = nn.TransformerEncoderLayer(DIM, HEADS, FF_DIM, batch_first=True).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    state = theirs.state_dict()
    names = {
        "qkv.weight": "self_attn.in_proj_weight",
        "qkv.bias": "self_attn.in_proj_bias",
        "out": "self_attn.out_proj",
        "feed_forward.0": "linear1",
        "feed_forward.3": "linear2",
    }
    ours = EncoderLayer(DIM, HEADS, FF_DIM, dropout=0.1).eval()
    ours.load_state_dict({name: state[renamed(name, names)] for name in ours.state_dict()})
    return ours, theirs


def renamed(name, names):
    stem, _, leaf = name.rpartition(".")
    return names.get(name) or f"{names.get(stem, stem)}.{leaf}"


def random_tokens():
    return torch.randn(2, 12, DIM, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("collect", [False, True])
def test_a_layer_is_that_of_pytorch(collect):
    ours, theirs = random_pair()
    with torch.no_grad():
        got = ours(random_tokens(), AttentionCollector() if collect else None)
        torch.testing.assert_close(got, theirs(random_tokens()), atol=1e-5, rtol=0)


def test_collected_weights_are_those_of_pytorch():
    ours, theirs = random_pair()
    tokens, collector = random_tokens(), AttentionCollector()
    with torch.no_grad():
        ours(tokens, collector)
        _, expected = theirs.self_attn(tokens, tokens, tokens, average_attn_weights=False)
    (weights,) = collector.encoder
    torch.testing.assert_close(weights, expected, atol=1e-6, rtol=0)
    assert collector.mhsa == []


def test_heads_must_divide_the_dimension():
    with pytest.raises(ValueError, match="heads is 5; allowed: a divisor of dim = 32"):
        EncoderLayer(32, 5, 48, dropout=0.1)
