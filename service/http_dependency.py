"""`POST /dependency` in words: its parameters, their parsing, and its two kinds of answer."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from model.levels import COLORMAPS, LEVELS, MODES, Level, Mode
from service.errors import InvalidParameter
from service.http_schemas import BOX_SCHEMA, ImageSize, Parameter, image_openapi, parse_box
from service.poses import (
    ALL_KEYPOINTS,
    AttentionShape,
    DependencyMap,
    DependencyRequest,
    keypoint_word,
    read_keypoint,
)

FORMATS = ("png", "json")
MEAN = "mean"
PNG = "image/png"
DEFAULT_LEVEL: Level = "encoder"

_INDEX = re.compile(r"[0-9]{1,6}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][+-]?[0-9]{1,5})?")

DEPENDENCY_PARAMETERS = frozenset(
    ("keypoint", "box", "level", "layer", "head", "mode", "threshold", "colormap", "format")
)


class DependencyBody(BaseModel):
    """The answer of `POST /dependency` with `format=json`: what one keypoint depended on."""

    level: Level
    layer: int
    head: int | Literal["mean"]
    mode: Mode
    keypoint: str
    query: tuple[int, int] = Field(description="row and column of the keypoint's token")
    attention: list[list[float]] = Field(description="rows of the map; in mode dependency it sums to 1")
    image: ImageSize
    region: tuple[float, float, float, float] = Field(
        description="x, y, width, height: the part of the picture that the map covers; it may reach beyond the picture"
    )
    point: tuple[float, float, float] = Field(description="x, y, confidence of the keypoint, as of a pose")

    @classmethod
    def of(cls, found: DependencyMap) -> DependencyBody:
        """The same map as JSON has it."""
        return cls(
            level=found.level,
            layer=found.layer,
            head="mean" if found.head is None else found.head,
            mode=found.mode,
            keypoint=found.keypoint,
            query=found.query,
            attention=[list(row) for row in found.attention],
            image=ImageSize(width=found.width, height=found.height),
            region=found.region_xywh,
            point=found.point,
        )

    def to_map(self) -> DependencyMap:
        """The inverse of `of`. Raises ValueError for a map that is not whole."""
        widths = {len(row) for row in self.attention}
        if len(widths) != 1 or 0 in widths:
            raise ValueError("the rows of the map are not equally long, or empty")
        return DependencyMap(
            level=self.level,
            layer=self.layer,
            head=None if self.head == "mean" else self.head,
            mode=self.mode,
            keypoint=self.keypoint,
            query=self.query,
            attention=tuple(map(tuple, self.attention)),
            point=self.point,
            region_xywh=self.region,
            width=self.image.width,
            height=self.image.height,
        )


def dependency_openapi(attention: Mapping[Level, AttentionShape], keypoint_names: Sequence[str]) -> dict[str, Any]:
    """The request as OpenAPI shows it, for a network with these layers, heads and keypoints."""
    last_layer = max(shape.layers for shape in attention.values()) - 1
    last_head = max(shape.heads for shape in attention.values()) - 1
    return image_openapi(*_words(keypoint_names), *_indices(last_layer, last_head), *_drawing())


def _words(names: Sequence[str]) -> tuple[Parameter, ...]:
    return (
        Parameter(
            "keypoint",
            "Name or index of a keypoint. `all`: the figure of all keypoints, as a PNG only.",
            {"type": "string", "enum": [*names, *map(str, range(len(names))), ALL_KEYPOINTS]},
        ),
        Parameter(
            "box",
            "The person, as JSON [x, y, width, height] in pixels of the upright picture. Absent: the whole picture.",
            BOX_SCHEMA,
            is_json=True,
        ),
        Parameter(
            "level",
            "mhsa: the self-attention in the middle of the network. encoder (default): the encoder at its top.",
            {"type": "string", "enum": list(LEVELS)},
        ),
        Parameter(
            "mode",
            "dependency (default): what the keypoint's token looked at. affect: which tokens looked at the keypoint's.",
            {"type": "string", "enum": list(MODES)},
        ),
    )


def _indices(last_layer: int, last_head: int) -> tuple[Parameter, ...]:
    return (
        Parameter(
            "layer",
            "Of the level, from 0. Absent: the last; of the encoder's figure: a row for each.",
            {"type": "integer", "minimum": 0, "maximum": last_layer},
        ),
        Parameter(
            "head",
            "Attention head, from 0, or `mean`. Absent: the mean; of the figure of mhsa: a row for each.",
            {"oneOf": [{"type": "integer", "minimum": 0, "maximum": last_head}, {"type": "string", "enum": [MEAN]}]},
        ),
    )


def _drawing() -> tuple[Parameter, ...]:
    return (
        Parameter(
            "threshold",
            "Attention below this part of the map's largest is not drawn. Default 0. Numbers are not changed by it.",
            {"type": "number", "minimum": 0, "maximum": 1},
        ),
        Parameter("colormap", f"Default {COLORMAPS[0]}.", {"type": "string", "enum": list(COLORMAPS)}),
        Parameter("format", "Default png.", {"type": "string", "enum": list(FORMATS)}),
    )


def dependency_answers(problems: dict[int | str, dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI shows of the answers, beside the problems."""
    content = {PNG: {"schema": {"type": "string", "format": "binary"}}}
    good = {**problems[200], "model": DependencyBody, "description": "A PNG, or the map as JSON.", "content": content}
    return {**problems, 200: good}


def dependency_request(image: bytes, given: Mapping[str, str]) -> DependencyRequest:
    """What is asked, by text parameters. Raises InvalidParameter; what layers there are is the service's to say."""
    if "keypoint" not in given:
        raise InvalidParameter(f"keypoint is missing; allowed: a name, an index, or {ALL_KEYPOINTS!r}")
    head = given.get("head")
    level = _choice("level", given.get("level", DEFAULT_LEVEL), LEVELS)
    return DependencyRequest(
        image=image,
        box_xywh=parse_box(given.get("box")),
        keypoint=read_keypoint(given["keypoint"]),
        level=level,
        layer=_index("layer", given.get("layer"), "a number from 0"),
        head=None if head == MEAN else _index("head", head, f"a number from 0, or {MEAN!r}"),
        mean_of_heads=head == MEAN,
        mode=_choice("mode", given.get("mode", MODES[0]), MODES),
        threshold=_part("threshold", given.get("threshold", "0")),
        colormap=_choice("colormap", given.get("colormap", COLORMAPS[0]), COLORMAPS),
        as_picture=_choice("format", given.get("format", FORMATS[0]), FORMATS) == "png",
    )


def dependency_parameters(request: DependencyRequest) -> dict[str, str]:
    """A request as text parameters: the inverse of `dependency_request`. Raises InvalidParameter for two heads."""
    if request.mean_of_heads and request.head is not None:
        raise InvalidParameter(f"head is {request.head}, and their mean is asked for; allowed: one of both")
    head = MEAN if request.mean_of_heads else request.head
    given = {
        "keypoint": keypoint_word(request.keypoint),
        "box": None if request.box_xywh is None else json.dumps(request.box_xywh),
        "level": request.level,
        "layer": request.layer,
        "head": head,
        "mode": request.mode,
        "threshold": repr(request.threshold) if request.threshold else None,
        "colormap": request.colormap if request.as_picture else None,
        "format": "png" if request.as_picture else "json",
    }
    return {name: str(value) for name, value in given.items() if value is not None}


def _choice(name: str, text: str, allowed: tuple[Any, ...]) -> Any:
    if text not in allowed:
        raise InvalidParameter(f"{name} is {_shown(text)}; allowed: {', '.join(allowed)}")
    return text


def _index(name: str, text: str | None, allowed: str) -> int | None:
    if text is None:
        return None
    if not _INDEX.fullmatch(text):
        raise InvalidParameter(f"{name} is {_shown(text)}; allowed: {allowed}")
    return int(text)


def _part(name: str, text: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not 0.0 <= value <= 1.0:
        raise InvalidParameter(f"{name} is {_shown(text)}; allowed: 0 to 1")
    return value


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
