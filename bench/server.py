"""The service as an operator starts it, on free ports of the loopback interface, for as long as it is measured."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import queue
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from load import HttpClient
from results import progress

from model.checkpoint import load_checkpoint, save_checkpoint
from service.settings import BUNDLED_CHECKPOINT

ROOT = Path(__file__).resolve().parents[1]
HOST = "127.0.0.1"
START_TIMEOUT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Server:
    """A service that takes pictures: its ports, its process, and what it says that it serves. `crop`: HxW."""

    http_port: int
    grpc_port: int
    pid: int
    checkpoint: Path
    max_batch: int
    serves: str
    crop: str


def add_options(parser: argparse.ArgumentParser, *, rounds: int, seconds: float) -> None:
    """What every measurement of the service can be told."""
    parser.add_argument("--rounds", type=int, default=rounds, help=f"turns of what is compared (default {rounds})")
    parser.add_argument("--seconds", type=float, default=seconds, help=f"for each figure of a round ({seconds:g})")
    parser.add_argument("--max-batch", type=int, default=16, help="most persons in one run of the network (16)")
    parser.add_argument(
        "--input", metavar="HxW", help="crop size, if not the bundled checkpoint's: 256x192 is the paper's"
    )
    parser.add_argument("--results", type=Path, help="a folder for results as JSON and Markdown")


@contextlib.contextmanager
def started(given: argparse.Namespace, *more: str) -> Iterator[Server]:
    """The service that the options ask for, ready. `more`: flags of it."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = BUNDLED_CHECKPOINT
        if given.input:
            checkpoint = resized(checkpoint, given.input, Path(folder))
        progress("starting the service")
        flags = ("--max-batch", str(given.max_batch), "--checkpoint", str(checkpoint), *more)
        with served(*flags) as (http_port, grpc_port, pid):
            serves, crop = asyncio.run(_describe(http_port))
            yield Server(
                http_port=http_port,
                grpc_port=grpc_port,
                pid=pid,
                checkpoint=checkpoint,
                max_batch=given.max_batch,
                serves=serves,
                crop=crop,
            )


@contextlib.contextmanager
def served(*flags: str) -> Iterator[tuple[int, int, int]]:
    """A running service: its HTTP and gRPC ports, and its process. Raises RuntimeError if it does not start."""
    whom = () if "--detector" in flags else ("--detector", "none")  # a picture without boxes is one person's work
    command = [sys.executable, "-m", "service", "--http-port", "0", "--grpc-port", "0", *whom, *flags]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        assert process.stderr is not None
        with process.stderr as said:
            for line in said:
                lines.put(line)
        lines.put("")  # it has ended

    reading = threading.Thread(target=read)  # to the end, or the process would stall on a full pipe
    reading.start()
    try:
        grpc_port = http_port = 0
        said = []
        while not (grpc_port and http_port):
            said.append(line := lines.get(timeout=START_TIMEOUT_S))
            if not line:
                raise RuntimeError("the service did not start:\n" + "".join(said))
            if found := re.search(r"gRPC running on \S+:(\d+)", line):
                grpc_port = int(found[1])
            if found := re.search(r"running on http://\S+:(\d+)", line):
                http_port = int(found[1])
        yield http_port, grpc_port, process.pid
    finally:
        process.terminate()
        process.wait()
        reading.join()


async def wait_until_ready(http_port: int) -> None:
    """Return when pictures are taken."""
    client = HttpClient(HOST, http_port)
    while (await client.request("GET", "/readyz"))[0] != 200:
        await asyncio.sleep(0.1)
    client.close()


async def _describe(http_port: int) -> tuple[str, str]:
    """What it says that it serves, and the size of its crops."""
    await wait_until_ready(http_port)
    client = HttpClient(HOST, http_port)
    told = json.loads((await client.request("GET", "/model"))[1])
    client.close()
    crop = f"{told['input']['height']}x{told['input']['width']}"
    return f"{told['label']}, crops of {crop}, {told['runtime']} on {told['device']} in {told['precision']}", crop


def resized(checkpoint: Path, text: str, folder: Path) -> Path:
    """The same weights for another crop size, "HEIGHTxWIDTH". Says nothing of how well they do there."""
    height, width = map(int, text.split("x"))
    net, _ = load_checkpoint(checkpoint, input_hw=(height, width))
    path = folder / f"{checkpoint.stem}-{text}.safetensors"
    save_checkpoint(path, net, training={})
    return path
