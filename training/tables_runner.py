"""Run the commands of a small table one after the other, each in a process of its own, and remember how they ended.

Each command leaves NAME.json (what was run, how it ended, seconds, attempts) and NAME.log beside its run. What has
ended well is not run again; what was cut off goes on, for the commands resume exactly; what failed is tried again with
the next call, and does not stop the others.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from model.checkpoint import write_atomically
from training.tables_plan import Cost, Stage
from training.tables_protocol import Protocol

PROTOCOL_FILE = "protocol.json"
LOOK_S = 0.5
TELL_S = 60.0  # between two lines of progress where nobody can overwrite one
TAIL_BYTES = 4096
WIDTH = 100


class RunsLocked(RuntimeError):
    """Another process works in this folder."""


@dataclass(frozen=True)
class StageRecord:
    """How a command ended: `returncode` 0 is well, None that it was cut off. `seconds` are of all attempts together."""

    command: str
    returncode: int | None
    seconds: float
    attempts: int
    last_words: str = ""


@dataclass(frozen=True)
class Request:
    """What a folder of runs is for, and what has been asked of it so far."""

    protocol: Protocol
    rows: tuple[str, ...]
    seeds: tuple[int, ...]
    same_compute: bool
    costs: dict[str, Cost]  # by variant


def read_request(runs_dir: Path) -> Request | None:
    """What has been asked so far; None of a folder that is new. Raises ValueError for a file that is not ours."""
    path = runs_dir / PROTOCOL_FILE
    try:
        stored = json.loads(path.read_bytes())
        return Request(
            Protocol.from_json(stored["protocol"]),
            tuple(stored["rows"]),
            tuple(stored["seeds"]),
            bool(stored["same_compute"]),
            {key: (int(view), int(picture)) for key, (view, picture) in stored["costs"].items()},
        )
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not say how the runs beside it were made: {error!r}") from error


def extend_request(runs_dir: Path, asked: Request) -> Request:
    """What was asked before and what is asked now, written down. Raises ValueError if the protocols differ."""
    before = read_request(runs_dir)
    if before is not None:
        if changed := before.protocol.differences(asked.protocol):
            raise ValueError(
                f"{runs_dir} was started with another protocol: {'; '.join(changed)}; "
                "allowed: the same one, or another --runs-dir"
            )
        asked = Request(
            asked.protocol,
            tuple(dict.fromkeys((*before.rows, *asked.rows))),
            tuple(dict.fromkeys((*before.seeds, *asked.seeds))),
            before.same_compute or asked.same_compute,
            before.costs | asked.costs,
        )
    stored = {
        "protocol": asked.protocol.to_json(),
        "rows": asked.rows,
        "seeds": asked.seeds,
        "same_compute": asked.same_compute,
        "costs": asked.costs,
    }
    write_atomically(runs_dir / PROTOCOL_FILE, (json.dumps(stored, indent=2) + "\n").encode())
    return asked


@contextmanager
def locked(runs_dir: Path) -> Iterator[None]:
    """Nobody else runs anything in this folder meanwhile. Raises RunsLocked if somebody does."""
    runs_dir.mkdir(parents=True, exist_ok=True)
    with (runs_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunsLocked(f"another process is at work in {runs_dir}") from error
        yield


def read_record(stage: Stage) -> StageRecord | None:
    """How a command ended; None if it was never started."""
    try:
        stored: dict[str, Any] = json.loads(stage.record.read_bytes())
        return StageRecord(**stored)
    except FileNotFoundError:
        return None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{stage.record} is not a record of a command: {error}") from error


def is_done(stage: Stage) -> bool:
    """Whether a command has ended well."""
    record = read_record(stage)
    return record is not None and record.returncode == 0


def run_arm(title: str, arm_stages: Sequence[Stage], *, threads: int | None, out: TextIO | None = None) -> bool:
    """Run what is left of an arm. Says how it goes; False if a command failed, after which the rest is left."""
    out = out or sys.stdout
    if all(map(is_done, arm_stages)):
        print(f"{title}: done before", file=out, flush=True)
        return True
    for stage in arm_stages:
        if is_done(stage):
            continue
        record = run_stage(stage, title=f"{title}, {stage.name}", threads=threads, out=out)
        if record.returncode != 0:
            print(f"{title}, {stage.name}: FAILED ({record.returncode}): {record.last_words}", file=out)
            print(f"  the whole story is in {stage.log}", file=out, flush=True)
            return False
        print(f"{title}, {stage.name}: {record.seconds:.0f} s", file=out, flush=True)
    return True


def run_stage(stage: Stage, *, title: str, threads: int | None, out: TextIO) -> StageRecord:
    """Run a command to its end and record it, also if it fails or is cut off."""
    command = [sys.executable, "-m", stage.module, *stage.arguments]
    shown = shlex.join(["python", *command[1:]])
    before = read_record(stage)
    spent, attempts = (before.seconds, before.attempts) if before else (0.0, 0)
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    stage.folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    returncode: int | None = None
    try:
        with stage.log.open("ab") as log:
            log.write(f"$ {shown}\n".encode())
            log.flush()
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
            try:
                returncode = _wait(process, stage.log, title, out)
            finally:
                if process.poll() is None:
                    process.terminate()  # the commands save as they go; at most minutes are lost
                    process.wait()
    finally:
        seconds = round(spent + time.monotonic() - started, 3)
        record = StageRecord(shown, returncode, seconds, attempts + 1, last_line(stage.log))
        write_atomically(stage.record, (json.dumps(asdict(record), indent=2) + "\n").encode())
    return record


def _wait(process: subprocess.Popen[bytes], log: Path, title: str, out: TextIO) -> int:
    """Wait for a process, and show meanwhile what it says."""
    overwrite = out.isatty()
    told = time.monotonic()
    while True:
        try:
            return process.wait(timeout=LOOK_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if overwrite:
                print("\r\x1b[K", end="", file=out, flush=True)
        line = f"{title}: {last_line(log)}"[:WIDTH]
        if overwrite:
            print(line, end="", file=out, flush=True)
        elif time.monotonic() - told > TELL_S:
            print(line, file=out, flush=True)
            told = time.monotonic()


def last_line(log: Path) -> str:
    """The last thing that a command has said; of a progress bar its present state."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            tail = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    lines = [line.strip() for line in tail.replace("\r", "\n").split("\n")]
    return next((line for line in reversed(lines) if line), "")
