"""The body of an HTTP request -> the bytes of one image and the named parameters, within limits while it streams.

A raw body is the image; a multipart body has it in the field `image`. Nothing is read beyond the limits, and a body
that comes too slowly is given up. Knows nothing of poses.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import InvalidParameter, SlowRequest, TooLarge, UnsupportedMedia
from service.record import CallerGone

MAX_LENGTH_DIGITS = 18  # of a declared length; more is no number of bytes
MAX_FIELDS = 16  # of a form: more than any request has parameters
MAX_FIELD_BYTES = 256 * 2**10  # of one form field other than the image: thousands of boxes
MULTIPART_OVERHEAD_BYTES = MAX_FIELDS * (MAX_FIELD_BYTES + 4 * 2**10)


@dataclass(frozen=True)
class ImageBody:
    """The bytes of the image, and the text parameters from query string and form together."""

    image: bytes
    parameters: dict[str, str]


class CloseUnread:
    """Middleware: an answer that comes before the whole body was read closes the connection.

    Kept open, it would wait for the rest of the body, and what comes of that would be taken for another request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        unread = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"

        async def receive_and_note() -> Message:
            nonlocal unread
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                unread = False
            return message

        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start" and unread:
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        await self._app(scope, receive_and_note, send_and_close)


async def read_image_body(
    request: Request,
    *,
    allowed: frozenset[str],
    max_bytes: int,
    timeout_s: float,
    on_bytes: Callable[[int], None],
) -> ImageBody:
    """Read a request that carries one image.

    Args:
        allowed: the names of parameters that may come.
        max_bytes: the most bytes of the image.
        timeout_s: how long the whole body may take to arrive.
        on_bytes: is told of each part's bytes as it arrives, and may raise.

    Raises UnsupportedMedia, TooLarge, SlowRequest, InvalidParameter (for an unknown or repeated parameter), CallerGone.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (media_type.startswith("image/") or media_type == "multipart/form-data"):
        raise UnsupportedMedia(
            f"the content type is {media_type or 'missing'!r}; allowed: image/jpeg, image/png, image/webp with the "
            "image as the body, or multipart/form-data with the image in the field 'image'"
        )
    try:
        async with asyncio.timeout(timeout_s):
            if media_type == "multipart/form-data":
                image, fields = await _read_form(request, max_bytes, on_bytes)
            else:
                parts = _limited(request, max_bytes, max_bytes, on_bytes)
                image, fields = b"".join([part async for part in parts]), []
    except TimeoutError as error:
        raise SlowRequest(f"the body did not arrive within {timeout_s:g} s") from error
    except ClientDisconnect as error:
        raise CallerGone from error
    return ImageBody(image, _merge([*request.query_params.multi_items(), *fields], allowed))


async def _limited(
    request: Request, limit: int, max_bytes: int, on_bytes: Callable[[int], None]
) -> AsyncGenerator[bytes, None]:
    """The body's parts; raises TooLarge before or as soon as they exceed `limit` bytes."""
    message = f"the image is too large; allowed: at most {max_bytes} bytes"
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > MAX_LENGTH_DIGITS or int(declared) > limit):
        raise TooLarge(message)
    received = 0
    async for part in request.stream():
        received += len(part)
        if received > limit:
            raise TooLarge(message)
        on_bytes(len(part))
        yield part


async def _read_form(
    request: Request, max_bytes: int, on_bytes: Callable[[int], None]
) -> tuple[bytes, list[tuple[str, str]]]:
    stream = _limited(request, max_bytes + MULTIPART_OVERHEAD_BYTES, max_bytes, on_bytes)
    parser = MultiPartParser(request.headers, stream, max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
    # In memory throughout: the size is bounded already, and spooling to disk would block the event loop.
    parser.spool_max_size = max_bytes + MULTIPART_OVERHEAD_BYTES
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise InvalidParameter(f"the multipart body cannot be read: {error.message}") from error
    except (KeyError, ValueError) as error:  # no boundary, or a character set that does not exist
        raise InvalidParameter("the multipart body cannot be read: its content type is not complete") from error
    try:
        image = form.get("image")
        if not isinstance(image, UploadFile):
            raise InvalidParameter("the form has no file in the field 'image'")
        return await image.read(), [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
    finally:
        await form.close()


def _merge(items: list[tuple[str, str]], allowed: frozenset[str]) -> dict[str, str]:
    """Each parameter once. An unknown one is refused: a misspelt `boxes` must not silently change the answer."""
    merged: dict[str, str] = {}
    for name, value in items:
        if name not in allowed:
            raise InvalidParameter(f"unknown parameter {name[:60]!r}; allowed: {', '.join(sorted(allowed))}")
        if name in merged:
            raise InvalidParameter(f"parameter {name!r} is given more than once")
        merged[name] = value
    return merged
