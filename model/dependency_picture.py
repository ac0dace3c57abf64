"""Dependency maps as pictures: the overlay of one keypoint, and the paper's figure of all (section 4.3, Figure 3).

Pure functions over arrays, without global state: any thread may draw. Knows nothing of files, requests or networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from model.colormap import overlay
from model.crop import Pixels, warp_crop
from model.dependency import JointAttention, Map
from model.drawing import SHOWN_ABOVE, draw_pose
from model.estimator import Keypoints
from model.figure import Panel, draw_figure, stack_figures
from model.geometry import Array
from model.levels import COLORMAPS, Mode
from model.skeleton import Skeleton
from model.variants import PoseConfig

PICTURE_HEIGHT = 512  # pixels of the overlay of one keypoint, whatever the network's input
PANEL_HEIGHT = 192  # pixels of one panel of a figure
MOST_COLUMNS = 24  # keypoints side by side; the others follow below, in blocks of their own

STAR_RGB, STAR_RIM_RGB = (255, 255, 255), (0, 0, 0)
_STAR_RADIUS = 1 / 32  # of the picture's height
_STAR_INNER = 0.42  # radius of the inner corners, of that of the outer ones
_SUBPIXEL_BITS = 4  # cv2 takes coordinates as whole numbers of 1/16 pixel


@dataclass(frozen=True)
class PersonView:
    """What the network saw of a person, as large as it is drawn, and what it found there.

    pixels: [h, w, 3] uint8 RGB, exactly the area of the crop, taken from the photograph itself.
    keypoints: in the frame of `pixels`.
    skeleton: which keypoints they are.
    """

    pixels: Pixels
    keypoints: Keypoints
    skeleton: Skeleton


def view_of(
    image: Pixels, image_to_crop: Array, keypoints_crop: Keypoints, config: PoseConfig, *, height: int
) -> PersonView:
    """What is drawn of a person: `view_pixels` and `place_keypoints` in one."""
    pixels = view_pixels(image, image_to_crop, config, height=height)
    return place_keypoints(pixels, keypoints_crop, config)


def view_pixels(image: Pixels, image_to_crop: Array, config: PoseConfig, *, height: int) -> Pixels:
    """The area of a crop at another size, taken from the photograph itself.

    Args:
        image: [H, W, 3] uint8 RGB, the upright photograph.
        image_to_crop: [2, 3], of the crop.
        config: whose `input_hw` is the size of the crop.
        height: of the view in pixels; its width follows.

    Returns:
        [height, w, 3] uint8 RGB.
    """
    rows, columns = config.input_hw
    scale = height / rows  # edges fall on edges: v = scale * (c + 0.5) - 0.5
    offset = scale * (image_to_crop[:, 2] + 0.5) - 0.5
    image_to_view = np.column_stack((scale * image_to_crop[:, :2], offset))
    return warp_crop(image, image_to_view, (height, max(round(height * columns / rows), 1)))


def place_keypoints(view: Pixels, keypoints_crop: Keypoints, config: PoseConfig) -> PersonView:
    """A view, and the keypoints of the crop in its frame."""
    scale = view.shape[0] / config.input_hw[0]
    keypoints = Keypoints(scale * (keypoints_crop.points + 0.5) - 0.5, keypoints_crop.scores)
    return PersonView(view, keypoints, config.skeleton)


def draw_dependency(
    view: PersonView, attention: Map, keypoint: int, *, threshold: float = 0.0, colormap: str = COLORMAPS[0]
) -> Pixels:
    """The crop under the attention map of one keypoint, which is a white star.

    Args:
        view: of the person.
        attention: [H, W] over the tokens.
        keypoint: its index.
        threshold: values below this part of the map's largest are not shown.
        colormap: one of `COLORMAPS`.

    Returns:
        [h, w, 3] uint8 RGB, as large as the view.
    """
    drawn = overlay(view.pixels, attention, threshold=threshold, colormap=colormap)
    _draw_star(drawn, view.keypoints.points[keypoint])
    return drawn


def dependency_panels(
    view: PersonView,
    maps: Sequence[Map],
    *,
    keypoints: Sequence[int] | None = None,
    threshold: float = 0.0,
    colormap: str = COLORMAPS[0],
) -> list[Panel]:
    """One row of the paper's figure: the person with its skeleton, then each keypoint's map with its largest value.

    Args:
        view: of the person.
        maps: [H, W] each.
        keypoints: whose maps they are; None for all keypoints in their order.
        threshold, colormap: as `draw_dependency` has them.
    """
    panels = [Panel(skeleton_picture(view))]
    chosen = range(len(maps)) if keypoints is None else keypoints
    for keypoint, attention in zip(chosen, maps, strict=True):
        drawn = draw_dependency(view, attention, keypoint, threshold=threshold, colormap=colormap)
        panels.append(Panel(drawn, f"max {_percent(float(attention.max()))}"))
    return panels


def dependency_figure(
    view: PersonView,
    attention: JointAttention,
    *,
    layer: int | None = None,
    head: int | None = None,
    mean_of_heads: bool = False,
    mode: Mode = "dependency",
    threshold: float = 0.0,
    colormap: str = COLORMAPS[0],
    title: str = "",
) -> Pixels:
    """The paper's figure. Columns: the crop with its skeleton, then the keypoints. Rows: what is left open.

    More keypoints than `MOST_COLUMNS` continue in further blocks of rows.

    Args:
        view: of the person, `PANEL_HEIGHT` high or so.
        attention: of the same person.
        layer: `mhsa`: whose heads are the rows, None for the last. `encoder`: None for a row for each layer.
        head: `mhsa`: None for a row for each head. `encoder`: None for their mean.
        mean_of_heads: `mhsa`: one row, their mean, instead.
        mode: row or column of the attention.
        threshold: values below this part of each map's largest are not shown.
        colormap: one of `COLORMAPS`.
        title: the line above.

    Returns:
        [h, w, 3] uint8 RGB.
    """
    rows = figure_rows(attention, layer=layer, head=head, mean_of_heads=mean_of_heads)
    titles = keypoint_titles(view)
    blocks = []
    for first in range(0, len(titles), MOST_COLUMNS):
        chosen = range(len(titles))[first : first + MOST_COLUMNS]
        panels = [
            dependency_panels(
                view,
                [attention.of(keypoint, layer=layer, head=head, mode=mode) for keypoint in chosen],
                keypoints=chosen,
                threshold=threshold,
                colormap=colormap,
            )
            for layer, head in rows
        ]
        blocks.append(
            draw_figure(
                panels,
                column_titles=["pose", *(titles[keypoint] for keypoint in chosen)],
                row_titles=[row_title(attention, layer, head) for layer, head in rows],
                title=title if first == 0 else "",
                colormap=colormap,
            )
        )
    return stack_figures(blocks)


def figure_rows(
    attention: JointAttention, *, layer: int | None, head: int | None, mean_of_heads: bool = False
) -> list[tuple[int, int | None]]:
    """Layer and head of each row of the figure; see `dependency_figure`."""
    if attention.level == "encoder":
        return [(row, head) for row in (range(attention.layers) if layer is None else (layer,))]
    chosen = attention.layers - 1 if layer is None else layer
    if mean_of_heads:
        return [(chosen, None)]
    return [(chosen, row) for row in (range(attention.heads) if head is None else (head,))]


def row_title(attention: JointAttention, layer: int, head: int | None) -> str:
    """Which layer and head a row shows, as they are numbered everywhere: from 0."""
    of_level = "MHSA" if attention.level == "mhsa" else "encoder"
    return f"{of_level}\nlayer {layer}\n" + ("mean of heads" if head is None else f"head {head}")


def keypoint_titles(view: PersonView) -> list[str]:
    """Name and confidence of each keypoint."""
    pairs = zip(view.skeleton.names, view.keypoints.scores, strict=True)
    return [f"{name.replace('_', ' ')}\n{score:.2f}" for name, score in pairs]


def skeleton_picture(view: PersonView) -> Pixels:
    """The crop with the skeleton of its confident keypoints."""
    drawn = np.ascontiguousarray(view.pixels).copy()
    draw_pose(drawn, view.keypoints.points, view.keypoints.scores > SHOWN_ABOVE, view.skeleton)
    return drawn


def _draw_star(image: Pixels, center: Array) -> None:
    """A white five-pointed star with a black rim, in place."""
    radius = max(image.shape[0] * _STAR_RADIUS, 5.0)
    angles = np.arange(10) * math.pi / 5 - math.pi / 2
    radii = radius * np.where(np.arange(10) % 2 == 0, 1.0, _STAR_INNER)
    corners = center + np.column_stack((radii * np.cos(angles), radii * np.sin(angles)))
    fixed = np.rint(corners * 2**_SUBPIXEL_BITS).astype(np.int32)[None]
    rim = max(round(radius / 4), 1)
    cv2.polylines(image, fixed, True, STAR_RIM_RGB, 2 * rim, cv2.LINE_AA, _SUBPIXEL_BITS)
    cv2.fillPoly(image, fixed, STAR_RGB, cv2.LINE_AA, _SUBPIXEL_BITS)


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %" if part >= 0.1 else f"{100 * part:.1f} %"
