"""Random views of a picture for self-supervised pre-training: which part is seen, mirrored or not, and in what colours.

Draws and crops; the colours of a view are a row of numbers here, and are applied by `training.recolour` to a whole
batch, on the device that trains. DINO's published augmentation, with two differences: a view is 4:3 upright, as the
network's input is, so the region's aspect varies around that of the view instead of around a square; and a region that
does not fit into the picture is made smaller instead of drawn again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from model.crop import Pixels

Colours = npt.NDArray[np.float32]

# The columns of a row of colours. `order` numbers the permutations of the first four; `blur` is a standard deviation in
# pixels, 0 for none; `grey` and `solarise` are 0 or 1.
COLUMNS = ("brightness", "contrast", "saturation", "hue", "order", "grey", "blur", "solarise")
NEUTRAL: Colours = np.array([1, 1, 1, 0, 0, 0, 0, 0], dtype=np.float32)
ORDERS = math.factorial(4)

GLOBAL_VIEWS = 2
BLUR_ROWS = 256  # `blur_sigma` is in pixels of a global view of so many rows


@dataclass(frozen=True, kw_only=True)
class ViewAugmentation:
    """Strength of each augmentation; the defaults are DINO's. Raises ValueError, naming field and value.

    `global_scale`, `local_scale`: the region's share of the picture, lowest and highest (the paper's authors and DINO's
    ResNet-50: 0.14 to 1 for global views; DINO's ResNet-50: 0.05 to 0.14 for local ones). `aspect`: the lowest factor
    on the region's width over height; the highest is its inverse. `flip`, `jitter`, `grey`: probabilities.
    `brightness`, `contrast`, `saturation`, `hue`: half-widths of the jitter. `blur`: probabilities for the first global
    view, the second, and local ones. `blur_sigma`: lowest and highest, in pixels of a global view of 256 rows; it
    scales with the views. `solarise`: probability for the second global view.
    """

    global_scale: tuple[float, float] = (0.4, 1.0)
    local_scale: tuple[float, float] = (0.05, 0.4)
    aspect: float = 0.75
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    grey: float = 0.2
    blur: tuple[float, float, float] = (1.0, 0.1, 0.5)
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarise: float = 0.2

    def __post_init__(self) -> None:
        for name in ("global_scale", "local_scale"):
            low, high = getattr(self, name)
            if not 0.0 < low <= high <= 1.0:
                raise ValueError(f"{name} is {(low, high)}; allowed: two shares of a picture above 0, the lower first")
        if not 0.0 < self.aspect <= 1.0:
            raise ValueError(f"aspect is {self.aspect}; allowed: above 0, at most 1")
        for name in ("flip", "jitter", "grey", "solarise"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: a probability in 0..1")
        if not all(0.0 <= probability <= 1.0 for probability in self.blur):
            raise ValueError(f"blur is {self.blur}; allowed: three probabilities in 0..1")
        for name, limit in (("brightness", 1.0), ("contrast", 1.0), ("saturation", 1.0), ("hue", 0.5)):
            if not 0.0 <= getattr(self, name) <= limit:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: 0..{limit:g}")
        if not 0.0 < self.blur_sigma[0] <= self.blur_sigma[1]:
            raise ValueError(f"blur_sigma is {self.blur_sigma}; allowed: two sizes above 0, the lower first")


@dataclass(frozen=True)
class Region:
    """A rectangle of whole pixels in a picture."""

    top: int
    left: int
    height: int
    width: int


def random_region(
    picture_hw: tuple[int, int],
    view_hw: tuple[int, int],
    scale: tuple[float, float],
    aspect: float,
    rng: np.random.Generator,
) -> Region:
    """A rectangle anywhere in a picture of `picture_hw` pixels.

    Its width over height is that of the view, times a factor between `aspect` and 1 / `aspect` (uniform in the
    logarithm); its share of the picture's area is uniform in `scale`, as far as a rectangle of that shape fits.
    """
    height, width = picture_hw
    limit = math.log(1 / aspect)
    ratio = view_hw[1] / view_hw[0] * math.exp(rng.uniform(-limit, limit))
    largest = min(height * height * ratio, width * width / ratio)
    lowest, highest = (min(share * height * width, largest) for share in scale)
    area = rng.uniform(lowest, highest)
    rows = min(max(round(math.sqrt(area / ratio)), 1), height)
    columns = min(max(round(math.sqrt(area * ratio)), 1), width)
    top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
    return Region(int(top), int(left), rows, columns)


def see(picture: Pixels, region: Region, view_hw: tuple[int, int], *, flip: bool) -> Pixels:
    """A region of a picture [H, W, 3] uint8, stretched to a view [rows, columns, 3] uint8.

    Pixels are averaged where the region shrinks, and cubic where it grows.
    """
    seen = picture[region.top : region.top + region.height, region.left : region.left + region.width]
    shrinks = region.height * region.width > view_hw[0] * view_hw[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    view = np.asarray(cv2.resize(seen, (view_hw[1], view_hw[0]), interpolation=how), dtype=np.uint8)
    return np.ascontiguousarray(view[:, ::-1]) if flip else view


def random_colours(
    augmentation: ViewAugmentation,
    rng: np.random.Generator,
    *,
    blur: float,
    solarise: float,
    global_rows: int,
) -> Colours:
    """The colours of one view: a row of `COLUMNS`, `NEUTRAL` where nothing happens.

    `blur` and `solarise` are this view's probabilities. Draws the same number of times whatever comes out.
    """
    jittered, grey, blurred, solarised = rng.random(4) < (augmentation.jitter, augmentation.grey, blur, solarise)
    reach = np.array([getattr(augmentation, name) for name in COLUMNS[:4]])
    factors = NEUTRAL[:4] + reach * rng.uniform(-1, 1, size=4)
    order, sigma = rng.integers(ORDERS), rng.uniform(*augmentation.blur_sigma) * global_rows / BLUR_ROWS
    row = NEUTRAL.copy()
    if jittered:
        row[:4], row[4] = factors, order
    row[5:] = grey, sigma * blurred, solarised
    return row


def random_views(
    picture: Pixels,
    global_hw: tuple[int, int],
    local_hw: tuple[int, int],
    local_views: int,
    augmentation: ViewAugmentation,
    rng: np.random.Generator,
) -> tuple[Pixels, Pixels, Colours]:
    """All views of a picture [H, W, 3] uint8 RGB.

    Returns:
        global views [2, *global_hw, 3] uint8, local views [local_views, *local_hw, 3] uint8, and the colours that they
        are to be given [2 + local_views, len(COLUMNS)], global ones first.
    """
    views, colours = [], []
    for number in range(GLOBAL_VIEWS + local_views):
        is_global = number < GLOBAL_VIEWS
        view_hw = global_hw if is_global else local_hw
        scale = augmentation.global_scale if is_global else augmentation.local_scale
        region = random_region((picture.shape[0], picture.shape[1]), view_hw, scale, augmentation.aspect, rng)
        views.append(see(picture, region, view_hw, flip=bool(rng.random() < augmentation.flip)))
        blur = augmentation.blur[min(number, GLOBAL_VIEWS)]
        solarise = augmentation.solarise if number == GLOBAL_VIEWS - 1 else 0.0
        colours.append(random_colours(augmentation, rng, blur=blur, solarise=solarise, global_rows=global_hw[0]))
    local = np.stack(views[GLOBAL_VIEWS:]) if local_views else np.empty((0, *local_hw, 3), dtype=np.uint8)
    return np.stack(views[:GLOBAL_VIEWS]), local, np.stack(colours)


def jittered(rng: np.random.Generator, brightness: float, contrast: float, saturation: float) -> Colours:
    """A row of `COLUMNS` in which only these three change, evenly within their half-widths, in some order."""
    row = NEUTRAL.copy()
    reach = np.array([brightness, contrast, saturation], dtype=np.float32)
    row[:3] += reach * rng.uniform(-1, 1, 3).astype(np.float32)
    row[4] = rng.integers(ORDERS)
    return row
