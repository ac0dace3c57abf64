"""What each stage of a request costs on this machine: `make bench`, or `python bench/stages.py --help`.

Medians of repeated runs on drawn pictures, one thread for decoding and cropping, torch's own number for the network.
Machines are noisy: compare within one run, and rather ratios than milliseconds.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from model.btranspose import BTranspose
from model.checkpoint import load_checkpoint
from model.device import pick_device
from model.estimator import PoseEstimator, crop_person
from model.heatmap import decode_heatmaps, encode_heatmaps
from service.images import ImageLimits, decode_image
from service.settings import BUNDLED_CHECKPOINT


def median_ms(run: Callable[[], object], *, seconds: float, device: torch.device) -> float:
    """Median milliseconds of a call, over about `seconds` and at least three calls, after one to warm up."""
    run()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def drawn_jpeg(width: int, height: int) -> bytes:
    """A picture with detail everywhere, of about the file size of a photograph."""
    noise = cv2.GaussianBlur(np.random.default_rng(0).normal(size=(height, width, 3)), (0, 0), 2.0)
    pixels = np.clip(128 + 60 * noise / noise.std(), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def bench_pictures(seconds: float) -> None:
    """Decoding and cropping, for three sizes of picture."""
    config, cpu = load_checkpoint(BUNDLED_CHECKPOINT)[0].config, torch.device("cpu")
    cv2.setNumThreads(1)
    print("| picture | JPEG decode ms | one crop (whole picture) ms |")
    print("|---|---|---|")
    for width, height in ((640, 480), (1920, 1080), (4000, 3000)):
        data = drawn_jpeg(width, height)
        image = decode_image(data, ImageLimits())
        decode = median_ms(partial(decode_image, data, ImageLimits()), seconds=seconds, device=cpu)
        whole = np.array([0, 0, width, height])
        crop = median_ms(partial(crop_person, image, whole, config), seconds=seconds, device=cpu)
        print(f"| {width}x{height} | {decode:.1f} | {crop:.2f} |")


def bench_network(checkpoint: Path, device: torch.device, seconds: float) -> None:
    """The network with its decoding, for crop sizes, precisions and batches."""
    print("\n| crop | precision | persons | ms | ms a person |")
    print("|---|---|---|---|---|")
    for input_hw in ((128, 96), (256, 192)):
        for dtype in (torch.float32, torch.bfloat16):
            net: BTranspose = load_checkpoint(checkpoint, input_hw=input_hw)[0]
            estimator = PoseEstimator(net, device, dtype)
            for persons in (1, 8):
                crops = [np.zeros((*input_hw, 3), dtype=np.uint8)] * persons
                taken = median_ms(partial(estimator.estimate, crops), seconds=seconds, device=device)
                name = str(dtype).removeprefix("torch.")
                shape = f"{input_hw[0]}x{input_hw[1]}"
                print(f"| {shape} | {name} | {persons} | {taken:.1f} | {taken / persons:.1f} |", flush=True)


def bench_heatmaps(device: torch.device, seconds: float) -> None:
    """Finding the peaks of eight persons."""
    points = torch.rand(8, 17, 2, device=device) * torch.tensor([192.0, 256.0], device=device)
    heatmaps = encode_heatmaps(points, (64, 48), 2.0)
    taken = median_ms(partial(decode_heatmaps, heatmaps), seconds=seconds, device=device)
    print(f"\nkeypoints from the heatmaps of 8 persons (64x48): {taken:.2f} ms")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, default=BUNDLED_CHECKPOINT)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure")
    given = parser.parse_args()
    device = pick_device(given.device)
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads; medians\n")
    bench_pictures(given.seconds)
    bench_network(given.checkpoint, device, given.seconds)
    bench_heatmaps(device, given.seconds)


if __name__ == "__main__":
    main()
