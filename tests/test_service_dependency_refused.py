"""What is wrong with a question for a dependency map: told alike over both protocols, and nothing is computed."""

from __future__ import annotations

from typing import Any

import grpc
import httpx
import pytest

from fakes import BrightestPixel, make_admission, make_service
from grpc_clients import Served, ask, dependency_request, http_beside, is_idle, refused, trailing, until
from http_clients import JPEG, assert_problem, dependency_params
from http_clients import ask as ask_http
from model.levels import COLORMAPS
from model.skeleton import COCO
from pictures import encoded, jpeg, square
from service.images import ImageLimits
from service.pb import pose_pb2 as pb
from service.record import RequestRecord
from wires import naming

LIMITS = ImageLimits(max_bytes=60_000, max_pixels=10_000)
NAN, INF = float("nan"), float("inf")

# What both protocols can say, and words of the complaint.
BAD: list[tuple[dict[str, Any], str]] = [
    ({"keypoint": "left_foot"}, f"keypoint is 'left_foot'; allowed: {', '.join(COCO.names)}, their index from 0,"),
    ({"keypoint": ""}, "keypoint is ''; allowed: nose, "),
    ({"keypoint": "17"}, "keypoint is '17'; allowed: nose, "),
    ({"keypoint": "-1"}, "keypoint is '-1'; allowed: nose, "),
    ({"keypoint": "¹"}, "keypoint is '¹'; allowed: nose, "),
    ({"keypoint": "NOSE"}, "keypoint is 'NOSE'; allowed: nose, "),
    ({"keypoint": "nose," * 1000}, "keypoint is 'nose,nose,"),
    ({"keypoint": "all", "format": "json"}, "keypoint is 'all', which is a figure; allowed as numbers: one keypoint"),
    ({"layer": 4}, "layer is 4; allowed of level encoder: 0 to 3"),
    ({"level": "mhsa", "layer": 3}, "layer is 3; allowed of level mhsa: 0 to 2"),
    ({"layer": 999_999}, "layer is 999999; allowed of level encoder: 0 to 3"),
    ({"head": 8}, "head is 8; allowed of level encoder: 0 to 7"),
    ({"level": "mhsa", "head": 4}, "head is 4; allowed of level mhsa: 0 to 3"),
    ({"keypoint": "all", "level": "mhsa", "head": 4}, "head is 4; allowed of level mhsa: 0 to 3"),
    ({"keypoint": "all", "layer": 4}, "layer is 4; allowed of level encoder: 0 to 3"),
    ({"threshold": -0.001}, "; allowed: 0 to 1"),
    ({"threshold": 1.001}, "; allowed: 0 to 1"),
    ({"threshold": NAN}, "nan"),
    ({"threshold": INF}, "inf"),
    ({"threshold": 1e300}, "; allowed: 0 to 1"),
    ({"colormap": "jet"}, f"colormap is 'jet'; allowed: {', '.join(COLORMAPS)}"),
    ({"format": "json", "colormap": "jet"}, "colormap is 'jet'; allowed: inferno, "),
    ({"box": (0, 0, 0, 10)}, "box is [0.0, 0.0, 0.0, 10.0]; allowed: w and h above 0"),
    ({"box": (0, 0, 10, -1)}, "allowed: w and h above 0"),
    ({"box": (NAN, 0, 10, 10)}, "box is [nan, 0.0, 10.0, 10.0]; allowed: finite numbers"),
    ({"box": (0, INF, 10, 10)}, "allowed: finite numbers"),
    ({"box": (0, 0, 1e300, 10)}, "allowed: numbers up to 1e+06"),
    ({"box": (60, 0, 10, 10)}, "wholly outside the upright picture of 60 x 80"),
    ({"box": (0, -10.5, 10, 10)}, "wholly outside the upright picture"),
]
BAD_PICTURES: list[tuple[bytes, int, str, str]] = [
    (b"", 400, "not_an_image", "empty"),
    (b"GIF89a", 400, "not_an_image", "not a JPEG, PNG or WebP"),
    (jpeg()[:-200], 400, "not_an_image", "damaged or cut off"),
    (bytes(70_000), 413, "too_large", "allowed: at most 60000"),
    (encoded(square((200, 200))), 413, "too_large", "10000"),
]


class Told:
    """A service that is watched: it must do nothing for what is refused."""

    def __init__(self) -> None:
        self.estimator = BrightestPixel()
        self.records: list[RequestRecord] = []
        admission = make_admission(observers=[self.records.append])
        self.service = make_service(self.estimator, admission=admission, limits=LIMITS)

    def assert_nothing_was_done(self, reason: str) -> None:
        assert {(one.caller.method, one.outcome) for one in self.records} == {("dependency", reason)}
        assert self.estimator.levels == []
        assert self.estimator.batches == [1], "warming up"
        assert self.service.admission.dependencies == 0


def both_refuse(told: Told, questions: list[tuple[bytes, dict[str, Any]]]) -> list[tuple[httpx.Response, Any]]:
    """What HTTP and gRPC answer to each question; nothing of it may be left."""

    async def talk(to: Served) -> list[tuple[httpx.Response, Any]]:
        answers = []
        async with http_beside(to) as http:
            for image, asked in questions:
                params = dependency_params(**asked)
                response = await http.post("/dependency", content=image, headers=JPEG, params=params)
                error = await refused(to.poses.GetDependency(dependency_request(image, **asked)))
                answers.append((response, error))
        await until(lambda: is_idle(to))
        return answers

    return ask(told.service, talk)


def assert_invalid(error: grpc.aio.AioRpcError, words: str) -> None:
    assert (error.code(), trailing(error)["reason"]) == (grpc.StatusCode.INVALID_ARGUMENT, "invalid_parameter")
    assert words in str(error.details())
    assert len(str(error.details())) < 500


def test_a_bad_parameter_is_named_over_both_protocols_and_nothing_is_computed():
    told = Told()
    answers = both_refuse(told, [(jpeg(), {"keypoint": "nose", **asked}) for asked, _ in BAD])
    for (asked, words), (response, error) in zip(BAD, answers, strict=True):
        with naming(str(asked)[:200]):
            assert_problem(response, 422, words)
            assert_invalid(error, words)
    told.assert_nothing_was_done("invalid_parameter")


@pytest.mark.parametrize(("image", "status", "reason", "words"), BAD_PICTURES, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("keypoint", ["nose", "all"])
def test_a_bad_picture_is_told_over_both_protocols_and_nothing_is_computed(image, status, reason, words, keypoint):
    told = Told()
    ((response, error),) = both_refuse(told, [(image, {"keypoint": keypoint})])
    assert_problem(response, status, words)
    assert (error.code(), trailing(error)["reason"]) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert words in str(error.details())
    told.assert_nothing_was_done(reason)


# What only text can say.
BAD_TEXTS: list[tuple[dict[str, Any], str]] = [
    ({"keypoint": None}, "keypoint is missing; allowed: a name, an index, or 'all'"),
    ({"level": "decoder"}, "level is 'decoder'; allowed: mhsa, encoder"),
    ({"level": ""}, "level is ''; allowed: mhsa, encoder"),
    ({"mode": "both"}, "mode is 'both'; allowed: dependency, affect"),
    ({"format": "jpeg"}, "format is 'jpeg'; allowed: png, json"),
    ({"format": "PNG"}, "format is 'PNG'; allowed: png, json"),
    ({"colormap": ""}, "colormap is ''; allowed: inferno, "),
    ({"colormap": "c" * 1000}, "colormap is 'cccc"),
    ({"layer": "-1"}, "layer is '-1'; allowed: a number from 0"),
    ({"layer": "1.5"}, "layer is '1.5'; allowed: a number from 0"),
    ({"layer": "last"}, "layer is 'last'; allowed: a number from 0"),
    ({"layer": "١"}, "layer is '١'; allowed: a number from 0"),
    ({"layer": "9" * 5000}, "layer is '999"),
    ({"head": "-1"}, "head is '-1'; allowed: a number from 0, or 'mean'"),
    ({"head": "all"}, "head is 'all'; allowed: a number from 0, or 'mean'"),
    ({"head": ""}, "head is ''; allowed: a number from 0, or 'mean'"),
    ({"threshold": "half"}, "threshold is 'half'; allowed: 0 to 1"),
    ({"threshold": "0.5_0"}, "threshold is '0.5_0'; allowed: 0 to 1"),
    ({"threshold": " 0.5"}, "threshold is ' 0.5'; allowed: 0 to 1"),
    ({"threshold": "٠.٥"}, "threshold is '٠.٥'; allowed: 0 to 1"),
    ({"threshold": ""}, "threshold is ''; allowed: 0 to 1"),
    ({"threshold": "."}, "threshold is '.'; allowed: 0 to 1"),
    ({"threshold": "1" * 5000 + "x"}, "threshold is '111"),
    ({"box": [1, 2, 3]}, "box is [1, 2, 3]; allowed: four numbers"),
    ({"box": [1, 2, 3, "4"]}, "allowed: four numbers"),
    ({"box": [1, 2, 3, True]}, "allowed: four numbers"),
    ({"box": [[0, 0, 9, 9]]}, "allowed: four numbers"),
    ({"box": {}}, "allowed: four numbers"),
    ({"box": [1, 2, 10**400, 4]}, "too large"),
    ({"boxes": "[[0, 0, 9, 9]]"}, "unknown parameter 'boxes'; allowed: box, colormap, format, head, keypoint, "),
    ({"flip_test": "true"}, "unknown parameter 'flip_test'"),
    ({"Keypoint": "nose"}, "unknown parameter 'Keypoint'"),
]


def test_a_bad_text_over_http_is_named_and_nothing_is_computed():
    told = Told()

    async def use(client: httpx.AsyncClient) -> None:
        for asked, words in BAD_TEXTS:
            params = dependency_params(**{"keypoint": "nose", **asked})
            response = await client.post("/dependency", content=jpeg(), headers=JPEG, params=params)
            with naming(str(asked)[:200]):
                assert_problem(response, 422, words)
                assert len(response.json()["detail"]) < 300

    ask_http(use, told.service)
    told.assert_nothing_was_done("invalid_parameter")


@pytest.mark.parametrize("text", ["[1, 2", "hello", "[" * 50_000, ""])
def test_a_box_that_is_no_json(text):
    data = {"keypoint": "nose", "box": text}
    form = ask_http(lambda client: client.post("/dependency", files={"image": ("p.jpg", jpeg())}, data=data))
    assert_problem(form, 422, "box is not JSON; allowed: [x, y, width, height]")


@pytest.mark.parametrize("name", ["keypoint", "format"])
def test_a_parameter_that_is_given_twice(name):
    told = Told()
    params = [("keypoint", "nose"), ("format", "json"), (name, {"keypoint": "nose", "format": "json"}[name])]
    sent = {"content": jpeg(), "headers": JPEG, "params": params}
    response = ask_http(lambda client: client.post("/dependency", **sent), told.service)
    assert_problem(response, 422, f"parameter '{name}' is given more than once")
    told.assert_nothing_was_done("invalid_parameter")


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", ""])
def test_a_body_of_another_kind(content_type):
    sent = {"content": jpeg(), "headers": {"content-type": content_type}, "params": {"keypoint": "nose"}}
    assert_problem(ask_http(lambda client: client.post("/dependency", **sent)), 415, "allowed: image/jpeg, image/png")


def test_a_form_without_a_picture():
    response = ask_http(lambda client: client.post("/dependency", files={"picture": ("p.jpg", jpeg())}))
    assert_problem(response, 422, "no file in the field 'image'")


# What only messages can say.
@pytest.mark.parametrize(
    ("message", "words"),
    [
        (pb.GetDependencyRequest(image=jpeg()), "keypoint is ''; allowed: nose, "),
        (pb.GetDependencyRequest(image=jpeg(), keypoint="nose", level=7), "level is 7; allowed: 0, 1, 2"),
        (pb.GetDependencyRequest(image=jpeg(), keypoint="nose", level=-1), "level is -1; allowed: 0, 1, 2"),
        (pb.GetDependencyRequest(image=jpeg(), keypoint="nose", mode=3), "mode is 3; allowed: 0, 1, 2"),
        (pb.GetDependencyRequest(image=jpeg(), keypoint="nose", format=99), "format is 99; allowed: 0, 1, 2"),
        (pb.GetDependencyRequest(image=jpeg(), keypoint="nose", layer=2**32 - 1), "layer is 4294967295; allowed of"),
        (pb.GetDependencyRequest(image=jpeg(), keypoint="nose", head=2**32 - 1), "head is 4294967295; allowed of"),
        (
            pb.GetDependencyRequest(image=jpeg(), keypoint="all", head=0, mean_of_heads=True),
            "head is 0, and their mean is asked for; allowed: one of both",
        ),
        (pb.GetDependencyRequest(image=jpeg(), keypoint="nose", box=pb.Box()), "allowed: w and h above 0"),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_a_bad_number_over_grpc_is_named_and_nothing_is_computed(message, words):
    told = Told()
    error = ask(told.service, lambda to: refused(to.poses.GetDependency(message)))
    assert_invalid(error, words)
    told.assert_nothing_was_done("invalid_parameter")
