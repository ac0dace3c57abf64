"""Spans of requests, made when they are over; and when there are any."""

from __future__ import annotations

import importlib.util
import os
import sys
import time

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from fakes import make_admission, make_service
from grpc_clients import Served, ask, estimate_request, refused
from service.errors import ALL_ERRORS
from service.record import Caller, RequestRecord
from service.tracing import Tracer, make_tracer, traces_wanted

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
KEY = "k-0123456789abcdef"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


def over(outcome: str = "ok", traceparent: str | None = None) -> RequestRecord:
    """A request that ended now, after 2 seconds."""
    now_s = time.monotonic()
    caller = Caller(protocol="grpc", method="pose", request_id="job-7", traceparent=traceparent, api_key=KEY)
    return RequestRecord(
        caller=caller,
        started_s=now_s - 2.0,
        finished_s=now_s,
        persons=3,
        outcome=outcome,
        stages={
            "decode": (now_s - 2.0, now_s - 1.5),
            "queue": (now_s - 1.5, now_s - 1.25),
            "engine": (now_s - 1.25, now_s),
        },
    )


def spans_of(*records: RequestRecord) -> list[ReadableSpan]:
    """The spans of these requests; parents come after their children."""
    exporter = InMemorySpanExporter()
    tracer = Tracer(exporter, version="1.2.3")
    for record in records:
        tracer.on_request(record)
    tracer.close()
    return list(exporter.get_finished_spans())


def test_a_request_is_a_span_and_each_stage_is_one_under_it():
    *stages, request = spans_of(over())
    assert (request.name, request.kind, request.parent) == ("grpc pose", SpanKind.SERVER, None)
    assert [stage.name for stage in stages] == ["decode", "queue", "engine"]
    for stage in stages:
        assert stage.parent == request.context
        assert request.start_time <= stage.start_time < stage.end_time <= request.end_time
    assert stages[0].end_time == stages[1].start_time
    assert request.end_time - request.start_time == pytest.approx(2e9, abs=1e4)
    assert request.end_time == pytest.approx(time.time_ns(), abs=60e9)  # of the clock on the wall
    assert request.attributes["btranspose.request_id"] == "job-7"
    assert request.attributes["btranspose.persons"] == 3
    assert request.attributes["btranspose.total_ms"] == 2000.0
    assert request.resource.attributes["service.name"] == "btranspose"
    assert request.resource.attributes["service.version"] == "1.2.3"


@pytest.mark.parametrize("outcome", ["internal", *(error.reason for error in ALL_ERRORS)])
def test_a_request_that_failed_is_a_span_that_failed(outcome):
    request = spans_of(over(outcome))[-1]
    assert (request.status.status_code, request.status.description) == (StatusCode.ERROR, outcome)


@pytest.mark.parametrize("outcome", ["ok", "gone"])
def test_a_request_that_was_answered_or_left_is_not(outcome):
    request = spans_of(over(outcome))[-1]
    assert request.status.status_code == StatusCode.UNSET
    assert request.attributes["btranspose.outcome"] == outcome


def test_the_trace_of_the_caller_goes_on():
    *stages, request = spans_of(over(traceparent=TRACEPARENT))
    assert f"{request.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == PARENT
    assert {stage.context.trace_id for stage in stages} == {request.context.trace_id}


@pytest.mark.parametrize("traceparent", [None, "", "nonsense", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01"])
def test_without_a_trace_of_the_caller_each_request_is_one_of_its_own(traceparent):
    first, second = (span for span in spans_of(over(traceparent=traceparent), over()) if span.name == "grpc pose")
    assert (first.parent, second.parent) == (None, None)
    assert first.context.trace_id != second.context.trace_id


def test_a_caller_who_does_not_sample_is_not_sampled():
    assert spans_of(over(traceparent=f"00-{TRACE}-{PARENT}-00")) == []


def test_the_name_of_the_service_can_be_set_from_outside(monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "poses-in-berlin")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test,service.name=another")
    attributes = spans_of(over())[-1].resource.attributes
    assert (attributes["service.name"], attributes["deployment.environment"]) == ("poses-in-berlin", "test")
    assert attributes["service.version"] == "1.2.3"


def test_no_key_is_in_a_span():
    for span in spans_of(over("unauthenticated")):
        assert KEY not in span.to_json()


def test_requests_over_the_wire_are_traced_with_what_they_say():
    exporter = InMemorySpanExporter()
    tracer = Tracer(exporter, version="1.2.3")
    service = make_service(admission=make_admission(observers=[tracer.on_request]))

    async def talk(to: Served) -> None:
        await to.poses.EstimatePose(estimate_request(), metadata=(("traceparent", TRACEPARENT),))
        await refused(to.poses.EstimatePose(estimate_request(b"")))

    ask(service, talk)
    tracer.close()
    *_, answered, _decode, failed = exporter.get_finished_spans()
    assert (answered.name, f"{answered.context.trace_id:032x}") == ("grpc pose", TRACE)
    inside = [span for span in exporter.get_finished_spans() if span.parent == answered.context]
    assert [span.name for span in inside] == ["decode", "queue", "engine"]
    for span in inside:
        assert answered.start_time <= span.start_time <= span.end_time <= answered.end_time
    assert (failed.name, failed.status.description) == ("grpc pose", "not_an_image")


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, "none"),
        ({"OTEL_TRACES_EXPORTER": ""}, "none"),
        ({"OTEL_TRACES_EXPORTER": "none"}, "none"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, "none"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, "none"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, "none"),
        ({"OTEL_TRACES_EXPORTER": "zipkin", "OTEL_SDK_DISABLED": "TRUE"}, "none"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "false"}, "otlp"),
    ],
)
def test_the_standard_environment_decides_where_traces_go(environment, wanted):
    assert traces_wanted(environment) == wanted


@pytest.mark.parametrize("wanted", ["zipkin", "otlp,console", "OTLP"])
def test_an_exporter_that_is_not_known_is_an_error_that_names_it(wanted):
    with pytest.raises(ValueError, match=f"OTEL_TRACES_EXPORTER is '{wanted}'; allowed: otlp, console, none"):
        traces_wanted({"OTEL_TRACES_EXPORTER": wanted})


def test_no_traces_are_made_unless_they_are_asked_for():
    assert make_tracer({}, version="1") is None


def test_a_tracer_is_made_when_one_is_asked_for():
    tracer = make_tracer({"OTEL_TRACES_EXPORTER": "otlp"}, version="1")
    assert isinstance(tracer, Tracer)
    tracer.close()


@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.sdk"])
@pytest.mark.parametrize("wanted", ["otlp", "console"])
def test_without_the_extra_traces_that_are_asked_for_are_a_clear_error(missing, wanted, monkeypatch):
    without(missing, monkeypatch)
    assert traces_wanted({}) == "none"
    with pytest.raises(ValueError, match=r"OpenTelemetry is not installed; try: pip install '.\[tracing\]'"):
        traces_wanted({"OTEL_TRACES_EXPORTER": wanted})


def test_without_the_exporter_that_is_asked_for_there_is_a_clear_error(monkeypatch):
    without("opentelemetry.exporter", monkeypatch)
    assert traces_wanted({"OTEL_TRACES_EXPORTER": "console"}) == "console"
    with pytest.raises(ValueError, match="OpenTelemetry is not installed"):
        traces_wanted({"OTEL_TRACES_EXPORTER": "otlp"})


def without(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package, and all in it, had not been installed."""
    monkeypatch.setitem(sys.modules, package, None)
    for name in list(sys.modules):
        if name.startswith(f"{package}."):
            monkeypatch.delitem(sys.modules, name)
    assert importlib.util.find_spec(package) is None
