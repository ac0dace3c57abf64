"""The embedded detector: its network, what is made of its maps, its checkpoint, and what a setting makes of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from drawings import noise_photograph, randomise_norm
from model import finder_openvino, load_detector
from model.checkpoint import CheckpointError, save_checkpoint
from model.detection import DetectionLimits
from model.finder_checkpoint import load_finder, save_finder
from model.finder_detector import FinderDetector, centres
from model.load_detector import torch_maps
from model.person_finder import STRIDE, FinderConfig, PersonFinder, decode_boxes

SMALL = FinderConfig(input_side=64, stem_channels=8, planes=(4, 4, 4, 4), blocks=(1, 1, 1, 1), neck_channels=8)


def lively_finder(config: FinderConfig = SMALL) -> PersonFinder:
    """A network whose every part matters."""
    torch.manual_seed(0)
    net = PersonFinder(config)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            randomise_norm(module)
    torch.nn.init.normal_(net.head.weight, std=0.3)
    torch.nn.init.zeros_(net.head.bias)
    return net.eval()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("finder") / "finder.safetensors"
    save_finder(path, lively_finder(), training={"task": "persons"})
    return path


def planted_maps(edges: tuple[float, float, float, float], side: int) -> torch.Tensor:
    """Maps that say one box, from the place that its centre lies in."""
    maps = torch.full((1, 5, side // STRIDE, side // STRIDE), -6.0)
    left, top, right, bottom = edges
    row, column = int((top + bottom) / 2 / STRIDE), int((left + right) / 2 / STRIDE)
    x, y = STRIDE * (column + 0.5), STRIDE * (row + 0.5)
    maps[0, 0, row, column] = 2.0
    maps[0, 1:, row, column] = torch.tensor([x - left, y - top, right - x, bottom - y]).div(STRIDE).log()
    return maps


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("input_side", 100, "a multiple of 32"),
        ("neck_channels", 0, "above 0"),
        ("planes", (1, 2, 3), "four numbers above 0"),
        ("blocks", (1, 0, 1, 1), "four numbers above 0"),
    ],
)
def test_a_network_that_cannot_be_is_refused(field, value, allowed):
    with pytest.raises(ValueError, match=f"{field} is .*; allowed: {allowed}"):
        FinderConfig(**{field: value})


def test_maps_have_an_eighth_of_the_pixels_each_way_for_inputs_of_any_size():
    net = PersonFinder(SMALL)
    assert net(torch.zeros(2, 3, 64, 96)).shape == (2, 5, 8, 12)
    before = net(torch.zeros(1, 3, 64, 64))[:, 0].sigmoid()
    assert before.max() < 0.05  # nobody, before anything is learned


def test_a_box_is_where_its_place_says():
    edges = (5.0, 9.5, 30.0, 60.0)
    box = decode_boxes(planted_maps(edges, 64))[0, 4, 2]
    torch.testing.assert_close(box, torch.tensor(edges))


def test_of_places_beside_each_other_the_likeliest_is_the_centre():
    maps = planted_maps((5.0, 9.5, 30.0, 60.0), 64)
    maps[0, 0, 4, 3] = 1.9
    maps[0, 0, 0, 7] = -1.0
    ((edges, scores),) = centres(maps, 0.2)
    np.testing.assert_allclose(scores, torch.tensor([2.0, -1.0]).sigmoid(), atol=1e-6)
    np.testing.assert_allclose(edges[0], [5.0, 9.5, 30.0, 60.0], atol=1e-4)


@pytest.mark.parametrize("image_hw", [(64, 64), (128, 64), (40, 100)])
def test_a_person_is_told_in_pixels_of_the_picture(image_hw):
    scale = 64 / max(image_hw)
    left, top = (64 - image_hw[1] * scale) / 2, (64 - image_hw[0] * scale) / 2
    box = np.array([0.25 * image_hw[1], 0.125 * image_hw[0], 0.5 * image_hw[1], 0.75 * image_hw[0]])
    edges = np.concatenate((box[:2], box[:2] + box[2:])) * scale + [left, top, left, top]
    seen = []

    def maps(pixels):
        seen.append(pixels)
        return planted_maps(tuple(edges), 64).repeat(len(pixels), 1, 1, 1)

    image = np.full((*image_hw, 3), 255, dtype=np.uint8)
    found = FinderDetector(maps, SMALL, batch=2).detect([image] * 3)
    assert [len(part) for part in seen] == [2, 1]
    for one in found:
        np.testing.assert_allclose(one.boxes_xywh, [box], atol=max(image_hw) / 64)
        np.testing.assert_allclose(one.scores, [torch.tensor(2.0).sigmoid()], atol=1e-6)


def test_nobody_is_found_in_no_pictures():
    assert FinderDetector(torch_maps(PersonFinder(SMALL)), SMALL).detect([]) == []


def test_a_checkpoint_gives_the_same_maps_again(checkpoint):
    net, card = load_finder(checkpoint)
    assert (card.config, card.training) == (SMALL, {"task": "persons"})
    pixels = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(net(pixels), lively_finder()(pixels), atol=0.05, rtol=0.05)


def test_a_pose_checkpoint_is_not_a_finder_nor_is_what_is_damaged(checkpoint, tmp_path):
    from drawings import lively_network, tiny_config

    save_checkpoint(tmp_path / "poses.safetensors", lively_network(tiny_config()), training={})
    with pytest.raises(CheckpointError, match="that one finds keypoints, not people"):
        load_finder(tmp_path / "poses.safetensors")
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"other{suffix}").write_bytes(checkpoint.with_suffix(suffix).read_bytes())
    damaged = bytearray((tmp_path / "other.safetensors").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "other.safetensors").write_bytes(damaged)
    with pytest.raises(CheckpointError, match="damaged or not the file of its card"):
        load_finder(tmp_path / "other.safetensors")
    (tmp_path / "other.safetensors").write_bytes(checkpoint.read_bytes())
    card = json.loads(checkpoint.with_suffix(".json").read_text())
    card["config"]["colour"] = "red"
    (tmp_path / "other.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match=r"not a card of this format.*colour"):
        load_finder(tmp_path / "other.safetensors")


def test_the_setting_says_which_detector(checkpoint):
    assert load_detector.load_detector("none") is None
    detector = load_detector.load_detector("embedded", threads=1, embedded=checkpoint)
    assert detector is not None
    assert detector.name == "embedded"
    for unknown in ("hog", "", "onnx:", "ONNX:x.onnx"):
        with pytest.raises(ValueError, match=f"detector is '{unknown}'; allowed: none, embedded, or onnx:PATH"):
            load_detector.load_detector(unknown)
    with pytest.raises(ValueError, match=r"nowhere.onnx does not exist; allowed after onnx: the path"):
        load_detector.load_detector("onnx:nowhere.onnx")


def test_openvino_finds_the_people_that_torch_finds(checkpoint):
    limits = DetectionLimits(min_score=0.05)
    net, card = load_finder(checkpoint)
    exact = FinderDetector(torch_maps(net), card.config, limits)
    fast = load_detector.load_detector("embedded", threads=1, limits=limits, embedded=checkpoint)
    assert fast is not None
    images = [noise_photograph(90, 120, seed=seed, blur=4.0) for seed in range(3)]
    for one, other in zip(exact.detect(images), fast.detect(images), strict=True):
        assert len(one.scores) > 0
        np.testing.assert_allclose(one.boxes_xywh, other.boxes_xywh, atol=0.01)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


def test_the_second_start_converts_nothing(checkpoint, tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("the network was converted again")

    load_detector.load_detector("embedded", cache_dir=tmp_path, embedded=checkpoint)
    monkeypatch.setattr(finder_openvino, "convert_module", never)
    load_detector.load_detector("embedded", cache_dir=tmp_path, embedded=checkpoint)


def test_what_answers_otherwise_than_torch_does_not_serve(checkpoint, monkeypatch):
    def wrong(net, *_, **__):
        return lambda pixels: torch_maps(net)(pixels) * 1.1

    monkeypatch.setattr(finder_openvino, "openvino_maps", wrong)
    with pytest.raises(ValueError, match=r"answers otherwise than by torch, by 10.00%"):
        load_detector.load_detector("embedded", embedded=checkpoint)


def test_the_bundled_one_is_whole_and_small_and_told_with_its_figures():
    _, card = load_finder(load_detector.BUNDLED_FINDER)
    assert load_detector.BUNDLED_FINDER.stat().st_size < 6_000_000
    (measured,) = card.metrics
    assert {"annotations", "persons", "recall", "AP50", "told_above"} <= measured.keys()
