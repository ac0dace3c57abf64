"""HTTP over real sockets, byte by byte, as no library would send it."""

from __future__ import annotations

import asyncio
import json
import select
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

from http_clients import PATIENCE_S, assert_problem, idle, make_counted, outcomes, served


@dataclass(frozen=True)
class Answer:
    """One response, as it stood on the wire."""

    status_code: int
    headers: dict[str, str]
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> dict[str, object]:
        return json.loads(self.content)


def head(line: str = "POST /pose HTTP/1.1", **headers: object) -> bytes:
    """The head of a request; `content_type` becomes `content-type`."""
    fields = {"host": "test"} | headers
    return "\r\n".join(
        [line, *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items()), "", ""]
    ).encode()


def picture_request(picture: bytes, line: str = "POST /pose HTTP/1.1", **headers: object) -> bytes:
    return head(line, content_type="image/jpeg", content_length=len(picture), **headers) + picture


def in_chunks(content: bytes, size: int = 300) -> bytes:
    """A whole body, as `transfer-encoding: chunked` has it."""
    parts = [content[start : start + size] for start in range(0, len(content), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])


class Wire:
    """One connection, byte by byte. What the server said before it closed is read even if it closed in anger."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._unread = b""

    @classmethod
    async def open(cls, port: int) -> Wire:
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        return cls(sock)

    async def send(self, *parts: bytes) -> bool:
        """Whether all of it could be sent: False when the server has closed the connection."""
        async with asyncio.timeout(PATIENCE_S):
            for part in parts:
                try:
                    await asyncio.get_running_loop().sock_sendall(self._sock, part)
                except (BrokenPipeError, ConnectionResetError):
                    return False
        return True

    async def is_answered(self) -> None:
        """Wait until there is something to read, and read nothing."""
        async with asyncio.timeout(PATIENCE_S):
            while not select.select([self._sock], [], [], 0)[0]:
                await asyncio.sleep(0.001)

    async def answer(self, *, to_head: bool = False) -> Answer:
        """The next response. Raises EOFError if the server closes before it is whole."""
        said = await self._read_to(b"\r\n\r\n")
        lines = said.decode("ascii").split("\r\n")
        protocol, status, _ = lines[0].split(" ", 2)
        assert protocol == "HTTP/1.1"
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        length = 0 if to_head or status == "100" else int(headers["content-length"])
        while len(self._unread) < length:
            await self._read_more()
        content, self._unread = self._unread[:length], self._unread[length:]
        return Answer(int(status), headers, content)

    async def closed(self) -> bool:
        """Wait for the server to close; True if it said nothing more."""
        with suppress(EOFError):
            while not self._unread:
                await self._read_more()
        return not self._unread

    def end_sending(self) -> None:
        """Close one half: nothing more will be sent, an answer is still wanted."""
        self._sock.shutdown(socket.SHUT_WR)

    def leave(self) -> None:
        self._sock.close()

    async def _read_to(self, mark: bytes) -> bytes:
        while mark not in self._unread:
            await self._read_more()
        said, self._unread = self._unread.split(mark, 1)
        return said

    async def _read_more(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            try:
                more = await asyncio.get_running_loop().sock_recv(self._sock, 2**16)
            except ConnectionResetError:
                more = b""
        if not more:
            raise EOFError(f"closed after {self._unread[:200]!r}")
        self._unread += more


@asynccontextmanager
async def wire(port: int, *sent: bytes) -> AsyncIterator[Wire]:
    """A connection, on which something has been sent."""
    connection = await Wire.open(port)
    try:
        await connection.send(*sent)
        yield connection
    finally:
        connection.leave()


GET = head("GET /healthz HTTP/1.1")
HEALTHY = b'{"status":"alive"}'


def on_a_server(scene: Callable[[int], Awaitable[None]], **settings: object) -> dict[str, int]:
    """Run a scene against a real server, check that nothing of it stays, and say how its requests ended."""
    service, metrics = make_counted(**settings)

    async def run() -> None:
        async with served(service, metrics) as port:
            await scene(port)
            await idle(service)
            async with wire(port, GET) as other:
                assert (await other.answer()).content == HEALTHY, "the server goes on"

    asyncio.run(run())
    return outcomes(metrics)


@contextmanager
def naming(what: str) -> Iterator[None]:
    """What goes wrong inside is told of this case."""
    try:
        yield
    except (AssertionError, EOFError, TimeoutError) as error:
        raise AssertionError(what) from error


async def assert_refused(connection: Wire, status: int, detail: str) -> None:
    """Told as a problem, and closed."""
    answer = await connection.answer()
    assert_problem(answer, status, detail)
    assert answer.headers["connection"] == "close"
    assert await connection.closed()
