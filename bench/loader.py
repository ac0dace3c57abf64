"""How fast training is fed, and whether the network waits for it: `python bench/loader.py`, part of `make bench`.

Images a second of each stage alone, of whole loaders by processes, and of training with them, with the share of its
time that training waits for a batch; for poses and for pre-training. Stages and loaders are the trainers' own. A
machine is noisy: compare within one table, and rather ratios than rates.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from drawn_coco import drawn_coco
from feeding import MANY, Rates, bench_processes, make_loader
from loader_views import bench_pretraining
from results import Table, machine, progress
from torch.utils.data import default_collate

from model import photograph
from model.crop import warp_crop
from model.device import pick_device
from model.heatmap import encode_heatmaps, target_weights
from training.augment import random_view
from training.dataset import read_image
from training.photograph_cache import GIB, PhotographCache
from training.recolour import recolour, standardised
from training.settings import TrainSettings
from training.trainer import Trainer, person_views

POSE_COLUMNS = ["processes", "loader alone", "alone, photographs kept", "training", "of its time it waits"]
FEW = 50  # photographs that the stages look at, over and over: the disk is not what is measured


@contextmanager
def without_simplejpeg() -> Iterator[None]:
    """As on a machine that does not have it."""
    installed = vars(photograph)["simplejpeg"]
    setattr(photograph, "simplejpeg", None)  # noqa: B010 (not a name that others may use)
    try:
        yield
    finally:
        setattr(photograph, "simplejpeg", installed)  # noqa: B010


def measure_files(rates: Rates, trainer: Trainer, folder: Path) -> None:
    """From a file to pixels."""
    few = sorted({person.image_path for person in trainer.persons})[:FEW]
    paths, encoded = itertools.cycle(few), itertools.cycle([path.read_bytes() for path in few])
    rates.measure("read the file", lambda: next(paths).read_bytes())
    rates.measure("decode", lambda: photograph.decode_photograph(next(encoded)))
    with without_simplejpeg():
        rates.measure("decode, without simplejpeg", lambda: photograph.decode_photograph(next(encoded)))
    kept = PhotographCache(folder / "kept", GIB, read_image)
    for path in few:
        kept.read(path)
    rates.measure("instead of both: a kept photograph", lambda: kept.read(next(paths)))


def measure_examples(rates: Rates, trainer: Trainer) -> Any:
    """From pixels to a batch, which is returned."""
    settings, rng = trainer.settings, np.random.default_rng(0)
    persons, pixels = itertools.cycle(trainer.persons), read_image(trainer.persons[0].image_path)

    def see() -> None:
        person = next(persons)
        drawn_of = person.box_xywh, person.points_image, person.labelled
        view = random_view(*drawn_of, settings.input_hw, settings.augmentation, rng, trainer.skeleton)
        warp_crop(pixels, view.image_to_crop, settings.input_hw)

    rates.measure("draw a view and warp", see)
    views, numbers = person_views(settings, trainer.persons, trainer.skeleton), itertools.count()
    rates.measure("an example: read, decode, view, warp", lambda: views[0, next(numbers) % len(views)])
    examples = [views[0, number % len(views)] for number in range(settings.batch_size)]
    rates.measure("collate", partial(default_collate, examples), images=settings.batch_size)
    return default_collate(examples)


def measure_device(rates: Rates, trainer: Trainer, batch: Any) -> None:
    """From a batch to a step."""
    device, measure = trainer.world.device, partial(rates.measure, images=len(batch[0]), device=trainer.world.device)
    if device.type == "cuda":
        batch = [tensor.pin_memory() for tensor in batch]
        measure("transfer", lambda: [tensor.to(device, non_blocking=True) for tensor in batch])
    pixels, points, labelled = (batch[number].to(device) for number in (0, 2, 3))
    colours = batch[1]  # stay on the CPU, as training's do
    heatmap_hw, sigma = trainer.learner.config.heatmap_hw, trainer.learner.config.heatmap_sigma

    def prepare() -> None:
        standardised(recolour(pixels, colours))
        encode_heatmaps(points, heatmap_hw, sigma)
        target_weights(points, labelled, heatmap_hw, sigma)

    measure("normalise, draw targets and weights", prepare)
    measure("a step: transfer, normalise, forward, backward, update", partial(trainer.train_step, batch))


def bench_poses(given: argparse.Namespace, data: tuple[Path, Path], folder: Path) -> None:
    """The tables of pose training."""
    about = f"images/s, batches of {given.batch_size}, {given.precision} on {pick_device(given.device)}"
    stages = Rates("loader-stages", f"Stages of training, each alone: {about}", given.input, seconds=given.seconds)
    for size in given.input:
        progress(f"stages of {size}")
        rows, columns = map(int, size.split("x"))
        settings = TrainSettings(
            run_dir=folder / "run",
            train_sets=(data,),
            val_set=data,
            input_hw=(rows, columns),
            epochs=MANY,
            batch_size=given.batch_size,
            precision=given.precision,
            device=given.device,
            workers=0,
        )
        trainer = Trainer(settings)
        measure_files(stages, trainer, folder)
        measure_device(stages, trainer, measure_examples(stages, trainer))
        if given.workers:
            title = f"Training on crops of {size} by loader processes: {about}"
            bench_pose_processes(Table(f"loader-{size}", title, POSE_COLUMNS), trainer, given, folder)
    stages.table().write(given.results)


def bench_pose_processes(table: Table, trainer: Trainer, given: argparse.Namespace, folder: Path) -> None:
    """Whole loaders, with photographs decoded and kept."""
    settings = trainer.settings
    views = person_views(settings, trainer.persons, trainer.skeleton)
    from_kept = person_views(
        replace(settings, photograph_cache=folder / "all", cache_gib=64.0), trainer.persons, trainer.skeleton
    )
    for path in {person.image_path for person in trainer.persons}:
        from_kept.read(path)  # as after the first epoch
    make = partial(make_loader, images=len(views), batch_size=settings.batch_size, device=trainer.world.device)
    makers = [partial(make, views), partial(make, from_kept)]
    bench_processes(
        table,
        makers,
        trainer.train_step,
        batch_size=settings.batch_size,
        workers=given.workers,
        rounds=given.rounds,
        seconds=given.seconds,
    ).write(given.results)


def main() -> None:
    """Print the tables, and write them where results are kept."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs=2, type=Path, metavar=("JSON", "DIR"), help="COCO photographs; else drawn ones")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="bf16", choices=("fp32", "bf16"))
    parser.add_argument("--input", nargs="+", default=["128x96", "256x192"], metavar="HxW", help="crops, global views")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--workers", nargs="*", type=int, default=[0, 1, 2, 4], metavar="N", help="loader processes")
    parser.add_argument("--only", choices=("poses", "pretraining"), help="a part of the tables")
    parser.add_argument("--photographs", type=int, default=200, help="that are drawn")
    parser.add_argument("--threads", type=int, default=0, help="of torch on a CPU; 0: as it chooses")
    parser.add_argument("--rounds", type=int, default=1, help="of loaders by processes")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure of a round")
    parser.add_argument("--results", type=Path, help="a folder for results as JSON and Markdown")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    cv2.setNumThreads(1)  # as in loader processes
    print(machine(pick_device(given.device)))
    with drawn_coco(given.photographs) as drawn, tempfile.TemporaryDirectory() as folder:
        data = tuple(given.data or drawn)
        if given.only != "pretraining":
            bench_poses(given, data, Path(folder))
        if given.only != "poses":
            bench_pretraining(given, data[1], Path(folder))


if __name__ == "__main__":
    main()
