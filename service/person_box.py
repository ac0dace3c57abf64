"""The box around a person, of its keypoints: as boxes in COCO lie around keypoints. Pure functions over arrays.

Boxes are [4], left, top, width, height in image pixels, as in `model.geometry`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from model.geometry import Array, clip_box

# From the outermost keypoints to the annotated box, in roots of the area that the keypoints span: medians over 5,236
# persons of COCO with at least six labelled keypoints. Boxes made so have a median IoU of 0.80 with the annotated ones.
MARGIN_SIDE, MARGIN_TOP, MARGIN_BOTTOM = 0.10, 0.21, 0.14
MIN_ASPECT = 0.2  # of what keypoints span: a person in profile has a width, too

# What one frame changes of a box's width and height (as logarithms): noise of one frame passes, a change that stays is
# followed within a dozen. Keypoints that are not found make a person look smaller, so boxes shrink slowly; keypoints
# that are found on a neighbour make one look larger, so they do not grow fast either.
GROW, SHRINK, DETECTED = 0.15, 0.1, 0.7
FOLLOW_CENTER = 0.3  # of the way to where this frame alone would put the box; `DETECTED` for detections

MIN_BOX = 4.0  # pixels, of a side
MIN_VISIBLE = 0.2  # of the box within the picture, or there is nothing left to look at


def box_around(points: Array, counted: npt.NDArray[np.bool_]) -> Array | None:
    """The box of a person with these keypoints; None if those that count span no length.

    Args:
        points: [K, 2]. counted: [K], which of them are where they are said to be.
    """
    if not counted.any():
        return None
    near, far = points[counted].min(axis=0), points[counted].max(axis=0)
    longest = float((far - near).max())
    if longest < 1.0:  # pixel
        return None
    center, extent = (near + far) / 2, np.maximum(far - near, MIN_ASPECT * longest)
    root = math.sqrt(float(extent.prod()))
    left_top = center - extent / 2 - np.array([MARGIN_SIDE, MARGIN_TOP]) * root
    return np.concatenate((left_top, extent + np.array([2 * MARGIN_SIDE, MARGIN_TOP + MARGIN_BOTTOM]) * root))


def follow_box(box: Array, measured: Array, *, detected: bool) -> Array:
    """The box of the frame before, moved to where its person is now, corrected by what this frame measured.

    detected: by a detector, not from keypoints.
    """
    change = np.log(np.maximum(measured[2:], MIN_BOX) / np.maximum(box[2:], MIN_BOX))
    gain = DETECTED if detected else np.where(change > 0, GROW, SHRINK)
    size = np.maximum(box[2:], MIN_BOX) * np.exp(gain * change)
    center = center_of(box)
    center = center + (DETECTED if detected else FOLLOW_CENTER) * (center_of(measured) - center)
    return np.concatenate((center - size / 2, size))


def grow_box(boxes: Array, margin: npt.ArrayLike) -> Array:
    """Boxes [..., 4] with `margin` [...] times their width and height added on each side."""
    added = boxes[..., 2:] * np.asarray(margin)[..., None]
    return np.concatenate((boxes[..., :2] - added, boxes[..., 2:] + 2 * added), axis=-1)


def visible_box(box: Array, image_hw: tuple[int, int]) -> Array | None:
    """The part of a box in a picture of (rows, columns); None if too little of it is left to look at."""
    inside = clip_box(box, width=image_hw[1], height=image_hw[0])
    enough = MIN_VISIBLE * float(box[2:].prod())
    return inside if float(inside[2:].prod()) >= enough and (inside[2:] >= min(MIN_BOX, *image_hw)).all() else None


def move_box(box: Array, displacement: Array) -> Array:
    """The same box elsewhere."""
    return np.concatenate((box[:2] + displacement, box[2:]))


def center_of(box: Array) -> Array:
    """[2], in the continuous frame of the box's edges."""
    return np.asarray(box[:2] + box[2:] / 2)


def size_of(box: Array) -> float:
    """How large the person is, in pixels: the root of the box's area."""
    return math.sqrt(float(box[2:].prod()))
