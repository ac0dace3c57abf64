"""How fast pre-training is fed: the part of `bench/loader.py` that is about views of pictures."""

from __future__ import annotations

import argparse
import itertools
from functools import partial
from pathlib import Path

import numpy as np
from feeding import MANY, Rates, bench_processes, make_loader
from results import Table, progress
from torch.utils.data import default_collate

from model.device import pick_device
from training.dataset import read_image
from training.dino_settings import PretrainSettings
from training.dino_trainer import DinoTrainer, picture_views
from training.recolour import recolour, standardised
from training.views import GLOBAL_VIEWS, random_views


def measure_views(rates: Rates, trainer: DinoTrainer) -> None:
    """From a file to a step."""
    settings, device = trainer.settings, trainer.world.device
    views = picture_views(settings, trainer.pictures)
    picture, rng, numbers = read_image(trainer.pictures.path(0)), np.random.default_rng(0), itertools.count()
    rates.measure("draw and resize all views", lambda: random_views(picture, *views.view_settings, rng))
    rates.measure("an example: read, decode, all views", lambda: views[0, next(numbers) % len(views)])
    examples = [views[0, number % len(views)] for number in range(settings.batch_size)]
    rates.measure("collate", partial(default_collate, examples), images=settings.batch_size)
    batch = default_collate(examples)
    colours = batch[2]
    sizes = [(batch[0].to(device), colours[:, :GLOBAL_VIEWS]), (batch[1].to(device), colours[:, GLOBAL_VIEWS:])]

    def colour() -> None:
        for pixels, rows in sizes:
            standardised(recolour(pixels.flatten(0, 1), rows.flatten(0, 1)))

    measure = partial(rates.measure, images=settings.batch_size, device=device)
    measure("recolour and normalise all views", colour)
    measure("a step: transfer, colours, both networks, update", partial(trainer.learner.train_step, batch))


def bench_pretraining(given: argparse.Namespace, images: Path, folder: Path) -> None:
    """The tables of pre-training: two global views of each size, two local ones of half of it."""
    device = pick_device(given.device)
    about = f"pictures/s, batches of {given.batch_size}, {given.precision} on {device}"
    title = f"Stages of pre-training, each alone, two global views and two local ones of half the size: {about}"
    stages = Rates("loader-views-stages", title, given.input, seconds=given.seconds)
    for size in given.input:
        progress(f"stages of views of {size}")
        rows, columns = map(int, size.split("x"))
        settings = PretrainSettings(
            run_dir=folder / "pretrain",
            images=(images,),
            global_hw=(rows, columns),
            local_hw=(rows // 2, columns // 2),
            epochs=MANY,
            batch_size=given.batch_size,
            precision=given.precision,
            device=given.device,
            workers=0,
        )
        trainer = DinoTrainer(settings)
        measure_views(stages, trainer)
        if not given.workers:
            continue
        table = Table(
            f"loader-views-{size}",
            f"Pre-training on views of {size} by loader processes: {about}",
            ["processes", "loader alone", "training", "of its time it waits"],
        )
        views = picture_views(settings, trainer.pictures)

        make = partial(make_loader, views, images=len(views), batch_size=given.batch_size, device=device)
        bench_processes(
            table,
            [make],
            trainer.learner.train_step,
            batch_size=given.batch_size,
            workers=given.workers,
            rounds=given.rounds,
            seconds=given.seconds,
        ).write(given.results)
    stages.table().write(given.results)
