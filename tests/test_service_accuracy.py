"""What the service answers is what the evaluation measures: keypoint by keypoint, and AP by AP, over both protocols."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drawings import (
    coco_annotation,
    draw_figure,
    figure_points,
    lively_network,
    noise_photograph,
    tiny_config,
    write_coco,
)
from grpc_clients import Served, estimate_request, http_beside
from grpc_clients import ask as ask_service
from model.checkpoint import load_checkpoint, save_checkpoint
from model.estimator import PoseEstimator
from pictures import encoded
from service.__main__ import build_service, read_settings
from service.metrics import Metrics
from service.settings import BUNDLED_CHECKPOINT, default_cache_dir
from training.boxes import ground_truth_boxes
from training.coco import read_persons
from training.evaluate import main as evaluate
from training.oks import score_results
from training.predict import predict

ROOT = Path(__file__).resolve().parents[1]
COCO = ROOT.parent / "shared" / "data" / "coco"
AT_A_TIME = 8  # requests, so that persons of several pictures share batches
ROUNDED = 1.5e-3  # what the service rounds away, and what the size of a batch changes in the last digits

EXIF_ORIENTATION = 0x0112
# How a picture is stored that its tag makes upright again.
STORED = {5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}

# Boxes in a picture of 1 x 1: inside, beyond one border, beyond two, all of it and more.
BOXES = ((0.1, 0.1, 0.35, 0.8), (-0.2, 0.21, 0.5, 0.7), (0.55, 0.4, 0.8, 0.9), (-0.3, -0.1, 2.0, 1.5))

Ask = Callable[[bytes, list[list[float]]], Awaitable[list[dict[str, Any]]]]


@dataclass(frozen=True)
class Picture:
    """A photograph of an annotation file, and the boxes of its persons as they are annotated."""

    image_id: int
    content: bytes
    boxes_xywh: list[list[float]]


def read_pictures(annotations: Path, images: Path) -> list[Picture]:
    """Everything but the photographs comes from the file itself, not through what the evaluation reads it with."""
    content = json.loads(annotations.read_text())
    persons = [one for one in content["annotations"] if any(one["keypoints"][2::3]) and not one.get("iscrowd")]
    return [
        Picture(
            image["id"],
            (images / image["file_name"]).read_bytes(),
            [one["bbox"] for one in persons if one["image_id"] == image["id"]],
        )
        for image in content["images"]
    ]


def over_grpc(to: Served, *, flip_test: bool) -> Ask:
    """Poses as COCO results, but for the image's id."""

    async def ask(content: bytes, boxes: list[list[float]]) -> list[dict[str, Any]]:
        answer = await to.poses.EstimatePose(estimate_request(content, boxes, flip_test=flip_test))
        return [
            {
                "category_id": 1,
                "bbox": [pose.bbox.x, pose.bbox.y, pose.bbox.width, pose.bbox.height],
                "score": pose.score,
                "keypoints": [value for point in pose.keypoints for value in (point.x, point.y, point.score)],
            }
            for pose in answer.poses
        ]

    return ask


def over_http(client: Any, *, flip_test: bool) -> Ask:
    async def ask(content: bytes, boxes: list[list[float]]) -> list[dict[str, Any]]:
        asked = {"boxes": json.dumps(boxes), "flip_test": str(flip_test).lower()}
        answer = await client.post("/pose", content=content, headers={"Content-Type": "image/jpeg"}, params=asked)
        assert answer.status_code == 200, answer.text
        return answer.json()["poses"]

    return ask


async def results_of(ask: Ask, pictures: list[Picture]) -> list[dict[str, Any]]:
    """The COCO results of every picture, in order."""
    free = asyncio.Semaphore(AT_A_TIME)

    async def one(picture: Picture) -> list[dict[str, Any]]:
        async with free:
            poses = await ask(picture.content, picture.boxes_xywh)
        assert [pose["bbox"] for pose in poses] == picture.boxes_xywh
        return [{"image_id": picture.image_id, **pose} for pose in poses]

    return [result for results in await asyncio.gather(*map(one, pictures)) for result in results]


def served_results(pictures: list[Picture], *flags: str, flip_test: bool) -> dict[str, list[dict[str, Any]]]:
    """What a service with these flags answers, by protocol."""

    async def talk(to: Served) -> dict[str, list[dict[str, Any]]]:
        async with http_beside(to) as client:
            return {
                "http": await results_of(over_http(client, flip_test=flip_test), pictures),
                "grpc": await results_of(over_grpc(to, flip_test=flip_test), pictures),
            }

    return ask_service(build_service(read_settings([*flags, "--device", "cpu"]), Metrics(), None), talk)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("accuracy") / "tiny.safetensors"
    save_checkpoint(path, lively_network(tiny_config()), training={})
    return path


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> tuple[Path, Path]:
    """Pictures of several formats, sizes and EXIF orientations, four persons each; their annotations and folder."""
    folder = tmp_path_factory.mktemp("drawn")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, width, height, orientation) in enumerate(
        (
            ("plain.jpg", 160, 120, 1),
            ("plain.png", 97, 151, 1),
            ("turned.jpg", 150, 110, 6),
            ("transposed.jpg", 121, 160, 5),
            ("turned.png", 130, 90, 8),
            ("large.jpg", 1203, 907, 1),  # averaged down before it is cropped
        )
    ):
        photograph = noise_photograph(height, width, seed=number)
        images.append({"id": 7 + number, "file_name": name, "width": width, "height": height})
        for part in BOXES:
            box = np.array(part) * (width, height, width, height)
            points = figure_points(box)
            draw_figure(photograph, points)
            annotations.append(coco_annotation(len(annotations) + 1, 7 + number, box, points))
        (folder / name).write_bytes(stored(photograph, name, orientation))
    return write_coco(folder / "annotations.json", images, annotations), folder


def stored(photograph: np.ndarray, name: str, orientation: int) -> bytes:
    """A file whose pixels lie as the camera was held, and whose tag says so."""
    upright = Image.fromarray(photograph)
    if orientation == 1:
        return encoded(upright, "JPEG" if name.endswith("jpg") else "PNG")
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    lying = upright.transpose(STORED[orientation])
    assert lying.size == upright.size[::-1]
    return encoded(lying, "JPEG" if name.endswith("jpg") else "PNG", exif=exif)


@pytest.mark.parametrize("flip_test", [False, True])
def test_every_keypoint_is_the_one_that_is_evaluated(drawn, tiny, flip_test):
    annotations, images = drawn
    net, _ = load_checkpoint(tiny)
    expected = predict(
        PoseEstimator(net), ground_truth_boxes(read_persons(annotations, images)), flip_test=flip_test, progress=False
    )
    flags = ("--checkpoint", str(tiny), "--runtime", "torch", "--precision", "fp32")
    found = served_results(read_pictures(annotations, images), *flags, flip_test=flip_test)
    assert len(expected) == 6 * len(BOXES)
    spread = np.ptp([result["keypoints"][:2] for result in expected], axis=0)
    assert (spread > 30).all(), "the network answers the same for everybody, and would agree with anything"
    for results in found.values():
        for ours, theirs in zip(results, expected, strict=True):
            assert (ours["image_id"], ours["category_id"]) == (theirs["image_id"], theirs["category_id"])
            np.testing.assert_allclose(ours["keypoints"], theirs["keypoints"], atol=ROUNDED)
            assert ours["score"] == pytest.approx(theirs["score"], abs=ROUNDED)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not COCO.is_dir(), reason="needs the COCO photographs in ../shared/data")
def test_ap_through_the_service_is_the_ap_of_the_evaluation(tmp_path):
    """On every fourth photograph of the dev split: each is looked at three times."""
    annotations, images = tmp_path / "dev.json", COCO / "dev"
    whole = json.loads((COCO / "annotations" / "person_keypoints_dev.json").read_text())
    whole["images"] = sorted(whole["images"], key=lambda image: image["id"])[::4]
    kept = {image["id"] for image in whole["images"]}
    whole["annotations"] = [person for person in whole["annotations"] if person["image_id"] in kept]
    annotations.write_text(json.dumps(whole))
    out = tmp_path / "out.json"
    both = ["--checkpoint", str(BUNDLED_CHECKPOINT), "--cache-dir", str(default_cache_dir())]
    measuring = ["--annotations", annotations, "--images", images, "--device", "cpu", "--no-flip-test", "--out", out]
    assert evaluate([*both, *map(str, measuring)]) == 0
    measured = json.loads(out.read_text())
    for results in served_results(read_pictures(annotations, images), *both, flip_test=False).values():
        assert len(results) == measured["poses"] == measured["persons"]
        assert abs(score_results(results, annotations)["AP"] - measured["AP"]) <= 0.001
