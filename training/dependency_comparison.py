"""The same joints of several networks in one figure, as the paper's Figures 3 and 4 (section 4.3) have them.

Each person is a block of its own; its rows are the networks, each at both levels: last layer, mean of heads.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from model.crop import Pixels
from model.dependency import JointAttention
from model.dependency_picture import PANEL_HEIGHT, PersonView, dependency_panels, view_of
from model.estimator import PoseEstimator, crop_person
from model.figure import Panel, draw_figure, stack_figures
from model.geometry import MIN_SIZE, clip_box
from model.levels import LEVELS, Mode
from model.skeleton import Skeleton
from training.coco import AnnotationError, KeypointData, Person
from training.dataset import read_image

MAX_PERSONS = 32  # of one figure, which is held in memory

LEVEL_TITLES = {"mhsa": "MHSA", "encoder": "encoder"}


@dataclass(frozen=True)
class ShownPerson:
    """Who is shown: box_xywh [4] in image pixels, None for the whole photograph."""

    image_path: Path
    box_xywh: npt.ArrayLike | None


@dataclass(frozen=True)
class Look:
    """What is shown of them: indices of the skeleton's keypoints, row or column of the attention, and its colours."""

    skeleton: Skeleton
    keypoints: Sequence[int]
    mode: Mode
    threshold: float
    colormap: str


def photographed_persons(paths: Sequence[Path], boxes: Sequence[npt.ArrayLike] | None) -> list[ShownPerson]:
    """One person for each photograph, in its box if there are boxes."""
    if boxes is None:
        return [ShownPerson(path, None) for path in paths]
    return [ShownPerson(path, box) for path, box in zip(paths, boxes, strict=True)]


def annotated_persons(data: KeypointData, *, images: int, image_ids: Collection[int] | None) -> list[ShownPerson]:
    """Persons of annotated photographs.

    Args:
        data: the photographs.
        images: how many photographs to show, if `image_ids` is None: those with the best labelled persons, and of each
            that one person. The most labelled joints win, then the larger box.
        image_ids: show all annotated persons of these photographs instead.

    Raises AnnotationError for an image id without an annotated person.
    """
    chosen: list[Person] = []
    if image_ids is None:
        best: dict[int, Person] = {}
        for person in sorted(data.persons, key=_worth, reverse=True):
            best.setdefault(person.image_id, person)
        chosen = list(best.values())[:images]
    else:
        for image_id in image_ids:
            found = [person for person in data.persons if person.image_id == image_id]
            if not found:
                raise AnnotationError(f"image id is {image_id}; allowed: one with an annotated person")
            chosen += found
    return [ShownPerson(person.image_path, person.box_xywh) for person in chosen]


def _worth(person: Person) -> tuple[int, float]:
    return int(person.labelled.sum()), float(person.box_xywh[2] * person.box_xywh[3])


class Comparison:
    """A figure that grows by one network at a time.

    Raises ValueError for more than `MAX_PERSONS` persons, and for a box beside its photograph.
    """

    def __init__(self, persons: Sequence[ShownPerson], look: Look) -> None:
        if len(persons) > MAX_PERSONS:
            raise ValueError(f"the figure has {len(persons)} persons; allowed: up to {MAX_PERSONS}")
        self.look = look
        self._persons = persons
        for person in persons:
            _open(person)  # complains now, not after the first network
        self._rows: list[list[list[Panel]]] = [[] for _ in persons]
        self._row_titles: list[str] = []

    def add(self, estimator: PoseEstimator, name: str) -> None:
        """Two rows for each person: both levels of one network. `name` may have several lines."""
        for person, rows in zip(self._persons, self._rows, strict=True):
            rows += self._rows_of(estimator, person)
        self._row_titles += [
            f"{name}\n{LEVEL_TITLES[level]}\nlayer {estimator.config.attention_layers(level) - 1}, mean of heads"
            for level in LEVELS
        ]

    def _rows_of(self, estimator: PoseEstimator, person: ShownPerson) -> list[list[Panel]]:
        image, box = _open(person)
        crop = crop_person(image, box, estimator.config)
        (found,) = estimator.explain([crop.pixels])
        view = view_of(image, crop.image_to_crop, found, estimator.config, height=PANEL_HEIGHT)
        return [self._row_of(view, found.attention[level]) for level in LEVELS]

    def _row_of(self, view: PersonView, attention: JointAttention) -> list[Panel]:
        look = self.look
        maps = [
            attention.of(keypoint, layer=attention.layers - 1, head=None, mode=look.mode) for keypoint in look.keypoints
        ]
        pose, *panels = dependency_panels(
            view, maps, keypoints=look.keypoints, threshold=look.threshold, colormap=look.colormap
        )
        scores = view.keypoints.scores[list(look.keypoints)]
        scored = zip(panels, scores, strict=True)  # the titles above are those of all networks
        return [pose, *(Panel(panel.pixels, f"score {score:.2f}, {panel.caption}") for panel, score in scored)]

    def to_png(self) -> bytes:
        """The figure: a block for each person."""
        names = [self.look.skeleton.names[keypoint].replace("_", " ") for keypoint in self.look.keypoints]
        blocks = [
            draw_figure(
                rows,
                column_titles=["pose", *names],
                row_titles=self._row_titles,
                title=f"{_title_of(person)}: {self.look.mode} maps",
                colormap=self.look.colormap,
            )
            for rows, person in zip(self._rows, self._persons, strict=True)
        ]
        encoded = cv2.imencode(".png", cv2.cvtColor(stack_figures(blocks), cv2.COLOR_RGB2BGR))[1]
        return bytes(encoded)


def _open(person: ShownPerson) -> tuple[Pixels, npt.NDArray[np.float64]]:
    """The photograph, and the part of the box that lies in it."""
    image = read_image(person.image_path)
    height, width = image.shape[:2]
    if person.box_xywh is None:
        return image, np.array([0.0, 0.0, width, height])
    box = clip_box(person.box_xywh, width, height)
    if min(box[2], box[3]) < MIN_SIZE:
        given = np.asarray(person.box_xywh).tolist()
        raise ValueError(f"box is {given}; allowed: a part of {person.image_path}, {width} x {height} pixels")
    return image, box


def _title_of(person: ShownPerson) -> str:
    if person.box_xywh is None:
        return person.image_path.name
    x, y, width, height = np.asarray(person.box_xywh, dtype=np.float64)
    return f"{person.image_path.name}, box {x:.0f},{y:.0f},{width:.0f},{height:.0f}"
