"""The network as rival servers take it: the same answers by torch and by OpenVINO, whoever asks how many at a time."""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path

import pytest
import torch

from drawings import lively_network, tiny_config
from service.settings import BUNDLED_CHECKPOINT

sys.path.append(str(Path(__file__).resolve().parents[1] / "bench"))  # no package: its scripts import each other by name
models, rivals = map(importlib.import_module, ("rival_models", "rivals"))


@pytest.fixture(scope="module")
def nets():
    net = lively_network(tiny_config())
    return net, models.by_openvino(net, checkpoint_sha256="0" * 64, dtype=torch.float32)


@pytest.mark.parametrize("persons", [1, 2, 3, 7])
def test_the_network_by_openvino_is_the_network_by_torch(nets, persons):
    exact, fast = nets
    crops = torch.randn(persons, 3, *tiny_config().input_hw, generator=torch.Generator().manual_seed(persons))
    with torch.inference_mode():
        found = fast(crops.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2))  # whatever the memory's order
        torch.testing.assert_close(found, exact(crops), atol=1e-4, rtol=1e-4)


def test_threads_that_ask_at_a_time_have_their_own_answers(nets):
    exact, fast = nets
    crops = torch.randn(12, 3, *tiny_config().input_hw, generator=torch.Generator().manual_seed(1))
    found = {}

    def ask(first: int, last: int) -> None:
        found[first] = fast(crops[first:last])

    asking = [threading.Thread(target=ask, args=(first, first + 1 + first % 2)) for first in range(11)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    with torch.inference_mode():
        expected = exact(crops)
    assert len(found) == 11
    for first, heatmaps in found.items():
        torch.testing.assert_close(heatmaps, expected[first : first + len(heatmaps)], atol=1e-4, rtol=1e-4)


def test_what_is_kept_of_a_network_answers_as_it_did(nets, tmp_path):
    exact, _ = nets
    crops = torch.randn(2, 3, *tiny_config().input_hw)
    made = [
        models.by_openvino(exact, checkpoint_sha256="1", dtype=torch.float32, cache_dir=tmp_path / "new")
        for _ in range(2)
    ]
    assert len(list((tmp_path / "new").glob("*.xml"))) == 1
    torch.testing.assert_close(made[0](crops), made[1](crops), atol=1e-5, rtol=1e-5)


def test_the_rivals_weights_are_those_of_our_service():
    assert models.CHECKPOINT == BUNDLED_CHECKPOINT
    assert tuple(map(int, rivals.INPUT.split("x"))) == models.INPUT_HW
