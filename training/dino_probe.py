"""How well a backbone tells classes apart without any training: nearest neighbours in its features.

DINO's k-NN figure: 20 neighbours by cosine, each with a vote of exp(cosine / 0.07). One folder is enough: every picture
is classified by all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from model.btranspose import Backbone
from model.crop import Pixels, normalise
from training.coco import AnnotationError
from training.dataset import read_image
from training.dino_data import find_pictures
from training.dino_network import pooled
from training.views import Region, see

NEIGHBOURS = 20
TEMPERATURE = 0.07
BATCH = 32
ROWS = 1024  # of similarities in memory at a time


@dataclass(frozen=True)
class LabelledPictures:
    """Paths of pictures, and for each the number of its class; `classes` names them."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]


def find_labelled(folder: Path) -> LabelledPictures:
    """Pictures below the subfolders of `folder`, each subfolder a class.

    Raises AnnotationError unless there are at least two classes with pictures.
    """
    if not folder.is_dir():
        raise AnnotationError(f"probe folder {folder} does not exist")
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    if len(classes) < 2:
        raise AnnotationError(
            f"probe folder {folder} has {len(classes)} subfolders; allowed: one for each class, 2 or more"
        )
    paths: list[Path] = []
    labels: list[int] = []
    for label, class_dir in enumerate(classes):
        found = find_pictures([class_dir])
        paths += [found.path(number) for number in range(len(found))]
        labels += [label] * len(found)
    return LabelledPictures(tuple(paths), tuple(labels), tuple(path.name for path in classes))


def probe(backbone: Backbone, labelled: LabelledPictures, view_hw: tuple[int, int], dtype: torch.dtype) -> float:
    """Share of the pictures, 0..1, whose class their nearest neighbours name. Leaves the backbone as it was."""
    features = extract_features(backbone, labelled.paths, view_hw, dtype)
    return knn_accuracy(features, torch.tensor(labelled.labels))


@torch.no_grad()
def extract_features(backbone: Backbone, paths: Sequence[Path], view_hw: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Pooled features [n, C] float32 on the CPU, of the largest middle part of each picture that has a view's shape."""
    device = next(backbone.parameters()).device
    was_training = backbone.training
    backbone.eval()
    features = []
    try:
        for first in range(0, len(paths), BATCH):
            views = np.stack([middle(read_image(path), view_hw) for path in paths[first : first + BATCH]])
            with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
                features.append(pooled(backbone, normalise(torch.from_numpy(views).to(device))).cpu())
    finally:
        backbone.train(was_training)
    return torch.cat(features)


def middle(picture: Pixels, view_hw: tuple[int, int]) -> Pixels:
    """The largest middle part of a picture [H, W, 3] that has the shape of a view, as a view."""
    height, width = picture.shape[:2]
    ratio = view_hw[1] / view_hw[0]
    rows, columns = min(height, max(round(width / ratio), 1)), min(width, max(round(height * ratio), 1))
    return see(picture, Region((height - rows) // 2, (width - columns) // 2, rows, columns), view_hw, flip=False)


def knn_accuracy(
    features: Tensor, labels: Tensor, *, neighbours: int = NEIGHBOURS, temperature: float = TEMPERATURE
) -> float:
    """Share, 0..1, of features [n, C] whose label [n] has the most votes of their neighbours, themselves excluded."""
    directions = F.normalize(features.float(), dim=-1)
    votes_of = F.one_hot(labels).float()  # [n, classes]
    count = min(neighbours, len(labels) - 1)
    right = 0
    for first in range(0, len(labels), ROWS):
        cosines = directions[first : first + ROWS] @ directions.T
        own = torch.arange(len(cosines))
        cosines[own, first + own] = -torch.inf
        nearest, which = cosines.topk(count, dim=-1)  # [rows, count]
        votes = ((nearest / temperature).exp()[..., None] * votes_of[which]).sum(dim=1)  # [rows, classes]
        right += int((votes.argmax(dim=-1) == labels[first : first + ROWS]).sum())
    return right / len(labels)
