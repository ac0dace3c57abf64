import dataclasses
import hashlib
import json
import re

import pytest
import torch
from safetensors.torch import load_file, save

from drawings import lively_network, tiny_config
from model.checkpoint import (
    FORMAT,
    CheckpointCard,
    CheckpointError,
    load_checkpoint,
    load_strictly,
    read_card,
    save_checkpoint,
    write_atomically,
    write_card,
)


@pytest.fixture
def net():
    return lively_network(tiny_config())


@pytest.fixture
def saved(net, tmp_path):
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, net, training={"epochs": 3})
    return path


def change_card(path, **changes):
    card_path = path.with_suffix(".json")
    card_path.write_text(json.dumps(json.loads(card_path.read_text()) | changes))


def replace_weights(path, content):
    """Other bytes, with a card that agrees with them."""
    path.write_bytes(content)
    change_card(path, sha256=hashlib.sha256(content).hexdigest())


def random_crops(hw):
    return torch.randn(2, 3, *hw, generator=torch.Generator().manual_seed(0))


def test_float32_weights_come_back_exactly(net, tmp_path):
    save_checkpoint(tmp_path / "net.safetensors", net, training={}, dtype=torch.float32)
    loaded, _ = load_checkpoint(tmp_path / "net.safetensors")
    expected = net.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight, expected[name]), name


def test_float16_weights_come_back_rounded_as_float32(net, saved):
    loaded, _ = load_checkpoint(saved)
    assert not loaded.training
    for name, weight in net.state_dict().items():
        expected = weight.half().float() if weight.is_floating_point() else weight
        assert loaded.state_dict()[name].dtype == weight.dtype
        assert torch.equal(loaded.state_dict()[name], expected), name


def test_float16_is_stored_in_half_the_bytes(net, saved, tmp_path):
    save_checkpoint(tmp_path / "large.safetensors", net, training={}, dtype=torch.float32)
    assert {w.dtype for w in load_file(saved).values()} == {torch.float16, torch.int64}
    assert saved.stat().st_size < 0.6 * (tmp_path / "large.safetensors").stat().st_size


def test_saving_leaves_the_network_as_it_was(net, tmp_path):
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    save_checkpoint(tmp_path / "net.safetensors", net, training={})
    assert all(torch.equal(weight, before[name]) for name, weight in net.state_dict().items())
    assert next(net.parameters()).dtype == torch.float32


def test_the_card_says_what_the_weights_are(net, saved):
    stored = json.loads(saved.with_suffix(".json").read_text())
    assert stored == {
        "format": FORMAT,
        "config": json.loads(json.dumps(net.config.to_json())),
        "sha256": hashlib.sha256(saved.read_bytes()).hexdigest(),
        "training": {"epochs": 3},
        "metrics": [],
    }


def test_a_card_is_read_without_its_weights_and_written_again(net, saved):
    saved.unlink()
    card = read_card(saved)
    assert card == CheckpointCard(config=net.config, sha256=card.sha256, training={"epochs": 3})
    measured = dataclasses.replace(card, metrics=[{"AP": 0.5}])
    write_card(saved, measured)
    assert read_card(saved) == measured


def test_saving_makes_the_folder_and_leaves_only_two_files(net, tmp_path):
    save_checkpoint(tmp_path / "new" / "folder" / "net.safetensors", net, training={})
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == ["net.json", "net.safetensors"]


@pytest.mark.parametrize("position", ["relative", "absolute"])
@pytest.mark.parametrize("input_hw", [(32, 24), (128, 96)])
def test_loading_at_another_crop_size_resamples_the_positions(position, input_hw, tmp_path):
    net = lively_network(tiny_config(position=position))
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, net, training={}, dtype=torch.float32)
    loaded, card = load_checkpoint(path, input_hw=input_hw)
    assert loaded.config == dataclasses.replace(net.config, input_hw=input_hw)
    assert card.config == net.config
    assert loaded(random_crops(input_hw)).shape == (2, 17, input_hw[0] // 4, input_hw[1] // 4)
    changed = {name for name, weight in net.state_dict().items() if loaded.state_dict()[name].shape != weight.shape}
    assert {name.rpartition(".")[2] for name in changed} == {"row_table", "column_table", "position_embedding"}


@pytest.mark.parametrize("input_hw", [(32, 24), (128, 96)])
def test_absolute_positions_mean_the_same_resampled_at_loading_or_while_running(input_hw, tmp_path):
    net = lively_network(tiny_config(position="absolute"))
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, net, training={}, dtype=torch.float32)
    loaded, _ = load_checkpoint(path, input_hw=input_hw)
    crops = random_crops(input_hw)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(crops), net(crops), atol=1e-4, rtol=0)


def refused(path, *parts):
    """Loading raises one CheckpointError that names the file and says what is wrong."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    for part in parts:
        assert str(part) in str(caught.value)


def test_missing_weights_are_refused(saved):
    saved.unlink()
    refused(saved, saved, "No such file")


def test_a_missing_card_is_refused(saved):
    saved.with_suffix(".json").unlink()
    refused(saved, saved.with_suffix(".json"), "the card that belongs to", saved)


@pytest.mark.parametrize("text", ["{", "", "\x80"])
def test_a_card_that_is_not_json_is_refused(saved, text):
    saved.with_suffix(".json").write_bytes(text.encode("latin-1"))
    refused(saved, saved.with_suffix(".json"), "is not JSON")


@pytest.mark.parametrize(
    ("content", "found"), [({"format": "other-1"}, "'other-1'"), ({}, "None"), ([1], "'list'"), (None, "'NoneType'")]
)
def test_a_card_of_another_format_is_refused(saved, content, found):
    saved.with_suffix(".json").write_text(json.dumps(content))
    refused(saved, saved.with_suffix(".json"), f"has format {found}; allowed: {FORMAT!r}")


@pytest.mark.parametrize("missing", ["config", "sha256"])
def test_a_card_without_a_needed_field_is_refused(saved, missing):
    stored = json.loads(saved.with_suffix(".json").read_text())
    del stored[missing]
    saved.with_suffix(".json").write_text(json.dumps(stored))
    refused(saved, saved.with_suffix(".json"), "is not a card of this format", missing)


@pytest.mark.parametrize(
    "change", [{"config": 5}, {"config": {"key": "tiny"}}, {"training": 5}, {"metrics": 5}, {"training": [1]}]
)
def test_a_card_with_a_field_of_another_kind_is_refused(saved, change):
    change_card(saved, **change)
    refused(saved, saved.with_suffix(".json"), "is not a card of this format")


def test_a_card_with_an_impossible_architecture_is_refused(saved):
    config = json.loads(saved.with_suffix(".json").read_text())["config"]
    change_card(saved, config=config | {"encoder_heads": 5})
    refused(saved, saved.with_suffix(".json"), "encoder_heads is 5")


@pytest.mark.parametrize("kept", [0, 5, 1000, -1])
def test_truncated_weights_are_refused(saved, kept):
    saved.write_bytes(saved.read_bytes()[:kept])
    refused(saved, saved, "is damaged or not the file of its card")


@pytest.mark.parametrize("place", [0, 200, -1])
def test_one_flipped_bit_is_refused(saved, place):
    content = bytearray(saved.read_bytes())
    content[place] ^= 1
    saved.write_bytes(content)
    refused(saved, saved, "SHA-256")


def test_a_card_of_other_weights_is_refused(saved):
    change_card(saved, sha256="0" * 64)
    refused(saved, saved, "the card says " + "0" * 64)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80\x04K\x01.", bytes(100), b"\xff" * 100])
def test_garbage_is_refused_even_if_the_card_agrees_with_it(saved, content):
    replace_weights(saved, content)
    refused(saved, saved, "is not a safetensors file")


def test_the_card_of_another_variant_is_refused_naming_the_tensors(saved):
    config = json.loads(saved.with_suffix(".json").read_text())["config"]
    change_card(saved, config=config | {"model_dim": 64})
    refused(saved, saved, "does not fit the network", "backbone.encoder.0.norm1.bias is [32], not [64]", "more")


def test_a_missing_and_a_left_over_tensor_are_refused_by_name(saved):
    weights = load_file(saved)
    weights["extra"] = weights.pop("head.heatmaps.bias")
    replace_weights(saved, save(weights))
    refused(saved, saved, "extra is unknown; head.heatmaps.bias is missing")


def test_strict_loading_changes_nothing_when_it_refuses(net):
    before = net.state_dict()["head.heatmaps.bias"].clone()
    with pytest.raises(CheckpointError, match=r"here does not fit the network: .* is missing"):
        load_strictly(net, {"head.heatmaps.bias": before + 1}, source="here")
    assert torch.equal(net.state_dict()["head.heatmaps.bias"], before)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_weights_that_are_not_finite_as_stored_are_not_saved(net, tmp_path, value):
    """A million is finite, but not in float16."""
    with torch.no_grad():
        net.head.heatmaps.bias[3] = value
    with pytest.raises(CheckpointError, match=r"head\.heatmaps\.bias has values that are not finite in torch\.float16"):
        save_checkpoint(tmp_path / "net.safetensors", net, training={})
    assert list(tmp_path.iterdir()) == []


def test_a_refused_save_leaves_the_old_checkpoint(net, saved):
    old = saved.read_bytes()
    with torch.no_grad():
        net.head.heatmaps.bias[3] = float("nan")
    with pytest.raises(CheckpointError, match=re.escape(str(saved))):
        save_checkpoint(saved, net, training={})
    assert saved.read_bytes() == old
    load_checkpoint(saved)


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old and long")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_replacement_leaves_everything_as_it_was(tmp_path):
    target = tmp_path / "taken"
    target.mkdir()
    (target / "kept").write_text("kept")
    with pytest.raises(OSError, match="taken"):
        write_atomically(target, b"new")
    assert (target / "kept").read_text() == "kept"
    assert list(tmp_path.iterdir()) == [target]
