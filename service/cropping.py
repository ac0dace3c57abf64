"""A picture and boxes from a stranger -> one crop for each person. Synchronous; called in a decoder thread.

Knows nothing of protocols or of the network, but the size of its input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from model.crop import Pixels
from model.estimator import PersonCrop, crop_person
from model.geometry import MAX_COORDINATE, MIN_SIZE, Array, clip_box, region_area
from model.variants import PoseConfig
from service.errors import InvalidParameter
from service.images import ImageLimits, decode_image
from service.poses import Box, PoseRequest

MAX_LOOKS = 4  # times the largest picture: what the crops of one request may read, or one request blocks the rest


@dataclass(frozen=True, kw_only=True)
class CroppedPicture:
    """The persons of one picture, `boxes_xywh` and `crops` in the order of the request."""

    width: int
    height: int
    boxes_xywh: Sequence[Box]
    crops: Sequence[PersonCrop]


def check_boxes(boxes: Sequence[Box] | None, *, max_persons: int) -> None:
    """Refuse what can be told to be wrong before the picture is decoded. Raises InvalidParameter."""
    if boxes is None:
        return
    if len(boxes) > max_persons:
        raise InvalidParameter(f"boxes has {len(boxes)} entries; allowed: at most {max_persons}")
    for number, box in enumerate(boxes):
        check_box(f"boxes[{number}]", box)


def check_box(name: str, box: Box) -> None:
    """Refuse a box that fits no picture, by its name. Raises InvalidParameter."""
    if not all(math.isfinite(value) for value in box):
        raise InvalidParameter(f"{name} is {list(box)}; allowed: finite numbers [x, y, w, h]")
    if box[2] < MIN_SIZE or box[3] < MIN_SIZE:
        raise InvalidParameter(f"{name} is {list(box)}; allowed: w and h above 0 (at least {MIN_SIZE:g})")
    if max(map(abs, box)) > MAX_COORDINATE:
        raise InvalidParameter(f"{name} is {list(box)}; allowed: numbers up to {MAX_COORDINATE:g}")


def crop_persons(request: PoseRequest, limits: ImageLimits, config: PoseConfig) -> CroppedPicture:
    """Decode the picture and crop every person of it. The boxes have been checked.

    Raises NotAnImage, TooLarge, or InvalidParameter for boxes that do not fit the picture.
    """
    image = decode_image(request.picture, limits)
    height, width = image.shape[:2]
    boxes = request.boxes_xywh if request.boxes_xywh is not None else [(0.0, 0.0, float(width), float(height))]
    return crop_boxes(image, boxes, limits, config)


def crop_boxes(image: Pixels, boxes: Sequence[Box], limits: ImageLimits, config: PoseConfig) -> CroppedPicture:
    """Crop every person of a decoded picture [H, W, 3]. Raises InvalidParameter for boxes that do not fit it."""
    height, width = image.shape[:2]
    clipped = [clip_to_picture(f"boxes[{number}]", box, width, height) for number, box in enumerate(boxes)]
    looked_at = sum(min(region_area(box, config.input_hw), width * height) for box in clipped)
    if looked_at > MAX_LOOKS * limits.max_pixels:
        raise InvalidParameter(
            f"the {len(boxes)} boxes together cover {looked_at:.0f} pixels; allowed: at most "
            f"{MAX_LOOKS * limits.max_pixels}. Send fewer or smaller boxes, or a smaller picture"
        )
    crops = [crop_person(image, box, config) for box in clipped]
    return CroppedPicture(width=width, height=height, boxes_xywh=boxes, crops=crops)


def fitting_boxes(image: Pixels, boxes: Sequence[Box], limits: ImageLimits, config: PoseConfig) -> list[Box]:
    """As many of the first boxes as `crop_boxes` takes of a picture [H, W, 3], without those that lie outside it.

    For boxes that nobody sent, and about which nobody need be told.
    """
    height, width = image.shape[:2]
    fitting, left = [], float(MAX_LOOKS * limits.max_pixels)
    for box in boxes:
        inside = clip_box(box, width, height)
        if inside[2] < MIN_SIZE or inside[3] < MIN_SIZE:
            continue
        left -= min(region_area(inside, config.input_hw), width * height)
        if left < 0:
            break
        fitting.append(box)
    return fitting


def clip_to_picture(name: str, box: Box, width: int, height: int) -> Array:
    """The part of a box [4] that lies in the picture, as training and evaluation have it.

    Raises InvalidParameter, with the name of the box, if there is none.
    """
    inside = clip_box(box, width, height)
    if inside[2] < MIN_SIZE or inside[3] < MIN_SIZE:
        raise InvalidParameter(
            f"{name} is {list(box)}, wholly outside the upright picture of {width} x {height} "
            "pixels; allowed: boxes that overlap it"
        )
    return inside
