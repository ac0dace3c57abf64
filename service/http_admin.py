"""What an operator may ask of a running service: which network serves, another one, the one before, keys read again.

Over HTTP on a Unix socket that only the owner of the process (and root) can open: it has no port, so that no client, no
neighbour in a network and no page in a browser reaches it. Nothing of it is on the ports of the service.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, ValidationError

from service.errors import InvalidParameter
from service.http_caller import RequestId
from service.http_problem import add_error_handlers, problem
from service.http_server import HttpServer, make_http_server
from service.network import Network
from service.reloading import NotAllowed, ReloadFailed, ReloadRefused, Reloads

log = logging.getLogger(__name__)

ASKED_BY = "the admin socket"
OWNER_ONLY = 0o177  # what the mask takes away


class ReloadBody(BaseModel):
    """The body of `POST /reload`; an empty one is the same as {}."""

    model_config = ConfigDict(extra="forbid")

    checkpoint: str | None = None


def create_admin_app(reloads: Reloads, read_keys: Callable[[], int]) -> FastAPI:
    """The interface.

    Args:
        reloads: what takes over.
        read_keys: reads the API keys again, and says how many there are. Raises ValueError, whose message is for
            operators; the old ones go on.
    """
    app = FastAPI(openapi_url=None)
    app.add_middleware(RequestId)
    add_error_handlers(app)

    async def on_refused(_: Request, error: Exception) -> Response:
        wrong = isinstance(error, NotAllowed | ReloadFailed)
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY if wrong else HTTPStatus.CONFLICT, str(error))

    app.add_exception_handler(ReloadRefused, on_refused)
    app.add_exception_handler(ReloadFailed, on_refused)

    @app.get("/")
    async def status() -> dict[str, Any]:
        return _status(reloads)

    @app.post("/reload")
    async def reload(request: Request) -> dict[str, Any]:
        try:
            asked = ReloadBody.model_validate_json(await request.body() or b"{}")
        except ValidationError as error:
            raise InvalidParameter('the body is not what it should be; allowed: {"checkpoint": NAME}, or {}') from error
        await reloads.reload(asked.checkpoint, asked_by=ASKED_BY)
        return _status(reloads)

    @app.post("/rollback")
    async def rollback() -> dict[str, Any]:
        reloads.roll_back(asked_by=ASKED_BY)
        return _status(reloads)

    @app.post("/keys")
    async def keys() -> Any:
        try:
            return {"keys": read_keys()}
        except ValueError as error:
            return problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))

    return app


@asynccontextmanager
async def admin_beside(app: FastAPI, path: Path) -> AsyncIterator[None]:
    """Serve the interface on a Unix socket until the context is left. Raises ValueError if it cannot be had."""
    server = make_http_server(app, host="", port=0)
    server.config.timeout_graceful_shutdown = 1  # a load that is waited for is given up
    listening = _listen(path)
    log.info("the admin socket is %s", path)
    serving = asyncio.create_task(_serve(server, listening))
    try:
        yield
    finally:
        server.should_exit = True
        await serving
        with suppress(OSError):
            path.unlink()


async def _serve(server: HttpServer, listening: socket.socket) -> None:
    try:
        await server.serve([listening])
    except Exception:  # the service itself goes on
        log.exception("the admin socket failed")
    finally:
        listening.close()


def _listen(path: Path) -> socket.socket:
    """A socket that only its owner can open. Raises ValueError if it cannot be had, or is another process's."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(OWNER_ONLY)
    try:
        _remove_what_was_left(path)
        listening.bind(str(path))
        listening.listen()
    except OSError as error:
        listening.close()
        what = error.strerror or str(error)  # a path that is too long has no errno
        raise ValueError(f"admin_socket is {path}, which cannot be used: {what.lower()}") from error
    finally:
        os.umask(mask)
    return listening


def _remove_what_was_left(path: Path) -> None:
    """Remove a socket that no process listens on: of one that was killed. Raises OSError for anything else there."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return  # and binding fails
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trying, suppress(ConnectionRefusedError):
        trying.connect(str(path))
        return  # and binding fails
    path.unlink()


def _status(reloads: Reloads) -> dict[str, Any]:
    last = reloads.last
    return {
        "serving": _network(reloads.serving),
        "before": None if reloads.before is None else _network(reloads.before),
        "loading": reloads.is_loading,
        "last": None
        if last is None
        else {"outcome": last.outcome, "asked_by": last.asked_by, "detail": last.detail, "at": last.at_s},
    }


def _network(network: Network) -> dict[str, Any]:
    info = network.info
    return {
        "checkpoint": network.source,
        "checkpoint_sha256": info.checkpoint_sha256,
        "variant": info.variant,
        "input": {"width": info.input_hw[1], "height": info.input_hw[0]},
        "runtime": info.runtime,
        "device": info.device,
        "precision": info.precision,
    }
