"""The HTTP adapter: each route reads a request, calls the service, and writes the answer. No decision is made here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service.core import PoseRequest, PoseService
from service.errors import (
    EngineFailed,
    InvalidParameter,
    NotAnImage,
    Overloaded,
    PoseServiceError,
    SlowRequest,
    TooLarge,
    Unavailable,
    UnsupportedMedia,
)
from service.http_body import read_image_body
from service.http_schemas import (
    IMAGE_BODY_OPENAPI,
    HealthBody,
    ModelBody,
    PosesBody,
    ProblemBody,
    parse_boxes,
    parse_flag,
)

STATUS_OF_ERROR: dict[type[PoseServiceError], HTTPStatus] = {
    NotAnImage: HTTPStatus.BAD_REQUEST,
    SlowRequest: HTTPStatus.REQUEST_TIMEOUT,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedMedia: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    InvalidParameter: HTTPStatus.UNPROCESSABLE_ENTITY,
    Overloaded: HTTPStatus.TOO_MANY_REQUESTS,
    EngineFailed: HTTPStatus.INTERNAL_SERVER_ERROR,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}

# After these the body may be unread; a connection kept open would wait for the rest of it without end.
UNREAD = (TooLarge, UnsupportedMedia, SlowRequest, Overloaded, Unavailable)

PROBLEM_MEDIA_TYPE = "application/problem+json"


def create_app(service: PoseService, *, version: str, body_timeout_s: float) -> FastAPI:
    """The HTTP interface of a service. Starting the app warms the service up; stopping it closes the service.

    Args:
        version: of the product, for `/docs`.
        body_timeout_s: how long the body of a request may take to arrive.
    """
    app = FastAPIOffline(
        title="BTranspose",
        version=version,
        description="2D human poses: post a picture, get the 17 COCO keypoints of each person.",
        lifespan=_lifespan(service),
        redoc_url=None,
    )
    _add_error_handlers(app)

    @app.post(
        "/pose",
        tags=["pose"],
        summary="Keypoints of each person",
        openapi_extra=IMAGE_BODY_OPENAPI,
        responses=_problems(400, 408, 413, 415, 422, 429, 500, 503),
    )
    async def pose(request: Request) -> PosesBody:
        """The keypoints of each person in a picture (JPEG, PNG or WebP; EXIF orientation is applied)."""
        with service.admission():
            body = await read_image_body(
                request,
                allowed=frozenset(("boxes", "flip_test")),
                max_bytes=service.limits.max_bytes,
                timeout_s=body_timeout_s,
            )
            result = await service.estimate(
                PoseRequest(
                    image=body.image,
                    boxes_xywh=parse_boxes(body.parameters.get("boxes")),
                    flip_test=parse_flag("flip_test", body.parameters.get("flip_test")),
                )
            )
        return PosesBody.of(result)

    _add_information(app, service)
    return app


def _add_information(app: FastAPI, service: PoseService) -> None:
    """The routes that tell about the service and take nothing."""

    @app.get("/model", summary="What is being served", tags=["model"])
    async def model() -> ModelBody:
        """What is being served."""
        return ModelBody.of(service.info)

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", summary="Is the process alive?", tags=["health"])
    async def healthz() -> HealthBody:
        """200 while the process answers; says nothing of the network."""
        return HealthBody(status="alive")

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", summary="Are pictures taken?", tags=["health"], responses=_problems(503))
    async def readyz() -> HealthBody:
        """200 when pictures are taken; 503, with the reason, while warming up, failing or shutting down."""
        if (reason := await service.why_not_ready()) is not None:
            raise Unavailable(f"not ready: {reason}")
        return HealthBody(status="ready")

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("docs")


def _lifespan(service: PoseService) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        warm_up = asyncio.create_task(service.warm_up())  # meanwhile /healthz already answers
        try:
            yield
        finally:
            service.stop()
            await warm_up
            await asyncio.to_thread(service.close)

    return lifespan


def _add_error_handlers(app: FastAPI) -> None:
    Handler = Callable[[Request, Exception], Awaitable[Response]]  # noqa: N806 (a type)

    async def on_service_error(_: Request, error: Exception) -> Response:
        headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, Overloaded) else {}
        if isinstance(error, UNREAD):
            headers["Connection"] = "close"
        return problem(STATUS_OF_ERROR[type(error)], str(error), headers)  # type: ignore[index]

    async def on_http_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem(HTTPStatus(error.status_code), error.detail, error.headers)

    async def on_disconnect(_: Request, __: Exception) -> Response:
        return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody is there to read it

    async def on_defect(_: Request, __: Exception) -> Response:
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "an internal error; the log has the details")

    handlers: dict[type[Exception], Handler] = {
        PoseServiceError: on_service_error,
        HTTPException: on_http_error,
        ClientDisconnect: on_disconnect,
        Exception: on_defect,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def problem(status: HTTPStatus, detail: str, headers: Any = None) -> JSONResponse:
    """An error as RFC 9457 has it."""
    body = ProblemBody(title=status.phrase, status=status, detail=detail)
    return JSONResponse(body.model_dump(), status, headers=headers, media_type=PROBLEM_MEDIA_TYPE)


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {PROBLEM_MEDIA_TYPE: {"schema": ProblemBody.model_json_schema()}},
        }
        for status in statuses
    }
