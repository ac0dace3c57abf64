"""What Prometheus is told, in base units, one registry per service, one process.

Requests are counted from their records when they are over; the engine tells of its batches; gauges are read when
scraped. Every label has few values, all known beforehand, so that each series exists from the start; but what is served
is one series with a label for the checkpoint, replaced by another when another takes over.

Buckets. A request lives between a millisecond (refused) and half a minute (the deadline), so the buckets of seconds go
from 1 ms to 30 s, about doubling: a quantile read from them is within a factor of two, and closer between 10 and
500 ms, where idle and loaded requests lie. A batch has a power of two or what lies between.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import choose_encoder

from service.detecting import DetectorObserver
from service.engine import Engine, EngineObserver
from service.errors import ALL_ERRORS
from service.network import Network
from service.poses import ModelInfo
from service.record import DEFECT, DEPENDENCY, GONE, METHODS, OK, PROTOCOLS, STAGES, RequestRecord
from service.reloading import ReloadObserver
from service.streaming import PACES, Pace, StreamObserver

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
PERSONS = (1, 2, 4, 8, 12, 16, 24, 32, 64, 128)
OUTCOMES = (OK, GONE, DEFECT, *(error.reason for error in ALL_ERRORS))
RELOADS = ("ok", "failed", "rolled_back")


class Metrics(EngineObserver, ReloadObserver, DetectorObserver, StreamObserver):
    """The series of one service. Give `on_request` to the admission, the object itself to the engine and to reloads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "btranspose_requests",
            "Requests that are over, by how they ended: ok, gone (the caller left) or the reason of the error.",
            ("protocol", "method", "outcome"),
            registry=registry,
        )
        self._rejections = Counter(
            "btranspose_rejections", "Requests answered with an error, by reason.", ("reason",), registry=registry
        )
        self._request_seconds = Histogram(
            "btranspose_request_duration_seconds",
            "From the head of a request to its answer, for requests that were answered.",
            ("protocol", "method"),
            buckets=SECONDS,
            registry=registry,
        )
        self._stage_seconds = Histogram(
            "btranspose_stage_duration_seconds",
            "Where the time of requests goes: read (the body), decode (picture to crops), queue (ready, not running), "
            "engine (from the first person's batch to the last one's answer), render (of a dependency map's picture).",
            ("stage",),
            buckets=SECONDS,
            registry=registry,
        )
        self._persons = Counter("btranspose_persons", "Persons answered with a pose.", registry=registry)
        self._batch_persons = Histogram(
            "btranspose_batch_persons", "Persons that ran together.", buckets=PERSONS, registry=registry
        )
        self._batch_seconds = Histogram(
            "btranspose_batch_duration_seconds", "One run of the network.", buckets=SECONDS, registry=registry
        )
        self._batch_failures = Counter(
            "btranspose_engine_failures", "Batches that the network could not run.", registry=registry
        )
        self._dropped = Counter(
            "btranspose_dropped_persons",
            "Persons that were admitted and never computed: their caller is gone, they are late, or a batch of their "
            "request failed.",
            ("reason",),
            registry=registry,
        )
        self._reloads = Counter(
            "btranspose_reloads",
            "Times that another network was to take over since the start: ok, failed (what served goes on), or "
            "rolled_back (the one before serves again).",
            ("outcome",),
            registry=registry,
        )
        self._last_reload_failed = Gauge(
            "btranspose_last_reload_failed", "1 if the last one failed; otherwise 0.", registry=registry
        )
        self._serving_since = Gauge(
            "btranspose_serving_since_timestamp_seconds",
            "When what is being served took over, at the start or later, in Unix time.",
            registry=registry,
        )
        self._make_video_series()
        for outcome in RELOADS:
            self._reloads.labels(outcome)
        for protocol in PROTOCOLS:
            for method in METHODS:
                self._request_seconds.labels(protocol, method)
                for outcome in OUTCOMES:
                    self._requests.labels(protocol, method, outcome)
        for error in ALL_ERRORS:
            self._rejections.labels(error.reason)
        for stage in STAGES:
            self._stage_seconds.labels(stage)
        for reason in ("gone", "late", "failed"):
            self._dropped.labels(reason)

    def _make_video_series(self) -> None:
        """Of the detector and of streams."""
        registry = self.registry
        self._detector_seconds = Histogram(
            "btranspose_detector_duration_seconds",
            "One run of the detector, on one picture or several.",
            buckets=SECONDS,
            registry=registry,
        )
        self._detected_pictures = Counter(
            "btranspose_detector_pictures", "Pictures that the detector looked at.", registry=registry
        )
        self._detected_persons = Counter(
            "btranspose_detector_persons", "Persons that the detector found.", registry=registry
        )
        self._detector_failures = Counter(
            "btranspose_detector_failures", "Pictures that the detector could not be run on.", registry=registry
        )
        self._frame_age_seconds = Histogram(
            "btranspose_stream_frame_age_seconds",
            "How old the frames of streams are when they are answered, from their arrival.",
            ("pace",),
            buckets=SECONDS,
            registry=registry,
        )
        self._dropped_frames = Counter(
            "btranspose_stream_frames_dropped",
            "Frames of streams that were dropped for newer ones.",
            ("pace",),
            registry=registry,
        )
        for pace in PACES:
            self._frame_age_seconds.labels(pace)
            self._dropped_frames.labels(pace)

    def on_request(self, record: RequestRecord) -> None:
        """A request is over."""
        caller = record.caller
        self._requests.labels(caller.protocol, caller.method, record.outcome).inc()
        if record.outcome not in (OK, GONE, DEFECT):
            self._rejections.labels(record.outcome).inc()
        for stage, (started_s, ended_s) in record.stages.items():
            self._stage_seconds.labels(stage).observe(ended_s - started_s)
        if record.outcome == OK:
            self._request_seconds.labels(caller.protocol, caller.method).observe(record.total_s)
            if caller.method != DEPENDENCY:
                self._persons.inc(record.persons)

    def on_batch(self, persons: int, seconds: float) -> None:
        self._batch_persons.observe(persons)
        self._batch_seconds.observe(seconds)

    def on_batch_failed(self, persons: int) -> None:  # noqa: ARG002 (of the interface)
        self._batch_failures.inc()

    def on_dropped(self, persons: int, because: str) -> None:
        self._dropped.labels(because).inc(persons)

    def on_detected(self, pictures: int, persons: int, seconds: float) -> None:
        self._detector_seconds.observe(seconds)
        self._detected_pictures.inc(pictures)
        self._detected_persons.inc(persons)

    def on_detector_failed(self) -> None:
        self._detector_failures.inc()

    def on_frame_answered(self, pace: Pace, age_s: float) -> None:
        self._frame_age_seconds.labels(pace).observe(age_s)

    def on_frame_dropped(self, pace: Pace) -> None:
        self._dropped_frames.labels(pace).inc()

    def watch(
        self,
        *,
        engine: Engine,
        requests: Callable[[], int],
        dependencies: Callable[[], int],
        is_open: Callable[[], bool],
    ) -> None:
        """Gauges that are read when scraped."""
        for name, help_text, read in (
            ("queue_persons", "Persons ready to run that do not run yet.", lambda: engine.waiting),
            ("in_flight_persons", "Persons admitted and unanswered.", lambda: engine.persons),
            ("lanes", "Batches that the network can run at a time.", lambda: engine.lanes),
            (
                "resting_lanes",
                "Lanes among them that failed, and get no persons until they work.",
                lambda: engine.resting,
            ),
            ("in_flight_requests", "Requests admitted and unanswered; a stream is one.", requests),
            ("in_flight_dependencies", "Those at work on dependency maps among them.", dependencies),
            ("open", "1 while requests are admitted; 0 while starting or shutting down.", is_open),
        ):
            Gauge(f"btranspose_{name}", help_text, registry=self.registry).set_function(read)

    def describe(self, info: ModelInfo, *, version: str) -> None:
        """What runs at the start, as labels of series that are always 1."""
        Info("btranspose_build", "The version of the service.", registry=self.registry).info({"version": version})
        self._model = Info("btranspose_model", "What is being served.", registry=self.registry)
        self._tell_model(info)

    def on_reloaded(self, network: Network) -> None:
        self._tell_reload("ok", network)

    def on_rolled_back(self, network: Network) -> None:
        self._tell_reload("rolled_back", network)

    def on_reload_failed(self) -> None:
        self._reloads.labels("failed").inc()
        self._last_reload_failed.set(1)

    def _tell_reload(self, outcome: str, network: Network) -> None:
        self._reloads.labels(outcome).inc()
        self._last_reload_failed.set(0)
        self._tell_model(network.info)

    def _tell_model(self, info: ModelInfo) -> None:
        """As the labels of the one series; that of what served before is gone then."""
        self._serving_since.set(time.time())
        self._model.info(
            {
                "variant": info.variant,
                "checkpoint_sha256": info.checkpoint_sha256,
                "runtime": info.runtime,
                "device": info.device,
                "precision": info.precision,
            }
        )

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The text that Prometheus reads, and its content type, in the format that the `Accept` header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
