"""The service's work without the service: what it could answer if serving cost nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from model.crop import Pixels
from model.device import pick_device
from model.estimator import crop_person
from model.loading import load_estimators
from service.images import ImageLimits, decode_image
from service.settings import default_cache_dir


class Alone:
    """The network of the service in this process: one thread for decoding, the runtime's own number for the network.

    Args:
        checkpoint: what the service serves.
        image: a picture of which the whole is one person.
        max_batch: persons in a full batch.
    """

    def __init__(self, checkpoint: Path, image: bytes, max_batch: int) -> None:
        (self._estimator,), _ = load_estimators(checkpoint, pick_device("auto"), cache_dir=default_cache_dir())
        self._image = image
        self._full_batch = [self._crop()] * max_batch

    def one_picture(self) -> None:
        """Decode, crop, run."""
        self._estimator.estimate([self._crop()])

    def batches(self, seconds: float) -> float:
        """Persons a second with full batches of crops, nothing else."""
        return self._persons_a_second(lambda: self._full_batch, seconds)

    def pictures(self, seconds: float) -> float:
        """Persons a second with full batches, each picture decoded and cropped before, one after the other."""
        return self._persons_a_second(lambda: [self._crop() for _ in self._full_batch], seconds)

    def _persons_a_second(self, batch: Callable[[], list[Pixels]], seconds: float) -> float:
        persons, started = 0, time.perf_counter()
        while (now := time.perf_counter()) - started < seconds:
            persons += len(self._estimator.estimate(batch()))
        return persons / (now - started)

    def _crop(self) -> Pixels:
        image = decode_image(self._image, ImageLimits())
        height, width = image.shape[:2]
        return crop_person(image, np.array([0, 0, width, height]), self._estimator.config).pixels
