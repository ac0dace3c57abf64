"""A service, a Prometheus that watches it with the rules of this folder, and requests of every kind, on loopback.

Prometheus is the program of that name on the PATH. Everything ends with the context, and its data with it.
"""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from PIL import Image

from service.client import Frame, connect
from service.errors import PoseServiceError

FOLDER = Path(__file__).resolve().parent / "prometheus"
RULES = FOLDER / "btranspose.rules.yml"
START_TIMEOUT_S = 120.0
SCRAPE_S = 2  # often, so that a short run gives rates


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody has now."""
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


def configuration(service_port: int, prometheus_port: int) -> str:
    """prometheus.yml for programs on this machine: the same jobs and rules, other addresses, looked at more often.

    Raises ValueError if the file no longer has what is to be replaced.
    """
    text = (FOLDER / "prometheus.yml").read_text(encoding="utf-8")
    alerting, _, jobs = text.partition("scrape_configs:")
    for old, new in (
        ("/etc/prometheus/btranspose.rules.yml", str(RULES)),
        ("interval: 10s", f"interval: {SCRAPE_S}s"),
        ("targets: [alertmanager:9093]", "targets: []"),
        ("targets: [pose:8000]", f"targets: ['127.0.0.1:{service_port}']"),
        ("targets: [localhost:9090]", f"targets: ['127.0.0.1:{prometheus_port}']"),
        ("names: [dcgm]", "names: [localhost.invalid]"),  # nowhere, as without that profile
    ):
        if old not in text:
            raise ValueError(f"prometheus.yml does not have {old!r}")
        alerting, jobs = alerting.replace(old, new), jobs.replace(old, new)
    return f"{alerting}scrape_configs:{jobs}"


@contextmanager
def running(*command: str, ready: str) -> Iterator[None]:
    """A program, from when a page answers 200 until it is no longer needed. Raises RuntimeError if it does not."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not _answers(ready):
                if process.poll() is not None or time.monotonic() > deadline:
                    said.seek(0)
                    raise RuntimeError(f"{command[0]} is not ready: {said.read()[-2000:].decode(errors='replace')}")
                time.sleep(0.2)
            yield
        finally:
            process.terminate()
            process.wait()


def _answers(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(url).status_code == 200
    return False


def make_traffic(http_port: int, grpc_port: int, seconds: float) -> None:
    """Requests of every method over both protocols, good ones and some bad, one after the other."""
    buffer = io.BytesIO()
    Image.new("RGB", (320, 240), (120, 160, 90)).save(buffer, "JPEG")
    picture = buffer.getvalue()
    until_s = time.monotonic() + seconds
    with connect(f"http://127.0.0.1:{http_port}") as http, connect(f"grpc://127.0.0.1:{grpc_port}") as grpc:
        while time.monotonic() < until_s:
            for client in (http, grpc):
                client.estimate(picture, boxes_xywh=[(0, 0, 100, 200), (90, 10, 120, 220)])
                client.dependency_png(picture, "nose")
                list(client.stream(Frame(number, picture) for number in range(3)))
                with suppress(PoseServiceError):
                    client.estimate(b"not a picture")


@contextmanager
def monitored_service(*flags: str, seconds: float) -> Iterator[str]:
    """Start the service with these flags and Prometheus, make traffic for some seconds, and give Prometheus' address.

    Raises RuntimeError if one of them does not start, or there is no Prometheus.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise RuntimeError("prometheus is not on the PATH")
    http_port, grpc_port, prometheus_port = free_ports(3)
    url = f"http://127.0.0.1:{prometheus_port}"
    ports = ("--http-port", str(http_port), "--grpc-port", str(grpc_port))
    service = (sys.executable, "-m", "service", "--device", "cpu", *ports, *flags)
    with tempfile.TemporaryDirectory() as folder, running(*service, ready=f"http://127.0.0.1:{http_port}/readyz"):
        file = Path(folder) / "prometheus.yml"
        file.write_text(configuration(http_port, prometheus_port), encoding="utf-8")
        options = (f"--config.file={file}", f"--storage.tsdb.path={folder}/data")
        with running(program, *options, f"--web.listen-address=127.0.0.1:{prometheus_port}", ready=f"{url}/-/ready"):
            make_traffic(http_port, grpc_port, seconds)
            yield url
