"""`python -m service` as an operator runs it: start, answer, agree with the evaluation, stop."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from drawings import draw_coco, lively_network, tiny_config
from model.checkpoint import save_checkpoint
from service.settings import BUNDLED_CHECKPOINT
from training.evaluate import main as evaluate

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def served(*flags: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A running service on a free port: its address, and the process."""
    command = [sys.executable, "-m", "service", "--http-port", "0", "--device", "cpu", *flags]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        yield wait_for_address(process), process
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def wait_for_address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"running on (http://\S+)", line):
            # Go on reading, or the process would stall on a full pipe.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return found[1]
    pytest.fail("the service did not start:\n" + "".join(said))


def wait_until_ready(address: str) -> None:
    for _ in range(600):
        if httpx.get(f"{address}/readyz").status_code == 200:
            return
    pytest.fail("the service did not become ready")


def test_it_answers_what_the_evaluation_measures_and_stops_on_sigterm(tmp_path):
    annotations, images = draw_coco(tmp_path, persons=4)
    checkpoint = tmp_path / "tiny.safetensors"
    save_checkpoint(checkpoint, lively_network(tiny_config()), training={})
    results = tmp_path / "results.json"
    command = ["--checkpoint", checkpoint, "--annotations", annotations, "--images", images, "--save-results", results]
    assert (
        evaluate([str(option) for option in [*command, "--flip-test", "--device", "cpu", "--precision", "fp32"]]) == 0
    )

    measured = json.loads(results.read_text())
    content = json.loads(annotations.read_text())
    with served("--checkpoint", str(checkpoint), "--precision", "fp32") as (address, process):
        wait_until_ready(address)
        assert httpx.get(f"{address}/model").json()["variant"] == "tiny"
        for image in content["images"]:
            boxes = [one["bbox"] for one in content["annotations"] if one["image_id"] == image["id"]]
            answer = httpx.post(
                f"{address}/pose",
                content=(images / image["file_name"]).read_bytes(),
                headers={"Content-Type": "image/jpeg"},
                params={"boxes": json.dumps(boxes), "flip_test": "true"},
            )
            assert answer.status_code == 200, answer.text
            expected = [result["keypoints"] for result in measured if result["image_id"] == image["id"]]
            for pose, keypoints in zip(answer.json()["poses"], expected, strict=True):
                assert pose["keypoints"] == pytest.approx(keypoints, abs=2e-3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


@pytest.mark.skipif(not BUNDLED_CHECKPOINT.exists(), reason="no bundled checkpoint")
def test_the_bundled_checkpoint_is_served_without_flags():
    with served() as (address, _):
        wait_until_ready(address)
        model = httpx.get(f"{address}/model").json()
    card = json.loads(BUNDLED_CHECKPOINT.with_suffix(".json").read_text())
    assert model["checkpoint_sha256"] == card["sha256"]
    assert model["variant"] == card["config"]["key"]
