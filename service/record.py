"""What is remembered of one request: who asked, how it ended, and where its time went.

The service fills it in; metrics, log and traces read it when the request is over, so that each is told once.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PROTOCOLS = ("http", "grpc")
DEPENDENCY = "dependency"
METHODS = ("pose", DEPENDENCY, "stream", "frame")  # a stream is one request, and each of its frames is one
STAGES = ("read", "decode", "detect", "queue", "engine", "render")

OK = "ok"
GONE = "gone"  # the caller left
DEFECT = "internal"


class CallerGone(Exception):
    """The caller left before the answer. An adapter raises it where its protocol tells; nobody is there to be told."""


_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks, as an adapter tells it.

    `timeout_s`: how long the caller waits, if it said so. `request_id`: its own name for the request, if it gave one
    that is fit for a log. `traceparent`: of W3C trace context.
    """

    protocol: str
    method: str
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    api_key: str | None = None
    timeout_s: float | None = None
    traceparent: str | None = None


@dataclass(kw_only=True)
class RequestRecord:
    """One request. Times are of `time.monotonic`, in seconds; `outcome` is "ok", "gone", "internal" or a reason.

    `network`: the beginning of the SHA-256 of the checkpoint that it was given to; "" if it did not come so far.
    """

    caller: Caller
    started_s: float = field(default_factory=time.monotonic)
    finished_s: float = 0.0
    deadline_s: float = float("inf")
    stages: dict[str, tuple[float, float]] = field(default_factory=dict)
    image_bytes: int = 0
    width: int = 0
    height: int = 0
    persons: int = 0
    network: str = ""
    outcome: str = OK

    @property
    def total_s(self) -> float:
        """From the request's head to its answer."""
        return self.finished_s - self.started_s

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage, however it ends."""
        started_s = time.monotonic()
        try:
            yield
        finally:
            self.stages[name] = (started_s, time.monotonic())


def fit_request_id(offered: str | None) -> str:
    """The id that a caller offers, if it is fit for a log and a header; otherwise a new one."""
    return offered if offered and _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex
