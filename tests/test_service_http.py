"""The HTTP adapter through the ASGI interface, without a socket: what is asked, what is answered."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from fakes import BrightestPixel, make_engine, make_service
from http_clients import JPEG, ask, assert_problem, client_of, post
from model.skeleton import COCO
from pictures import SIZE, SQUARE, encoded, jpeg, square


def test_a_raw_body_is_answered_with_a_coco_result():
    response = post(jpeg())
    assert response.status_code == 200
    body = response.json()
    assert body["image"] == {"width": SIZE[0], "height": SIZE[1]}
    (pose,) = body["poses"]
    assert pose.keys() == {"category_id", "bbox", "score", "keypoints"}
    assert pose["category_id"] == 1
    assert pose["bbox"] == [0, 0, *SIZE]
    assert len(pose["keypoints"]) == 51
    assert pose["keypoints"][:3] == pytest.approx([*SQUARE, 0.5], abs=0.6)


def test_raw_and_multipart_agree_to_the_digit():
    boxes = "[[30, 10, 20, 20], [0, 0, 60, 80]]"
    raw = post(jpeg(), params={"boxes": boxes})
    form = ask(lambda client: client.post("/pose", files={"image": ("p.jpg", jpeg())}, data={"boxes": boxes}))
    assert raw.status_code == form.status_code == 200
    assert raw.json() == form.json()
    assert len(raw.json()["poses"]) == 2


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_the_bytes_decide_the_format_not_the_declared_type(kind):
    assert post(encoded(square(), kind)).status_code == 200


@pytest.mark.parametrize(("text", "expected"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_flip_test_is_passed_on(text, expected):
    estimator = BrightestPixel()
    assert post(jpeg(), make_service(estimator), params={"flip_test": text}).status_code == 200
    assert estimator.flip_tests == [False, expected]


@pytest.mark.parametrize(
    ("boxes", "detail"),
    [
        ("hello", "boxes is not JSON"),
        ("{}", "boxes is not an array"),
        ("3", "boxes is not an array"),
        ("[3]", "boxes[0] is 3; allowed: four numbers"),
        ("[1, 2, 3, 4]", "boxes[0] is 1; allowed: four numbers"),
        ("[[1, 2, 3]]", "boxes[0] is [1, 2, 3]"),
        ('[[1, 2, 3, "4"]]', "allowed: four numbers"),
        ("[[1, 2, 3, true]]", "allowed: four numbers"),
        ("[[1, 2, 3, null]]", "allowed: four numbers"),
        ("[[0, 0, 9, 9], [1, 2, NaN, 4]]", "boxes[1] is [1.0, 2.0, nan, 4.0]; allowed: finite numbers"),
        ("[[1, 2, Infinity, 4]]", "finite numbers"),
        (f"[[1, 2, {10**400}, 4]]", "too large"),
        ("[[5, 5, 0, 10]]", "w and h above 0"),
        ("[[100, 0, 10, 10]]", "wholly outside the upright picture of 60 x 80 pixels"),
        (json.dumps([[0, 0, 9, 9]] * 200), "boxes has 200 entries; allowed: at most 100"),
        ("[" * 100_000, "boxes is not JSON"),
    ],
)
def test_bad_boxes(boxes, detail):
    form = ask(lambda client: client.post("/pose", files={"image": ("p.jpg", jpeg())}, data={"boxes": boxes}))
    assert_problem(form, 422, detail)


def test_bad_parameters():
    assert_problem(post(jpeg(), params={"flip_test": "maybe"}), 422, 'flip_test is "maybe"; allowed: true, 1, false, 0')
    assert_problem(post(jpeg(), params={"boxs": "[]"}), 422, "unknown parameter 'boxs'; allowed: boxes, flip_test")
    assert_problem(post(jpeg(), params=[("boxes", "[]"), ("boxes", "[]")]), 422, "more than once")


def test_full_is_429_with_retry_after():
    async def run() -> list[httpx.Response]:
        estimator = BrightestPixel()
        async with client_of(make_service(engine=make_engine(estimator, max_waiting=2), max_persons=2)) as client:
            estimator.gate.clear()
            boxes = {"boxes": "[[0, 0, 60, 80], [0, 0, 60, 80]]"}
            asked = [
                asyncio.create_task(client.post("/pose", content=jpeg(), headers=JPEG, params=boxes)) for _ in range(2)
            ]
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            estimator.gate.set()
            return sorted(await asyncio.gather(*asked), key=lambda response: response.status_code)

    answered, refused = asyncio.run(run())
    assert answered.status_code == 200
    assert_problem(refused, 429, "allowed: at most 2")
    assert int(refused.headers["retry-after"]) >= 1


def test_health_follows_the_service():
    async def run() -> None:
        service = make_service()
        async with client_of(service) as client:
            assert (await client.head("/readyz")).status_code == 200
            assert (await client.head("/healthz")).status_code == 200
            service.stop()
            assert (await client.get("/healthz")).json() == {"status": "alive"}
            assert_problem(await client.get("/readyz"), 503, "shutting down")
            assert_problem(await client.post("/pose", content=jpeg(), headers=JPEG), 503, "shutting down")

    asyncio.run(run())


def test_a_failing_network_is_500_without_its_words():
    async def run() -> httpx.Response:
        estimator = BrightestPixel()
        async with client_of(make_service(estimator)) as client:
            estimator.fails_with = RuntimeError("secret /path at 0x7f")
            return await client.post("/pose", content=jpeg(), headers=JPEG)

    response = asyncio.run(run())
    assert_problem(response, 500, "could not be run")
    assert "secret" not in response.text


def test_a_defect_is_500_without_its_words(monkeypatch):
    async def defect(*_: object) -> None:
        raise ZeroDivisionError("secret")

    service = make_service()
    monkeypatch.setattr(service, "estimate", defect)
    response = post(jpeg(), service)
    assert_problem(response, 500, "internal error")
    assert "secret" not in response.text


def test_unknown_routes_and_methods_are_problems_too():
    assert_problem(ask(lambda client: client.get("/nothing")), 404, "Not Found")
    assert_problem(ask(lambda client: client.get("/pose")), 405, "Method Not Allowed")


def test_model_names_what_is_served():
    body = ask(lambda client: client.get("/model")).json()
    assert body["variant"] == "c3a1-4"
    assert body["label"] == "C3A1(4)"
    assert body["checkpoint_sha256"] == "0" * 64
    assert (body["runtime"], body["device"], body["precision"]) == ("torch", "cpu", "float32")
    assert body["keypoints"] == list(COCO.names)
    assert all(0 <= a < 17 and 0 <= b < 17 for a, b in body["skeleton"])
    assert body["input"] == {"width": 48, "height": 64}


def test_docs_need_nothing_from_outside():
    page = ask(lambda client: client.get("/docs"))
    assert page.status_code == 200
    assert "https://" not in page.text
    schema = ask(lambda client: client.get("/openapi.json")).json()
    assert set(schema["paths"]["/pose"]["post"]["requestBody"]["content"]) == {
        "image/jpeg",
        "image/png",
        "image/webp",
        "multipart/form-data",
    }
    assert schema["info"]["version"] == "1.2.3"
