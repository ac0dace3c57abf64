"""One person of a picture -> what a keypoint of it depended on, as numbers or as a PNG. Synchronous; called in threads.

Knows nothing of protocols, or of how the network is run.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace

from PIL import Image

from model.crop import Pixels
from model.dependency import JointAttention
from model.dependency_picture import (
    PANEL_HEIGHT,
    PICTURE_HEIGHT,
    PersonView,
    dependency_figure,
    draw_dependency,
    place_keypoints,
    view_pixels,
)
from model.estimator import ExplainedKeypoints, PersonCrop, crop_person, keypoints_to_image
from model.geometry import affine_to_region
from model.levels import COLORMAPS, LEVELS, MODES, Level
from model.variants import PoseConfig
from service.cropping import check_box, clip_to_picture
from service.errors import InvalidParameter
from service.images import ImageLimits, decode_image
from service.poses import DECIMALS, AttentionShape, DependencyMap, DependencyRequest, keypoint_index

PNG_COMPRESSION = 3  # of 9: nearly as small as the most, in a fifth of the time


@dataclass(frozen=True, kw_only=True)
class SeenPerson:
    """One person of a picture: its crop, and the same area as large as it will be drawn (None for numbers only)."""

    width: int
    height: int
    crop: PersonCrop
    view: Pixels | None


def attention_shapes(config: PoseConfig) -> dict[Level, AttentionShape]:
    """The layers and heads that can be asked for."""
    return {
        level: AttentionShape(layers=config.attention_layers(level), heads=config.attention_heads(level))
        for level in LEVELS
    }


def checked_dependency(request: DependencyRequest, config: PoseConfig) -> DependencyRequest:
    """The same request, its keypoint as an index; what is wrong is refused before the picture is decoded.

    Raises InvalidParameter.
    """
    for name, value, allowed in (
        ("level", request.level, LEVELS),
        ("mode", request.mode, MODES),
        ("colormap", request.colormap, COLORMAPS),
    ):
        if value not in allowed:
            raise InvalidParameter(f"{name} is {value!r}; allowed: {', '.join(allowed)}")
    shape = attention_shapes(config)[request.level]
    keypoint = None if request.keypoint is None else keypoint_index(request.keypoint, config.skeleton.names)
    for name, index, count in (
        ("layer", request.layer, shape.layers),
        ("head", request.head, shape.heads),
    ):
        if index is not None and not 0 <= index < count:
            raise InvalidParameter(f"{name} is {index}; allowed of level {request.level}: 0 to {count - 1}")
    if request.head is not None and request.mean_of_heads:
        raise InvalidParameter(f"head is {request.head}, and their mean is asked for; allowed: one of both")
    if request.keypoint is None and not request.as_picture:
        raise InvalidParameter("keypoint is 'all', which is a figure; allowed as numbers: one keypoint at a time")
    if not (math.isfinite(request.threshold) and 0.0 <= request.threshold <= 1.0):
        raise InvalidParameter(
            f"threshold is {request.threshold:g}; allowed: 0 to 1, a part of the map's largest value"
        )
    if request.box_xywh is not None:
        check_box("box", request.box_xywh)
    return replace(request, keypoint=keypoint)


def see_person(request: DependencyRequest, limits: ImageLimits, config: PoseConfig) -> SeenPerson:
    """Decode the picture and crop the person. The request has been checked.

    Raises NotAnImage, TooLarge, or InvalidParameter for a box that does not fit the picture.
    """
    image = decode_image(request.image, limits)
    height, width = image.shape[:2]
    box = request.box_xywh if request.box_xywh is not None else (0.0, 0.0, float(width), float(height))
    crop = crop_person(image, clip_to_picture("box", box, width, height), config)
    view = None
    if request.as_picture:
        view_height = PANEL_HEIGHT if request.keypoint is None else PICTURE_HEIGHT
        view = view_pixels(image, crop.image_to_crop, config, height=view_height)
    return SeenPerson(width=width, height=height, crop=crop, view=view)


def dependency_map(
    request: DependencyRequest, person: SeenPerson, found: ExplainedKeypoints, config: PoseConfig
) -> DependencyMap:
    """The numbers of one keypoint, rounded once for all protocols."""
    keypoint = _keypoint(request)
    attention = found.attention[request.level]
    layer = _layer(request, attention)
    values = attention.of(keypoint, layer=layer, head=request.head, mode=request.mode)
    in_image = keypoints_to_image(found, person.crop)
    x, y = in_image.points[keypoint]
    row, column = attention.queries[keypoint]
    region = affine_to_region(person.crop.image_to_crop, config.input_hw)
    left, top, width, height = (round(float(value), DECIMALS) for value in region)
    return DependencyMap(
        level=request.level,
        layer=layer,
        head=request.head,
        mode=request.mode,
        keypoint=config.skeleton.names[keypoint],
        query=(int(row), int(column)),
        # Six digits: as many as single precision carries over the wire and back without a change.
        attention=tuple(tuple(float(f"{value:.6g}") for value in line) for line in values),
        point=(
            round(float(x), DECIMALS),
            round(float(y), DECIMALS),
            round(float(in_image.scores[keypoint]), DECIMALS),
        ),
        region_xywh=(left, top, width, height),
        width=person.width,
        height=person.height,
    )


def dependency_png(
    request: DependencyRequest, person: SeenPerson, found: ExplainedKeypoints, config: PoseConfig
) -> bytes:
    """The overlay of one keypoint, or the figure of all, as a PNG file."""
    assert person.view is not None  # it was asked for
    view = place_keypoints(person.view, found, config)
    attention = found.attention[request.level]
    drawn = (
        _figure(request, view, attention, config) if request.keypoint is None else _overlay(request, view, attention)
    )
    file = io.BytesIO()
    Image.fromarray(drawn).save(file, "PNG", compress_level=PNG_COMPRESSION)
    return file.getvalue()


def _overlay(request: DependencyRequest, view: PersonView, attention: JointAttention) -> Pixels:
    keypoint = _keypoint(request)
    layer = _layer(request, attention)
    values = attention.of(keypoint, layer=layer, head=request.head, mode=request.mode)
    return draw_dependency(view, values, keypoint, threshold=request.threshold, colormap=request.colormap)


def _figure(request: DependencyRequest, view: PersonView, attention: JointAttention, config: PoseConfig) -> Pixels:
    direction = "where each keypoint looked" if request.mode == "dependency" else "who looked at each keypoint"
    return dependency_figure(
        view,
        attention,
        layer=request.layer,
        head=request.head,
        mean_of_heads=request.mean_of_heads,
        mode=request.mode,
        threshold=request.threshold,
        colormap=request.colormap,
        title=f"{config.label}: {direction} ({request.mode})",
    )


def _keypoint(request: DependencyRequest) -> int:
    """The index of the keypoint of a request that has been checked."""
    assert isinstance(request.keypoint, int)
    return request.keypoint


def _layer(request: DependencyRequest, attention: JointAttention) -> int:
    return attention.layers - 1 if request.layer is None else request.layer
