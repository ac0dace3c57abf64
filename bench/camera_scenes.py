"""What a virtual camera looks at: photographs with annotated persons, one or several side by side."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from model.crop import Pixels, warp_crop
from model.geometry import Array, affine_scale, apply_affine, region_to_affine
from model.photograph import decode_photograph
from training.coco import KeypointData, Person, read_json
from training.person_accuracy import read_true_poses

CELL_HW = (384, 512)  # of one photograph among several
MOST_IN_ONE = 4  # persons; more are put together of pairs
MIN_LABELLED = 10  # joints of each person, so that some may leave the view before the person has left
SMALLEST = 32.0  # pixels, square root of a person's area: COCO's small persons have no keypoints
SOFT_PX = 24.0  # standard deviation of the blur of what surrounds a picture


@dataclass(frozen=True, kw_only=True)
class ScenePerson:
    """An annotated person in a picture's pixels: points_image [K, 2], visibility [K] COCO's v, box_xywh [4], area."""

    annotation_id: int
    points_image: Array
    visibility: npt.NDArray[np.int_]
    box_xywh: Array
    area: float


@dataclass(frozen=True)
class Scene:
    """A picture [H, W, 3] uint8 RGB and the persons in it, at least one."""

    image: Pixels
    persons: tuple[ScenePerson, ...]

    def aim_xywh(self) -> Array:
        """[4], the box around the boxes of all persons."""
        boxes = np.array([person.box_xywh for person in self.persons])
        first, beyond = boxes[:, :2].min(axis=0), (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
        return np.concatenate((first, beyond - first))


def mapped(person: ScenePerson, affine: Array) -> ScenePerson:
    """The person in the frame that an affine [2, 3] leads to; the box is the upright one around the mapped box."""
    x, y, width, height = person.box_xywh - (0.5, 0.5, 0, 0)  # edges: a box covers whole pixels
    corners = apply_affine(affine, [[x, y], [x + width, y], [x, y + height], [x + width, y + height]])
    first, last = corners.min(axis=0), corners.max(axis=0)
    return replace(
        person,
        points_image=apply_affine(affine, person.points_image),
        box_xywh=np.concatenate((first + 0.5, last - first)),
        area=person.area * affine_scale(affine) ** 2,
    )


def surrounded(image: Pixels, margin: int) -> Pixels:
    """The picture within so many pixels of the colours of its borders, blurred: nothing there looks like a person."""
    if margin == 0:
        return image
    bordered = cv2.copyMakeBorder(image, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    wide = np.array(cv2.GaussianBlur(bordered, (0, 0), SOFT_PX), dtype=np.uint8)
    wide[margin:-margin, margin:-margin] = image
    return wide


def side_by_side(scenes: Sequence[Scene]) -> Scene:
    """Scenes in cells of CELL_HW, row by row, as nearly square as they go; each whole, with black where it is not."""
    columns = math.ceil(math.sqrt(len(scenes)))
    rows, (height, width) = math.ceil(len(scenes) / columns), CELL_HW
    canvas = np.zeros((rows * height, columns * width, 3), dtype=np.uint8)
    persons: list[ScenePerson] = []
    for number, scene in enumerate(scenes):
        top, left = number // columns * height, number % columns * width
        scene_h, scene_w = scene.image.shape[:2]
        seen = max(scene_w, scene_h * width / height)
        affine = region_to_affine([(scene_w - 1) / 2, (scene_h - 1) / 2], seen, CELL_HW)
        canvas[top : top + height, left : left + width] = warp_crop(scene.image, affine, CELL_HW)
        affine[:, 2] += (left, top)
        persons += [mapped(person, affine) for person in scene.persons]
    return Scene(canvas, tuple(persons))


class Photographs:
    """Annotated photographs by their number of persons. Only those all of whose annotated persons have enough joints.

    Persons whom nobody annotated may still be in them; an answer for such a person counts as false.

    Args:
        data: COCO annotations.
        min_labelled: joints that every person of a photograph must have.
        seed: of the order in which they are taken; none is taken twice before all were.

    Raises training.coco.AnnotationError for annotations without areas.
    """

    def __init__(self, data: KeypointData, *, seed: int, min_labelled: int = MIN_LABELLED) -> None:
        areas = read_true_poses(data).area
        annotations = read_json(data.annotations_path)["annotations"]
        visibility = {one["id"]: np.array(one.get("keypoints") or (), dtype=int)[2::3] for one in annotations}
        photographs: dict[int, list[tuple[Person, float]]] = defaultdict(list)
        for person, area in zip(data.persons, areas, strict=True):
            photographs[person.image_id].append((person, float(area)))
        self._visibility = visibility
        self._of_number: dict[int, list[list[tuple[Person, float]]]] = defaultdict(list)
        for image_id in np.random.default_rng(seed).permutation(sorted(photographs)):
            persons = photographs[int(image_id)]
            if all(one.labelled.sum() >= min_labelled and math.sqrt(area) >= SMALLEST for one, area in persons):
                self._of_number[len(persons)].append(persons)
        self._taken: dict[int, int] = defaultdict(int)

    def scene(self, people: int) -> Scene:
        """The next scene of so many people: one photograph, or more than MOST_IN_ONE people as pairs side by side.

        Raises ValueError if there is no photograph of that number.
        """
        if people <= MOST_IN_ONE:
            return self._photograph(people)
        parts = [2] * (people // 2) + [1] * (people % 2)
        return side_by_side([self._photograph(part) for part in parts])

    def _photograph(self, people: int) -> Scene:
        found = self._of_number[people]
        if not found:
            there = sorted(number for number, some in self._of_number.items() if some)
            raise ValueError(f"people is {people}; allowed: {there}, as there are photographs")
        persons = found[self._taken[people] % len(found)]
        self._taken[people] += 1
        image = decode_photograph(persons[0][0].image_path.read_bytes())
        return Scene(image, tuple(self._scene_person(*each) for each in persons))

    def _scene_person(self, person: Person, area: float) -> ScenePerson:
        return ScenePerson(
            annotation_id=person.annotation_id,
            points_image=person.points_image,
            visibility=np.where(person.labelled, self._visibility[person.annotation_id], 0),
            box_xywh=person.box_xywh,
            area=area,
        )
