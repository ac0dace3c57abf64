"""A checkpoint -> a network that serves: on every device, in every lane, checked against torch in float32.

The same at the start and whenever another checkpoint takes over. Knows nothing of requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from model.checkpoint import CheckpointCard, read_card
from model.device import pick_devices
from model.estimator import PoseEstimator
from model.loading import load_estimators
from service.explaining import attention_shapes
from service.network import Network
from service.poses import ModelInfo


class PerDevice(NamedTuple):
    """What is taken where nothing is said: batches at a time on a device, and the most persons in one."""

    lanes: int
    max_batch: int


PER_DEVICE = {"cpu": PerDevice(1, 16), "cuda": PerDevice(2, 64)}


@dataclass(frozen=True, kw_only=True)
class NetworkLoader:
    """Loads checkpoints as one process serves them. Synchronous, and takes seconds.

    devices: each has `lanes` estimators.
    lanes: batches at a time on each device.
    precision, runtime, threads, cache_dir, max_batch: as `model.loading.load_estimators` has them.
    """

    devices: tuple[torch.device, ...]
    lanes: int
    precision: str
    runtime: str
    threads: int
    cache_dir: Path
    max_batch: int

    def __call__(self, checkpoint: Path) -> Network:
        """Any variant, any crop size, and any keypoints.

        Raises ValueError for a checkpoint that is missing or damaged, or that cannot be served here.
        """
        # Only the threads of the lanes may compute in parallel. OpenMP keeps a team for each thread that ever did, and
        # with more teams than cores it puts its threads to sleep at the end of every loop, which halves the speed.
        torch.set_num_threads(1)
        card = read_card(checkpoint)
        estimators: list[PoseEstimator] = []
        for device in self.devices:
            more, read = load_estimators(
                checkpoint,
                device,
                precision=self.precision,
                runtime=self.runtime,
                threads=self.threads,
                cache_dir=self.cache_dir,
                max_batch=self.max_batch,
                count=self.lanes,
            )
            if read != card:
                raise ValueError(f"{checkpoint} was replaced while it was read; try again")
            estimators += more
        return Network(
            card=card, info=_describe(card, estimators), estimators=tuple(estimators), source=str(checkpoint)
        )


def make_loader(
    device: str, *, lanes: int, max_batch: int, precision: str, runtime: str, threads: int, cache_dir: Path
) -> NetworkLoader:
    """A loader for devices by name, as `model.device.pick_devices` has them; 0 lanes or persons: as `PER_DEVICE`.

    Raises ValueError for a device that is not here.
    """
    devices = pick_devices(device)
    on = PER_DEVICE[devices[0].type]
    return NetworkLoader(
        devices=tuple(devices),
        lanes=lanes or on.lanes,
        precision=precision,
        runtime=runtime,
        threads=threads,
        cache_dir=cache_dir,
        max_batch=max_batch or on.max_batch,
    )


def _describe(card: CheckpointCard, estimators: Sequence[PoseEstimator]) -> ModelInfo:
    """What `GET /model` tells."""
    first = estimators[0]
    return ModelInfo(
        variant=card.config.key,
        label=card.config.label,
        parameters=sum(parameter.numel() for parameter in first.net.parameters()),
        input_hw=card.config.input_hw,
        checkpoint_sha256=card.sha256,
        runtime=first.runtime.name,
        device=",".join(dict.fromkeys(str(each.runtime.device) for each in estimators)),
        precision=first.runtime.precision,
        attention=attention_shapes(card.config),
        keypoint_names=card.config.skeleton.names,
        skeleton=card.config.skeleton.limbs,
    )
