"""Pictures for self-supervised pre-training: any folders of images, or persons' boxes in them; no labels.

Every random draw is a function of (seed, epoch, picture), so that a resumed run, or one with another number of loader
processes, sees exactly the same views.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from model.crop import Pixels
from model.geometry import box_to_region, clip_box
from training.coco import AnnotationError, check_layout, read_json
from training.dataset import read_image
from training.views import ViewAugmentation, random_views

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MIN_BOX = 16  # pixels; a person less wide or high shows nothing to learn from
TRIES = 10  # pictures that are tried in place of one that cannot be read

Example = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Pictures:
    """What is looked at, in a fixed order.

    paths: [n] bytes, one array instead of a million objects, which loader processes would copy one by one.
    boxes_xywh: [n, 4] in image pixels; NaN where the whole picture is looked at.
    """

    paths: npt.NDArray[np.bytes_]
    boxes_xywh: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, number: int) -> Path:
        """The file of one of them."""
        return Path(os.fsdecode(bytes(self.paths[number])))

    def digest(self) -> str:
        """SHA-256 of the names, without their folders' place on the machine, and of the boxes, in order."""
        names = b"\n".join(os.path.basename(bytes(path)) for path in self.paths)
        return hashlib.sha256(names + self.boxes_xywh.tobytes()).hexdigest()


def find_pictures(folders: Sequence[Path], annotations: Sequence[tuple[Path, Path]] = ()) -> Pictures:
    """All images below `folders`, then all persons of `annotations`, pairs of COCO JSON and image folder.

    Raises AnnotationError for a folder that is missing or has no images, and for annotations that are not COCO's.
    """
    paths: list[bytes] = []
    boxes: list[npt.NDArray[np.float64]] = []
    for folder in folders:
        found = _images_below(folder)
        paths += found
        boxes += [np.full((len(found), 4), np.nan)]
    for annotations_path, images_dir in annotations:
        of_persons = _read_boxes(annotations_path, images_dir)
        paths += [path for path, _ in of_persons]
        boxes += [np.array([box for _, box in of_persons]).reshape(-1, 4)]
    if not paths:
        raise AnnotationError("no pictures; give folders of images, or annotations with persons")
    return Pictures(np.array(paths), np.concatenate(boxes))


def _images_below(folder: Path) -> list[bytes]:
    if not folder.is_dir():
        raise AnnotationError(f"image folder {folder} does not exist")
    found = [
        os.fsencode(os.path.join(parent, name))
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    ]
    if not found:
        raise AnnotationError(f"image folder {folder} has no images; looked for {', '.join(SUFFIXES)}")
    return sorted(found)


def _read_boxes(annotations_path: Path, images_dir: Path) -> list[tuple[bytes, npt.NDArray[np.float64]]]:
    """Path and box of each person that is not a crowd and not tiny; no keypoints are needed."""
    content = read_json(annotations_path)
    check_layout(content, annotations_path)
    if not images_dir.is_dir():
        raise AnnotationError(f"image folder {images_dir} does not exist")
    categories = content.get("categories", [])
    persons = {category["id"] for category in categories if category.get("name") == "person"}
    boxes = []
    try:
        images = {image["id"]: image for image in content["images"]}
        for annotation in content["annotations"]:
            if annotation.get("iscrowd") or (categories and annotation.get("category_id") not in persons):
                continue
            image = images[annotation["image_id"]]
            box = clip_box(annotation["bbox"], image["width"], image["height"])
            if (box[2:] >= MIN_BOX).all():
                boxes.append((os.fsencode(images_dir / image["file_name"]), box))
    except (KeyError, TypeError, ValueError) as error:
        raise AnnotationError(f"{annotations_path}: {error!r}") from error
    return boxes


class PictureViews(Dataset[Example]):
    """Random views of pictures, indexed by (epoch, picture).

    An example is global views [2, H, W, 3] uint8 RGB, local views [L, h, w, 3] uint8, their colours [2 + L, 8] float32
    (`training.views.COLUMNS`), and the numbers [TRIES] int64 of pictures that could not be read, filled up with -1. In
    their place another picture is looked at; it follows from (seed, epoch, picture), too.

    `context`: of a person, the part of the picture that is looked at is the box, grown to the shape of a global view,
    its width and height times a factor between these two.
    """

    def __init__(
        self,
        pictures: Pictures,
        global_hw: tuple[int, int],
        local_hw: tuple[int, int],
        local_views: int,
        augmentation: ViewAugmentation,
        *,
        context: tuple[float, float],
        seed: int,
    ) -> None:
        self.pictures = pictures
        self.view_settings = (global_hw, local_hw, local_views, augmentation)
        self.context = context
        self.seed = seed

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: tuple[int, int]) -> Example:
        epoch, number = index
        rng = np.random.default_rng((self.seed, epoch, number + 1))  # + 1: not the stream of the order
        picture, unread = self.read(number, rng)
        seen, local, colours = random_views(picture, *self.view_settings, rng)
        failed = torch.full((TRIES,), -1, dtype=torch.int64)
        failed[: len(unread)] = torch.tensor(unread, dtype=torch.int64)
        return torch.from_numpy(seen), torch.from_numpy(local), torch.from_numpy(colours), failed

    def read(self, number: int, rng: np.random.Generator) -> tuple[Pixels, list[int]]:
        """The picture, or the part around the person, and the numbers of those that could not be read before.

        Raises AnnotationError if too many in a row cannot be read.
        """
        unread: list[int] = []
        while True:
            try:
                picture = read_image(self.pictures.path(number))
                break
            except AnnotationError as error:
                unread.append(number)
                if len(unread) == TRIES:
                    raise AnnotationError(f"{error}, nor are {TRIES - 1} others; see that --images is right") from error
                number = int(rng.integers(len(self.pictures)))
        box = self.pictures.boxes_xywh[number]
        if np.isnan(box).any():
            return picture, unread
        return around(picture, box, self.view_settings[0], rng.uniform(*self.context)), unread


def around(picture: Pixels, box_xywh: npt.NDArray[np.float64], view_hw: tuple[int, int], context: float) -> Pixels:
    """The part of a picture [H, W, 3] around a person's box [4], in the shape of a view, `context` times as large.

    In that shape, so that a global view can hold the whole person; what lies beyond the picture is left out.
    """
    center, region_width = box_to_region(box_xywh, view_hw, padding=context)
    half = np.array([region_width, region_width * view_hw[0] / view_hw[1]]) / 2
    height, width = picture.shape[:2]
    first = np.clip(np.floor(center - half + 0.5).astype(int), 0, (width - 1, height - 1))
    beyond = np.clip(np.ceil(center + half + 0.5).astype(int), first + 1, (width, height))
    return picture[first[1] : beyond[1], first[0] : beyond[0]]
