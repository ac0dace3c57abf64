"""Errors over HTTP: which status each has, how it is written (RFC 9457), and how OpenAPI shows it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

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
from service.http_caller import ANSWER_HEADERS_OPENAPI, retry_after
from service.http_schemas import PROBLEM_HEADERS_OPENAPI, ProblemBody
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


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error as a problem, and defects without what they say."""
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


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
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
