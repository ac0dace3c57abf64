"""What each stage of a request around the network costs: `python bench/stages.py --help`, part of `make bench`.

Medians of repeated runs on drawn pictures, one thread for decoding and cropping. The network has `bench/engine.py`.
Machines are noisy: compare within one run, and rather ratios than milliseconds.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from drawn import drawn_jpeg
from results import Table, progress
from timing import median_ms

from model.checkpoint import load_checkpoint
from model.device import pick_device
from model.estimator import crop_person
from model.expected_oks import KeypointDecoder
from model.heatmap import encode_heatmaps
from model.variants import variant
from service.images import ImageLimits, decode_image
from service.settings import BUNDLED_CHECKPOINT

PICTURES = ((640, 480), (1920, 1080), (4000, 3000))
PERSONS = (1, 8, 16)


def bench_pictures(seconds: float) -> Table:
    """Decoding and cropping, for three sizes of picture."""
    config, cpu = load_checkpoint(BUNDLED_CHECKPOINT)[0].config, torch.device("cpu")
    cv2.setNumThreads(1)
    shape = f"{config.input_hw[0]}x{config.input_hw[1]}"
    table = Table(
        "pictures",
        f"A picture before the network: one thread, a crop of {shape} of the whole picture",
        ["picture", "JPEG decode ms", "one crop ms"],
    )
    for width, height in PICTURES:
        progress(f"a picture of {width}x{height}")
        data = drawn_jpeg(width, height)
        image = decode_image(data, ImageLimits())
        decode = median_ms(partial(decode_image, data, ImageLimits()), seconds=seconds, device=cpu)
        whole = np.array([0, 0, width, height])
        crop = median_ms(partial(crop_person, image, whole, config), seconds=seconds, device=cpu)
        table.add(f"{width}x{height}", f"{decode:.1f}", f"{crop:.2f}")
    return table


def bench_heatmaps(device: torch.device, seconds: float) -> Table:
    """Finding the peaks."""
    table = Table(
        "heatmaps", f"Keypoints from heatmaps of 64x48, {device}", ["persons in a batch", "ms", "ms a person"]
    )
    decode = KeypointDecoder(variant("c3a1-4"))
    for persons in PERSONS:
        progress(f"the heatmaps of {persons} persons")
        points = torch.rand(persons, 17, 2, device=device) * torch.tensor([192.0, 256.0], device=device)
        heatmaps = encode_heatmaps(points, (64, 48), 2.0)
        taken = median_ms(partial(decode, heatmaps), seconds=seconds, device=device)
        table.add(persons, f"{taken:.2f}", f"{taken / persons:.2f}")
    return table


def main() -> None:
    """Print the tables, and write them where results are kept."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="auto", help="of the heatmaps")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure")
    parser.add_argument("--results", type=Path, help="a folder for results as JSON and Markdown")
    given = parser.parse_args()
    results: Path | None = given.results
    bench_pictures(given.seconds).write(results)
    bench_heatmaps(pick_device(given.device), given.seconds).write(results)


if __name__ == "__main__":
    main()
