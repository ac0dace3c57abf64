"""Attention as it is read out: every variant, both position modes, rows and columns at the right place."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from drawings import TINY_HW, lively_network, noise_photograph, tiny_config
from model import attention as attention_module
from model.attention import AttentionCollector
from model.crop import normalise
from model.dependency import query_tokens, read_attention
from model.estimator import PoseEstimator
from model.levels import LEVELS
from model.variants import VARIANTS, variant

# Of the paper's variants: layers and heads at the MHSA level (those of the last group), and in the encoder.
DOCUMENTED = {
    "c2a1-4": {"mhsa": (6, 4), "encoder": (4, 8)},
    "c2a2-4": {"mhsa": (3, 4), "encoder": (4, 8)},
    "c3a1-4": {"mhsa": (3, 4), "encoder": (4, 8)},
    "c3a1-8": {"mhsa": (3, 8), "encoder": (4, 8)},
    "c3a1-4-n6": {"mhsa": (3, 4), "encoder": (6, 8)},
    "c3a1-4-large": {"mhsa": (3, 4), "encoder": (4, 8)},
}
MHSA_BLOCKS = {key: sum(config.blocks[len(config.conv_planes) :]) for key, config in VARIANTS.items()}


def crops_of(count, hw=TINY_HW):
    return [noise_photograph(*hw, seed=seed) for seed in range(count)]


def batch_of(crops):
    return normalise(torch.from_numpy(np.stack(crops)))


@torch.inference_mode()
def collected(net, batch, levels=LEVELS):
    collector = AttentionCollector(levels)
    return net(batch, collector), collector


@pytest.fixture(scope="module", params=[(key, mode) for key in VARIANTS for mode in ("relative", "absolute")], ids=str)
def full(request):
    """Each variant of the paper, on a small crop: its key, and an estimator."""
    key, position = request.param
    return key, PoseEstimator(lively_network(variant(key, position=position, input_hw=TINY_HW)))


@pytest.fixture(scope="module")
def tiny():
    return PoseEstimator(lively_network(tiny_config(blocks=(1, 1, 2), encoder_layers=2)))


def test_the_explicit_path_gives_the_heatmaps_of_the_fused_one(full):
    _, estimator = full
    batch = batch_of(crops_of(2))
    with torch.inference_mode():
        fused = estimator.net(batch)
    explicit, _ = collected(estimator.net, batch)
    assert fused.std() > 0.01, "the network says nothing"
    torch.testing.assert_close(explicit, fused, atol=1e-4, rtol=1e-4)


def test_rows_are_distributions_in_every_layer_and_head(full):
    key, estimator = full
    _, collector = collected(estimator.net, batch_of(crops_of(1)))
    assert (len(collector.mhsa), len(collector.encoder)) == (MHSA_BLOCKS[key], DOCUMENTED[key]["encoder"][0])
    for level, layers in (("mhsa", collector.mhsa), ("encoder", collector.encoder)):
        for weights in layers:
            assert weights.shape == (1, DOCUMENTED[key][level][1], 48, 48)
            assert weights.min() >= 0
            torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]), atol=1e-5, rtol=0)


def test_both_levels_have_the_documented_layers_and_heads(full):
    key, estimator = full
    (found,) = estimator.explain(crops_of(1))
    assert found.attention.keys() == {"mhsa", "encoder"}
    for level, (layers, heads) in DOCUMENTED[key].items():
        attention = found.attention[level]
        assert (attention.level, attention.layers, attention.heads) == (level, layers, heads)
        assert attention.dependency.shape == attention.affect.shape == (layers, heads, 17, 8, 6)
        np.testing.assert_allclose(attention.dependency.sum(axis=(-2, -1)), 1.0, atol=1e-5)
        assert ((attention.affect >= 0) & (attention.affect <= 1)).all()


def test_maps_are_the_rows_and_columns_of_the_last_groups_layers(full):
    key, estimator = full
    crops = crops_of(1)
    (found,) = estimator.explain(crops)
    _, collector = collected(estimator.net, batch_of(crops))
    for level in LEVELS:
        attention = found.attention[level]
        last_layers = collector.weights_out(level)[-DOCUMENTED[key][level][0] :]
        for layer, weights in enumerate(last_layers):
            for keypoint, (row, column) in enumerate(attention.queries):
                token = 6 * row + column
                expected_row, expected_column = weights[0, :, token], weights[0, :, :, token]
                found_row = attention.dependency[layer, :, keypoint].reshape(-1, 48)
                found_column = attention.affect[layer, :, keypoint].reshape(-1, 48)
                np.testing.assert_allclose(found_row, expected_row.numpy(), atol=1e-6)
                np.testing.assert_allclose(found_column, expected_column.numpy(), atol=1e-6)


@pytest.mark.parametrize("level", LEVELS)
def test_one_level_alone_leaves_the_other_on_the_fused_path(full, level, monkeypatch):
    key, estimator = full
    batch = batch_of(crops_of(1))
    together, both = collected(estimator.net, batch)
    calls = Counter()
    fused = attention_module.F.scaled_dot_product_attention

    def counted(*args, **options):
        calls["fused"] += 1
        return fused(*args, **options)

    monkeypatch.setattr(attention_module.F, "scaled_dot_product_attention", counted)
    alone, one = collected(estimator.net, batch, (level,))
    layers = {"mhsa": MHSA_BLOCKS[key], "encoder": DOCUMENTED[key]["encoder"][0]}
    (other,) = set(LEVELS) - {level}
    assert calls["fused"] == layers[other]
    assert getattr(one, other) == []
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=1e-4)
    for first, second in zip(getattr(one, level), getattr(both, level), strict=True):
        torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-3)


def test_explained_keypoints_are_the_estimated_ones(full):
    _, estimator = full
    crops = crops_of(2)
    for explained, estimated in zip(estimator.explain(crops), estimator.estimate(crops), strict=True):
        np.testing.assert_allclose(explained.points, estimated.points, atol=1e-3)
        np.testing.assert_allclose(explained.scores, estimated.scores, atol=1e-4)


def test_the_papers_input_size():
    estimator = PoseEstimator(lively_network(variant("c3a1-4")))
    crops = crops_of(1, (256, 192))
    with torch.inference_mode():
        fused = estimator.net(batch_of(crops))
    explicit, _ = collected(estimator.net, batch_of(crops))
    torch.testing.assert_close(explicit, fused, atol=1e-4, rtol=1e-4)
    (found,) = estimator.explain(crops, levels=("encoder",))
    assert found.attention["encoder"].dependency.shape == (4, 8, 17, 32, 24)
    np.testing.assert_allclose(found.attention["encoder"].dependency.sum(axis=(-2, -1)), 1.0, atol=1e-5)


def test_rows_are_distributions_in_bf16(tiny):
    estimator = PoseEstimator(lively_network(tiny.config), dtype=torch.bfloat16)
    for found in estimator.explain(crops_of(2)):
        for level in LEVELS:
            assert found.attention[level].dependency.dtype == np.float32
            np.testing.assert_allclose(found.attention[level].dependency.sum(axis=(-2, -1)), 1.0, atol=1e-3)


def test_a_batch_is_not_mixed_up(tiny):
    crops = crops_of(3)
    together = tiny.explain(crops)
    for found, crop in zip(together, crops, strict=True):
        (alone,) = tiny.explain([crop])
        np.testing.assert_array_equal(found.points, alone.points)
        for level in LEVELS:
            np.testing.assert_array_equal(found.attention[level].dependency, alone.attention[level].dependency)
            np.testing.assert_array_equal(found.attention[level].affect, alone.attention[level].affect)
    first, second = (found.attention["encoder"].dependency for found in together[:2])
    assert np.abs(first - second).max() > 1e-3, "all crops have the same attention"


def test_explaining_leaves_no_trace(tiny):
    crops = crops_of(2)
    before = tiny.estimate(crops)
    explained = tiny.explain(crops)
    for one, other in zip(tiny.estimate(crops), before, strict=True):
        np.testing.assert_array_equal(one.points, other.points)
        np.testing.assert_array_equal(one.scores, other.scores)
    again = tiny.explain(crops)[1].attention["mhsa"].dependency
    np.testing.assert_array_equal(again, explained[1].attention["mhsa"].dependency)


def test_only_the_levels_asked_for(tiny):
    (found,) = tiny.explain(crops_of(1), levels=("mhsa",))
    assert found.attention.keys() == {"mhsa"}
    assert tiny.explain([]) == []
    with pytest.raises(ValueError, match=r"crop has shape \(32, 24, 3\); allowed: \(64, 48, 3\)"):
        tiny.explain(crops_of(1, (32, 24)))


EPS = 1e-9


@pytest.mark.parametrize(
    ("x", "column"),
    [(-0.5, 0), (0.0, 0), (7.5 - EPS, 0), (7.5, 1), (8.0, 1), (15.5 - EPS, 1), (15.5, 2), (39.5, 5), (47.5 - EPS, 5)],
)
def test_a_token_begins_half_a_pixel_before_its_first_pixel(x, column):
    assert query_tokens(np.array([[x, 3.0]]), (8, 6)).tolist() == [[0, column]]
    assert query_tokens(np.array([[3.0, x]]), (8, 6)).tolist() == [[column, 0]]


@pytest.mark.parametrize(
    ("point", "token"),
    [
        ((-0.6, 20.0), [2, 0]),
        ((-1e6, -1e6), [0, 0]),
        ((47.5, 63.5), [7, 5]),
        ((20.0, 1e6), [7, 2]),
        ((1e6, 20.0), [2, 5]),
    ],
)
def test_a_point_outside_the_crop_belongs_to_the_nearest_token(point, token):
    assert query_tokens(np.array([point]), (8, 6)).tolist() == [token]


def counting_weights(heads, tokens):
    """[A, N, N] of which every entry says where it is: thousands for the head, then row, then column."""
    head, row, column = torch.meshgrid(torch.arange(heads), torch.arange(tokens), torch.arange(tokens), indexing="ij")
    return (10_000 * head + 100 * row + column).float()


def test_rows_and_columns_by_hand():
    layers = [counting_weights(2, 6), counting_weights(2, 6) + 0.5]
    points = np.array([[9.0, 10.0], [0.0, 0.0]])  # tokens (1, 1) and (0, 0) of 2 rows and 3 columns: 4 and 0
    found = read_attention(layers, points, (2, 3), "encoder")
    assert found.queries.tolist() == [[1, 1], [0, 0]]
    assert found.dependency[0, 0, 0].tolist() == [[400, 401, 402], [403, 404, 405]]
    assert found.affect[0, 0, 0].tolist() == [[4, 104, 204], [304, 404, 504]]
    assert found.affect[1, 1, 1].tolist() == [[10000.5, 10100.5, 10200.5], [10300.5, 10400.5, 10500.5]]
    np.testing.assert_array_equal(found.of(0, layer=1, head=1, mode="affect"), found.affect[1, 1, 0])
    assert found.of(1, layer=0, head=None, mode="dependency").tolist() == [[5000, 5001, 5002], [5003, 5004, 5005]]


@pytest.mark.parametrize(
    ("chosen", "complaint"),
    [
        ({"layer": 2}, "layer is 2; allowed: 0 to 1"),
        ({"layer": -1}, "layer is -1; allowed: 0 to 1"),
        ({"head": 2}, "head is 2; allowed: 0 to 1"),
        ({"head": -1}, "head is -1; allowed: 0 to 1"),
        ({"keypoint": 1}, "keypoint is 1; allowed: 0 to 0"),
    ],
)
def test_what_is_not_there_is_refused(chosen, complaint):
    found = read_attention([counting_weights(2, 6)] * 2, np.zeros((1, 2)), (2, 3), "mhsa")
    keypoint = chosen.pop("keypoint", 0)
    with pytest.raises(IndexError, match=complaint):
        found.of(keypoint, **({"layer": 0, "head": 0, "mode": "dependency"} | chosen))
