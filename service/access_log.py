"""One line in the log for each request: who asked, how it ended, where the time went. As text, or as JSON."""

from __future__ import annotations

import logging
import sys
from typing import Literal

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from service.record import DEFECT, GONE, OK, STAGES, RequestRecord

log = logging.getLogger("service.access")

TEXT_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
JSON_FIELDS = ("asctime", "levelname", "name", "message")


def configure_logging(*, level: str, log_format: Literal["text", "json"]) -> None:
    """Send all logs to stderr. Call once, at the start of the process."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        renamed = {"asctime": "time", "levelname": "level", "name": "logger"}
        left_out = (*RESERVED_ATTRS, "color_message")  # uvicorn's message again, for a terminal
        handler.setFormatter(JsonFormatter(list(JSON_FIELDS), rename_fields=renamed, reserved_attrs=left_out))
    else:
        handler.setFormatter(logging.Formatter(TEXT_FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)


def log_request(record: RequestRecord) -> None:
    """One line. Frames of a stream are too many: theirs are at the level of debugging; defects are errors."""
    level = logging.ERROR if record.outcome == DEFECT else logging.INFO
    if record.caller.method == "frame" and record.outcome in (OK, GONE):
        level = logging.DEBUG
    if log.isEnabledFor(level):
        fields = request_fields(record)
        log.log(level, "%s", " ".join(f"{name}={value}" for name, value in fields.items()), extra=fields)


def request_fields(record: RequestRecord) -> dict[str, str | int | float]:
    """What is told of a request. Nothing of its picture but the size; never a key."""
    fields: dict[str, str | int | float] = {
        "request_id": record.caller.request_id,
        "protocol": record.caller.protocol,
        "method": record.caller.method,
        "outcome": record.outcome,
        "persons": record.persons,
        "image_bytes": record.image_bytes,
        "width": record.width,
        "height": record.height,
    }
    if record.network:
        fields["network"] = record.network
    for stage in STAGES:
        if stage in record.stages:
            started_s, ended_s = record.stages[stage]
            fields[f"{stage}_ms"] = round(1000 * (ended_s - started_s), 1)
    fields["total_ms"] = round(1000 * record.total_s, 1)
    return fields
