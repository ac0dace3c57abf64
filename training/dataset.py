"""Training examples: a random view of a person, as pixels and points.

Every random draw is a function of (seed, epoch, person), so that a resumed run, or one with another number of loader
processes, sees exactly the same pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from model.crop import Pixels
from model.photograph import decode_photograph
from model.skeleton import Skeleton
from training.augment import Augmentation, random_view
from training.coco import AnnotationError, Person
from training.disguise import covered, drawn_colours

Example = tuple[Tensor, Tensor, Tensor, Tensor]


def read_image(path: Path) -> Pixels:
    """An upright photograph [H, W, 3] uint8 RGB, the pixels that serving sees (`model.photograph`).

    Raises AnnotationError for a file that is missing, broken or cut off.
    """
    try:
        return decode_photograph(path.read_bytes())
    except OSError as error:
        if error.errno is not None:
            raise AnnotationError(f"cannot read {path}: {error.strerror}") from error
        raise AnnotationError(f"{path} is not a photograph that can be read") from error
    except MemoryError:
        raise
    except Exception as error:  # decoders raise whatever they meet
        raise AnnotationError(f"{path} is not a photograph that can be read") from error


class PersonViews(Dataset[Example]):
    """Random views of persons, indexed by (epoch, person).

    An example is pixels [H, W, 3] uint8 RGB, the colours that they are to be given (a row of `training.views.COLUMNS`),
    points_crop [K, 2] float32 and labelled [K] bool. `skeleton` is of these K keypoints. `read` gives the photograph in
    a file, as `read_image`, which it may remember.
    """

    def __init__(
        self,
        persons: Sequence[Person],
        input_hw: tuple[int, int],
        augmentation: Augmentation,
        *,
        seed: int,
        skeleton: Skeleton,
        read: Callable[[Path], Pixels] = read_image,
    ) -> None:
        self.persons = persons
        self.input_hw = input_hw
        self.augmentation = augmentation
        self.seed = seed
        self.skeleton = skeleton
        self.read = read

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
        pixels = view.pixels(self.read(person.image_path), self.input_hw)
        colours = drawn_colours(self.augmentation, rng)
        return (
            torch.from_numpy(covered(pixels, self.augmentation, rng)),
            torch.from_numpy(colours),
            torch.from_numpy(view.points(person.points_image)).float(),
            torch.from_numpy(view.labelled(person.labelled, person.points_image)),
        )


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """The batches of one epoch in an order that follows from (seed, epoch); can begin in the middle.

    The last, smaller batch is dropped: batch norm wants batches of one size. Of several processes (`size`), each takes
    its part (`rank`) of every batch; all parts have the same length.
    """

    def __init__(
        self,
        persons: int,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        first_batch: int = 0,
        rank: int = 0,
        size: int = 1,
    ) -> None:
        if not 0 < batch_size <= persons:
            raise ValueError(f"batch_size is {batch_size}; allowed: 1 to the number of persons, {persons}")
        if batch_size % size:
            raise ValueError(f"batch_size is {batch_size}; allowed: a multiple of the number of processes, {size}")
        self.order = np.random.default_rng((seed, epoch)).permutation(persons)
        self.batch_size = batch_size
        self.epoch = epoch
        self.first_batch = first_batch
        self.rank = rank
        self.share = batch_size // size

    def __len__(self) -> int:
        return len(self.order) // self.batch_size - self.first_batch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in range(self.first_batch, self.first_batch + len(self)):
            first = batch * self.batch_size + self.rank * self.share
            numbers = self.order[first : first + self.share]
            yield [(self.epoch, int(number)) for number in numbers]
