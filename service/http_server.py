"""uvicorn, with what it lacks for meeting strangers: limits on how long and how large the head of a request may be.

Knows nothing of poses. The limits on bodies are in `service.http_body`, where they can be answered by the application.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httptools
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 32 * 2**10
HEAD_TIMEOUT_S = 10.0
KEEP_ALIVE_S = 75  # longer than the minute for which proxies commonly keep a connection, so that they close it first


class StayingParser(httptools.HttpRequestParser):
    """Passes over offers to speak another protocol, such as every Java client makes at first.

    The parser would take the body of such a request for the other protocol, and the request for one without a body.
    """

    def __init__(self, protocol: GuardedProtocol) -> None:
        super().__init__(protocol)
        self._protocol = protocol
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it

    def feed_data(self, data: Any) -> None:
        rest = memoryview(data)
        while rest:
            try:
                super().feed_data(rest)
            except httptools.HttpParserUpgrade as offer:
                rest = rest[offer.args[0] :]
                super().feed_data(self._protocol.head_without_offer())
            else:
                return


class GuardedProtocol(HttpToolsProtocol):
    """One connection. Closed if the head of a request is too large or takes too long, or nothing comes at all."""

    head_timeout_s = HEAD_TIMEOUT_S
    max_head_bytes = MAX_HEAD_BYTES

    _in_message = False  # between the head of a request and the end of its body
    _head_bytes = 0
    _timer: asyncio.TimerHandle | None = None  # for the rest of a head, or of a body that nobody wants

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.parser = StayingParser(self)
        # A connection without a first byte idles like one between two requests; uvicorn stops this at the first byte.
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._in_message:
            self._head_bytes += len(data)
            self._start_timer()
        super().data_received(data)
        if not self._in_message and self._head_bytes > self.max_head_bytes:
            self._refuse_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._start_timer()

    def on_headers_complete(self) -> None:
        self._in_message = True
        self._head_bytes = 0
        self._stop_timer()
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > self.max_head_bytes:
            self._refuse_head()
            raise httptools.HttpParserError("the head is too large")  # so that nothing more of it is parsed
        if not self.parser.should_upgrade():  # or it will come again, without the offer
            super().on_headers_complete()
        elif self.parser.get_method() == b"CONNECT":
            raise httptools.HttpParserError("this is no proxy")

    def head_without_offer(self) -> bytes:
        """The head that was parsed last, but for what offers another protocol."""
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                value = b",".join(option for option in value.split(b",") if option.strip().lower() != b"upgrade")
            if name != b"upgrade":
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join((*lines, b"", b""))

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._in_message = False
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_message:
            self._start_timer()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (of the interface)
        self._refuse(HTTPStatus.BAD_REQUEST, "this is not an HTTP/1.1 request")

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.head_timeout_s, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        if cycle is not None and not cycle.response_complete:
            self._start_timer()  # a head that came early: the request before it is still being answered
        elif self._in_message:
            self.transport.close()  # it has had its answer
        else:
            what = f"the head of the request did not arrive within {self.head_timeout_s:g} s"
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, what)

    def _refuse_head(self) -> None:
        what = f"the head of the request is too large; allowed: at most {self.max_head_bytes} bytes"
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, what)

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer before there is an application to do so, and close."""
        if self.transport.is_closing():
            return
        problem = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail}
        body = json.dumps(problem).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


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
