"""What is true of the frames of a video: who is in each, and where their joints are. As values, and as JSON Lines.

A line is a frame, with the fields of COCO: `annotations` have `bbox`, `area`, `keypoints` (x, y, v of each joint) and
`category_id`; `image_id` is the number of the frame. Beside them stand `time_s` of the frame, `track_id` of a person,
who keeps it as long as the video lasts, and `visible` and `occluded`, which mean what `FramePerson` says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.crop import Pixels
from model.geometry import Array
from model.skeleton import COCO

OUTSIDE, HIDDEN, SEEN = 0, 1, 2  # COCO's v: not labelled or not in the picture; covered; in sight


@dataclass(frozen=True, kw_only=True)
class FramePerson:
    """One person in one frame; pixels of the frame, (0, 0) the centre of its top-left one.

    person_id: from 1; the same person has the same one in every frame, also after leaving the view.
    annotation_id: of the annotation that the truth comes from.
    keypoints_image: [K, 2], also of joints outside the frame.
    visibility: [K] COCO's v: OUTSIDE, HIDDEN or SEEN.
    box_xywh: [4], the part of the annotated box that lies in the frame; no area where none does.
    area: square pixels of the whole person, also of what lies outside.
    visible: enough of the joints are in sight that an answer is asked for.
    occluded: something that passed before the camera covers at least one joint.
    """

    person_id: int
    annotation_id: int
    keypoints_image: Array
    visibility: npt.NDArray[np.int_]
    box_xywh: Array
    area: float
    visible: bool
    occluded: bool

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """[K], the joints that are measured: labelled and inside the frame, covered or not (COCO: v > 0)."""
        return np.asarray(self.visibility > OUTSIDE)


@dataclass(frozen=True, kw_only=True)
class FrameTruth:
    """One frame without its pixels.

    index: from 0. time_s: from the first frame. size_wh: pixels. persons: everybody with a part of the box in it.
    """

    index: int
    time_s: float
    size_wh: tuple[int, int]
    persons: tuple[FramePerson, ...]


@dataclass(frozen=True, kw_only=True)
class Frame(FrameTruth):
    """One frame. image: [H, W, 3] uint8 RGB."""

    image: Pixels


def write_line(truth: FrameTruth) -> str:
    """The frame as a line of JSON, without the line's end. No number is rounded."""
    return json.dumps(
        {
            "image_id": truth.index,
            "time_s": truth.time_s,
            "width": truth.size_wh[0],
            "height": truth.size_wh[1],
            "annotations": [_annotation(truth.index, number, person) for number, person in enumerate(truth.persons)],
        }
    )


def _annotation(index: int, number: int, person: FramePerson) -> dict[str, Any]:
    keypoints = np.column_stack((person.keypoints_image, person.visibility))
    keypoints[person.visibility == OUTSIDE] = 0  # as COCO has it
    return {
        "id": index * 1000 + number + 1,
        "image_id": index,
        "category_id": 1,
        "iscrowd": 0,
        "track_id": person.person_id,
        "source_id": person.annotation_id,
        "bbox": person.box_xywh.tolist(),
        "area": person.area,
        "num_keypoints": int(person.labelled.sum()),
        "keypoints": keypoints.ravel().tolist(),
        "visible": person.visible,
        "occluded": person.occluded,
    }


def read_truth(path: Path) -> Iterator[FrameTruth]:
    """The frames of a file of such lines. Raises ValueError naming the line that is not one."""
    with path.open() as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield _read_line(json.loads(line))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {number} is not the truth of a frame: {error!r}") from error


def _read_line(told: dict[str, Any]) -> FrameTruth:
    return FrameTruth(
        index=told["image_id"],
        time_s=told["time_s"],
        size_wh=(told["width"], told["height"]),
        persons=tuple(_read_person(one) for one in told["annotations"]),
    )


def _read_person(told: dict[str, Any]) -> FramePerson:
    keypoints = np.array(told["keypoints"], dtype=np.float64).reshape(len(COCO), 3)
    return FramePerson(
        person_id=told["track_id"],
        annotation_id=told["source_id"],
        keypoints_image=keypoints[:, :2],
        visibility=keypoints[:, 2].astype(int),
        box_xywh=np.array(told["bbox"], dtype=np.float64),
        area=told["area"],
        visible=told["visible"],
        occluded=told["occluded"],
    )
