"""Dependency maps as an operator sees them: metrics, the log, the gauge of those in flight."""

from __future__ import annotations

import asyncio

from fakes import BrightestPixel
from grpc_clients import dependency_request, http_beside, served, until
from http_clients import JPEG, client_of, make_counted, outcomes
from pictures import SIZE, jpeg
from service.access_log import request_fields
from service.metrics import Metrics
from service.record import RequestRecord

NUMBERS = "/dependency?keypoint=nose&format=json"


def value(metrics: Metrics, name: str, **labels: str) -> float:
    found = metrics.registry.get_sample_value(f"btranspose_{name}", labels)
    assert found is not None, name
    return found


def test_maps_are_told_by_their_method_and_only_poses_count_as_persons():
    records: list[RequestRecord] = []
    service, metrics = make_counted(observers=[records.append])

    async def run() -> None:
        async with served(service) as to, http_beside(to, metrics) as http:
            for path in ("/dependency?keypoint=all", NUMBERS, "/dependency", "/pose"):
                await http.post(path, content=jpeg(), headers=JPEG)
            await to.poses.GetDependency(dependency_request(keypoint="nose"))
            text = (await http.get("/metrics")).text
            assert 'btranspose_requests_total{method="dependency",outcome="ok",protocol="grpc"} 1.0' in text
            assert 'btranspose_stage_duration_seconds_count{stage="render"} 2.0' in text

    asyncio.run(run())
    assert outcomes(metrics, "dependency") == {"ok": 2, "invalid_parameter": 1}
    assert value(metrics, "persons_total") == 1
    assert value(metrics, "request_duration_seconds_count", protocol="http", method="dependency") == 2
    assert value(metrics, "stage_duration_seconds_count", stage="engine") == 4
    figure, numbers, refusal, pose, called = map(request_fields, records)
    assert {one["method"] for one in (figure, numbers, refusal, called)} == {"dependency"}
    assert [one["persons"] for one in (figure, numbers, pose, called)] == [1, 1, 1, 1]
    assert (figure["width"], figure["height"], figure["image_bytes"]) == (*SIZE, len(jpeg()))
    stages = ["read_ms", "decode_ms", "queue_ms", "engine_ms", "render_ms"]
    assert [name for name in figure if name.endswith("_ms")] == [*stages, "total_ms"]
    assert [name for name in numbers if name.endswith("_ms")] == [*stages[:-1], "total_ms"]
    assert [name for name in called if name.endswith("_ms")] == [*stages[1:], "total_ms"]
    assert [name for name in refusal if name.endswith("_ms")] == ["read_ms", "total_ms"]


def test_the_times_of_the_stages_follow_each_other():
    records: list[RequestRecord] = []
    service, metrics = make_counted(observers=[records.append])

    async def run() -> None:
        async with client_of(service, metrics) as client:
            await client.post("/dependency?keypoint=nose", content=jpeg(), headers=JPEG)

    asyncio.run(run())
    (record,) = records
    times = [time for stage in record.stages.values() for time in stage]
    assert [record.started_s, *times, record.finished_s] == sorted([record.started_s, *times, record.finished_s])


def test_maps_in_flight_can_be_watched():
    estimator = BrightestPixel()
    service, metrics = make_counted(estimator)

    async def run() -> None:
        async with served(service) as to, http_beside(to, metrics) as http:
            assert value(metrics, "in_flight_dependencies") == 0
            estimator.gate.clear()
            asked = [
                asyncio.ensure_future(http.post("/pose", content=jpeg(), headers=JPEG)),
                asyncio.ensure_future(http.post(NUMBERS, content=jpeg(), headers=JPEG)),
                asyncio.ensure_future(to.poses.GetDependency(dependency_request(keypoint="nose"))),
            ]
            await until(lambda: value(metrics, "in_flight_persons") == 3)
            assert value(metrics, "in_flight_dependencies") == 2
            assert value(metrics, "in_flight_requests") == 3
            estimator.gate.set()
            await asyncio.gather(*asked)
            await until(lambda: value(metrics, "in_flight_requests") == 0)
            assert value(metrics, "in_flight_dependencies") == 0

    asyncio.run(run())
