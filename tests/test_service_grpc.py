"""The gRPC adapter over a socket: the contract of single calls, the same numbers as over HTTP, and every error."""

from __future__ import annotations

import json
import logging
import re

import grpc
import httpx
import pytest
import torch
from PIL import Image

from drawings import lively_network, noise_photograph, tiny_config
from fakes import BrightestPixel, make_admission, make_engine, make_service
from grpc_clients import Served, ask, estimate_request, refused, trailing
from model.estimator import PoseEstimator
from pictures import SIZE, SQUARE, encoded, jpeg, square, with_orientation
from service import errors
from service.api_keys import ApiKeys
from service.grpc_api import CODE_OF_ERROR
from service.http_api import create_app
from service.images import ImageLimits
from service.metrics import Metrics
from service.pb import pose_pb2 as pb
from service.record import RequestRecord

KEY = "k-0123456789abcdef"
WHOLE = estimate_request()

CODES = {
    errors.NotAnImage: ("INVALID_ARGUMENT", "not_an_image"),
    errors.TooLarge: ("INVALID_ARGUMENT", "too_large"),
    errors.UnsupportedMedia: ("INVALID_ARGUMENT", "unsupported_media"),
    errors.InvalidParameter: ("INVALID_ARGUMENT", "invalid_parameter"),
    errors.Unauthenticated: ("UNAUTHENTICATED", "unauthenticated"),
    errors.SlowRequest: ("DEADLINE_EXCEEDED", "slow_request"),
    errors.Overloaded: ("RESOURCE_EXHAUSTED", "overloaded"),
    errors.Late: ("DEADLINE_EXCEEDED", "late"),
    errors.Unavailable: ("UNAVAILABLE", "unavailable"),
    errors.EngineFailed: ("INTERNAL", "engine_failed"),
}


def assert_refusal(error: grpc.aio.AioRpcError, kind: type[errors.PoseServiceError], words: str) -> None:
    assert (error.code().name, trailing(error)["reason"]) == CODES[kind], error
    assert words in str(error.details())


def test_each_person_is_answered_in_the_order_of_the_boxes():
    boxes = [(30.0, 10.0, 20.0, 20.0), (0.0, 0.0, 60.0, 80.0)]
    answer = ask(make_service(), lambda to: to.poses.EstimatePose(estimate_request(boxes=boxes)))
    assert (answer.image.width, answer.image.height) == SIZE
    assert [(pose.bbox.x, pose.bbox.y, pose.bbox.width, pose.bbox.height) for pose in answer.poses] == boxes
    for pose in answer.poses:
        assert pose.score == 0.5
        assert len(pose.keypoints) == 17
        for keypoint in pose.keypoints:
            assert (keypoint.x, keypoint.y, keypoint.score) == (
                pytest.approx(SQUARE[0], abs=0.6),
                pytest.approx(SQUARE[1], abs=0.6),
                0.5,
            )


def test_no_box_means_that_the_whole_picture_is_one_person():
    answer = ask(make_service(), lambda to: to.poses.EstimatePose(WHOLE))
    (pose,) = answer.poses
    assert (pose.bbox.x, pose.bbox.y, pose.bbox.width, pose.bbox.height) == (0, 0, *SIZE)


def test_the_mirrored_picture_is_looked_at_when_asked_for():
    estimator = BrightestPixel()

    async def talk(to: Served) -> None:
        await to.poses.EstimatePose(estimate_request(flip_test=True))
        await to.poses.EstimatePose(estimate_request(flip_test=False))

    ask(make_service(estimator), talk)
    assert estimator.flip_tests == [False, True, False]  # the first is the warm-up


def test_grpc_and_http_give_the_same_numbers_to_the_digit():
    photograph = Image.fromarray(noise_photograph(90, 70))
    asked = [
        (image, boxes, flip_test)
        for image in (jpeg(photograph), encoded(photograph), encoded(photograph, "WEBP"), with_orientation(6))
        for boxes in ([], [(10.5, 3.25, 40.0, 50.0), (-5.0, -5.0, 30.0, 200.0)])
        for flip_test in (False, True)
    ]
    network = PoseEstimator(lively_network(tiny_config()), torch.device("cpu"), torch.float32)
    service = make_service(engine=make_engine(network))

    async def talk(to: Served) -> list[tuple[list[list[float]], list[list[float]]]]:
        app = create_app(to.service, Metrics(), version="1.2.3", body_timeout_s=5.0)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
            return [await both(to, http, *one) for one in asked]

    async def both(to: Served, http: httpx.AsyncClient, image: bytes, boxes: list, flip_test: bool):
        params = {"flip_test": str(flip_test).lower(), **({"boxes": json.dumps(boxes)} if boxes else {})}
        posted = await http.post("/pose", content=image, headers={"Content-Type": "image/jpeg"}, params=params)
        assert posted.status_code == 200, posted.text
        over_http = [[*pose["bbox"], pose["score"], *pose["keypoints"]] for pose in posted.json()["poses"]]
        called = await to.poses.EstimatePose(estimate_request(image, boxes, flip_test=flip_test))
        assert posted.json()["image"] == {"width": called.image.width, "height": called.image.height}
        return over_http, [numbers(pose) for pose in called.poses]

    answers = ask(service, talk)
    for over_http, over_grpc in answers:
        assert over_grpc == over_http
    different = {tuple(pose) for _, poses in answers for pose in poses}
    assert len(different) > len(asked)  # the picture, the boxes and the mirror all show in the numbers


def numbers(pose: pb.Pose) -> list[float]:
    """As the HTTP answer lists them."""
    keypoints = [value for keypoint in pose.keypoints for value in (keypoint.x, keypoint.y, keypoint.score)]
    return [pose.bbox.x, pose.bbox.y, pose.bbox.width, pose.bbox.height, pose.score, *keypoints]


def test_every_error_has_a_code():
    assert set(CODE_OF_ERROR) == set(errors.ALL_ERRORS) == set(CODES)


@pytest.mark.parametrize("kind", errors.ALL_ERRORS)
def test_an_error_is_told_by_code_words_reason_and_request_id(kind):
    service = make_service()

    async def fail(*_: object) -> None:
        raise kind("what is wrong, and what is allowed")

    async def talk(to: Served) -> grpc.aio.AioRpcError:
        to.service.estimate = fail
        return await refused(to.poses.EstimatePose(WHOLE, metadata=(("x-request-id", "mine-1"),)))

    error = ask(service, talk)
    assert (error.code().name, error.details()) == (CODES[kind][0], "what is wrong, and what is allowed")
    wait = {"retry-after-ms": "1000"} if kind is errors.Overloaded else {}
    assert trailing(error) == {"reason": CODES[kind][1], "x-request-id": "mine-1", **wait}


@pytest.mark.parametrize(
    ("request_", "kind", "words"),
    [
        (estimate_request(b""), errors.NotAnImage, "empty"),
        (estimate_request(b"GIF89a"), errors.NotAnImage, "not a JPEG, PNG or WebP"),
        (estimate_request(jpeg()[:-200]), errors.NotAnImage, "damaged or cut off"),
        (estimate_request(bytes(70_000)), errors.TooLarge, "has 70000 bytes; allowed: at most 60000"),
        (estimate_request(encoded(square((200, 200)))), errors.TooLarge, "10000"),
        (estimate_request(boxes=[(0, 0, 9, 9), (1, 1, 0, 5)]), errors.InvalidParameter, "boxes[1]"),
        (estimate_request(boxes=[(float("nan"), 0, 9, 9)]), errors.InvalidParameter, "finite"),
        (estimate_request(boxes=[(500, 0, 9, 9)]), errors.InvalidParameter, "outside"),
        (estimate_request(boxes=[(0, 0, 9, 9)] * 4), errors.InvalidParameter, "4 entries; allowed: at most 3"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(request_, kind, words):
    service = make_service(limits=ImageLimits(max_bytes=60_000, max_pixels=10_000), max_persons=3)
    assert_refusal(ask(service, lambda to: refused(to.poses.EstimatePose(request_))), kind, words)


def test_a_network_that_fails_is_an_internal_error_with_a_reason():
    estimator = BrightestPixel()

    async def talk(to: Served) -> grpc.aio.AioRpcError:
        estimator.fails_with = RuntimeError("secret")
        return await refused(to.poses.EstimatePose(WHOLE))

    error = ask(make_service(estimator), talk)
    assert_refusal(error, errors.EngineFailed, "the network could not be run")
    assert "secret" not in str(error)


def test_a_defect_is_logged_and_does_not_leak(caplog, monkeypatch):
    records: list[RequestRecord] = []
    service = make_service(admission=make_admission(observers=[records.append]))

    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("secret")

    async def talk(to: Served) -> grpc.aio.AioRpcError:
        monkeypatch.setattr(to.service, "estimate", fail)
        return await refused(to.poses.EstimatePose(WHOLE, metadata=(("x-request-id", "mine-2"),)))

    error = ask(service, talk)
    assert (error.code(), error.details()) == (
        grpc.StatusCode.INTERNAL,
        "an internal error; the log has the details",
    )
    assert "secret" not in str(error) + str(error.trailing_metadata())
    assert trailing(error)["x-request-id"] == "mine-2"
    assert records[-1].outcome == "internal"
    (defect,) = [line for line in caplog.records if line.levelno >= logging.ERROR]
    assert "mine-2" in defect.getMessage()
    assert "secret" in str(defect.exc_info)


@pytest.mark.parametrize(
    ("offered", "kept"), [("job-7.a_B", True), ("two words", False), ("x" * 65, False), ("", False)]
)
def test_a_request_id_is_sent_back_if_it_is_fit_and_made_up_otherwise(offered, kept):
    async def talk(to: Served) -> str:
        call = to.poses.EstimatePose(WHOLE, metadata=(("x-request-id", offered),))
        await call
        return dict(await call.trailing_metadata())["x-request-id"]

    sent_back = ask(make_service(), talk)
    assert sent_back == offered if kept else re.fullmatch("[0-9a-f]{32}", sent_back)


def test_an_api_key_is_asked_for_and_known_ones_are_let_in():
    service = make_service(admission=make_admission(api_keys=ApiKeys([KEY])))

    async def talk(to: Served) -> tuple[grpc.aio.AioRpcError, grpc.aio.AioRpcError, pb.EstimatePoseResponse]:
        none = await refused(to.poses.EstimatePose(WHOLE))
        wrong = await refused(to.poses.EstimatePose(WHOLE, metadata=(("x-api-key", "another-key-of-mine"),)))
        return none, wrong, await to.poses.EstimatePose(WHOLE, metadata=(("x-api-key", KEY),))

    none, wrong, right = ask(service, talk)
    assert_refusal(none, errors.Unauthenticated, "there is no API key; send it as 'x-api-key'")
    assert_refusal(wrong, errors.Unauthenticated, "the API key is not known")
    assert "another-key" not in str(wrong)
    assert len(right.poses) == 1
