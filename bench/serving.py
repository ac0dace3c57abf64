"""What serving adds to the network: `python bench/serving.py --help`, part of `make bench`.

Starts `python -m service` as an operator does, on free ports of the loopback interface, and compares it with the same
network called directly in this process. What is compared is measured in turns within one run, because machines are
noisy; figures are medians over the rounds. Clients and server share the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import queue
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch
from load import Ask, GrpcClient, HttpClient, closed_loop, repeat
from stages import drawn_jpeg

from model.checkpoint import load_checkpoint, save_checkpoint
from model.device import pick_device, pick_dtype
from model.estimator import PoseEstimator, crop_person
from model.pick_runtime import pick_runtime
from service.images import ImageLimits, decode_image
from service.settings import BUNDLED_CHECKPOINT, default_cache_dir

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = 16
START_TIMEOUT_S = 120.0


@contextlib.contextmanager
def served(*flags: str) -> Iterator[tuple[int, int, int]]:
    """A running service: its HTTP and gRPC ports, and its process."""
    command = [sys.executable, "-m", "service", "--http-port", "0", "--grpc-port", "0", *flags]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    assert process.stderr is not None
    threading.Thread(target=lambda: deque(map(lines.put, process.stderr or ()), maxlen=0)).start()
    try:
        grpc_port = http_port = 0
        while not (grpc_port and http_port):
            line = lines.get(timeout=START_TIMEOUT_S)
            if found := re.search(r"gRPC running on \S+:(\d+)", line):
                grpc_port = int(found[1])
            if found := re.search(r"running on http://\S+:(\d+)", line):
                http_port = int(found[1])
        yield http_port, grpc_port, process.pid
    finally:
        process.terminate()
        process.wait()


async def wait_until_ready(http_port: int) -> None:
    """Return when pictures are taken."""
    client = HttpClient("127.0.0.1", http_port)
    await client.connect()
    while (await client.request("GET", "/readyz"))[0] != 200:
        await asyncio.sleep(0.1)
    client.close()


class Alone:
    """The same work without a server: one thread for decoding, the runtime's own number for the network."""

    def __init__(self, checkpoint: Path, image: bytes, max_batch: int) -> None:
        device = pick_device("auto")
        dtype = pick_dtype("auto", device)
        net, card = load_checkpoint(checkpoint)
        runtime = pick_runtime("auto", net, device, dtype, checkpoint_sha256=card.sha256, cache_dir=default_cache_dir())
        self.estimator = PoseEstimator(net, device, dtype, runtime=runtime)
        self._image = image
        self.full_batch = [self._crop()] * max_batch

    def one_picture(self) -> None:
        """Decode, crop, run."""
        self.estimator.estimate([self._crop()])

    def batches(self, seconds: float) -> float:
        """Persons a second with full batches of crops, nothing else."""
        persons, started = 0, time.perf_counter()
        while (now := time.perf_counter()) - started < seconds:
            self.estimator.estimate(self.full_batch)
            persons += len(self.full_batch)
        return persons / (now - started)

    def pictures(self, seconds: float) -> float:
        """Persons a second with full batches, each picture decoded and cropped before, one after the other."""
        persons, started = 0, time.perf_counter()
        while (now := time.perf_counter()) - started < seconds:
            self.estimator.estimate([self._crop() for _ in self.full_batch])
            persons += len(self.full_batch)
        return persons / (now - started)

    def _crop(self) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        image = decode_image(self._image, ImageLimits())
        height, width = image.shape[:2]
        return crop_person(image, np.array([0, 0, width, height]), self.estimator.config).pixels


def timed(run: Callable[[], None], seconds: float) -> list[float]:
    """How long each call took, in seconds."""
    taken = []
    end = time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        run()
        taken.append(time.perf_counter() - started)
    return taken


async def bench_idle(alone: Alone, http: HttpClient, grpc: GrpcClient, image: bytes, *, rounds: int) -> None:
    """One client, nothing else going on."""
    direct: list[float] = []
    over_http: list[float] = []
    over_grpc: list[float] = []
    for _ in range(rounds):
        direct += timed(alone.one_picture, 2.0)
        over_http += await repeat(partial(http.post, "/pose", image), seconds=2.0)
        over_grpc += await repeat(partial(grpc.post, image), seconds=2.0)
    print("\n| one client | p50 ms | p99 ms | p50 above decode + network, ms |")
    print("|---|---|---|---|")
    base = 1000 * statistics.median(direct)
    for name, taken in (("decode + network alone", direct), ("over HTTP", over_http), ("over gRPC", over_grpc)):
        p50, p99 = 1000 * statistics.median(taken), 1000 * percentile(taken, 0.99)
        print(f"| {name} | {p50:.1f} | {p99:.1f} | {p50 - base:+.1f} |", flush=True)


async def engine_so_far(probe: HttpClient) -> tuple[float, float]:
    """Seconds that the network has run since the service started, and batches."""
    text = (await probe.request("GET", "/metrics"))[1].decode()
    name = "btranspose_batch_duration_seconds"
    found = [re.search(rf"^{name}_{what} (\S+)", text, re.MULTILINE) for what in ("sum", "count")]
    seconds, batches = (float(one[1]) for one in found if one is not None)
    return seconds, batches


async def bench_load(
    alone: Alone, asks: dict[str, tuple[int, list[Ask]]], probe: HttpClient, *, rounds: int, seconds: float
) -> None:
    """Many clients, in turns with full batches driven directly."""
    batches: list[float] = []
    busy: dict[str, list[float]] = {name: [] for name in asks}
    filled: dict[str, list[float]] = {name: [] for name in asks}
    pictures: list[float] = []
    rates: dict[str, list[float]] = {name: [] for name in asks}
    taken: dict[str, list[float]] = {name: [] for name in asks}
    for _ in range(rounds):
        batches.append(alone.batches(seconds))
        pictures.append(alone.pictures(seconds))
        for name, (persons, clients) in asks.items():
            ran_before, batches_before = await engine_so_far(probe)
            started = time.perf_counter()
            rate, times = await closed_loop(clients, seconds=seconds)
            wall = time.perf_counter() - started
            ran, many = await engine_so_far(probe)
            busy[name].append((ran - ran_before) / wall)
            filled[name].append(len(times) * persons / (many - batches_before))
            rates[name].append(rate * persons)
            taken[name] += times
    print(f"\n| {CLIENTS} clients | persons/s | of full batches | engine busy | persons a batch | p50 ms | p99 ms |")
    print("|---|---|---|---|---|---|---|")
    base = statistics.median(batches)
    print(f"| full batches of crops, driven directly | {base:.1f} | 1.00 | | | | |")
    rate = statistics.median(pictures)
    ratio = statistics.median(one / two for one, two in zip(pictures, batches, strict=True))
    print(f"| the same, decoding each picture before | {rate:.1f} | {ratio:.2f} | | | | |")
    for name in asks:
        ratio = statistics.median(one / two for one, two in zip(rates[name], batches, strict=True))
        p50, p99 = 1000 * statistics.median(taken[name]), 1000 * percentile(taken[name], 0.99)
        engine = f"{statistics.median(busy[name]):.2f} | {statistics.median(filled[name]):.1f}"
        print(f"| {name} | {statistics.median(rates[name]):.1f} | {ratio:.2f} | {engine} | {p50:.0f} | {p99:.0f} |")


async def bench_health(asks: list[Ask], http_port: int, *, seconds: float) -> None:
    """Health checks while many clients load the service."""
    probe = HttpClient("127.0.0.1", http_port)
    await probe.connect()
    load = asyncio.create_task(closed_loop(asks, seconds=seconds))
    taken: dict[str, list[float]] = {"/healthz": [], "/readyz": [], "/metrics": []}
    while not load.done():
        for path, times in taken.items():
            started = time.perf_counter()
            await probe.request("GET", path)
            times.append(time.perf_counter() - started)
            await asyncio.sleep(0.02)
    await load
    probe.close()
    print(f"\n| while {CLIENTS} clients load it | answers | p50 ms | p99 ms | max ms |")
    print("|---|---|---|---|---|")
    for path, times in taken.items():
        p50, p99, worst = (1000 * percentile(times, share) for share in (0.5, 0.99, 1.0))
        print(f"| GET {path} | {len(times)} | {p50:.1f} | {p99:.1f} | {worst:.1f} |", flush=True)


def percentile(values: list[float], share: float) -> float:
    """The value below which that share of the values lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def bench(http_port: int, grpc_port: int, checkpoint: Path, given: argparse.Namespace) -> None:
    """All tables."""
    rounds, seconds = given.rounds, given.seconds
    await wait_until_ready(http_port)
    image = drawn_jpeg(640, 480)
    alone = Alone(checkpoint, image, given.max_batch)
    alone.one_picture()
    https = [HttpClient("127.0.0.1", http_port) for _ in range(CLIENTS)]
    grpcs = [GrpcClient("127.0.0.1", grpc_port) for _ in range(CLIENTS)]
    await asyncio.gather(*(client.connect() for client in https))
    crowd = "/pose?boxes=" + quote(json.dumps([[20 + 40 * n, 40, 200, 400] for n in range(8)]))
    try:
        await bench_idle(alone, https[0], grpcs[0], image, rounds=rounds)
        by_http: list[Ask] = [partial(client.post, "/pose", image) for client in https]
        by_grpc: list[Ask] = [partial(client.post, image) for client in grpcs]
        crowds: list[Ask] = [partial(client.post, crowd, image) for client in https]
        asks = {
            "HTTP, one person a picture": (1, by_http),
            "gRPC, one person a picture": (1, by_grpc),
            "HTTP, eight persons a picture": (8, crowds),
        }
        await bench_load(alone, asks, https[0], rounds=rounds, seconds=seconds)
        await bench_health(by_http, http_port, seconds=4 * seconds)
    finally:
        for client in https:
            client.close()
        await asyncio.gather(*(client.close() for client in grpcs))


def resized(checkpoint: Path, text: str, folder: Path) -> Path:
    """The same weights for another crop size, "HEIGHTxWIDTH". Says nothing of how well they do there."""
    height, width = map(int, text.split("x"))
    net, _ = load_checkpoint(checkpoint, input_hw=(height, width))
    path = folder / f"{checkpoint.stem}-{text}.safetensors"
    save_checkpoint(path, net, training={})
    return path


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns of everything that is compared")
    parser.add_argument("--seconds", type=float, default=6.0, help="for each figure of a round")
    parser.add_argument("--max-batch", type=int, default=16)
    parser.add_argument(
        "--input", metavar="HxW", help="crop size, if not the bundled checkpoint's: 256x192 is the paper's"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = BUNDLED_CHECKPOINT
        if given.input:
            checkpoint = resized(checkpoint, given.input, Path(folder))
        height, width = load_checkpoint(checkpoint)[0].config.input_hw
        print(
            f"\ntorch {torch.__version__}, {torch.get_num_threads()} threads; 640x480 JPEG, crops of {height}x{width}"
        )
        flags = ("--max-batch", str(given.max_batch), "--checkpoint", str(checkpoint))
        with served(*flags) as (http_port, grpc_port, _):
            asyncio.run(bench(http_port, grpc_port, checkpoint, given))


if __name__ == "__main__":
    main()
