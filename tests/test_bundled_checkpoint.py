"""The checkpoint in the repository: small enough, whole, and as good as its card says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.checkpoint import load_checkpoint, read_card
from service.settings import BUNDLED_CHECKPOINT
from training.evaluate import main as evaluate
from training.oks import METRIC_NAMES

ROOT = Path(__file__).resolve().parents[1]
COCO = ROOT.parent / "shared" / "data" / "coco"


def test_it_is_whole_and_below_the_weight_limit():
    assert BUNDLED_CHECKPOINT.stat().st_size < 25_000_000
    net, card = load_checkpoint(BUNDLED_CHECKPOINT)
    assert net.config.key == BUNDLED_CHECKPOINT.stem
    assert card.training["data"]


def test_its_card_names_the_protocol_of_every_figure():
    card = read_card(BUNDLED_CHECKPOINT)
    assert card.metrics
    for measured in card.metrics:
        assert measured["boxes"] in ("gt", "detections")
        assert {"flip_test", "annotations", "persons", "runtime", *METRIC_NAMES} <= measured.keys()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not COCO.is_dir(), reason="needs the COCO photographs in ../shared/data")
@pytest.mark.parametrize("flip", ["--no-flip-test", "--flip-test"])
def test_evaluation_gives_the_cards_figures_again(flip, tmp_path):
    """By OpenVINO, the faster one, which must give torch's figures."""
    out = tmp_path / "out.json"
    given = [
        "--checkpoint",
        BUNDLED_CHECKPOINT,
        "--images",
        COCO / "dev",
        "--out",
        out,
        "--device",
        "cpu",
        "--precision",
        "fp32",
        "--runtime",
        "openvino",
        flip,
    ]
    annotations = COCO / "annotations" / "person_keypoints_dev.json"
    assert evaluate([str(option) for option in [*given, "--annotations", annotations]]) == 0
    found = json.loads(out.read_text())
    assert found["runtime"] == "openvino cpu float32"
    found["runtime"] = "torch cpu float32"
    protocol = ("boxes", "flip_test", "annotations", "runtime")
    (known,) = [
        measured
        for measured in read_card(BUNDLED_CHECKPOINT).metrics
        if all(measured[key] == found[key] for key in protocol)
    ]
    for name in METRIC_NAMES:
        assert found[name] == pytest.approx(known[name], abs=0.002)
