"""The batches of an epoch, from a step on, under a progress bar: the same for poses and for pre-training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from training.dataset import EpochBatches
from training.world import World

Example = TypeVar("Example")


def epoch_loader(
    dataset: Dataset[Example], batches: EpochBatches, *, workers: int, world: World
) -> DataLoader[Example]:
    """Loads these batches, on a CUDA machine into memory that it copies from while it computes."""
    return DataLoader(dataset, batch_sampler=batches, num_workers=workers, pin_memory=world.device.type == "cuda")


def epoch_bar(
    loader: Iterable[Example], *, epoch: int, epochs: int, steps: int, first_step: int, batch_size: int, shown: bool
) -> Any:
    """The loader's batches under a bar that counts images: `steps` of `batch_size`, of which `first_step` are done."""
    return tqdm(
        loader,
        desc=f"epoch {epoch + 1}/{epochs}",
        unit_scale=batch_size,
        unit="image",
        total=steps,
        initial=first_step,
        dynamic_ncols=True,
        mininterval=1.0,
        disable=not shown,
    )
