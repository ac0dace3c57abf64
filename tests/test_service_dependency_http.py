"""Dependency maps over HTTP: defaults, query and form, what the numbers say of the picture, and `GET /model`."""

from __future__ import annotations

import json

import httpx
import numpy as np
import pytest

from fakes import CONFIG
from http_clients import JPEG, ask, dependency_params, post, post_dependency
from model.geometry import apply_affine, box_to_affine, clip_box, invert_affine
from model.skeleton import COCO
from pictures import SIZE, SQUARE, encoded, jpeg, square, with_orientation

BOXES = [(30.0, 10.0, 20.0, 20.0), (-5.5, -20.0, 50.0, 60.0), (20.0, 5.0, 100.0, 40.0), (38.0, 18.5, 4.25, 3.125)]
DEFAULTS = {
    "level": "encoder",
    "layer": 3,
    "head": "mean",
    "mode": "dependency",
    "threshold": 0,
    "colormap": "inferno",
    "format": "png",
    "box": [0, 0, *SIZE],
}
ALL = {
    "keypoint": "left_wrist",
    "box": [30, 10, 20, 20],
    "level": "mhsa",
    "layer": 1,
    "head": 2,
    "mode": "affect",
    "threshold": 0.25,
    "colormap": "viridis",
    "format": "png",
}


def get_map(**asked: object) -> dict:
    response = post_dependency(jpeg(), **{"keypoint": "left_wrist", "format": "json", **asked})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


def post_form(data: dict[str, str], params: dict[str, str] | None = None) -> httpx.Response:
    files = {"image": ("p.jpg", jpeg())}
    return ask(lambda client: client.post("/dependency", files=files, data=data, params=params or {}))


def test_the_map_as_json_says_what_it_is_of():
    found = get_map()
    assert list(found) == [
        "level",
        "layer",
        "head",
        "mode",
        "keypoint",
        "query",
        "attention",
        "image",
        "region",
        "point",
    ]
    assert (found["level"], found["layer"], found["head"], found["mode"]) == ("encoder", 3, "mean", "dependency")
    assert found["keypoint"] == "left_wrist"
    assert found["image"] == {"width": SIZE[0], "height": SIZE[1]}
    attention = np.array(found["attention"])
    assert attention.shape == CONFIG.tokens_hw
    assert attention.sum() == pytest.approx(1.0, abs=1e-4)
    assert list(np.unravel_index(attention.argmax(), attention.shape)) == found["query"]
    assert found["point"] == pytest.approx([*SQUARE, 0.5], abs=0.6)


def test_six_digits_are_told_of_each_number():
    numbers = [value for row in get_map()["attention"] for value in row]
    assert all(value == float(f"{value:.6g}") for value in numbers)
    assert len(set(numbers)) > 5


def test_a_map_of_affect_is_told_as_it_is_and_does_not_sum_to_one():
    attention = np.array(get_map(mode="affect")["attention"])
    assert attention.max() == 0.5
    assert abs(attention.sum() - 1.0) > 0.01


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_is_absent_is_as_documented(name):
    absent = post_dependency(jpeg(), keypoint="nose")
    assert absent.headers["content-type"] == "image/png"
    assert post_dependency(jpeg(), keypoint="nose", **{name: DEFAULTS[name]}).content == absent.content


@pytest.mark.parametrize("name", ALL)
def test_each_parameter_matters(name):
    fixed = {"keypoint": "nose"} | ({} if name in ("colormap", "threshold", "format") else {"format": "json"})
    other = "json" if name == "format" else ALL[name]
    assert post_dependency(jpeg(), **fixed | {name: other}).content != post_dependency(jpeg(), **fixed).content


@pytest.mark.parametrize("asked", [{"threshold": 0.9}, {"colormap": "turbo"}])
def test_the_numbers_are_not_changed_by_how_a_picture_would_be_drawn(asked):
    assert get_map(**asked) == get_map()


def test_query_and_form_raw_and_multipart_agree():
    texts = dependency_params(**ALL)
    raw = post_dependency(jpeg(), **ALL)
    assert raw.status_code == 200
    for in_query in (list(texts), ["keypoint", "box", "head", "format"], ["mode"]):
        params = {name: texts[name] for name in in_query}
        form = post_form({name: text for name, text in texts.items() if name not in in_query}, params)
        assert form.content == raw.content


def test_a_form_may_have_every_parameter():
    assert post_form(dependency_params(**ALL)).content == post_dependency(jpeg(), **ALL).content


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_the_bytes_decide_the_format_of_the_picture(kind):
    assert post_dependency(encoded(square(), kind), keypoint="nose").status_code == 200


@pytest.mark.parametrize("box", [None, *BOXES], ids=str)
@pytest.mark.parametrize("picture", [jpeg(), with_orientation(6)], ids=["upright", "turned"])
def test_the_point_is_the_keypoint_of_the_pose(box, picture):
    posed = post(picture, params={} if box is None else {"boxes": json.dumps([box])}).json()["poses"][0]["keypoints"]
    for name in ("nose", "right_ankle"):
        found = post_dependency(picture, keypoint=name, box=box, format="json").json()
        index = COCO.names.index(name)
        assert found["point"] == posed[3 * index : 3 * index + 3]


@pytest.mark.parametrize("box", [None, *BOXES], ids=str)
def test_the_region_says_where_the_tokens_lie_as_the_crop_does(box):
    found = get_map(box=box)
    image_to_crop = box_to_affine(clip_box(box or (0, 0, *SIZE), *SIZE), CONFIG.input_hw)
    left, top, width, height = found["region"]
    rows, columns = CONFIG.tokens_hw
    for row, column in np.ndindex(rows, columns):
        by_region = [left - 0.5 + (column + 0.5) * width / columns, top - 0.5 + (row + 0.5) * height / rows]
        by_crop = apply_affine(invert_affine(image_to_crop), [8 * column + 3.5, 8 * row + 3.5])
        assert by_region == pytest.approx(list(by_crop), abs=2e-3)
    row, column = found["query"]
    x, y, _ = found["point"]
    assert left - 0.5 + column * width / columns <= x <= left - 0.5 + (column + 1) * width / columns
    assert top - 0.5 + row * height / rows <= y <= top - 0.5 + (row + 1) * height / rows


def test_the_model_says_how_many_layers_and_heads_can_be_asked_for():
    attention = ask(lambda client: client.get("/model")).json()["attention"]
    assert attention == {"mhsa": {"layers": 3, "heads": 4}, "encoder": {"layers": 4, "heads": 8}}
    for level, shape in attention.items():
        last = {"level": level, "layer": shape["layers"] - 1, "head": shape["heads"] - 1}
        assert get_map(**last)["layer"] == last["layer"]
        for name in ("layer", "head"):
            beyond = last | {name: last[name] + 1}
            assert post_dependency(jpeg(), keypoint="nose", **beyond).status_code == 422


def test_openapi_shows_every_parameter_and_both_answers():
    document = ask(lambda client: client.get("/openapi.json")).json()["paths"]["/dependency"]["post"]
    shown = {parameter["name"] for parameter in document["parameters"] if parameter["in"] == "query"}
    assert shown == set(ALL)
    assert set(document["responses"]["200"]["content"]) == {"image/png", "application/json"}


@pytest.mark.parametrize("path", ["/dependency?keypoint=nose", "/dependency"])
def test_a_map_is_posted_for(path):
    assert ask(lambda client: client.get(path, headers=JPEG)).status_code == 405
