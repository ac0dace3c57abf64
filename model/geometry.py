"""Boxes and the affine maps between image and crop. Pure functions over arrays; no pixels are touched here.

Every map is an affine of shape [2, 3], applied to column vectors (x, y, 1), between frames whose (0, 0) is the centre
of the top-left pixel (see `model`). Sizes are continuous: a box of width w covers exactly w pixels, and the edges of a
crop are the edges of the region that it was taken from. Nothing is rounded, so that a mirrored crop mirrors its points
exactly and no shift is needed in a flip test (unbiased data processing).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

MAX_COORDINATE = 1e6  # of a box; beyond it arithmetic, not the picture, would decide the answer
MIN_SIZE = 1e-3  # pixels; of a box, likewise
BOX_PADDING = 1.25  # the region cropped around a box, as a multiple of the box (HRNet, TransPose)


def box_to_region(
    box_xywh: npt.ArrayLike, input_hw: tuple[int, int], padding: float = BOX_PADDING
) -> tuple[Array, float]:
    """The upright region to crop for a box: the box grown to the crop's aspect ratio, then padded.

    Args:
        box_xywh: [4], left, top, width, height in image pixels. It covers the pixels whose centres are x .. x + w - 1,
            so that [0, 0, W, H] is the whole image.
        input_hw: (rows, columns) of the crop.

    Returns:
        The region's centre [2] in the image frame, and its width in image pixels (its height follows from the aspect).

    Raises ValueError unless the box is four numbers up to `MAX_COORDINATE`, width and height at least `MIN_SIZE`.
    """
    box = np.asarray(box_xywh, dtype=np.float64)
    if box.shape != (4,) or not (np.abs(box) <= MAX_COORDINATE).all() or (box[2:] < MIN_SIZE).any():
        raise ValueError(
            f"box is {box.tolist()}; allowed: finite [x, y, width, height], numbers up to {MAX_COORDINATE:g}, "
            f"width and height at least {MIN_SIZE:g}"
        )
    x, y, width, height = box
    center = np.array([x + (width - 1) / 2, y + (height - 1) / 2])
    aspect = input_hw[1] / input_hw[0]
    return center, float(max(width, height * aspect) * padding)


def clip_box(box_xywh: npt.ArrayLike, width: int, height: int) -> Array:
    """The part of a box [4] that lies in an image of `width` x `height` pixels; no area if there is none."""
    x, y, w, h = np.asarray(box_xywh, dtype=np.float64)
    left, top = max(x, 0.0), max(y, 0.0)
    # Sizes are cut, not computed anew: a box that lies inside keeps its own to the last digit.
    inside_w, inside_h = min(w - (left - x), width - left), min(h - (top - y), height - top)
    return np.array([left, top, max(inside_w, 0.0), max(inside_h, 0.0)])


def region_area(box_xywh: npt.ArrayLike, input_hw: tuple[int, int]) -> float:
    """Square image pixels of the region that is cropped around a box. Errors as `box_to_region`."""
    _, width = box_to_region(box_xywh, input_hw)
    return width**2 * input_hw[0] / input_hw[1]


def region_to_affine(
    center_image: npt.ArrayLike,
    width_image: float,
    input_hw: tuple[int, int],
    *,
    rotation_degrees: float = 0.0,
    flip: bool = False,
) -> Array:
    """The map image -> crop that fills the crop with a region.

    Args:
        center_image: [2], centre of the region.
        width_image: width of the region in image pixels, before rotation.
        input_hw: (rows, columns) of the crop.
        rotation_degrees: the region's content turns by this angle, clockwise as seen on a screen.
        flip: mirror left and right, after the rotation.

    Returns:
        [2, 3].
    """
    height, width = input_hw
    center_crop = np.array([(width - 1) / 2, (height - 1) / 2])
    scale = width / width_image  # crop pixels per image pixel
    angle = math.radians(rotation_degrees)
    linear = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    if flip:
        linear[0] *= -1.0
    offset = center_crop - linear @ np.asarray(center_image, dtype=np.float64)
    return np.column_stack((linear, offset))


def box_to_affine(box_xywh: npt.ArrayLike, input_hw: tuple[int, int]) -> Array:
    """The map image -> crop of one person's box, as used for evaluation and serving. Errors as `box_to_region`."""
    return region_to_affine(*box_to_region(box_xywh, input_hw), input_hw)


def affine_to_region(image_to_crop: Array, input_hw: tuple[int, int]) -> Array:
    """The area of an upright crop as a box [4], left, top, width, height in image pixels; it may exceed the image.

    As every box it covers the pixels whose centres are x .. x + w - 1.
    """
    crop_to_image = invert_affine(image_to_crop)
    first, beyond = apply_affine(crop_to_image, [[-0.5, -0.5], [input_hw[1] - 0.5, input_hw[0] - 0.5]])
    return np.concatenate((first + 0.5, beyond - first))


def invert_affine(affine: Array) -> Array:
    """[2, 3] -> [2, 3], the map the other way round."""
    linear = np.linalg.inv(affine[:, :2])
    return np.column_stack((linear, -linear @ affine[:, 2]))


def apply_affine(affine: Array, points: npt.ArrayLike) -> Array:
    """Map points [..., 2] by an affine [2, 3]."""
    return np.asarray(points, dtype=np.float64) @ affine[:, :2].T + affine[:, 2]


def affine_scale(affine: Array) -> float:
    """How many target pixels one source pixel becomes, along each axis (the maps here scale both axes alike)."""
    return math.sqrt(abs(float(np.linalg.det(affine[:, :2]))))
