"""The network alone, by every runtime and precision, beside the floor: `python bench/engine.py`, part of `make bench`.

The floor is what the network's floating-point operations would take at the rate of this machine's own large matrix
products, measured in the same run and precision. What is compared is measured in turns, because machines are noisy;
figures are medians over the rounds. Decoding of heatmaps is part of it; cropping and pictures are not.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial
from pathlib import Path

import torch
from results import Table, machine
from timing import median_ms

from model.checkpoint import read_card
from model.device import pick_device, pick_dtype
from model.estimator import PoseEstimator
from model.loading import load_estimators
from model.quantised import quantised_path
from model.runtime import noise_crops
from model.summary import count_flops
from service.settings import BUNDLED_CHECKPOINT, default_cache_dir

BATCHES = (1, 2, 4, 8, 16, 32)
PRODUCT = 2048  # rows and columns of the matrices of the floor


def product_flops(dtype: torch.dtype, device: torch.device, *, seconds: float) -> float:
    """Floating-point operations a second in products of large matrices."""
    left, right = (torch.randn(PRODUCT, PRODUCT, dtype=dtype, device=device) for _ in range(2))
    return 2000 * PRODUCT**3 / median_ms(partial(torch.mm, left, right), seconds=seconds, device=device)


def make_estimators(checkpoint: Path, input_hw: tuple[int, int], device: torch.device) -> dict[str, PoseEstimator]:
    """An estimator for each runtime and precision that there is on the device; int8 if `checkpoint` has its file."""
    names = [(runtime, precision) for runtime in ("torch", "openvino") for precision in ("fp32", "auto")]
    if quantised_path(checkpoint).exists() and read_card(checkpoint).config.input_hw == input_hw:
        names.append(("openvino", "int8"))
    made = {}
    for runtime, precision in names:
        if runtime == "torch" or device.type == "cpu":
            (estimator,), _ = load_estimators(
                checkpoint,
                device,
                precision=precision,
                runtime=runtime,
                cache_dir=default_cache_dir(),
                input_hw=input_hw,
            )
            made[f"{runtime} {estimator.runtime.precision}"] = estimator
    return made


def bench(input_hw: tuple[int, int], given: argparse.Namespace, device: torch.device) -> None:
    """One table."""
    estimators = make_estimators(given.checkpoint, input_hw, device)
    config = next(iter(estimators.values())).config
    flops = count_flops(config)
    floors: dict[torch.dtype, list[float]] = {torch.float32: [], pick_dtype("auto", device): []}
    taken: dict[tuple[str, int], list[float]] = {}
    for _ in range(given.rounds):
        for dtype, rates in floors.items():
            rates.append(1000 * flops / product_flops(dtype, device, seconds=given.seconds))
        for name, estimator in estimators.items():
            for persons in given.batches:
                crops = list(noise_crops(input_hw, persons))
                ms = median_ms(partial(estimator.estimate, crops), seconds=given.seconds, device=device)
                taken.setdefault((name, persons), []).append(ms / persons)
    shape = f"{input_hw[0]}x{input_hw[1]}"
    table = Table(
        f"engine-{shape}",
        f"{config.label}, crops of {shape}: ms a person (times the floor), by persons in a batch",
        ["runtime", "floor ms", *map(str, given.batches)],
    )
    for name in estimators:
        floor = statistics.median(floors[torch.float32 if "float32" in name else pick_dtype("auto", device)])
        medians = [statistics.median(taken[name, persons]) for persons in given.batches]
        table.add(name, f"{floor:.3g}", *(f"{each:.3g} ({each / floor:.2f})" for each in medians))
    table.write(given.results)


def main() -> None:
    """Print the tables, and write them where results are kept."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, default=BUNDLED_CHECKPOINT)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--input", nargs="+", default=["128x96", "256x192"], metavar="HxW", help="sizes of the crop")
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES, metavar="N")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each figure of a round")
    parser.add_argument("--results", type=Path, help="a folder for results as JSON and Markdown")
    given = parser.parse_args()
    device = pick_device(given.device)
    print(machine(device))
    for size in given.input:
        rows, columns = map(int, size.split("x"))
        bench((rows, columns), given, device)


if __name__ == "__main__":
    main()
