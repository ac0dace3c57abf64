"""Runs of the ingest in this process, and what its lines say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service import ingest_backoff
from service.ingest import main
from stream_servers import Streams

FRAMES = 20  # of the usual clip


def run(clip: Path | str, server: Streams, *arguments: object) -> tuple[int, list[dict[str, Any]]]:
    """The exit code, and the lines."""
    lines = (clip.parent if isinstance(clip, Path) else Path(str(arguments[-1])).parent) / "poses.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest_backoff, "FIRST_S", 0.02)  # a wait between connections that suits a test
        code = main([str(clip), "--server", server.host_port, "--jsonl", str(lines), *map(str, arguments)])
    text = lines.read_text()
    assert text == "" or text.endswith("\n"), "only whole lines"
    return code, [json.loads(line) for line in text.splitlines()]


def middle(line: dict[str, Any]) -> tuple[float, float]:
    """Of the box of the one person of a line."""
    (annotation,) = line["annotations"]
    x, y, width, height = annotation["bbox"]
    return x + width / 2, y + height / 2


def numbers(lines: list[dict[str, Any]]) -> list[int]:
    return [line["frame_id"] for line in lines]
