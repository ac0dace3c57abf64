"""The table of variants: published figures, and the form that other programs read."""

from __future__ import annotations

import json

import pytest

from model.summary import as_text, count_flops, count_parameters, feature_maps, main
from model.variants import VARIANTS, variant

PUBLISHED_MILLIONS = {
    "c2a1-4": 6.80,
    "c2a2-4": 9.55,
    "c3a1-4": 10.09,
    "c3a1-8": 10.09,
    "c3a1-4-n6": 11.67,
    "c3a1-4-large": 23.82,
}


@pytest.mark.parametrize("key", VARIANTS)
def test_absolute_positions_give_the_published_counts(key):
    assert round(count_parameters(variant(key, position="absolute")) / 1e6, 2) == PUBLISHED_MILLIONS[key]


def test_feature_maps_are_those_of_table_5():
    assert list(feature_maps(variant("c3a1-4")).values()) == [
        [3, 256, 192],
        [64, 64, 48],
        [256, 64, 48],
        [384, 32, 24],
        [512, 32, 24],
        [1024, 32, 24],
        [256, 32, 24],
        [768, 256],
        [768, 256],
        [256, 32, 24],
        [256, 64, 48],
        [17, 64, 48],
    ]


def flops_by_hand(config) -> int:
    """Multiply-adds from the paper's layer table alone, for absolute positions."""
    full, tokens = 64 * 48, 32 * 24
    total = 3 * 49 * 64 * 128 * 96
    channels = 64
    for index, (planes, blocks) in enumerate(zip(config.planes, config.blocks, strict=True)):
        pixels = full if index == 0 else tokens
        for block in range(blocks):
            first_pixels = full if index <= 1 and block == 0 else pixels
            middle = 9 * planes**2 if index < len(config.conv_planes) else 3 * planes**2 + 2 * planes * tokens
            total += channels * planes * first_pixels + (middle + planes * 4 * planes) * pixels
            total += channels * 4 * planes * pixels if block == 0 else 0  # shortcut
            channels = 4 * planes
    total += channels * 256 * tokens
    total += config.encoder_layers * tokens * (4 * 256**2 + 2 * 256 * tokens + 2 * 256 * 1024)
    return total + 16 * 256 * 256 * tokens + 256 * 17 * full


@pytest.mark.parametrize("key", ["c2a1-4", "c2a2-4", "c3a1-4", "c3a1-4-large"])
def test_flops_count_two_for_each_multiply_add(key):
    config = variant(key, position="absolute")
    assert count_flops(config) == 2 * flops_by_hand(config)


def test_json_has_a_row_for_each_variant(capsys):
    assert main(["--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["key"] for row in rows] == list(VARIANTS)
    for row in rows:
        assert row.keys() >= {"key", "label", "parameters", "gflops", "feature_maps"}
        assert row["parameters"].keys() == {"relative", "absolute"}
    text = as_text(rows)
    assert all(row["label"] in text for row in rows)
    assert max(map(len, text.splitlines())) <= 120
