"""Batches from loader processes: one set of processes for a whole run, never idle between two epochs.

What is in a batch, and in which order, is decided by the data set and by its batches (`training.dataset`); the number
of processes changes nothing but speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

Example = TypeVar("Example")
Indices = list[tuple[int, int]]


class _Order(Sampler[Indices]):
    """The batches of whichever epoch is on."""

    def __init__(self) -> None:
        self.batches: Sampler[Indices] | None = None

    def __iter__(self) -> Iterator[Indices]:
        if self.batches is None:
            raise RuntimeError("no epoch was asked for")
        return iter(self.batches)


class EpochLoader(Generic[Example]):
    """Loads epoch after epoch.

    Loader processes start once; when an epoch is over they begin the next one at once, while the run still validates
    and saves. Otherwise every epoch would begin by waiting for processes, and then for a whole batch of each.

    Args:
        dataset: indexed by (epoch, number).
        batches: gives the batches of an epoch, from a first one on.
        epochs: how many the run has; nothing is loaded beyond.
        workers: loader processes; 0: this process loads.
        device: where the batches go; for CUDA they lie in pinned memory.
    """

    def __init__(
        self,
        dataset: Dataset[Example],
        batches: Callable[[int, int], Sampler[Indices]],
        *,
        epochs: int,
        workers: int,
        device: torch.device,
    ) -> None:
        self._batches = batches
        self._epochs = epochs
        self._order = _Order()
        self._loader = DataLoader(
            dataset,
            batch_sampler=self._order,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
        )
        self._begun: tuple[tuple[int, int], Iterator[Example]] | None = None

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Example]:
        """The batches of an epoch, counted from 0, from `first_batch` on. One epoch at a time."""
        begun, self._begun = self._begun, None
        yield from begun[1] if begun and begun[0] == (epoch, first_batch) else self._begin(epoch, first_batch)
        if epoch + 1 < self._epochs:
            self._begun = (epoch + 1, 0), self._begin(epoch + 1, 0)

    def _begin(self, epoch: int, first_batch: int) -> Iterator[Example]:
        self._order.batches = self._batches(epoch, first_batch)
        with _one_opencv_thread():
            return iter(self._loader)


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """For the start of loader processes, each of which would have as many threads as there are cores.

    Set here, because a forked process that changes it itself waits for ever for threads that it did not inherit.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
