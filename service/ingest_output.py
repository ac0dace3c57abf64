"""What was found in a video as JSON Lines: one line for each answered frame, whole whenever it is cut off."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from service.ingest_stream import Answered
from service.poses import Pose

STDOUT = "-"
PERSON_CATEGORY = 1  # of COCO
DIGITS = 6  # of times in seconds


class OutputFailed(Exception):
    """A file cannot be written on: the text names it, and says why."""


class JsonLines:
    """A file of lines, each written at once when its frame is there.

    Args:
        path: written anew; `-` is the standard output.
        tells_when: whether each line also has the time of day at which its frame was read, as a camera's wants.

    Raises OutputFailed if the file cannot be opened, or a line not written; then the lines before it are whole.
    """

    def __init__(self, path: Path, *, tells_when: bool) -> None:
        self._path, self._tells_when = path, tells_when
        self._written = 0
        try:
            is_stdout = str(path) == STDOUT
            self._file = os.dup(sys.stdout.fileno()) if is_stdout else os.open(path, _FLAGS, 0o666)
        except OSError as error:
            raise OutputFailed(f"{path}: {error.strerror}") from error

    def write(self, answered: Answered) -> None:
        """Add the line of one frame."""
        line = f"{json.dumps(line_of(answered, tells_when=self._tells_when))}\n".encode()
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except BrokenPipeError:
            raise
        except OSError as error:
            self._cut()
            raise OutputFailed(
                f"{self._path}: {error.strerror}; {self._written} bytes of whole lines are kept"
            ) from error
        self._written += len(line)

    def close(self) -> None:
        """Raises OutputFailed where the system says only now that something was not written."""
        try:
            os.close(self._file)
        except OSError as error:
            raise OutputFailed(f"{self._path}: {error.strerror}") from error

    def _cut(self) -> None:
        """Take back the part of a line that still found room."""
        if str(self._path) != STDOUT and self._path.is_file():
            os.ftruncate(self._file, self._written)


_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)


def line_of(answered: Answered, *, tells_when: bool = False) -> dict[str, Any]:
    """One frame as a line has it; docs/ingest.md says what each field means."""
    frame = answered.frame
    height, width = frame.pixels.shape[:2]
    line: dict[str, Any] = {
        "frame_id": frame.number,
        "time_s": round(frame.time_s, DIGITS),
        "width": width,
        "height": height,
        "dropped": answered.dropped,
        "age_s": round(answered.age_s, DIGITS),
        "service_age_s": round(answered.service_age_s, DIGITS),
        "detected": answered.detected,
        "annotations": [_annotation(frame.number, pose) for pose in answered.poses],
    }
    if tells_when:
        read_at = datetime.now(UTC) - timedelta(seconds=answered.age_s)
        line["read_at"] = read_at.isoformat(timespec="milliseconds")
    if answered.error is not None:
        line["error"] = {"reason": answered.error.reason, "message": str(answered.error)}
    return line


def _annotation(image_id: int, pose: Pose) -> dict[str, Any]:
    """A pose as a COCO keypoint result, and whose it is."""
    return {
        "image_id": image_id,
        "category_id": PERSON_CATEGORY,
        "track_id": pose.track_id,
        "bbox": pose.box_xywh,
        "score": pose.score,
        "keypoints": [number for keypoint in pose.keypoints for number in keypoint],
    }
