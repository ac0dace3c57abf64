"""One HTTP/1.1 connection with a stranger: uvicorn's protocol, with the limits and the manners that it lacks.

Knows nothing of poses. The limits on bodies are in `service.http_body`, where they can be answered by the application.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MAX_HEAD_BYTES = 32 * 2**10
HEAD_TIMEOUT_S = 10.0
LINGER_S = 2.0  # how long the rest of a request is read after its answer
LINGER_BYTES = 24 * 2**20  # and how much of a body: all of any picture that could have been taken
LINGER_HEAD_BYTES = 2**20  # and of a head, which no honest client needs


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


class LingeringTransport:
    """A transport that, told to close while a request is still arriving, lets the client read its answer first.

    To close a socket with unread bytes resets the connection, and the reset can overtake the answer. So only the
    sending half is closed; what still comes is read and thrown away, up to a limit.
    """

    def __init__(
        self, transport: asyncio.Transport, is_arriving: Callable[[], bool], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._transport = transport
        self._is_arriving = is_arriving
        self._loop = loop
        self._lingers = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self._lingers or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send; but nothing after the last answer, such as that of a request which was cut short by it."""
        if not self._lingers:
            self._transport.write(data)

    def close(self) -> None:
        """Close, at once or after lingering; at once when told so again."""
        if self.is_closing() or not self._is_arriving() or not self._transport.can_write_eof():  # TLS cannot
            self._transport.close()
            return
        self._lingers = True
        self._transport.write_eof()
        self._transport.resume_reading()
        self._loop.call_later(LINGER_S, self._transport.close)


class GuardedProtocol(HttpToolsProtocol):
    """One connection. Closed if the head of a request is too large or takes too long, or nothing comes at all."""

    head_timeout_s = HEAD_TIMEOUT_S
    max_head_bytes = MAX_HEAD_BYTES

    _in_message = False  # between the head of a request and the end of its body
    _head_bytes = 0
    _unwanted_bytes = 0
    _at_work: RequestResponseCycle | None = None  # what is being answered; uvicorn's `cycle` is what came last
    _timer: asyncio.TimerHandle | None = None  # for the rest of a head

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        _send_at_once(transport)
        self.transport = LingeringTransport(transport, lambda: self._in_message or self._head_bytes > 0, self.loop)  # type: ignore[assignment]
        self.parser = StayingParser(self)
        # A connection without a first byte idles like one between two requests; uvicorn stops this at the first byte.
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        if self._at_work is not None:  # uvicorn tells only what came last, so that the first of several would go on
            self._at_work.disconnected = True
            self._at_work.message_event.set()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():  # the rest of a request that has had its answer
            self._unwanted_bytes += len(data)
            if self._unwanted_bytes > (LINGER_BYTES if self._in_message else LINGER_HEAD_BYTES):
                self.transport.close()
            return
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
            if not self.pipeline:
                self._at_work = self.cycle
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
        if self.pipeline:
            self._at_work = self.pipeline[-1][0]
        super().on_response_complete()

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


def _send_at_once(transport: asyncio.Transport) -> None:
    """Do not hold back the body of an answer until its head is acknowledged, which a client may delay by 40 ms.

    asyncio sees to it only for sockets that say which protocol they are of, and those of `socket.create_server` do not.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
