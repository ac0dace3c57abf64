"""Training examples: a random view of a person, as pixels and points.

Every random draw is a function of (seed, epoch, person), so that a resumed run, or one with another number of loader
processes, sees exactly the same pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from model.crop import Pixels, warp_crop
from model.skeleton import Skeleton
from training.augment import Augmentation, random_view
from training.coco import AnnotationError, Person

Example = tuple[Tensor, Tensor, Tensor]


def read_image(path: Path) -> Pixels:
    """An upright photograph [H, W, 3] uint8 RGB. Raises AnnotationError for a missing or broken file."""
    try:
        image = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_COLOR)
    except OSError as error:
        raise AnnotationError(f"cannot read {path}: {error.strerror}") from error
    except cv2.error:
        image = None
    if image is None:
        raise AnnotationError(f"{path} is not a photograph that OpenCV can read")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


class PersonViews(Dataset[Example]):
    """Random views of persons, indexed by (epoch, person).

    An example is pixels [H, W, 3] uint8 RGB, points_crop [K, 2] float32 and labelled [K] bool; `skeleton` is of these K.
    """

    def __init__(
        self,
        persons: Sequence[Person],
        input_hw: tuple[int, int],
        augmentation: Augmentation,
        *,
        seed: int,
        skeleton: Skeleton,
    ) -> None:
        self.persons = persons
        self.input_hw = input_hw
        self.augmentation = augmentation
        self.seed = seed
        self.skeleton = skeleton

    def __len__(self) -> int:
        return len(self.persons)

    def __getitem__(self, index: tuple[int, int]) -> Example:
        epoch, number = index
        person = self.persons[number]
        rng = np.random.default_rng((self.seed, epoch, number + 1))  # + 1: not the stream of the order
        view = random_view(
            person.box_xywh,
            person.points_image,
            person.labelled,
            self.input_hw,
            self.augmentation,
            rng,
            self.skeleton,
        )
        pixels = warp_crop(read_image(person.image_path), view.image_to_crop, self.input_hw)
        return (
            torch.from_numpy(pixels),
            torch.from_numpy(view.points(person.points_image)).float(),
            torch.from_numpy(view.labelled(person.labelled)),
        )


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """The batches of one epoch in an order that follows from (seed, epoch); can begin in the middle.

    The last, smaller batch is dropped: batch norm wants batches of one size.
    """

    def __init__(self, persons: int, batch_size: int, *, seed: int, epoch: int, first_batch: int = 0) -> None:
        if not 0 < batch_size <= persons:
            raise ValueError(f"batch_size is {batch_size}; allowed: 1 to the number of persons, {persons}")
        self.order = np.random.default_rng((seed, epoch)).permutation(persons)
        self.batch_size = batch_size
        self.epoch = epoch
        self.first_batch = first_batch

    def __len__(self) -> int:
        return len(self.order) // self.batch_size - self.first_batch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in range(self.first_batch, self.first_batch + len(self)):
            numbers = self.order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [(self.epoch, int(number)) for number in numbers]
