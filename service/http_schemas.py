"""What the HTTP interface says about its bodies: the models behind `/docs`, and the parsing of text parameters."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field, create_model, field_validator

from model.geometry import MIN_SIZE
from model.levels import Level
from service.errors import InvalidParameter
from service.poses import Box, ModelInfo, PoseResult

BOXES_HELP = (
    "JSON array of boxes [x, y, width, height] in pixels of the upright picture, (0, 0) being its top-left pixel. "
    "Absent: the persons that the detector finds, the surest first, each once, and nobody whose pose has a low score; "
    "without a detector the whole picture is one person."
)
FLIP_TEST_HELP = "true: also look at the mirrored picture and average; a little more precise, twice the work."

_IMAGE = {"type": "string", "format": "binary"}
_LENGTH = {"type": "number", "minimum": MIN_SIZE}
BOX_SCHEMA = {
    "type": "array",
    "prefixItems": [{"type": "number"}, {"type": "number"}, _LENGTH, _LENGTH],
    "items": False,
    "minItems": 4,
}
_BOXES = {"type": "array", "items": BOX_SCHEMA}


@dataclass(frozen=True)
class Parameter:
    """One text parameter, in the query or in the form. `is_json`: its text is JSON of that schema."""

    name: str
    help: str
    schema: dict[str, Any]
    is_json: bool = False


def image_openapi(*parameters: Parameter) -> dict[str, Any]:
    """A request with one image as OpenAPI shows it: it is read by hand, within limits, so FastAPI cannot derive it."""
    fields = {one.name: _form_field(one) for one in parameters}
    form = {"type": "object", "required": ["image"], "properties": {"image": _IMAGE, **fields}}
    content = {kind: {"schema": _IMAGE} for kind in ("image/jpeg", "image/png", "image/webp")}
    return {
        "requestBody": {"required": True, "content": {**content, "multipart/form-data": {"schema": form}}},
        "parameters": [_query_parameter(one) for one in parameters],
    }


def _form_field(one: Parameter) -> dict[str, Any]:
    if not one.is_json:
        return {**one.schema, "description": one.help}
    as_text = {"type": "string", "contentMediaType": "application/json", "contentSchema": one.schema}
    return {**as_text, "description": one.help}


def _query_parameter(one: Parameter) -> dict[str, Any]:
    kind = {"content": {"application/json": {"schema": one.schema}}} if one.is_json else {"schema": one.schema}
    return {"name": one.name, "in": "query", "description": one.help, **kind}


POSE_PARAMETERS = frozenset(("boxes", "flip_test"))
POSE_OPENAPI = image_openapi(
    Parameter("boxes", BOXES_HELP, _BOXES, is_json=True),
    Parameter("flip_test", FLIP_TEST_HELP, {"type": "boolean"}),
)
# The headers that some problems have, by status.
PROBLEM_HEADERS_OPENAPI: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"description": "`Bearer`.", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}},
}


class ImageSize(BaseModel):
    """Of the upright picture, in pixels."""

    width: int
    height: int


class PoseBody(BaseModel):
    """One pose as a COCO keypoint result."""

    category_id: int = Field(default=1, description="1: person")
    bbox: tuple[float, float, float, float] = Field(description="x, y, width, height; as asked for")
    score: float = Field(description="0..1, the OKS that the pose is expected to earn")
    keypoints: list[float]

    @field_validator("keypoints")
    @classmethod
    def _are_whole(cls, keypoints: list[float]) -> list[float]:
        if len(keypoints) % 3:
            raise ValueError(f"keypoints has {len(keypoints)} numbers; allowed: three for each keypoint")
        return keypoints


class PosesBody(BaseModel):
    """The answer of `POST /pose`: the poses in the order of the boxes."""

    image: ImageSize
    poses: list[PoseBody]

    @classmethod
    def of(cls, result: PoseResult) -> PosesBody:
        """The same result as JSON has it, each pose in COCO's flat form."""
        poses: list[Any] = [
            {
                "bbox": pose.box_xywh,
                "score": pose.score,
                "keypoints": [number for keypoint in pose.keypoints for number in keypoint],
            }
            for pose in result.poses
        ]
        return cls(image=ImageSize(width=result.width, height=result.height), poses=poses)


def poses_body(num_keypoints: int) -> type[PosesBody]:
    """`PosesBody` of a network with so many keypoints, as OpenAPI shows it."""
    numbers = Field(
        min_length=3 * num_keypoints,
        max_length=3 * num_keypoints,
        description=f"{num_keypoints} times x, y, confidence. Pixels of the upright picture, (0, 0) the centre of its "
        "top-left pixel; confidence 0..1. A weak keypoint may lie outside its box, or outside the picture.",
    )
    pose = create_model("PoseBody", __base__=PoseBody, __doc__=PoseBody.__doc__, keypoints=(list[float], numbers))
    return create_model("PosesBody", __base__=PosesBody, __doc__=PosesBody.__doc__, poses=(list[pose], ...))  # type: ignore[valid-type]


class AttentionBody(BaseModel):
    """One level of the network: layers and heads are counted from 0."""

    layers: int
    heads: int = Field(description="of each layer")


class ModelBody(BaseModel):
    """The answer of `GET /model`."""

    variant: str
    label: str
    parameters: int
    input: ImageSize = Field(description="of the crop that the network sees of each person")
    checkpoint_sha256: str
    runtime: str
    device: str
    precision: str
    keypoints: list[str] = Field(description="names, in the order of every pose")
    skeleton: list[tuple[int, int]] = Field(description="pairs of keypoint indices, from 0, that a drawing joins")
    attention: dict[Level, AttentionBody] = Field(description="what dependency maps there are, by level")
    detector: str = Field(description="what finds persons where a request has no boxes; none: nothing does")

    @classmethod
    def of(cls, info: ModelInfo) -> ModelBody:
        """The same facts as JSON has them."""
        return cls(
            variant=info.variant,
            label=info.label,
            parameters=info.parameters,
            input=ImageSize(width=info.input_hw[1], height=info.input_hw[0]),
            checkpoint_sha256=info.checkpoint_sha256,
            runtime=info.runtime,
            device=info.device,
            precision=info.precision,
            keypoints=list(info.keypoint_names),
            skeleton=list(info.skeleton),
            attention={
                level: AttentionBody(layers=shape.layers, heads=shape.heads) for level, shape in info.attention.items()
            },
            detector=info.detector,
        )


class HealthBody(BaseModel):
    """The answer of the health checks."""

    status: str


class ProblemBody(BaseModel):
    """Every error, as `application/problem+json` (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


def parse_boxes(text: str | None) -> list[Box] | None:
    """`[[x, y, w, h], ...]` -> boxes; None for an absent parameter. Raises InvalidParameter.

    Only the form is checked here; what numbers make sense is the service's to say.
    """
    if text is None:
        return None
    try:
        boxes = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidParameter("boxes is not JSON; allowed: an array of [x, y, width, height]") from error
    if not isinstance(boxes, list):
        raise InvalidParameter("boxes is not an array; allowed: an array of [x, y, width, height]")
    return [_box(f"boxes[{number}]", box) for number, box in enumerate(boxes)]


def parse_box(text: str | None) -> Box | None:
    """`[x, y, w, h]` -> box; None for an absent parameter. Raises InvalidParameter; only the form is checked."""
    if text is None:
        return None
    try:
        box = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidParameter("box is not JSON; allowed: [x, y, width, height]") from error
    return _box("box", box)


def _box(name: str, box: object) -> Box:
    is_box = isinstance(box, list) and len(box) == 4 and all(type(value) in (int, float) for value in box)
    if not isinstance(box, list) or not is_box:
        raise InvalidParameter(f"{name} is {_shown(box)}; allowed: four numbers [x, y, width, height]")
    try:
        x, y, width, height = map(float, box)
    except OverflowError as error:
        raise InvalidParameter(f"{name} has an integer that is too large for a coordinate") from error
    return (x, y, width, height)


def parse_flag(name: str, text: str | None) -> bool:
    """`true` or `1`, `false` or `0`; absent is false. Raises InvalidParameter."""
    if text is None:
        return False
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise InvalidParameter(f"{name} is {_shown(text)}; allowed: {', '.join(values)}")
    return values[text.lower()]


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
