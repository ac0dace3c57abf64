"""The life of the running service: warm up, serve both protocols, and stop in order.

    SIGTERM -> refuse what is new, tell the health checks -> finish what was admitted -> close the sockets -> end
    SIGHUP -> whatever the caller of `serve` does then, and go on

Knows nothing of what the servers serve.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import grpc

from service.core import PoseService
from service.http_server import HttpServer

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 5.0  # for the network to end what it is at, once nobody waits for it


@asynccontextmanager
async def warm(service: PoseService) -> AsyncIterator[None]:
    """Warm a service up while it already answers health checks, and stop it in the end."""
    warm_up = asyncio.create_task(service.warm_up())
    try:
        yield
    finally:
        service.stop()
        warm_up.cancel()
        with suppress(asyncio.CancelledError):
            await warm_up


async def serve(
    service: PoseService,
    http_server: HttpServer,
    grpc_server: grpc.aio.Server,
    *,
    drain_timeout_s: float,
    drain_delay_s: float = 0.0,
    on_hangup: Callable[[], None] | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT; a second one ends at once what is still at work.

    Args:
        service: behind both.
        http_server: not started yet, its port taken or not.
        grpc_server: not started yet, its port bound.
        drain_timeout_s: how long requests that were admitted may take to finish.
        drain_delay_s: how long at least new requests are still answered (with 503) before the sockets close.
        on_hangup: called on the event loop at each SIGHUP; None: the signal is left as it is.

    Returns:
        0, or 1 if something that was admitted could not be finished, or a server ended on its own.
    """
    signals: asyncio.Queue[None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, None)
    if on_hangup is not None:
        loop.add_signal_handler(signal.SIGHUP, on_hangup)
    async with warm(service):
        await grpc_server.start()
        http = asyncio.create_task(_serve_http(http_server))
        asked = asyncio.create_task(signals.get())
        await asyncio.wait({http, asked}, return_when=asyncio.FIRST_COMPLETED)
        if http.done():
            asked.cancel()
            await grpc_server.stop(None)
            service.close(CLOSE_TIMEOUT_S)
            return 1
        finished = await _drain(service, signals, timeout_s=drain_timeout_s, delay_s=drain_delay_s)
        if finished:
            http_server.should_exit = True
        else:
            http_server.give_up()
        await asyncio.gather(http, grpc_server.stop(1.0 if finished else None))
    ended = await asyncio.to_thread(service.close, CLOSE_TIMEOUT_S if finished else 0.0)
    if not ended:
        log.error("the network did not end what it was at; giving it up")
    return 0 if finished and ended else 1


async def _serve_http(server: HttpServer) -> None:
    try:
        await server.serve()
    except SystemExit:  # how uvicorn says that it could not start, after it has said why
        log.error("the HTTP server did not start")
    except Exception:
        log.exception("the HTTP server failed")


async def _drain(service: PoseService, signals: asyncio.Queue[None], *, timeout_s: float, delay_s: float) -> bool:
    log.info("stopping: %d requests to finish, for at most %g s", service.admission.requests, timeout_s)
    service.stop()
    again = asyncio.create_task(signals.get())
    drained = asyncio.create_task(_drained(service, timeout_s=timeout_s, delay_s=delay_s))
    await asyncio.wait((again, drained), return_when=asyncio.FIRST_COMPLETED)
    again.cancel()
    if not drained.done():
        drained.cancel()
        log.warning("stopping at once: %d requests are given up", service.admission.requests)
        return not service.admission.requests
    finished = drained.result()
    if not finished:
        log.error("%d requests did not finish within %g s and are given up", service.admission.requests, timeout_s)
    return finished


async def _drained(service: PoseService, *, timeout_s: float, delay_s: float) -> bool:
    finished, _ = await asyncio.gather(service.admission.drained(timeout_s), asyncio.sleep(delay_s))
    return finished
