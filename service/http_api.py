"""The HTTP adapter: each route reads a request, calls the service, and writes the answer. No decision is made here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from service.core import PoseService
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
from service.http_body import CloseUnread, read_image_body
from service.http_caller import (
    ANSWER_HEADERS_OPENAPI,
    CALLER_OPENAPI,
    RequestId,
    caller_of,
    check_headers,
    retry_after,
    unless_gone,
)
from service.http_schemas import (
    IMAGE_BODY_OPENAPI,
    PROBLEM_HEADERS_OPENAPI,
    HealthBody,
    ModelBody,
    PosesBody,
    ProblemBody,
    parse_boxes,
    parse_flag,
)
from service.metrics import Metrics
from service.poses import PoseRequest
from service.record import CallerGone

STATUS_OF_ERROR: dict[type[PoseServiceError], HTTPStatus] = {
    NotAnImage: HTTPStatus.BAD_REQUEST,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    SlowRequest: HTTPStatus.REQUEST_TIMEOUT,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedMedia: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    InvalidParameter: HTTPStatus.UNPROCESSABLE_ENTITY,
    Overloaded: HTTPStatus.TOO_MANY_REQUESTS,
    EngineFailed: HTTPStatus.INTERNAL_SERVER_ERROR,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    Late: HTTPStatus.GATEWAY_TIMEOUT,
}

PROBLEM_MEDIA_TYPE = "application/problem+json"
PROBLEM_SCHEMA = ProblemBody.model_json_schema()


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
        description="2D human poses: post a picture, get the 17 COCO keypoints of each person.",
        redoc_url=None,
    )
    app.add_middleware(CloseUnread)
    app.add_middleware(RequestId)
    _add_error_handlers(app)

    @app.post(
        "/pose",
        tags=["pose"],
        summary="Keypoints of each person",
        openapi_extra={**IMAGE_BODY_OPENAPI, "parameters": [*IMAGE_BODY_OPENAPI["parameters"], *CALLER_OPENAPI]},
        responses=_answers(400, 401, 408, 413, 415, 422, 429, 500, 503, 504),
    )
    async def pose(request: Request) -> PosesBody:
        """The keypoints of each person in a picture (JPEG, PNG or WebP; EXIF orientation is applied)."""
        async with service.admission.request(caller_of(request, "pose")) as record:
            check_headers(request)
            with record.stage("read"):
                body = await read_image_body(
                    request,
                    allowed=frozenset(("boxes", "flip_test")),
                    max_bytes=service.limits.max_bytes,
                    timeout_s=body_timeout_s,
                    on_bytes=partial(service.admission.hold, record),
                )
            asked = PoseRequest(
                image=body.image,
                boxes_xywh=parse_boxes(body.parameters.get("boxes")),
                flip_test=parse_flag("flip_test", body.parameters.get("flip_test")),
            )
            return PosesBody.of(await unless_gone(request, service.estimate(asked, record)))

    _add_information(app, service)
    _add_metrics(app, metrics)
    return app


def _add_information(app: FastAPI, service: PoseService) -> None:
    """The routes that tell about the service and take nothing."""

    @app.get("/model", summary="What is being served", tags=["model"], responses=_answers())
    async def model() -> ModelBody:
        """What is being served."""
        return ModelBody.of(service.info)

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", summary="Is the process alive?", tags=["health"], responses=_answers())
    async def healthz() -> HealthBody:
        """200 while the process answers; says nothing of the network."""
        return HealthBody(status="alive")

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", summary="Are pictures taken?", tags=["health"], responses=_answers(503))
    async def readyz() -> HealthBody:
        """200 when pictures are taken; 503, with the reason, while warming up, failing or shutting down."""
        if (reason := await service.why_not_ready()) is not None:
            raise Unavailable(f"not ready: {reason}")
        return HealthBody(status="ready")

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("docs")


def _add_metrics(app: FastAPI, metrics: Metrics) -> None:
    responses = _answers()
    responses[200]["content"] = {"application/openmetrics-text": {"schema": {"type": "string"}}}

    @app.get(
        "/metrics", summary="For Prometheus", tags=["health"], response_class=PlainTextResponse, responses=responses
    )
    async def exposition(request: Request) -> Response:
        """Counters, histograms and gauges, in the text format of Prometheus or in OpenMetrics."""
        text, content_type = metrics.exposition(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})


def _add_error_handlers(app: FastAPI) -> None:
    Handler = Callable[[Request, Exception], Awaitable[Response]]  # noqa: N806 (a type)

    async def on_service_error(_: Request, error: Exception) -> Response:
        headers = {"Retry-After": retry_after(error.retry_after_s)} if isinstance(error, Overloaded) else {}
        if isinstance(error, Unauthenticated):
            headers["WWW-Authenticate"] = "Bearer"
        return problem(STATUS_OF_ERROR[type(error)], str(error), headers)  # type: ignore[index]

    async def on_http_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem(HTTPStatus(error.status_code), error.detail, error.headers)

    async def on_disconnect(_: Request, __: Exception) -> Response:
        return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody is there to read it

    async def on_defect(request: Request, _: Exception) -> Response:
        # Written outside of all middleware, which would add these.
        headers = {"X-Request-Id": request.state.request_id, "Connection": "close"}
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "an internal error; the log has the details", headers)

    handlers: dict[type[Exception], Handler] = {
        PoseServiceError: on_service_error,
        HTTPException: on_http_error,
        CallerGone: on_disconnect,
        Exception: on_defect,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def problem(status: HTTPStatus, detail: str, headers: Any = None) -> JSONResponse:
    """An error as RFC 9457 has it."""
    body = ProblemBody(title=status.phrase, status=status, detail=detail)
    return JSONResponse(body.model_dump(), status, headers=headers, media_type=PROBLEM_MEDIA_TYPE)


def _answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI shows of the answers of a route: that of 200, and problems."""
    problems: dict[int | str, dict[str, Any]] = {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {PROBLEM_MEDIA_TYPE: {"schema": PROBLEM_SCHEMA}},
            "headers": {**ANSWER_HEADERS_OPENAPI, **PROBLEM_HEADERS_OPENAPI.get(status, {})},
        }
        for status in statuses
    }
    return {200: {"headers": ANSWER_HEADERS_OPENAPI}, **problems}
