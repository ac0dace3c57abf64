"""Skeletons drawn into photographs, for a person to look at. Knows nothing of files, and needs no network."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from model.sides import Side
from model.skeleton import Skeleton

if TYPE_CHECKING:  # a client draws, too, and has no use for torch
    from model.crop import Pixels

Rgb = tuple[int, int, int]

LEFT_RGB, RIGHT_RGB, MIDDLE_RGB = (255, 140, 0), (0, 170, 255), (60, 220, 60)
RIM_RGB = (255, 255, 255)
SIDES_RGB: dict[Side, Rgb] = {"left": LEFT_RGB, "right": RIGHT_RGB, "middle": MIDDLE_RGB}
MIN_SIDE = 480  # pixels; smaller photographs are enlarged, so that joints can be told apart
MAX_ENLARGED_SIDE = 4096  # pixels; a strip of a picture is enlarged no further than this
SHOWN_ABOVE = 0.2  # predicted joints weaker than this are left out

_LINES_PER_PICTURE = 250  # a line of a person who fills the picture is this part of its shorter side
_LINES_PER_PERSON = 50  # and no line is thicker than this part of its person
_SUBPIXEL_BITS = 4  # cv2 takes coordinates as whole numbers of 1/16 pixel
_GOLDEN_PART = (5**0.5 - 1) / 2  # of the colour circle: numbers that follow each other lie far apart
_SATURATIONS = (0.75, 0.45)  # for every other number, so that hues that come near again differ all the same
_DARK_RGB, _LIGHT_RGB = (0, 0, 0), (255, 255, 255)
_LUMA = np.array([0.299, 0.587, 0.114])
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_PICTURE_OF_SCALE_1 = 900  # pixels of the shorter side of a picture in which text has cv2's own size
_FARTHEST = 30_000.0  # pixels; cv2 draws wrong lines to points that are absurdly far away


def draw_pose(
    image: Pixels,
    keypoints: npt.NDArray[np.float64],
    shown: npt.NDArray[np.bool_],
    skeleton: Skeleton,
    *,
    limbs_rgb: Rgb | None = None,
) -> None:
    """Draw one skeleton into an image, in place.

    The person's left side is orange, the right side blue, the middle green. Lines are as thick as suits the size of the
    image and of the person.

    Args:
        image: [H, W, 3] uint8 RGB, C-contiguous.
        keypoints: [K, 2] x, y in its pixels, (0, 0) the centre of the top-left one.
        shown: [K] bool, whether a joint is drawn; a limb is drawn if both its joints are.
        skeleton: of K keypoints.
        limbs_rgb: one colour for all limbs, such as `identity_rgb`, in place of their sides'; joints keep theirs.
    """
    if not shown.any():
        return
    thickness = _thickness(image, keypoints[shown])
    fixed = np.rint(np.clip(keypoints, -_FARTHEST, _FARTHEST) * 2**_SUBPIXEL_BITS).astype(int)
    points = [(int(x), int(y)) for x, y in fixed]
    colors = [SIDES_RGB[skeleton.side(joint)] for joint in range(len(skeleton))]
    for first, second in skeleton.limbs:
        if shown[first] and shown[second]:
            color = limbs_rgb or (colors[first] if colors[first] == colors[second] else MIDDLE_RGB)
            cv2.line(image, points[first], points[second], color, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
    for joint, point in enumerate(points):
        if shown[joint]:
            for radius, color in ((2 * thickness, RIM_RGB), (1.4 * thickness, colors[joint])):
                fixed_radius = round(radius * 2**_SUBPIXEL_BITS)
                cv2.circle(image, point, fixed_radius, color, cv2.FILLED, cv2.LINE_AA, _SUBPIXEL_BITS)


def draw_poses(
    image: Pixels,
    poses: Iterable[npt.NDArray[np.float64]],
    skeleton: Skeleton,
    *,
    shown_above: float = SHOWN_ABOVE,
    min_side: int = MIN_SIDE,
) -> Pixels:
    """The image with a skeleton for each person.

    Args:
        image: [H, W, 3] uint8 RGB; left as it is.
        poses: of each person [K, 3]: x, y in pixels of the image, and a score (or COCO's visibility).
        skeleton: of K keypoints.
        shown_above: joints with a larger score are drawn.
        min_side: pixels; smaller pictures are enlarged.

    Returns:
        [H', W', 3] uint8 RGB: as large as the image, or enlarged until its shorter side has `min_side` pixels
        (its longer one MAX_ENLARGED_SIDE, if that comes first).
    """
    scale = max(1.0, min(min_side / min(image.shape[:2]), MAX_ENLARGED_SIDE / max(image.shape[:2])))
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    drawn = np.array(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    for pose in poses:
        # Pixel centres are at whole numbers in both frames, so the edges are what scales.
        draw_pose(drawn, (pose[:, :2] + 0.5) * scale - 0.5, pose[:, 2] > shown_above, skeleton)
    return drawn


def identity_rgb(track_id: int) -> Rgb:
    """The colour of one person in a video: the same for the same number, and unlike those of the numbers near it."""
    hue = track_id * _GOLDEN_PART % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, _SATURATIONS[track_id % len(_SATURATIONS)], 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_identity(
    image: Pixels, keypoints: npt.NDArray[np.float64], shown: npt.NDArray[np.bool_], track_id: int
) -> None:
    """Write a person's number above its highest shown joint, on a plate of its colour, in place.

    Args:
        image: [H, W, 3] uint8 RGB, C-contiguous.
        keypoints: [K, 2] x, y in its pixels.
        shown: [K] bool, the joints that are drawn.
        track_id: the number.
    """
    if not shown.any():
        return
    height, width = image.shape[:2]
    scale = max(0.35, min(height, width) / _PICTURE_OF_SCALE_1)
    stroke = max(1, round(2 * scale))
    text = f"{track_id}"
    (text_width, text_height), _ = cv2.getTextSize(text, _FONT, scale, stroke)
    margin = max(2, round(5 * scale))
    highest = keypoints[shown][np.argmin(keypoints[shown, 1])]
    plate_width, plate_height = text_width + 2 * margin, text_height + 2 * margin
    left = round(float(np.clip(highest[0] - plate_width / 2, 0, max(0, width - plate_width))))
    top = round(float(np.clip(highest[1] - 3 * margin - plate_height, 0, max(0, height - plate_height))))
    color = identity_rgb(track_id)
    ink = _DARK_RGB if _LUMA @ color > 127 else _LIGHT_RGB
    cv2.rectangle(image, (left, top), (left + plate_width, top + plate_height), color, cv2.FILLED)
    place = (left + margin, top + margin + text_height)
    cv2.putText(image, text, place, _FONT, scale, ink, stroke, cv2.LINE_AA)


def _thickness(image: Pixels, points: npt.NDArray[np.float64]) -> int:
    extent = float(np.ptp(points, axis=0).max())
    return max(1, round(min(min(image.shape[:2]) / _LINES_PER_PICTURE, extent / _LINES_PER_PERSON)))
