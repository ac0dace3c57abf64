"""What an operator is told over HTTP: names of requests, metrics, the OpenAPI document; and what nobody is told."""

from __future__ import annotations

import asyncio
import logging
import re

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from fakes import BrightestPixel, make_service
from http_clients import DOCUMENTED, JPEG, ask, assert_problem, client_of, make_counted, outcomes, post, until
from pictures import SIZE, jpeg
from service.access_log import log_request
from service.api_keys import ApiKeys
from service.http_problem import STATUS_OF_ERROR
from service.metrics import OUTCOMES
from service.record import RequestRecord

NEW_ID = re.compile(r"[0-9a-f]{32}")


def get(path: str, **headers: str | bytes) -> httpx.Response:
    return ask(lambda client: client.get(path, headers={name.replace("_", "-"): v for name, v in headers.items()}))


@pytest.mark.parametrize("offered", ["a", "camera-7.frame_12", "A" * 64, "0"])
def test_a_fit_request_id_is_sent_back(offered):
    assert get("/model", x_request_id=offered).headers["x-request-id"] == offered


@pytest.mark.parametrize(
    "offered",
    [
        "",
        " ",
        "A" * 65,
        "a b",
        "a\nb",
        "a\r\nSet-Cookie: x",
        "a\n",
        "\n",
        "naïve".encode(),
        "५".encode(),
        b"\xff",
        "a,b",
        "<i>",
    ],
)
def test_an_unfit_request_id_is_replaced(offered):
    response = get("/model", x_request_id=offered)
    assert response.status_code == 200
    assert NEW_ID.fullmatch(response.headers["x-request-id"])


def test_without_a_request_id_each_request_gets_its_own():
    assert len({get("/healthz").headers["x-request-id"] for _ in range(3)}) == 3


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/pose", 405), ("POST", "/pose", 415), ("GET", "/", 200), ("GET", "/docs", 200)],
)
def test_every_answer_has_a_request_id(method, path, status):
    response = ask(lambda client: client.request(method, path, headers={"x-request-id": "mine"}))
    assert response.status_code == status
    assert response.headers["x-request-id"] == "mine"


def test_the_record_has_the_request_id_of_the_answer(caplog):
    records: list[RequestRecord] = []
    service, _ = make_counted(observers=(records.append, log_request))
    with caplog.at_level(logging.INFO, logger="service.access"):
        response = post(jpeg(), service)
    (record,) = records
    assert record.caller.request_id == response.headers["x-request-id"]
    assert (record.width, record.height, record.persons, record.image_bytes) == (*SIZE, 1, len(jpeg()))
    assert f"request_id={record.caller.request_id} protocol=http method=pose outcome=ok" in caplog.text
    assert set(record.stages) == {"read", "decode", "queue", "engine"}


def test_the_trace_of_the_caller_is_recorded():
    records: list[RequestRecord] = []
    service, _ = make_counted(observers=(records.append,))
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    post(jpeg(), service, headers={**JPEG, "traceparent": traceparent})
    assert records[0].caller.traceparent == traceparent


def test_metrics_count_how_requests_ended():
    async def run() -> None:
        estimator = BrightestPixel()
        service, metrics = make_counted(estimator)
        async with client_of(service, metrics) as client:
            before = read(await client.get("/metrics"))
            assert all(before[ended(outcome)] == 0 for outcome in OUTCOMES), "every series exists from the start"
            assert before["btranspose_open"] == 1
            for content in (jpeg(), jpeg(), b"no picture"):
                await client.post("/pose", content=content, headers=JPEG)
            await client.post("/pose", content=jpeg(), headers=JPEG, params={"boxes": "[[0, 0, 9, 9], [9, 9, 9, 9]]"})
            await client.post("/pose", content=jpeg(), headers=JPEG, params={"boxes": "[[0, 0, 0, 0]]"})
            estimator.gate.clear()
            leaves = asyncio.create_task(client.post("/pose", content=jpeg(), headers=JPEG))
            await until(lambda: service._engine.persons == 1)
            during = read(await client.get("/metrics"))
            assert (during["btranspose_in_flight_requests"], during["btranspose_in_flight_persons"]) == (1, 1)
            leaves.cancel()
            await asyncio.wait({leaves})
            estimator.gate.set()
            after = read(await client.get("/metrics"))
        assert {outcome: after[ended(outcome)] for outcome in OUTCOMES if after[ended(outcome)]} == {
            "ok": 3,
            "not_an_image": 1,
            "invalid_parameter": 1,
            "gone": 1,
        }
        assert after['btranspose_rejections_total{reason="not_an_image"}'] == 1
        assert after["btranspose_persons_total"] == 4
        assert after['btranspose_request_duration_seconds_count{method="pose",protocol="http"}'] == 3
        assert after['btranspose_stage_duration_seconds_count{stage="read"}'] == 6
        assert after["btranspose_in_flight_requests"] == 0
        assert after["process_resident_memory_bytes"] > 0

    asyncio.run(run())


def ended(outcome: str) -> str:
    return f'btranspose_requests_total{{method="pose",outcome="{outcome}",protocol="http"}}'


def read(response: httpx.Response) -> dict[str, float]:
    """Every sample of a page of metrics, read as Prometheus reads it."""
    assert response.status_code == 200
    values = {}
    for family in read_text(response.text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            values[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return values


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version="),
        ("*/*", "text/plain; version="),
        ("text/html", "text/plain; version="),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", "application/openmetrics-text; version=1.0.0"),
        ("\x7f;;q=,,", "text/plain; version="),
    ],
)
def test_metrics_come_in_the_format_that_is_asked_for(accept, content_type):
    response = get("/metrics", accept=accept)
    assert response.headers["content-type"].startswith(content_type)
    families = list((read_openmetrics if "openmetrics" in content_type else read_text)(response.text))
    assert "btranspose_requests" in {family.name for family in families}
    assert response.text.endswith("# EOF\n") == ("openmetrics" in content_type)


def test_head_is_for_health_checks():
    async def run() -> None:
        async with client_of(make_service()) as client:
            for path in ("/healthz", "/readyz"):
                response = await client.head(path)
                assert (response.status_code, response.content) == (200, b"")
            for path in ("/metrics", "/model", "/pose"):
                refused = await client.head(path)
                assert refused.status_code == 405
                assert refused.headers["allow"] == ("POST" if path == "/pose" else "GET")

    asyncio.run(run())


def test_the_openapi_document_tells_every_status_and_header():
    document = get("/openapi.json").json()
    operation = document["paths"]["/pose"]["post"]
    assert {int(status) for status in operation["responses"]} == DOCUMENTED
    assert {int(status) for status in STATUS_OF_ERROR.values()} | {200} == DOCUMENTED
    for status, response in operation["responses"].items():
        kinds = set(response["content"])
        assert kinds == {"application/json" if status == "200" else "application/problem+json"}
        assert "X-Request-Id" in response["headers"]
    assert operation["responses"]["429"]["headers"]["Retry-After"]["schema"] == {"type": "integer", "minimum": 1}
    assert "WWW-Authenticate" in operation["responses"]["401"]["headers"]
    asked = {(parameter["in"], parameter["name"].lower()) for parameter in operation["parameters"]}
    assert asked == {
        ("query", "boxes"),
        ("query", "flip_test"),
        ("header", "x-timeout-ms"),
        ("header", "x-request-id"),
        ("header", "x-api-key"),
    }
    assert set(document["paths"]["/readyz"]["get"]["responses"]) == {"200", "503"}
    assert set(document["paths"]["/metrics"]["get"]["responses"]["200"]["content"]) == {
        "text/plain",
        "application/openmetrics-text",
    }
    assert set(document["paths"]) == {"/pose", "/dependency", "/model", "/healthz", "/readyz", "/metrics"}


@pytest.mark.parametrize(
    ("owner", "attribute"), [("service", "estimate"), ("admission", "hold"), ("admission", "authenticate")]
)
def test_a_defect_is_a_bare_500_with_a_name(owner, attribute, monkeypatch, caplog):
    service, metrics = make_counted()

    def defect(*_: object) -> None:
        raise RuntimeError("secret at 0x7f00 in /srv/secret.py")

    monkeypatch.setattr(service if owner == "service" else service.admission, attribute, defect)
    response = post(jpeg(), service, headers={**JPEG, "x-request-id": "mine"})
    assert_problem(response, 500, "an internal error; the log has the details")
    assert response.headers["x-request-id"] == "mine"
    assert response.headers["connection"] == "close", "what of the body was read is not known"
    for word in ("secret", "0x", "Traceback", "RuntimeError"):
        assert word not in response.text + str(response.headers)
    assert outcomes(metrics) == {"internal": 1}


def test_a_defect_elsewhere_is_a_bare_500_too(monkeypatch):
    service = make_service()

    async def defect() -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(service, "why_not_ready", defect)
    response = ask(lambda client: client.get("/readyz"), service)
    assert_problem(response, 500, "an internal error; the log has the details")
    assert "secret" not in response.text
    assert NEW_ID.fullmatch(response.headers["x-request-id"])


def test_who_watches_cannot_spoil_an_answer():
    def fails(_: RequestRecord) -> None:
        raise RuntimeError("the disk is full")

    service, metrics = make_counted(observers=(fails,))
    assert post(jpeg(), service).status_code == 200
    assert outcomes(metrics) == {"ok": 1}


@pytest.mark.parametrize(
    ("key", "outcome"), [("the-key-of-a-camera", "ok"), ("a-wrong-key-of-another", "unauthenticated")]
)
def test_no_key_is_ever_logged(key, outcome, caplog):
    service, _ = make_counted(api_keys=ApiKeys(["the-key-of-a-camera"]), observers=(log_request,))
    with caplog.at_level(logging.DEBUG):
        post(jpeg(), service, headers={**JPEG, "x-api-key": key})
    assert f"outcome={outcome}" in caplog.text
    assert "key-of-a" not in caplog.text
