"""What the measurements of loaders share: rates of stages, loaders alone, and training that is fed by them."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from results import Table, progress
from timing import median_ms
from torch.utils.data import Dataset

from training.dataset import EpochBatches
from training.loading import EpochLoader

CPU = torch.device("cpu")
MANY = 100_000  # epochs: no run here ends by itself
LEAST = 3  # steps of a measurement, however long they take

Step = Callable[[Any], object]


class Rates:
    """Images a second of named stages, a column for each size of the input.

    What one thread of a processor does is measured in processor time, which other work on the machine lengthens less.
    """

    def __init__(self, name: str, title: str, sizes: Sequence[str], *, seconds: float) -> None:
        self._table = Table(name, title, ["stage", *sizes])
        self._seconds = seconds
        self._rows: dict[str, list[str]] = {}

    def measure(
        self, name: str, run: Callable[[], object], *, images: int = 1, device: torch.device | None = None
    ) -> None:
        """A cell: how many images a second it is, if a call handles `images`. `device`: where, if not in a loader."""
        clock = time.perf_counter
        if device is None or (device.type == "cpu" and torch.get_num_threads() == 1):
            clock = time.process_time
        ms = median_ms(run, seconds=self._seconds, device=device or CPU, clock=clock)
        self._rows.setdefault(name, []).append(rate(1000 * images / ms))

    def table(self) -> Table:
        """When all is measured."""
        for name, cells in self._rows.items():
            self._table.add(name, *cells)
        return self._table


def rate(per_second: float) -> str:
    """Three digits."""
    return f"{per_second:.3g}" if per_second < 100 else f"{per_second:.0f}"


def make_loader(dataset: Dataset[Any], workers: int, *, images: int, batch_size: int, device: torch.device) -> Any:
    """The trainers' own loader, over a data set of so many images."""

    def batches(epoch: int, first_batch: int) -> EpochBatches:
        return EpochBatches(images, batch_size, seed=0, epoch=epoch, first_batch=first_batch)

    return EpochLoader(dataset, batches, epochs=MANY, workers=workers, device=device)


def fed(loader: Any, step: Step, *, seconds: float) -> tuple[float, float]:
    """Batches a second of `step` on what is loaded, and the share of the time that it waits; without the start."""
    batches = _endless(loader)
    step(next(batches))
    waited, steps, started = 0.0, 0, time.perf_counter()
    while steps < LEAST or time.perf_counter() - started < seconds:
        asked = time.perf_counter()
        example = next(batches)
        waited += time.perf_counter() - asked
        step(example)
        steps += 1
    taken = time.perf_counter() - started
    batches.close()
    return steps / taken, waited / taken


def _endless(loader: Any) -> Any:
    for epoch in itertools.count():
        yield from loader.epoch(epoch)


def bench_processes(
    table: Table,
    makers: Sequence[Callable[[int], Any]],
    step: Step,
    *,
    batch_size: int,
    workers: Sequence[int],
    rounds: int,
    seconds: float,
) -> Table:
    """A row for each number of loader processes: loaders alone, then training with the first of them, in turns.

    `makers` give a loader for a number of processes.
    """
    alone: dict[tuple[int, int], list[float]] = {}
    training: dict[int, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for count in workers:
            progress(f"{count} loader processes")
            for number, make in enumerate(makers):
                per_s, _ = fed(make(count), lambda _: None, seconds=seconds)
                alone.setdefault((count, number), []).append(per_s * batch_size)
            per_s, share = fed(makers[0](count), step, seconds=seconds)
            training.setdefault(count, []).append((per_s * batch_size, share))
    for count in workers:
        loaders = (statistics.median(alone[count, number]) for number in range(len(makers)))
        per_s, share = (statistics.median(values) for values in zip(*training[count], strict=True))
        table.add(count, *map(rate, loaders), rate(per_s), f"{100 * share:.1f} %")
    return table
