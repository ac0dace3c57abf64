"""One line a request: what is in it, at which level, as text and as JSON, and what is never in it."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator

import pytest

from fakes import make_admission, make_service
from grpc_clients import Served, ask, estimate_request, frame, refused
from service.access_log import configure_logging, log_request, request_fields
from service.api_keys import ApiKeys
from service.errors import ALL_ERRORS
from service.record import Caller, RequestRecord

KEY = "k-0123456789abcdef"


def over(outcome: str = "ok", *, method: str = "pose", **caller: str) -> RequestRecord:
    """A request of 1.5 seconds that is over."""
    return RequestRecord(
        caller=Caller(protocol="http", method=method, request_id="job-7", **caller),
        started_s=10.0,
        finished_s=11.5,
        persons=2,
        image_bytes=1234,
        width=640,
        height=480,
        outcome=outcome,
        stages={"decode": (10.0, 10.1234), "engine": (10.5, 11.25)},
    )


@pytest.fixture
def logged(monkeypatch) -> Iterator[Callable[..., Callable[[], list[str]]]]:
    """Configure logging as the process does. Gives a function that gives the lines that were written."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logging.captureWarnings(False)

    def configure(level: str, log_format: str) -> Callable[[], list[str]]:
        stream = io.StringIO()
        monkeypatch.setattr("sys.stderr", stream)
        configure_logging(level=level, log_format=log_format)
        return lambda: stream.getvalue().splitlines()

    yield configure
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_tells_who_asked_how_it_ended_and_where_the_time_went():
    assert request_fields(over()) == {
        "request_id": "job-7",
        "protocol": "http",
        "method": "pose",
        "outcome": "ok",
        "persons": 2,
        "image_bytes": 1234,
        "width": 640,
        "height": 480,
        "decode_ms": 123.4,
        "engine_ms": 750.0,
        "total_ms": 1500.0,
    }


def test_as_text_a_request_is_one_line_of_names_and_values(logged):
    lines = logged("info", "text")
    log_request(over())
    (line,) = lines()
    assert " INFO service.access: request_id=job-7 protocol=http method=pose outcome=ok persons=2 " in line
    assert line.endswith("width=640 height=480 decode_ms=123.4 engine_ms=750.0 total_ms=1500.0")


def test_as_json_a_request_is_one_object_with_numbers_as_numbers(logged):
    lines = logged("info", "json")
    log_request(over())
    (line,) = map(json.loads, lines())
    assert line.items() >= request_fields(over()).items()
    assert (line["level"], line["logger"]) == ("INFO", "service.access")
    assert line["time"]


@pytest.mark.parametrize(
    "write",
    [
        lambda: logging.getLogger("uvicorn.error").info("Started", extra={"color_message": "\x1b[36mStarted\x1b[0m"}),
        lambda: logging.getLogger("service").info("two\nlines, and %s", '"quotes"'),
        lambda: logging.getLogger("asyncio").error("failed", exc_info=ValueError("why\nexactly")),
        lambda: warnings.warn("something\nis odd", UserWarning, stacklevel=1),
    ],
    ids=["uvicorn", "lines", "exception", "warning"],
)
def test_as_json_everything_else_is_one_object_a_line_too(write, logged):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        lines = logged("info", "json")
        write()
    (line,) = map(json.loads, lines())
    assert line.keys() - {"exc_info"} == {"time", "level", "logger", "message"}
    assert ("exc_info" in line) == (line["message"] == "failed")
    assert "\x1b" not in str(line)


def test_a_level_leaves_out_what_is_below_it(logged):
    lines = logged("warning", "text")
    log_request(over())
    log_request(over("internal"))
    (line,) = lines()
    assert "outcome=internal" in line


@pytest.mark.parametrize(
    ("method", "outcome", "level"),
    [
        ("pose", "ok", logging.INFO),
        ("pose", "gone", logging.INFO),
        ("stream", "ok", logging.INFO),
        ("frame", "ok", logging.DEBUG),
        ("frame", "gone", logging.DEBUG),
        *(("frame", error.reason, logging.INFO) for error in ALL_ERRORS),
        *(("pose", error.reason, logging.INFO) for error in ALL_ERRORS),
        *((method, "internal", logging.ERROR) for method in ("pose", "stream", "frame")),
    ],
)
def test_frames_that_went_well_are_for_debugging_and_defects_are_errors(method, outcome, level, caplog):
    caplog.set_level(logging.DEBUG, "service.access")
    log_request(over(outcome, method=method))
    (line,) = caplog.records
    assert line.levelno == level


def test_a_key_is_never_written(caplog):
    caplog.set_level(logging.DEBUG, "service.access")
    record = over(api_key=KEY)
    log_request(record)
    assert KEY not in caplog.text
    assert KEY not in str(caplog.records[0].__dict__)
    assert KEY not in str(request_fields(record))


def test_no_key_is_in_any_line_of_a_service_at_work(caplog):
    caplog.set_level(logging.DEBUG)
    service = make_service(admission=make_admission(api_keys=ApiKeys([KEY]), observers=[log_request]))

    async def talk(to: Served) -> None:
        right, wrong = (("x-api-key", KEY),), (("x-api-key", KEY.upper()),)
        await to.poses.EstimatePose(estimate_request(), metadata=right)
        await refused(to.poses.EstimatePose(estimate_request(), metadata=wrong))
        to.service.estimate = None  # calling it is a defect
        await refused(to.poses.EstimatePose(estimate_request(), metadata=right))
        call = to.poses.StreamPoses(metadata=right)
        await call.write(frame(1))
        assert (await call.read()).error.code == 13

    ask(service, talk)
    outcomes = [line.outcome for line in caplog.records if line.name == "service.access"]
    assert outcomes[:3] == ["ok", "unauthenticated", "internal"]
    assert KEY.lower() not in caplog.text.lower()
