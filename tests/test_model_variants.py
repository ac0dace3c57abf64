import json
import re

import pytest

from drawings import tiny_config
from model.variants import VARIANTS, PoseConfig, variant


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("conv_planes", (8,), "conv_planes is (8,); allowed: at least two groups"),
        ("mhsa_planes", (), "mhsa_planes is (); allowed: at least one group"),
        ("conv_planes", (8, 0), "planes is (8, 0, 16); allowed: positive integers"),
        ("blocks", (1, 1), "blocks is (1, 1); allowed: one positive number for each of the 3 groups"),
        ("blocks", (1, 0, 1), "blocks is (1, 0, 1); allowed: one positive number for each of the 3 groups"),
        ("blocks", (), "blocks is (); allowed: one positive number for each of the 3 groups"),
        ("mhsa_heads", 3, "mhsa_heads is 3; allowed: a divisor of 16"),
        ("mhsa_heads", 0, "mhsa_heads is 0; allowed: a divisor of 16"),
        ("encoder_heads", 5, "encoder_heads is 5; allowed: a divisor of 32"),
        ("encoder_heads", -4, "encoder_heads is -4; allowed: a divisor of 32"),
        ("model_dim", 0, "model_dim is 0; allowed: at least 1"),
        ("model_dim", -8, "model_dim is -8; allowed: at least 1"),
        ("position", "sine", "position is 'sine'; allowed: 'relative' or 'absolute'"),
        ("input_hw", (64, 44), "input_hw is (64, 44); allowed: (rows, columns), each a multiple of 8 and at least 24"),
        ("input_hw", (0, 48), "input_hw is (0, 48); allowed: (rows, columns), each a multiple of 8 and at least 24"),
        ("encoder_layers", 0, "encoder_layers is 0; allowed: at least 1"),
        ("encoder_ff_dim", 0, "encoder_ff_dim is 0; allowed: at least 1"),
        ("dropout", 1.0, "dropout is 1.0; allowed: in [0, 1)"),
        ("dropout", -0.1, "dropout is -0.1; allowed: in [0, 1)"),
        ("heatmap_sigma", 0.0, "heatmap_sigma is 0.0; allowed: positive"),
    ],
)
def test_an_impossible_field_is_refused_with_its_value_and_what_is_allowed(field, value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        tiny_config(**{field: value})


def test_each_attention_group_must_divide_by_the_heads():
    with pytest.raises(ValueError, match="mhsa_heads is 4; allowed: a divisor of 18"):
        tiny_config(mhsa_planes=(16, 18), blocks=(1, 1, 1, 1))


def test_an_unknown_variant_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"variant is 'c9'; allowed: c2a1-4, c2a2-4, c3a1-4, c3a1-8, c3a1-4-n6, "):
        variant("c9")


def test_a_variant_takes_changes_and_checks_them():
    assert variant("c3a1-8", input_hw=(128, 96)).input_hw == (128, 96)
    with pytest.raises(ValueError, match="dropout is 2"):
        variant("c3a1-8", dropout=2)


def test_every_row_is_found_under_its_own_key():
    assert all(row.key == key for key, row in VARIANTS.items())
    assert len({row.label for row in VARIANTS.values()}) == len(VARIANTS) == 6


@pytest.mark.parametrize("key", VARIANTS)
def test_a_configuration_survives_json(key):
    config = variant(key, position="absolute", input_hw=(128, 96))
    assert PoseConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_an_unknown_field_in_json_is_refused():
    with pytest.raises(ValueError, match=r"unknown \['color'\], missing \[\]"):
        PoseConfig.from_json(tiny_config().to_json() | {"color": "red"})


def test_a_missing_field_in_json_is_refused():
    stored = tiny_config().to_json()
    del stored["dropout"]
    with pytest.raises(ValueError, match=r"unknown \[\], missing \['dropout'\]"):
        PoseConfig.from_json(stored)


@pytest.mark.parametrize(("field", "value"), [("blocks", 3), ("dropout", "much")])
def test_a_field_of_the_wrong_type_in_json_is_a_value_error(field, value):
    with pytest.raises(ValueError, match="wrong type"):
        PoseConfig.from_json(tiny_config().to_json() | {field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("input_hw", [64.0, 48.0]), ("input_hw", ["64", "48"]), ("blocks", [1, 1, 1.5]), ("model_dim", 32.0)],
)
def test_sizes_that_are_not_whole_numbers_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=f"{field} is"):
        PoseConfig.from_json(tiny_config().to_json() | {field: value})


def test_an_impossible_value_in_json_is_refused_by_name():
    with pytest.raises(ValueError, match="encoder_layers is 0"):
        PoseConfig.from_json(tiny_config().to_json() | {"encoder_layers": 0})


def test_sizes_that_follow_from_the_crop():
    config = variant("c3a1-4")
    assert config.input_hw == (256, 192)
    assert config.tokens_hw == (32, 24)
    assert config.heatmap_hw == (64, 48)
    assert config.planes == (64, 96, 128, 256)
