"""The explorer: the page at `/`, on which a person tries the service in a browser.

It is one HTML document without anything from elsewhere, put together once when the server starts: it works offline, and
behind any path prefix, for it asks the service by relative addresses. Knows nothing of poses; the page does.
"""

from __future__ import annotations

import base64
import hashlib
from http import HTTPStatus
from pathlib import Path

from fastapi import FastAPI, Request, Response

SOURCES = Path(__file__).resolve().parent / "explorer"
# In this order, for what one defines at once the next may use at once.
SCRIPTS = (
    "palette.js",
    "state.js",
    "messages.js",
    "service.js",
    "picture.js",
    "sample.js",
    "stage.js",
    "gestures.js",
    "persons.js",
    "poses.js",
    "heat.js",
    "maps.js",
    "taking.js",
    "start.js",
)
STYLE_SLOT, SCRIPT_SLOT = "<style></style>", "<script></script>"


def add_explorer(app: FastAPI) -> None:
    """Add `GET /` and `HEAD /`. Raises OSError or ValueError if the page's files are not as they should be."""
    style, script = read_style(), read_script()
    page = fill(read("page.html"), {STYLE_SLOT: f"<style>{style}</style>", SCRIPT_SLOT: f"<script>{script}</script>"})
    body = page.encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {
        "Content-Security-Policy": content_security_policy(style=style, script=script),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
        "ETag": etag,
    }

    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def explorer(request: Request) -> Response:
        if is_known(etag, request.headers.get("if-none-match", "")):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(body, media_type="text/html", headers=headers)


def read(name: str) -> str:
    """One of the page's files."""
    return (SOURCES / name).read_text(encoding="utf-8")


def read_style() -> str:
    """What stands in the page's `<style>`."""
    return f"\n{read('style.css')}"


def read_script() -> str:
    """What stands in the page's `<script>`: all parts in one function, so that none of their names is global."""
    parts = "\n".join(read(name) for name in SCRIPTS)
    return f'\n(() => {{\n"use strict";\n{parts}}})();\n'


def fill(page: str, parts: dict[str, str]) -> str:
    """The page with each slot replaced by its part. Raises ValueError if a slot is not there exactly once."""
    for slot, part in parts.items():
        if page.count(slot) != 1:
            raise ValueError(f"page.html has {slot} {page.count(slot)} times; allowed: once")
        page = page.replace(slot, part)
    return page


def content_security_policy(*, style: str, script: str) -> str:
    """Only this style and this script, pictures of the page's own, and requests to this service."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash_source(script)}",
            f"style-src {_hash_source(style)}",
            "img-src 'self' blob: data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def is_known(etag: str, if_none_match: str) -> bool:
    """Whether the header `If-None-Match` names the tag; weakly, for a proxy that compresses may have weakened it."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or tags == ["*"]


def _hash_source(content: str) -> str:
    """The content of an inline element as the policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
