"""Traces for OpenTelemetry: one span a request and one for each of its stages, made from the record when it is over.

Nothing happens unless the `tracing` extra is installed and the standard environment asks for it: an OTLP endpoint
(`OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) or `OTEL_TRACES_EXPORTER` (`otlp`, `console`).
Sampling, resource and batching follow the standard variables too, as the OpenTelemetry SDK reads them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from service.access_log import request_fields
from service.record import GONE, OK, RequestRecord

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
EXPORTERS = ("otlp", "console", "none")
SDK = "opentelemetry.sdk"
NEEDED = {"otlp": (SDK, "opentelemetry.exporter.otlp.proto.http"), "console": (SDK,), "none": ()}


def traces_wanted(environment: Mapping[str, str]) -> str:
    """Which exporter the environment asks for: "otlp", "console" or "none". Raises ValueError for any other."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return "none"
    by_endpoint = "otlp" if any(environment.get(name) for name in ENDPOINTS) else "none"
    wanted = environment.get("OTEL_TRACES_EXPORTER") or by_endpoint
    if wanted not in EXPORTERS:
        raise ValueError(f"OTEL_TRACES_EXPORTER is {wanted!r}; allowed: {', '.join(EXPORTERS)}")
    if not all(map(_is_installed, NEEDED[wanted])):
        raise ValueError("traces are asked for, but OpenTelemetry is not installed; try: pip install '.[tracing]'")
    return wanted


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even what it lies in
        return False


class Tracer:
    """Writes the spans of requests. Give `on_request` to the admission; `close` sends what is left."""

    def __init__(self, exporter: SpanExporter, *, version: str) -> None:
        """Args: exporter: where spans go, in a thread of its own."""
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        ours = Resource.create({SERVICE_NAME: "btranspose", "service.version": version})
        resource = ours.merge(OTELResourceDetector().detect())  # the standard variables win over these names
        self._provider: TracerProvider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("btranspose", version)

    def on_request(self, record: RequestRecord) -> None:
        """A request is over: write its spans, under the span of its caller if it named one."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        to_wall_ns = time.time_ns() - time.monotonic_ns()

        def wall_ns(monotonic_s: float) -> int:
            return to_wall_ns + round(1e9 * monotonic_s)

        carrier = {"traceparent": record.caller.traceparent} if record.caller.traceparent else {}
        span = self._tracer.start_span(
            f"{record.caller.protocol} {record.caller.method}",
            context=TraceContextTextMapPropagator().extract(carrier),
            kind=SpanKind.SERVER,
            start_time=wall_ns(record.started_s),
            attributes={f"btranspose.{name}": value for name, value in request_fields(record).items()},
        )
        if record.outcome not in (OK, GONE):
            span.set_status(Status(StatusCode.ERROR, record.outcome))
        inside = set_span_in_context(span)
        for stage, (started_s, ended_s) in record.stages.items():
            part = self._tracer.start_span(stage, context=inside, start_time=wall_ns(started_s))
            part.end(wall_ns(ended_s))
        span.end(wall_ns(record.finished_s))

    def close(self) -> None:
        """Send what is left, and end the thread."""
        self._provider.shutdown()


def make_tracer(environment: Mapping[str, str], *, version: str) -> Tracer | None:
    """The tracer that the environment asks for; None if it asks for none. Raises ValueError as `traces_wanted`."""
    wanted = traces_wanted(environment)
    if wanted == "none":
        return None
    exporters: dict[str, Callable[[], SpanExporter]] = {"otlp": _otlp, "console": _console}
    return Tracer(exporters[wanted](), version=version)


def _otlp() -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def _console() -> SpanExporter:
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    return ConsoleSpanExporter()
