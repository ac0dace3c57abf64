"""`python -m service` as a process of its own, on free ports of loopback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[1]
QUICK = {"BTRANSPOSE_DETECTOR": "none"}  # or every process loads a second network


class Process:
    """A running service: where it listens, and what it writes to its log."""

    def __init__(self, *flags: str, environment: dict[str, str]) -> None:
        command = [sys.executable, "-m", "service", "--http-port", "0", "--grpc-port", "0", "--device", "cpu", *flags]
        ours = ("BTRANSPOSE_", "GRPC_", "OTEL_")
        outside = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=outside | QUICK | environment, stderr=pipe, stdout=pipe, text=True
        )
        self.log: list[str] = []
        self.said: list[str] = []  # on standard output
        self.http = self.grpc = ""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r"HTTP running on (https?://[\d.:]+)", line):
                self.http = found[1]
            if found := re.search(r"gRPC running on ([\d.:]+)", line):
                self.grpc = found[1]
            if self.http and self.grpc:
                break
        else:
            pytest.fail("the service did not start:\n" + "".join(self.log))
        # Go on reading, or the process would stall on a full pipe.
        self._reading = [
            threading.Thread(target=lambda: self.log.extend(self.process.stderr or ()), daemon=True),
            threading.Thread(target=lambda: self.said.extend(self.process.stdout or ()), daemon=True),
        ]
        for thread in self._reading:
            thread.start()

    def wait_until_ready(self, **options: object) -> None:
        for _ in range(600):
            if httpx.get(f"{self.http}/readyz", **options).status_code == 200:
                return
            time.sleep(0.05)
        pytest.fail("the service did not become ready")

    def stop(self) -> int:
        """Send SIGTERM, and wait for the exit code and the end of the log."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(timeout=30)
        for thread in self._reading:
            thread.join(timeout=30)
        return code

    def kill(self) -> None:
        self.process.kill()
        self.wait()
        for pipe in (self.process.stderr, self.process.stdout):
            assert pipe is not None
            pipe.close()


@contextmanager
def served(*flags: str, **environment: str) -> Iterator[Process]:
    """A running service on free ports."""
    process = Process(*flags, environment=environment)
    try:
        yield process
    finally:
        process.kill()
