"""What Prometheus is told: which series there are, and which of them move when something happens."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fakes import BrightestPixel, make_admission, make_engine, make_network, make_service
from grpc_clients import Served, ask, estimate_request, frame, refused, until
from service.errors import ALL_ERRORS, Overloaded
from service.metrics import Metrics
from service.record import METHODS, OK, PROTOCOLS, STAGES, Caller, RequestRecord

OUTCOMES = {"ok", "gone", "internal", *(error.reason for error in ALL_ERRORS)}


def samples(metrics: Metrics) -> dict[str, float]:
    """Every series that was not 0, as `name{label=value}`."""
    return {
        f"{sample.name}{{{','.join(f'{name}={value}' for name, value in sorted(sample.labels.items()))}}}": sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.value and sample.name.startswith("btranspose") and not sample.name.endswith(("_bucket", "_created"))
    }


def over(
    outcome: str = OK, *, protocol: str = "http", method: str = "pose", persons: int = 1, **stages: tuple[float, float]
) -> RequestRecord:
    """A request from second 10 to second 12 that is over."""
    caller = Caller(protocol=protocol, method=method)
    return RequestRecord(
        caller=caller, started_s=10.0, finished_s=12.0, persons=persons, outcome=outcome, stages=dict(stages)
    )


def complete() -> Metrics:
    """The metrics of a service, with everything that the exposition may have."""
    metrics = Metrics()
    service = make_service(engine=make_engine(observer=metrics))
    metrics.describe(service.info, version="1.2.3")
    metrics.watch(
        engine=service._engine, requests=lambda: service.admission.requests, dependencies=int, is_open=lambda: True
    )
    metrics.on_request(over(read=(10.0, 10.5), decode=(10.5, 10.6), queue=(10.6, 11.0), engine=(11.0, 12.0)))
    metrics.on_request(over("late"))
    metrics.on_batch(3, 0.25)
    service.close(5.0)
    return metrics


def test_a_request_with_an_answer_counts_itself_its_persons_its_time_and_its_stages():
    metrics = Metrics()
    metrics.on_request(over(protocol="grpc", persons=3, decode=(10.0, 10.5), queue=(10.5, 10.75), engine=(10.75, 12.0)))
    assert samples(metrics) == {
        "btranspose_requests_total{method=pose,outcome=ok,protocol=grpc}": 1,
        "btranspose_persons_total{}": 3,
        "btranspose_request_duration_seconds_count{method=pose,protocol=grpc}": 1,
        "btranspose_request_duration_seconds_sum{method=pose,protocol=grpc}": 2.0,
        "btranspose_stage_duration_seconds_count{stage=decode}": 1,
        "btranspose_stage_duration_seconds_sum{stage=decode}": 0.5,
        "btranspose_stage_duration_seconds_count{stage=queue}": 1,
        "btranspose_stage_duration_seconds_sum{stage=queue}": 0.25,
        "btranspose_stage_duration_seconds_count{stage=engine}": 1,
        "btranspose_stage_duration_seconds_sum{stage=engine}": 1.25,
    }


@pytest.mark.parametrize("error", ALL_ERRORS)
def test_a_refused_request_counts_itself_and_its_reason_and_no_persons(error):
    metrics = Metrics()
    metrics.on_request(over(error.reason, persons=3))
    assert samples(metrics) == {
        f"btranspose_requests_total{{method=pose,outcome={error.reason},protocol=http}}": 1,
        f"btranspose_rejections_total{{reason={error.reason}}}": 1,
    }


@pytest.mark.parametrize("outcome", ["gone", "internal"])
def test_a_caller_who_left_and_a_defect_are_no_rejections(outcome):
    metrics = Metrics()
    metrics.on_request(over(outcome))
    assert samples(metrics) == {f"btranspose_requests_total{{method=pose,outcome={outcome},protocol=http}}": 1}


def test_the_engine_tells_of_batches_failures_and_drops():
    metrics = Metrics()
    metrics.on_batch(3, 0.25)
    metrics.on_batch(5, 0.5)
    metrics.on_batch_failed(4)
    metrics.on_dropped(2, "gone")
    metrics.on_dropped(1, "late")
    metrics.on_dropped(6, "failed")
    assert samples(metrics) == {
        "btranspose_batch_persons_count{}": 2,
        "btranspose_batch_persons_sum{}": 8,
        "btranspose_batch_duration_seconds_count{}": 2,
        "btranspose_batch_duration_seconds_sum{}": 0.75,
        "btranspose_engine_failures_total{}": 1,
        "btranspose_dropped_persons_total{reason=gone}": 2,
        "btranspose_dropped_persons_total{reason=late}": 1,
        "btranspose_dropped_persons_total{reason=failed}": 6,
    }


def test_every_series_exists_from_the_start():
    metrics = Metrics()
    there = {(sample.name, *sorted(sample.labels.items())) for f in metrics.registry.collect() for sample in f.samples}
    asked = [
        *(
            ("btranspose_requests_total", ("method", method), ("outcome", outcome), ("protocol", protocol))
            for method in METHODS
            for outcome in OUTCOMES
            for protocol in PROTOCOLS
        ),
        *(
            ("btranspose_request_duration_seconds_count", ("method", method), ("protocol", protocol))
            for method in METHODS
            for protocol in PROTOCOLS
        ),
        *(("btranspose_rejections_total", ("reason", error.reason)) for error in ALL_ERRORS),
        *(("btranspose_stage_duration_seconds_count", ("stage", stage)) for stage in STAGES),
        *(("btranspose_dropped_persons_total", ("reason", reason)) for reason in ("gone", "late", "failed")),
        *(("btranspose_reloads_total", ("outcome", outcome)) for outcome in ("ok", "failed", "rolled_back")),
    ]
    assert [one for one in asked if one not in there] == []


def test_nothing_that_happens_makes_a_new_series():
    metrics = Metrics()
    before = {(sample.name, *sample.labels.items()) for f in metrics.registry.collect() for sample in f.samples}
    for protocol in PROTOCOLS:
        for method in METHODS:
            for outcome in OUTCOMES:
                metrics.on_request(over(outcome, protocol=protocol, method=method))
    for reason in ("gone", "late", "failed"):
        metrics.on_dropped(1, reason)
    after = {(sample.name, *sample.labels.items()) for f in metrics.registry.collect() for sample in f.samples}
    assert after == before


def test_gauges_are_read_when_scraped():
    metrics = Metrics()
    service = make_service(engine=make_engine(observer=metrics))
    state = {"requests": 0, "open": False}
    metrics.watch(
        engine=service._engine, requests=lambda: state["requests"], dependencies=int, is_open=lambda: state["open"]
    )
    assert samples(metrics) == {"btranspose_lanes{}": 1}
    state.update(requests=4, open=True)
    assert samples(metrics) == {"btranspose_lanes{}": 1, "btranspose_in_flight_requests{}": 4, "btranspose_open{}": 1}
    service.close(5.0)


def test_what_runs_is_told_as_labels():
    told = samples(complete())
    assert told["btranspose_build_info{version=1.2.3}"] == 1
    (model,) = [name for name in told if name.startswith("btranspose_model_info")]
    assert "checkpoint_sha256=0000" in model
    assert "device=cpu" in model


def test_another_network_is_told_in_place_of_the_one_before_and_reloads_by_how_they_ended():
    metrics = Metrics()
    first, second = make_network(sha256="a" * 64), make_network(sha256="b" * 64)
    metrics.describe(first.info, version="1.2.3")
    since = samples(metrics)["btranspose_serving_since_timestamp_seconds{}"]
    metrics.on_reload_failed()
    assert samples(metrics)["btranspose_last_reload_failed{}"] == 1
    metrics.on_reloaded(second)
    told = samples(metrics)
    (model,) = [name for name in told if name.startswith("btranspose_model_info")]
    assert f"checkpoint_sha256={'b' * 64}" in model
    assert told["btranspose_serving_since_timestamp_seconds{}"] > since
    metrics.on_rolled_back(first)
    told = samples(metrics)
    (model,) = [name for name in told if name.startswith("btranspose_model_info")]
    assert f"checkpoint_sha256={'a' * 64}" in model
    assert {name: value for name, value in told.items() if "reload" in name} == {
        "btranspose_reloads_total{outcome=ok}": 1,
        "btranspose_reloads_total{outcome=failed}": 1,
        "btranspose_reloads_total{outcome=rolled_back}": 1,
    }


def test_a_service_at_work_is_told_as_it_was():
    metrics = Metrics()
    estimator = BrightestPixel()
    engine = make_engine(estimator, observer=metrics)
    admission = make_admission(observers=[metrics.on_request])
    metrics.watch(
        engine=engine,
        requests=lambda: admission.requests,
        dependencies=int,
        is_open=lambda: admission.closed_because is None,
    )

    async def talk(to: Served) -> None:
        estimator.gate.clear()
        held = to.poses.EstimatePose(estimate_request(boxes=[(0, 0, 30, 30)] * 3))
        await until(lambda: engine.persons == 3)
        assert samples(metrics)["btranspose_in_flight_persons{}"] == 3
        assert samples(metrics)["btranspose_in_flight_requests{}"] == 1
        assert samples(metrics)["btranspose_open{}"] == 1
        estimator.gate.set()
        await held
        await refused(to.poses.EstimatePose(estimate_request(b"")))
        call = to.poses.StreamPoses()
        for one in (frame(1), frame(2, b"")):
            await call.write(one)
        await call.done_writing()
        assert len([answer async for answer in call]) == 2
        estimator.fails_with = RuntimeError("broken")
        await refused(to.poses.EstimatePose(estimate_request(boxes=[(0, 0, 30, 30)] * 2)))
        await until(lambda: admission.requests == 0)

    ask(make_service(engine=engine, admission=admission), talk)
    told = {name: value for name, value in samples(metrics).items() if "seconds_sum" not in name}
    requests = "btranspose_requests_total{method=%s,outcome=%s,protocol=grpc}"
    assert told == told | {
        requests % ("pose", "ok"): 1,
        requests % ("pose", "not_an_image"): 1,
        requests % ("pose", "engine_failed"): 1,
        requests % ("frame", "ok"): 1,
        requests % ("frame", "not_an_image"): 1,
        requests % ("stream", "ok"): 1,
        "btranspose_rejections_total{reason=not_an_image}": 2,
        "btranspose_rejections_total{reason=engine_failed}": 1,
        "btranspose_persons_total{}": 4,
        "btranspose_batch_persons_sum{}": 1 + 3 + 1,  # with the warm-up
        "btranspose_stage_duration_seconds_count{stage=engine}": 3,
    }
    assert told["btranspose_engine_failures_total{}"] >= 1  # and perhaps a look at its health
    assert sum(value for name, value in told.items() if name.startswith("btranspose_requests_total")) == 6
    assert "btranspose_open{}" not in told
    assert "btranspose_in_flight_persons{}" not in told
    assert f"btranspose_rejections_total{{reason={Overloaded.reason}}}" not in told


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
    ],
)
def test_the_format_is_the_one_that_is_asked_for(accept, content_type):
    text, told = complete().exposition(accept)
    assert told.startswith(content_type)
    assert text.endswith(b"# EOF\n") == accept.startswith("application/openmetrics")
    assert b'btranspose_requests_total{method="pose",outcome="late",protocol="http"} 1.0' in text


def test_names_are_as_prometheus_wants_them():
    text, _ = complete().exposition("")
    families = list(text_string_to_metric_families(text.decode()))
    assert len(families) > 15
    for family in families:
        name = family.name
        assert re.fullmatch("(btranspose|process)(_[a-z0-9]+)+", name)
        assert family.documentation.endswith(".")
        if family.type == "counter":
            assert {sample.name for sample in family.samples} <= {f"{name}_total", f"{name}_created"}
        else:
            assert not name.endswith("_total")
        assert not re.search("_(ms|milliseconds|minutes|count|kb|percent)$", name)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on the PATH")
def test_promtool_finds_nothing_to_complain_about():
    text, _ = complete().exposition("")
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
