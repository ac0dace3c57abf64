"""Tables of measurements: printed as Markdown, and kept as JSON with the machine, the day and the command."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import sys
from pathlib import Path

import torch


class Table:
    """Rows of text under named columns.

    Args:
        name: of its files.
        title: the line above it.
        columns: names; the first is of the rows.
    """

    def __init__(self, name: str, title: str, columns: list[str]) -> None:
        self._name = name
        self._title = title
        self._columns = columns
        self._rows: list[list[str]] = []

    def add(self, *cells: object) -> None:
        """One row."""
        if len(cells) != len(self._columns):
            raise ValueError(f"{len(cells)} cells; allowed: {len(self._columns)}, one for each column")
        self._rows.append([str(cell) for cell in cells])

    def markdown(self) -> str:
        """The table as text."""
        lines = [self._columns, ["---"] * len(self._columns), *self._rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def write(self, folder: Path | None) -> None:
        """Print it; and keep it in a folder, if one is given."""
        print(f"\n{self._title}\n\n{self.markdown()}", flush=True)
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        day, by = str(datetime.date.today()), command()
        rows = [dict(zip(self._columns, row, strict=True)) for row in self._rows]
        content = {"title": self._title, "date": day, "command": by, "machine": machine(), "rows": rows}
        (folder / f"{self._name}.json").write_text(json.dumps(content, indent=1) + "\n")
        (folder / f"{self._name}.md").write_text(f"{self._title}\n\n{self.markdown()}\n\n`{by}`, {day}: {machine()}\n")


def progress(text: str) -> None:
    """Say on stderr what is being measured: tables come at the end, and go to stdout."""
    print(f"... {text}", file=sys.stderr, flush=True)


def command() -> str:
    """What was run, without the folder that its results go to."""
    given = [one for one in sys.argv[1:] if not one.startswith("--results=")]
    if "--results" in given:
        where = given.index("--results")
        del given[where : where + 2]
    return shlex.join(["python", f"bench/{Path(sys.argv[0]).name}", *given])


def machine(device: torch.device | None = None) -> str:
    """What was measured on, in one line."""
    if device is not None and device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return f"{os.cpu_count()} cores, {_processor()}, Python {platform.python_version()}, torch {torch.__version__}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
