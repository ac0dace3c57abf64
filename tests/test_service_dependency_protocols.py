"""Dependency maps over both protocols: the same bytes, the same numbers, and those of the model itself."""

from __future__ import annotations

import io
from collections.abc import Iterable
from itertools import product
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from drawings import lively_network, noise_photograph, tiny_config
from fakes import make_admission, make_engine, make_service
from grpc_clients import Served, ask, dependency_request, http_beside
from http_clients import JPEG, dependency_params
from model.dependency_picture import PANEL_HEIGHT, PICTURE_HEIGHT, dependency_figure, draw_dependency, view_of
from model.estimator import PoseEstimator, crop_person, keypoints_to_image
from model.geometry import affine_to_region, clip_box
from model.levels import COLORMAPS, LEVELS, MODES, Level
from model.skeleton import COCO
from pictures import SIZE, encoded, jpeg, with_orientation
from service.core import PoseService
from service.images import ImageLimits
from service.pb import pose_pb2 as pb

PHOTOGRAPH = jpeg(Image.fromarray(noise_photograph(90, 70)))
BOX = (10.5, 3.25, 40.0, 50.0)
OVER = (-15.0, 30.0, 60.0, 200.0)  # reaches beyond the photograph
PARTS = (0, 0.2, 0.31, 0.5, 0.9, 1)
FIGURES: tuple[dict[str, Any], ...] = (
    {"level": "mhsa", "layer": None, "head": None},
    {"level": "mhsa", "layer": 0, "head": 1},
    {"level": "mhsa", "layer": None, "head": "mean"},
    {"level": "encoder", "layer": None, "head": None},
    {"level": "encoder", "layer": 1, "head": "mean"},
    {"level": "encoder", "layer": None, "head": 2},
)


async def answered(to: Served, http: httpx.AsyncClient, image: bytes, asked: dict[str, Any]) -> tuple[Any, Any]:
    """The answers of both protocols: bytes of a PNG, or what the JSON says."""
    posted = await http.post("/dependency", content=image, headers=JPEG, params=dependency_params(**asked))
    assert posted.status_code == 200, posted.text
    called = await to.poses.GetDependency(dependency_request(image, **asked))
    if asked.get("format") == "json":
        return posted.json(), as_json(called)
    assert posted.headers["content-type"] == "image/png"
    assert called == pb.GetDependencyResponse(png=called.png), "nothing but the picture is set"
    return posted.content, called.png


def as_json(found: pb.GetDependencyResponse) -> dict[str, Any]:
    """A map as the HTTP answer has it."""
    digits = [float(f"{value:.6g}") for value in found.attention]
    assert len(digits) == found.height * found.width
    return {
        "level": {pb.DEPENDENCY_LEVEL_MHSA: "mhsa", pb.DEPENDENCY_LEVEL_ENCODER: "encoder"}[found.level],
        "layer": found.layer,
        "head": found.head if found.HasField("head") else "mean",
        "mode": {pb.DEPENDENCY_MODE_DEPENDENCY: "dependency", pb.DEPENDENCY_MODE_AFFECT: "affect"}[found.mode],
        "keypoint": found.keypoint,
        "query": [found.query_row, found.query_column],
        "attention": [digits[row * found.width : (row + 1) * found.width] for row in range(found.height)],
        "image": {"width": found.image.width, "height": found.image.height},
        "region": [found.region.x, found.region.y, found.region.width, found.region.height],
        "point": [found.point.x, found.point.y, found.point.score],
    }


def agreed(service: PoseService, questions: Iterable[tuple[bytes, dict[str, Any]]]) -> list[Any]:
    """What both protocols answer alike to each question."""

    async def talk(to: Served) -> list[Any]:
        async with http_beside(to) as http:
            pairs = [await answered(to, http, image, asked) for image, asked in questions]
        for over_http, over_grpc in pairs:
            assert over_http == over_grpc
        return [over_http for over_http, _ in pairs]

    return ask(service, talk)


def real_network() -> PoseEstimator:
    """A small network, alive, of two layers at both levels."""
    config = tiny_config(blocks=(1, 1, 2), encoder_layers=2)
    return PoseEstimator(lively_network(config), torch.device("cpu"), torch.float32)


def service_on(network: PoseEstimator) -> PoseService:
    engine = make_engine(network, config=network.config)
    return PoseService(engine, make_admission(), limits=ImageLimits(), max_persons=9)


def upright(image: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(image))).convert("RGB"))


def seen(network: PoseEstimator, image: bytes, box: tuple[float, ...] | None, level: Level) -> tuple[Any, Any, Any]:
    """The upright picture, the crop of the person, and what the model itself finds in it."""
    pixels = upright(image)
    height, width = pixels.shape[:2]
    crop = crop_person(pixels, clip_box(box or (0, 0, width, height), width, height), network.config)
    (found,) = network.explain([crop.pixels], levels=(level,))
    return pixels, crop, found


@pytest.mark.parametrize("level", LEVELS)
def test_every_map_of_every_layer_and_head_is_the_same_over_both_protocols(level):
    layers, heads = {"mhsa": ((None, 0, 2), (None, 0, 3, "mean")), "encoder": ((None, 0, 3), (None, 0, 7, "mean"))}[
        level
    ]
    which = [
        {"keypoint": "left_wrist", "level": level, "mode": mode, "layer": layer, "head": head, "format": kind}
        for mode, layer, head, kind in product(MODES, layers, heads, ("json", "png"))
        if kind == "json" or (layer is None and head in (None, 3))  # pictures take longer
    ]
    answers = agreed(make_service(), [(PHOTOGRAPH, asked) for asked in which])
    maps = [answer for answer in answers if isinstance(answer, dict)]
    assert len({str(one["attention"]) for one in maps}) == len(MODES) * 2 * 3, "None is the last layer and the mean"
    for asked, answer in zip(which, answers, strict=True):
        if asked["format"] == "json":
            assert (answer["level"], answer["mode"]) == (asked["level"], asked["mode"])
            assert answer["layer"] == (layers[-1] if asked["layer"] is None else asked["layer"])
            assert answer["head"] == ("mean" if asked["head"] is None else asked["head"])


def test_every_keypoint_by_name_and_by_index_is_the_same_over_both_protocols():
    by_name = [(PHOTOGRAPH, {"keypoint": name, "format": "json"}) for name in COCO.names]
    by_index = [(PHOTOGRAPH, {"keypoint": str(index), "format": "json"}) for index in range(len(COCO.names))]
    answers = agreed(service_on(real_network()), by_name + by_index)
    assert answers[:17] == answers[17:]
    assert [answer["keypoint"] for answer in answers[:17]] == list(COCO.names)
    assert len({str(answer["query"]) for answer in answers}) > 1


def test_thresholds_and_colour_maps_show_and_are_the_same_over_both_protocols():
    drawn = [{"colormap": name, "threshold": part} for name, part in zip(COLORMAPS, PARTS, strict=True)]
    drawn += [{"threshold": 0.31}, {"threshold": 1.0}]
    answers = agreed(make_service(), [(PHOTOGRAPH, {"keypoint": "nose", **one}) for one in drawn])
    assert len(set(answers)) == len(drawn)


@pytest.mark.parametrize("which", FIGURES, ids=str)
def test_figures_are_the_same_over_both_protocols_and_what_the_model_draws(which):
    network = real_network()
    asked = {"keypoint": "all", "box": OVER, "mode": "affect", "threshold": 0.25, "colormap": "viridis", **which}
    (answer,) = agreed(service_on(network), [(PHOTOGRAPH, asked)])
    image, crop, found = seen(network, PHOTOGRAPH, OVER, which["level"])
    head = which["head"]
    expected = dependency_figure(
        view_of(image, crop.image_to_crop, found, network.config, height=PANEL_HEIGHT),
        found.attention[which["level"]],
        layer=which["layer"],
        head=None if head == "mean" else head,
        mean_of_heads=head == "mean",
        mode="affect",
        threshold=0.25,
        colormap="viridis",
        title="Tiny: who looked at each keypoint (affect)",
    )
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer))), expected)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("image", "box"),
    [
        (PHOTOGRAPH, None),
        (PHOTOGRAPH, BOX),
        (PHOTOGRAPH, OVER),
        (encoded(Image.fromarray(noise_photograph(90, 70)), "WEBP"), BOX),
        (with_orientation(6), None),
        (with_orientation(5), (20.0, 5.0, 100.0, 40.0)),
    ],
    ids=["whole", "box", "over the edge", "webp", "turned", "turned, box"],
)
def test_a_real_network_is_read_as_the_model_itself_reads_it(image, box, level):
    network = real_network()
    pixels, crop, found = seen(network, image, box, level)
    which = list(product(MODES, (0, 1), (None, 2)))
    asked = [{"mode": mode, "layer": layer, "head": head} for mode, layer, head in which]
    fixed = {"keypoint": "left_knee", "level": level, "box": box}
    questions = [{**one, "format": "json"} for one in asked] + [asked[0]]
    *bodies, png = agreed(service_on(network), [(image, fixed | one) for one in questions])
    knee = COCO.names.index("left_knee")
    in_image = keypoints_to_image(found, crop)
    region = [round(float(value), 3) for value in affine_to_region(crop.image_to_crop, network.config.input_hw)]
    for (mode, layer, head), body in zip(which, bodies, strict=True):
        values = found.attention[level].of(knee, layer=layer, head=head, mode=mode)
        assert body["attention"] == [[float(f"{value:.6g}") for value in row] for row in values]
        if mode == "dependency":
            assert np.sum(body["attention"]) == pytest.approx(1.0, abs=1e-4)
        assert body["query"] == found.attention[level].queries[knee].tolist()
        assert body["point"] == [round(float(v), 3) for v in (*in_image.points[knee], in_image.scores[knee])]
        assert body["region"] == region
        assert body["image"] == {"width": pixels.shape[1], "height": pixels.shape[0]}
    view = view_of(pixels, crop.image_to_crop, found, network.config, height=PICTURE_HEIGHT)
    expected = draw_dependency(view, found.attention[level].of(knee, layer=0, head=None, mode="dependency"), knee)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), expected)


def test_maps_of_different_persons_layers_and_directions_differ():
    which = [
        (PHOTOGRAPH, {"keypoint": "nose", "box": box, "level": level, "layer": layer, "mode": mode, "format": "json"})
        for box, level, layer, mode in product((None, BOX), LEVELS, (0, 1), MODES)
    ]
    assert len({str(answer["attention"]) for answer in agreed(service_on(real_network()), which)}) == len(which)


def test_a_turned_photograph_is_explained_as_the_upright_one():
    asked = {"keypoint": "nose", "format": "json"}
    first, *others = agreed(make_service(), [(with_orientation(turn), asked) for turn in range(1, 9)])
    assert first["image"] == {"width": SIZE[0], "height": SIZE[1]}
    for other in others:
        assert (other["query"], other["region"], other["image"]) == (first["query"], first["region"], first["image"])
        assert other["point"] == pytest.approx(first["point"], abs=0.2)


def test_six_digits_survive_single_precision():
    """So that the numbers are the same over gRPC, however small they are."""
    patterns = np.random.default_rng(0).integers(0, 0x3F800000, 100_000, dtype=np.uint32)  # all of 0..1
    patterns[:1000] %= 2**23  # among them the smallest, which have fewer digits
    for value in patterns.view(np.float32):
        digits = float(f"{value:.6g}")
        assert float(f"{np.float32(digits):.6g}") == digits
