"""Random views of a person, as HRNet and TransPose train: half body, scale, rotation, flip; and beyond them, if asked.

Each function draws from the generator it is given and changes only the region or the map; pixels are warped once, at
the end, by `model.crop`. The recipe's order and numbers are the defaults of `Augmentation`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.crop import Pixels, warp_crop
from model.geometry import Array, apply_affine, box_to_region, region_to_affine
from model.skeleton import Skeleton

Mask = npt.NDArray[np.bool_]

MIN_HALF_JOINTS = 3  # a half body with fewer labelled joints is not used
HALF_BODY_PADDING = 1.5  # of the box around the joints of one half
MIN_LEFT = 12  # pixels of each side of a box that is cut
BEYOND = 1 << 30  # every picture's end
LIMB_STEPS = 17
# x, y: how far a person's box reaches beyond their joints, in square roots of its area. Medians over persons of COCO
# with 13 and more labelled joints: 0.07 and 0.08 at the sides, 0.14 above, 0.11 below.
BODY_MARGIN = (0.09, 0.14)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Strength of each augmentation; 0 turns one off.

    half_body: probability, for persons with more than `half_body_min_joints` labelled joints. scale: standard deviation
    of the factor, cut at +- the same number. rotation_degrees: standard deviation, cut at twice that; drawn with
    probability `rotation_probability`. flip: probability.

    Beyond the recipe, and off. cut: probability that the picture ends within the person (`_cut`), for persons with more
    than `half_body_min_joints` labelled joints, who then are no half bodies. shift: the most that the region moves
    along each side, as a part of that side. stretch: the crop's height is multiplied by a factor between
    1 / (1 + stretch) and 1 + stretch, its width divided by it. brightness, contrast, saturation: half-widths of the
    factors; grey: probability; cover: probability of a covered part (these five are `training.disguise`'s).
    """

    half_body: float = 0.3
    half_body_min_joints: int = 8
    scale: float = 0.35
    rotation_degrees: float = 45.0
    rotation_probability: float = 0.6
    flip: float = 0.5
    cut: float = 0.0
    shift: float = 0.0
    stretch: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    grey: float = 0.0
    cover: float = 0.0

    def __post_init__(self) -> None:
        for name in ("half_body", "rotation_probability", "flip", "cut", "grey", "cover"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} is {value}; allowed: a probability in 0..1")
        for name in ("scale", "shift", "stretch", "brightness", "contrast", "saturation"):
            value = getattr(self, name)
            if not 0.0 <= value < 1.0:
                raise ValueError(f"{name} is {value}; allowed: in [0, 1)")
        if not 0.0 <= self.rotation_degrees <= 90.0:
            raise ValueError(f"rotation_degrees is {self.rotation_degrees}; allowed: 0..90")


@dataclass(frozen=True)
class Window:
    """What is left of a picture: whole pixels, `right` and `bottom` the first that are not; they may lie beyond it."""

    left: int
    top: int
    right: int
    bottom: int

    def holds(self, points_image: Array) -> Mask:
        """[..., 2] -> [...]: whether points lie on these pixels."""
        first, beyond = np.array([self.left, self.top]) - 0.5, np.array([self.right, self.bottom]) - 0.5
        return np.asarray(((points_image >= first) & (points_image < beyond)).all(axis=-1))


@dataclass(frozen=True)
class View:
    """One look at a person: the map image -> crop [2, 3], whether it mirrors, and what then changes places.

    Of a picture that is cut off, `window` is what is left.
    """

    image_to_crop: Array
    flip: bool
    skeleton: Skeleton
    window: Window | None = None

    def pixels(self, picture: Pixels, input_hw: tuple[int, int]) -> Pixels:
        """A picture [H, W, 3] uint8 -> the crop; black where the picture, or what is left of it, does not reach."""
        if self.window is None:
            return warp_crop(picture, self.image_to_crop, input_hw)
        left, top = self.window.left, self.window.top
        part = picture[top : self.window.bottom, left : self.window.right]
        offset = apply_affine(self.image_to_crop, np.array([left, top], dtype=np.float64))
        return warp_crop(part, np.column_stack((self.image_to_crop[:, :2], offset)), input_hw)

    def points(self, points_image: Array) -> Array:
        """[K, 2] in the image -> [K, 2] in the crop; in a mirrored view left and right change their places."""
        points_crop = apply_affine(self.image_to_crop, points_image)
        return points_crop[list(self.skeleton.flip_order)] if self.flip else points_crop

    def labelled(self, labelled: Mask, points_image: Array) -> Mask:
        """[K] and [K, 2] -> [K], in the order of `points`; none is that is not in the picture."""
        if self.window is not None:
            labelled = labelled & self.window.holds(points_image)
        return labelled[list(self.skeleton.flip_order)] if self.flip else labelled


def random_view(
    box_xywh: npt.ArrayLike,
    points_image: Array,
    labelled: Mask,
    input_hw: tuple[int, int],
    augmentation: Augmentation,
    rng: np.random.Generator,
    skeleton: Skeleton,
) -> View:
    """A random view of a person.

    Args:
        box_xywh: [4] in image pixels. points_image: [K, 2]. labelled: [K] bool. skeleton: of K keypoints.
    """
    whole = labelled.sum() > augmentation.half_body_min_joints
    window = half = None
    if augmentation.cut and whole and rng.random() < augmentation.cut:
        box_xywh, window = _cut(np.asarray(box_xywh, dtype=np.float64), points_image, labelled, rng, skeleton)
    if window is None and whole and rng.random() < augmentation.half_body:
        half = _half_body_box(points_image, labelled, rng, skeleton)
    if half is None:
        center, width = box_to_region(box_xywh, input_hw)
    else:  # the padding of the recipe takes the place of the usual one
        center, width = box_to_region(half, input_hw, padding=HALF_BODY_PADDING)
    width *= 1.0 + np.clip(rng.normal() * augmentation.scale, -augmentation.scale, augmentation.scale)
    rotation = 0.0
    if rng.random() < augmentation.rotation_probability:
        limit = 2 * augmentation.rotation_degrees
        rotation = float(np.clip(rng.normal() * augmentation.rotation_degrees, -limit, limit))
    flip = bool(rng.random() < augmentation.flip)
    if augmentation.shift:
        sides = np.array([width, width * input_hw[0] / input_hw[1]])
        center = center + sides * rng.uniform(-augmentation.shift, augmentation.shift, 2)
    image_to_crop = region_to_affine(center, width, input_hw, rotation_degrees=rotation, flip=flip)
    if augmentation.stretch:
        limit = math.log1p(augmentation.stretch)
        image_to_crop = _stretched(image_to_crop, math.exp(rng.uniform(-limit, limit)), input_hw)
    return View(image_to_crop, flip, skeleton, window)


def _cut(
    box_xywh: Array, points_image: Array, labelled: Mask, rng: np.random.Generator, skeleton: Skeleton
) -> tuple[Array, Window | None]:
    """A picture that ends within a person, and the box [4] of what is left of them.

    People of whom little is seen are few and hard; mostly the picture's border hides the rest. So they are made of
    people who are seen whole: with probability 0.75 the picture keeps a part of their height (0.15 to 0.7 of it, the
    upper one twice as often as the lower), with 0.4, or if the height stays, a part of their width (0.25 to 0.75).

    Returns the box as it is, and no window, if what is left has no labelled joint or is smaller than `MIN_LEFT`.
    """
    first, size = np.floor(box_xywh[:2]), box_xywh[2:]
    low, high = np.zeros(2), np.full(2, float(BEYOND))  # x, y of the picture's ends
    of_height, of_width = rng.uniform(0.15, 0.7), rng.uniform(0.25, 0.75)
    cuts_height, cuts_width = rng.random(2) < (0.75, 0.4)
    keeps_upper, keeps_left = rng.random(2) < (2 / 3, 0.5)
    for axis, part, is_cut, keeps_first in (
        (1, of_height, cuts_height, keeps_upper),
        (0, of_width, cuts_width or not cuts_height, keeps_left),
    ):
        if is_cut and keeps_first:
            high[axis] = first[axis] + round(part * size[axis])
        elif is_cut:
            low[axis] = max(first[axis] + round((1 - part) * size[axis]), 0)
    window = Window(*(int(end) for end in (*low, *high)))
    if not window.holds(points_image[labelled]).any():
        return box_xywh, None
    corner, beyond = _around_what_is_left(window, box_xywh, points_image, labelled, skeleton)
    corner, beyond = np.maximum(corner, low), np.minimum(beyond, high)
    if (beyond - corner < MIN_LEFT).any():
        return box_xywh, None
    return np.concatenate((corner, beyond - corner)), window


def _around_what_is_left(
    window: Window, box_xywh: Array, points_image: Array, labelled: Mask, skeleton: Skeleton
) -> tuple[Array, Array]:
    """Corners [2] and [2] of a box around the joints and the parts of limbs in a window, within the person's box.

    Who annotates such a picture draws the box around what is seen: a head's is not as wide as the shoulders below it.
    """
    limbs = np.array([limb for limb in skeleton.limbs if labelled[list(limb)].all()], dtype=np.intp).reshape(-1, 2)
    along = np.linspace(0, 1, LIMB_STEPS)[:, None, None]
    of_limbs = points_image[limbs[:, 0]] * (1 - along) + points_image[limbs[:, 1]] * along  # [LIMB_STEPS, L, 2]
    points = np.concatenate((points_image[labelled], of_limbs.reshape(-1, 2)))
    points = points[window.holds(points)]
    margin = np.array(BODY_MARGIN) * math.sqrt(box_xywh[2] * box_xywh[3])
    corner = np.maximum(points.min(axis=0) - margin, box_xywh[:2])
    return corner, np.minimum(points.max(axis=0) + 1 + margin, box_xywh[:2] + box_xywh[2:])


def _stretched(image_to_crop: Array, factor: float, input_hw: tuple[int, int]) -> Array:
    """The map [2, 3] followed by a stretch about the crop's centre: heights times `factor`, widths divided by it."""
    center_xy = (np.array([input_hw[1], input_hw[0]]) - 1) / 2
    linear = np.diag([1 / factor, factor])
    return np.column_stack((linear @ image_to_crop[:, :2], linear @ (image_to_crop[:, 2] - center_xy) + center_xy))


def _half_body_box(points_image: Array, labelled: Mask, rng: np.random.Generator, skeleton: Skeleton) -> Array | None:
    """The box [4] around the labelled joints of one half, or None when neither half has enough joints.

    The upper half is preferred: it is taken when a normal draw falls below 0.5 (about 69 %), as in the recipe.
    """
    upper = [joint for joint in skeleton.upper_body if labelled[joint]]
    lower = [joint for joint in skeleton.lower_body if labelled[joint]]
    first, second = (upper, lower) if rng.normal() < 0.5 else (lower, upper)
    chosen = first if len(first) >= MIN_HALF_JOINTS else second
    if len(chosen) < MIN_HALF_JOINTS:
        return None
    points = points_image[chosen]
    size = points.max(axis=0) - points.min(axis=0)
    if (size <= 0).any():
        return None
    # A box covers whole pixels: joints at x and x' are covered by x' - x + 1 of them.
    return np.concatenate((points.min(axis=0), size + 1))
