"""What the clients send and read over HTTP: requests to calls, responses to answers or errors. Does no I/O."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from service.client_endpoint import Endpoint
from service.client_errors import UnexpectedAnswer, make_error, seconds_of
from service.errors import (
    EngineFailed,
    InvalidParameter,
    Late,
    NotAnImage,
    Overloaded,
    PoseServiceError,
    SlowRequest,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)
from service.http_dependency import PNG, DependencyBody, dependency_parameters
from service.http_schemas import ModelBody, PosesBody, ProblemBody
from service.poses import AttentionShape, DependencyMap, DependencyRequest, ModelInfo, Pose, PoseRequest, PoseResult

ERROR_OF_STATUS: dict[int, type[PoseServiceError]] = {
    HTTPStatus.BAD_REQUEST: NotAnImage,
    HTTPStatus.UNAUTHORIZED: Unauthenticated,
    HTTPStatus.REQUEST_TIMEOUT: SlowRequest,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: TooLarge,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: UnsupportedMedia,
    HTTPStatus.UNPROCESSABLE_ENTITY: InvalidParameter,
    HTTPStatus.TOO_MANY_REQUESTS: Overloaded,
    HTTPStatus.INTERNAL_SERVER_ERROR: EngineFailed,
    HTTPStatus.SERVICE_UNAVAILABLE: Unavailable,
    HTTPStatus.GATEWAY_TIMEOUT: Late,
}
# What the status means when it is not the service but a proxy before it that says so.
ERROR_OF_PROXY_STATUS: dict[int, type[PoseServiceError]] = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: TooLarge,
    HTTPStatus.TOO_MANY_REQUESTS: Overloaded,
    HTTPStatus.BAD_GATEWAY: Unavailable,
    HTTPStatus.SERVICE_UNAVAILABLE: Unavailable,
    HTTPStatus.GATEWAY_TIMEOUT: Late,
}
MEDIA_TYPES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"RIFF": "image/webp"}  # by their first bytes

_Body = TypeVar("_Body", bound=BaseModel)


def pose_call(
    endpoint: Endpoint, request: PoseRequest, timeout_s: float | None, request_id: str | None
) -> dict[str, Any]:
    """The arguments of `httpx.Client.request` that ask for poses. Raises InvalidParameter, ValueError."""
    call = _post(endpoint, "pose", timeout_s, request_id)
    if request.flip_test:
        call["params"] = {"flip_test": "true"}
    if request.boxes_xywh is None:
        call["headers"]["content-type"] = _media_type_of(request.image)
        call["content"] = request.image
    else:
        # As a form: the boxes of a crowd are longer than some proxies take in an address.
        call["files"] = {"image": ("image", request.image, _media_type_of(request.image))}
        call["data"] = {"boxes": json.dumps(request.boxes_xywh)}
    return call


def dependency_call(
    endpoint: Endpoint, request: DependencyRequest, timeout_s: float | None, request_id: str | None
) -> dict[str, Any]:
    """The arguments of `httpx.Client.request` that ask for a dependency map. Errors as `pose_call`."""
    call = _post(endpoint, "dependency", timeout_s, request_id)
    call["headers"]["content-type"] = _media_type_of(request.image)
    return call | {"params": dependency_parameters(request), "content": request.image}


def _post(endpoint: Endpoint, url: str, timeout_s: float | None, request_id: str | None) -> dict[str, Any]:
    timeout_s = endpoint.timeout_of_call_s(timeout_s)
    headers = endpoint.headers(request_id) | {"x-timeout-ms": str(max(int(timeout_s * 1000), 1))}
    return {"method": "POST", "url": url, "headers": headers, "timeout": timeout_s}


def _media_type_of(image: bytes) -> str:
    return next((kind for start, kind in MEDIA_TYPES.items() if image.startswith(start)), "image/unknown")


def get_call(endpoint: Endpoint, url: str) -> dict[str, Any]:
    """The arguments of `httpx.Client.request` that ask for what the service tells of itself."""
    return {"method": "GET", "url": url, "headers": endpoint.headers(None), "timeout": endpoint.timeout_s}


def read_poses(response: httpx.Response) -> PoseResult:
    """The poses, or the error that the response is."""
    body = _read(response, PosesBody)
    poses = (
        Pose(
            box_xywh=pose.bbox,
            score=pose.score,
            keypoints=tuple(zip(pose.keypoints[0::3], pose.keypoints[1::3], pose.keypoints[2::3], strict=True)),
        )
        for pose in body.poses
    )
    return PoseResult(width=body.image.width, height=body.image.height, poses=tuple(poses))


def read_dependency(response: httpx.Response) -> DependencyMap | bytes:
    """The map, or the picture, or the error that the response is."""
    if response.status_code == HTTPStatus.OK and _media_type(response) == PNG:
        return response.content
    try:
        return _read(response, DependencyBody).to_map()
    except ValueError as error:
        raise UnexpectedAnswer(f"{response.url} answered with a map that this client cannot read") from error


def read_model(response: httpx.Response) -> ModelInfo:
    """What is being served, or the error that the response is."""
    body = _read(response, ModelBody)
    return ModelInfo(
        variant=body.variant,
        label=body.label,
        parameters=body.parameters,
        input_hw=(body.input.height, body.input.width),
        checkpoint_sha256=body.checkpoint_sha256,
        runtime=body.runtime,
        device=body.device,
        precision=body.precision,
        keypoint_names=tuple(body.keypoints),
        skeleton=tuple(body.skeleton),
        detector=body.detector,
        attention={level: AttentionShape(layers=one.layers, heads=one.heads) for level, one in body.attention.items()},
    )


def read_ready(response: httpx.Response) -> bool:
    """True, or the error that the response is."""
    if response.status_code != HTTPStatus.OK:
        raise error_of_response(response)
    return True


def error_of_response(response: httpx.Response) -> PoseServiceError:
    """The error that a response without success is."""
    status, media_type = response.status_code, _media_type(response)
    kind = ERROR_OF_PROXY_STATUS.get(status)
    said = f"{response.url} answered {status} {response.reason_phrase} as {media_type or 'nothing'}"
    if media_type == "application/problem+json":
        try:
            detail = ProblemBody.model_validate_json(response.content).detail
        except ValidationError:
            pass  # it only says that it is one
        else:
            kind = ERROR_OF_STATUS.get(status)
            said = detail if kind else f"{response.url} answered {status}: {detail}"
    return make_error(
        kind or UnexpectedAnswer, said, retry_after_s=seconds_of(response.headers.get("retry-after"), unit_s=1.0)
    )


def _read(response: httpx.Response, kind: type[_Body]) -> _Body:
    if response.status_code != HTTPStatus.OK:
        raise error_of_response(response)
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        raise UnexpectedAnswer(
            f"{response.url} answered {_media_type(response) or 'something'} that this client cannot read"
        ) from error


def _media_type(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()
