"""The HTTP server around `service.http_api`: uvicorn on a port that is taken beforehand, without its signal handling.

Knows nothing of poses.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from service.http_protocol import GuardedProtocol

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 75  # longer than the minute for which proxies commonly keep a connection, so that they close it first


class HttpServer(uvicorn.Server):
    """A server that leaves signals to whoever runs it; `should_exit` ends it."""

    _listening: list[socket.socket] | None = None

    def listen(self) -> None:
        """Take the port before `serve` does. Raises ValueError if it cannot be used."""
        host, port = self.config.host, self.config.port
        sockets: list[socket.socket] = []
        try:
            found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, _, _, _, address in dict.fromkeys(found):
                sockets.append(socket.create_server((address[0], port, *address[2:]), family=family))
                port = sockets[0].getsockname()[1]  # where any will do: the same for all addresses
        except OSError as error:
            for one in sockets:
                one.close()
            what = str(error.strerror).partition(" (")[0].lower()
            raise ValueError(f"HTTP cannot listen on {host}:{self.config.port}: {what}") from error
        self._listening = sockets
        scheme = "https" if self.config.is_ssl else "http"
        shown = f"[{host}]" if ":" in host else host
        log.info("HTTP running on %s://%s:%d", scheme, shown, sockets[0].getsockname()[1])

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await super().serve(self._listening if sockets is None else sockets)

    def give_up(self) -> None:
        """End at once, with what is still at work."""
        self.config.timeout_graceful_shutdown = 0
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    @property
    def port(self) -> int:
        """The port it listens on, once started."""
        return int(self.servers[0].sockets[0].getsockname()[1])


def make_http_server(
    app: FastAPI, *, host: str, port: int, tls_cert: Path | None = None, tls_key: Path | None = None
) -> HttpServer:
    """A server for the app; run it with `serve()`. Raises ValueError if the certificate cannot be used."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=GuardedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=5,  # the service has been drained before
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"{tls_cert} and {tls_key} cannot be used for TLS: {type(error).__name__}") from error
    return HttpServer(config)
