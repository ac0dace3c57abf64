"""The HTTP adapter: each route reads a request, calls the service, and writes the answer. No decision is made here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline

from model.skeleton import COCO
from service.core import PoseService
from service.errors import Unavailable
from service.http_body import CloseUnread, ImageBody, read_image_body
from service.http_caller import CALLER_OPENAPI, RequestId, caller_of, check_headers, unless_gone
from service.http_dependency import (
    DEPENDENCY_PARAMETERS,
    PNG,
    DependencyBody,
    dependency_answers,
    dependency_openapi,
    dependency_request,
)
from service.http_explorer import add_explorer
from service.http_problem import add_error_handlers, answers
from service.http_schemas import (
    POSE_OPENAPI,
    POSE_PARAMETERS,
    HealthBody,
    ModelBody,
    PosesBody,
    parse_boxes,
    parse_flag,
    poses_body,
)
from service.metrics import Metrics
from service.poses import PoseRequest
from service.record import DEPENDENCY, RequestRecord

ASKED_STATUSES = (400, 401, 408, 413, 415, 422, 429, 500, 503, 504)  # of the problems that a picture may meet


def create_app(service: PoseService, metrics: Metrics, *, version: str, body_timeout_s: float) -> FastAPI:
    """The HTTP interface of a service that somebody else starts and stops.

    Args:
        service: behind it.
        metrics: what `/metrics` tells.
        version: of the product, for `/docs`.
        body_timeout_s: how long the body of a request may take to arrive.
    """
    app = FastAPIOffline(
        title="BTranspose",
        version=version,
        description=_about(service.info.keypoint_names),
        redoc_url=None,
    )
    app.add_middleware(CloseUnread)
    app.add_middleware(RequestId)
    add_error_handlers(app)

    poses = poses_body(len(service.info.keypoint_names))
    read = partial(_read_image, service=service, timeout_s=body_timeout_s)

    @app.post(
        "/pose",
        tags=["pose"],
        summary="Keypoints of each person",
        openapi_extra=_with_caller(POSE_OPENAPI),
        response_model=poses,
        responses=answers(*ASKED_STATUSES),
    )
    async def pose(request: Request) -> PosesBody:
        """The keypoints of each person in a picture (JPEG, PNG or WebP; EXIF orientation is applied)."""
        async with service.admission.request(caller_of(request, "pose")) as record:
            body = await read(request, record, allowed=POSE_PARAMETERS)
            asked = PoseRequest(
                image=body.image,
                boxes_xywh=parse_boxes(body.parameters.get("boxes")),
                flip_test=parse_flag("flip_test", body.parameters.get("flip_test")),
            )
            return poses.of(await unless_gone(request, service.estimate(asked, record)))

    @app.post(
        "/dependency",
        tags=["pose"],
        summary="What a keypoint depended on",
        openapi_extra=_with_caller(dependency_openapi(service.info.attention, service.info.keypoint_names)),
        response_class=Response,
        responses=dependency_answers(answers(*ASKED_STATUSES)),
    )
    async def dependency(request: Request) -> Response:
        """Which parts of the picture the network looked at when it placed a keypoint, as a PNG or as numbers."""
        async with service.admission.request(caller_of(request, DEPENDENCY)) as record:
            body = await read(request, record, allowed=DEPENDENCY_PARAMETERS)
            found = await unless_gone(request, service.explain(dependency_request(body.image, body.parameters), record))
            if isinstance(found, bytes):
                return Response(found, media_type=PNG)
            return Response(DependencyBody.of(found).model_dump_json(), media_type="application/json")

    _keep_document_true(app, service)
    add_explorer(app)
    _add_information(app, service)
    _add_metrics(app, metrics)
    return app


def _keep_document_true(app: FastAPI, service: PoseService) -> None:
    """Have `/openapi.json` tell the layers and heads of what serves, also when another network has taken over."""
    (route,) = (one for one in app.routes if isinstance(one, APIRoute) and one.path == "/dependency")
    written, told = app.openapi, service.info.attention  # keypoints stay the same while it runs

    def openapi() -> dict[str, Any]:
        nonlocal told
        if service.info.attention != told:
            told = service.info.attention
            route.openapi_extra = _with_caller(dependency_openapi(told, service.info.keypoint_names))
            app.openapi_schema = None
        return written()

    app.openapi = openapi  # type: ignore[method-assign]


def _add_information(app: FastAPI, service: PoseService) -> None:
    """The routes that tell about the service and take nothing."""

    @app.get("/model", summary="What is being served", tags=["model"], responses=answers())
    async def model() -> ModelBody:
        """What is being served."""
        return ModelBody.of(service.info)

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", summary="Is the process alive?", tags=["health"], responses=answers())
    async def healthz() -> HealthBody:
        """200 while the process answers; says nothing of the network."""
        return HealthBody(status="alive")

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", summary="Are pictures taken?", tags=["health"], responses=answers(503))
    async def readyz() -> HealthBody:
        """200 when pictures are taken; 503, with the reason, while warming up, failing or shutting down."""
        if (reason := await service.why_not_ready()) is not None:
            raise Unavailable(f"not ready: {reason}")
        return HealthBody(status="ready")


def _add_metrics(app: FastAPI, metrics: Metrics) -> None:
    responses = answers()
    responses[200]["content"] = {"application/openmetrics-text": {"schema": {"type": "string"}}}

    @app.get(
        "/metrics", summary="For Prometheus", tags=["health"], response_class=PlainTextResponse, responses=responses
    )
    async def exposition(request: Request) -> Response:
        """Counters, histograms and gauges, in the text format of Prometheus or in OpenMetrics."""
        text, content_type = metrics.exposition(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})


async def _read_image(
    request: Request, record: RequestRecord, *, allowed: frozenset[str], service: PoseService, timeout_s: float
) -> ImageBody:
    """The body of a request that was admitted."""
    check_headers(request)
    with record.stage("read"):
        return await read_image_body(
            request,
            allowed=allowed,
            max_bytes=service.limits.max_bytes,
            timeout_s=timeout_s,
            on_bytes=partial(service.admission.hold, record),
        )


def _about(keypoint_names: Sequence[str]) -> str:
    of_coco = "COCO " if tuple(keypoint_names) == COCO.names else ""
    return f"2D human poses: post a picture, get the {len(keypoint_names)} {of_coco}keypoints of each person."


def _with_caller(openapi: dict[str, Any]) -> dict[str, Any]:
    return {**openapi, "parameters": [*openapi["parameters"], *CALLER_OPENAPI]}
