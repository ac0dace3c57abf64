"""What the HTTP interface says about its bodies: the models behind `/docs`, and the parsing of text parameters."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, Field

from service.errors import InvalidParameter
from service.poses import Box, ModelInfo, Pose, PoseResult

BOXES_HELP = (
    "JSON array of boxes [x, y, width, height] in pixels of the upright picture, (0, 0) being its top-left pixel. "
    "Absent: the whole picture is one person."
)
FLIP_TEST_HELP = "true: also look at the mirrored picture and average; a little more precise, twice the work."

_IMAGE = {"type": "string", "format": "binary"}
_LENGTH = {"type": "number", "exclusiveMinimum": 0}
_BOX = {
    "type": "array",
    "prefixItems": [{"type": "number"}, {"type": "number"}, _LENGTH, _LENGTH],
    "items": False,
    "minItems": 4,
}
_BOXES = {"type": "array", "items": _BOX}

# The request body as OpenAPI shows it: it is read by hand, within limits, so FastAPI cannot derive it.
IMAGE_BODY_OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            **{kind: {"schema": _IMAGE} for kind in ("image/jpeg", "image/png", "image/webp")},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": _IMAGE,
                        "boxes": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "contentSchema": _BOXES,
                            "description": BOXES_HELP,
                        },
                        "flip_test": {"type": "boolean", "description": FLIP_TEST_HELP},
                    },
                }
            },
        },
    },
    "parameters": [
        {
            "name": "boxes",
            "in": "query",
            "description": BOXES_HELP,
            "content": {"application/json": {"schema": _BOXES}},
        },
        {"name": "flip_test", "in": "query", "description": FLIP_TEST_HELP, "schema": {"type": "boolean"}},
    ],
}
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
    score: float = Field(description="0..1, mean confidence of the keypoints above 0.2")
    keypoints: list[float] = Field(
        min_length=51,
        max_length=51,
        description="17 times x, y, confidence. Pixels of the upright picture, (0, 0) the centre of its top-left "
        "pixel; confidence 0..1. A weak keypoint may lie outside its box, or outside the picture.",
    )

    @classmethod
    def of(cls, pose: Pose) -> PoseBody:
        """The same pose in COCO's flat form."""
        return cls(
            bbox=pose.box_xywh,
            score=pose.score,
            keypoints=[number for keypoint in pose.keypoints for number in keypoint],
        )


class PosesBody(BaseModel):
    """The answer of `POST /pose`: the poses in the order of the boxes."""

    image: ImageSize
    poses: list[PoseBody]

    @classmethod
    def of(cls, result: PoseResult) -> PosesBody:
        """The same result as JSON has it."""
        return cls(
            image=ImageSize(width=result.width, height=result.height),
            poses=[PoseBody.of(pose) for pose in result.poses],
        )


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
    for number, box in enumerate(boxes):
        is_box = isinstance(box, list) and len(box) == 4 and all(type(value) in (int, float) for value in box)
        if not is_box:
            raise InvalidParameter(f"boxes[{number}] is {_shown(box)}; allowed: four numbers [x, y, width, height]")
    try:
        return [(float(x), float(y), float(w), float(h)) for x, y, w, h in boxes]
    except OverflowError as error:
        raise InvalidParameter("boxes has an integer that is too large for a coordinate") from error


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
