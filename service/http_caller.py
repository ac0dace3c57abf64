"""Who asks over HTTP: the headers that every request may have, and noticing that a client has left."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import Any, TypeVar

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import InvalidParameter
from service.record import Caller, CallerGone, fit_request_id

Answer = TypeVar("Answer")

MAX_TIMEOUT_MS = 999_999_999

# The headers, as OpenAPI shows them.
CALLER_OPENAPI: list[dict[str, Any]] = [
    {
        "name": "X-Timeout-Ms",
        "in": "header",
        "description": "How long an answer is of use, in milliseconds; later it is 504. The service has a limit too.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS},
    },
    {
        "name": "X-Request-Id",
        "in": "header",
        "description": "A name for this request, 1 to 64 of A-Z a-z 0-9 . _ -; sent back, and in the server's log. "
        "One that is not fit is replaced.",
        "schema": {"type": "string"},
    },
    {
        "name": "X-Api-Key",
        "in": "header",
        "description": "Where the service asks for a key; `Authorization: Bearer KEY` does too.",
        "schema": {"type": "string"},
    },
]
ANSWER_HEADERS_OPENAPI: dict[str, Any] = {
    "X-Request-Id": {"description": "The name of the request.", "schema": {"type": "string"}},
}


class RequestId:
    """Middleware: every answer has an `X-Request-Id`, the client's own if it gave one that is fit."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = fit_request_id(Request(scope).headers.get("x-request-id"))
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)


def caller_of(request: Request, method: str) -> Caller:
    """Who asks, from the headers. What is wrong with them is `check_headers`'s to say, once the request is admitted."""
    headers = request.headers
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    return Caller(
        protocol="http",
        method=method,
        request_id=request.state.request_id,
        api_key=headers.get("x-api-key") or (bearer.strip() if scheme.lower() == "bearer" else None),
        timeout_s=_timeout_s(headers.get("x-timeout-ms")),
        traceparent=headers.get("traceparent"),
    )


def check_headers(request: Request) -> None:
    """Raises InvalidParameter for a timeout that is not a number of milliseconds."""
    text = request.headers.get("x-timeout-ms")
    if text is not None and _timeout_s(text) is None:
        allowed = f"allowed: a whole number of milliseconds, 1 to {MAX_TIMEOUT_MS}"
        raise InvalidParameter(f"x-timeout-ms is {text[:60]!r}; {allowed}")


async def unless_gone(request: Request, work: Awaitable[Answer]) -> Answer:
    """The answer of the work, which is cancelled if the client leaves meanwhile: then raises CallerGone.

    To be called when the body has been read: what comes after it can only be the news that the client has left.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise CallerGone
        return working.result()
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.gather(leaving, working, return_exceptions=True)


def _timeout_s(text: str | None) -> float | None:
    """None for what is not a number of milliseconds."""
    # The length first: a number of thousands of digits is not worth reading.
    is_number = text is not None and text.isascii() and text.isdecimal() and len(text) <= 12
    return int(text) / 1000 if text and is_number and 1 <= int(text) <= MAX_TIMEOUT_MS else None


def retry_after(seconds: float) -> str:
    """For the header `Retry-After`, which knows whole seconds only."""
    return str(max(1, math.ceil(seconds)))
