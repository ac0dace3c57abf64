"""HAProxy before replicas: its configuration, its process, and what it is told while it runs.

    python -m deploy.balancer --server r1=10.0.0.1:8000:50051 --server r2=10.0.0.2:8000:50051 > haproxy.cfg

prints a configuration for replicas that somebody else starts. Knows nothing of how replicas are started.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import shutil
import signal
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

TEMPLATE = Path(__file__).parent / "haproxy" / "haproxy.cfg"
BACKENDS = ("pose_http", "pose_grpc")
SERVICE_NAME = "btranspose.v1.PoseService"
SERVING = b"\x00" + struct.pack(">I", 2) + b"\x08\x01"  # HealthCheckResponse(status=SERVING), with its gRPC prefix


@dataclass(frozen=True, kw_only=True)
class Replica:
    """A replica of the service as HAProxy knows it."""

    name: str
    host: str = "127.0.0.1"
    http_port: int
    grpc_port: int


@dataclass(frozen=True, kw_only=True)
class Front:
    """Where HAProxy listens (`address:port`), and how it is told things.

    socket: of its runtime API.
    tls_pem: certificate chain and private key in one file, for both protocols; None for plain text.
    timeout_server_s: longer than the service's --timeout-s.
    slowstart_s: over which a replica that is back gets its whole share.
    """

    http: str = "127.0.0.1:8000"
    grpc: str = "127.0.0.1:50051"
    stats: str = "127.0.0.1:8404"
    socket: Path = field(default_factory=lambda: Path("haproxy.sock"))
    tls_pem: Path | None = None
    timeout_server_s: float = 40.0
    slowstart_s: int = 10
    hard_stop_s: int = 60


def configuration(front: Front, replicas: Sequence[Replica]) -> str:
    """The text for HAProxy. Raises ValueError without replicas, or for two of one name."""
    names = [one.name for one in replicas]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"replicas are {names}; allowed: one or more, of different names")
    tls = f" ssl crt {front.tls_pem} alpn " if front.tls_pem else ""
    http = [f"    server {one.name} {one.host}:{one.http_port}" for one in replicas]
    grpc = [f"    server {one.name} {one.host}:{one.grpc_port} proto h2" for one in replicas]
    filled = {
        "socket": front.socket,
        "hard_stop": f"{front.hard_stop_s}s",
        "timeout_server": f"{round(1000 * front.timeout_server_s)}ms",
        "slowstart": f"{front.slowstart_s}s",
        "http_bind": front.http + (f"{tls}h2,http/1.1" if tls else ""),
        "grpc_bind": front.grpc + (f"{tls}h2" if tls else " proto h2"),
        "stats_bind": front.stats,
        "grpc_check": health_check_request(SERVICE_NAME).hex(),
        "grpc_serving": SERVING.hex(),
        "http_servers": "\n".join(http),
        "grpc_servers": "\n".join(grpc),
    }
    return Template(TEMPLATE.read_text()).substitute(filled)


def health_check_request(service: str) -> bytes:
    """A whole HTTP/2 connection that calls grpc.health.v1.Health/Check for a service (RFC 9113, RFC 7541).

    Headers are literal, or from HPACK's static table, so that no state is needed.
    """

    def text(value: str) -> bytes:
        return bytes([len(value)]) + value.encode()

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload

    headers = (
        b"\x83\x86"  # :method POST, :scheme http
        + b"\x04"
        + text("/grpc.health.v1.Health/Check")  # :path
        + b"\x01"
        + text("haproxy")  # :authority
        + b"\x0f\x10"
        + text("application/grpc")  # content-type
        + b"\x00"
        + text("te")
        + text("trailers")
    )
    asked = b"\x0a" + text(service)  # HealthCheckRequest.service
    message = b"\x00" + struct.pack(">I", len(asked)) + asked
    return (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + frame(4, 0, 0, b"")  # SETTINGS
        + frame(1, 4, 1, headers)  # HEADERS, the last
        + frame(0, 1, 1, message)  # DATA, the last
    )


class Balancer:
    """A running HAProxy.

    Args:
        front: where it listens.
        replicas: what it sends requests to.
        folder: for its configuration.
    """

    def __init__(self, front: Front, replicas: Sequence[Replica], folder: Path) -> None:
        self._front = front
        self._file = folder / "haproxy.cfg"
        self._file.write_text(configuration(front, replicas))
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it. Raises ValueError if it is not installed, or does not take the configuration or a port."""
        program = haproxy()
        check = await asyncio.create_subprocess_exec(
            program, "-c", "-q", "-f", str(self._file), stderr=asyncio.subprocess.PIPE
        )
        _, said = await check.communicate()
        if check.returncode:
            raise ValueError(f"HAProxy does not take {self._file}:\n{said.decode()}")
        self.process = await asyncio.create_subprocess_exec(
            program, "-q", "-db", "-f", str(self._file), stdout=sys.stderr
        )
        for _ in range(100):
            if self.process.returncode is not None:
                raise ValueError("HAProxy did not start; it says above why. Is a port taken?")
            try:
                await self.tell("show info")
                return
            except OSError:
                await asyncio.sleep(0.05)
        raise ValueError(f"HAProxy does not answer at {self._front.socket}")

    async def tell(self, command: str) -> str:
        """A command of the runtime API, and what it answers. Raises OSError if nobody listens."""
        reader, writer = await asyncio.open_unix_connection(str(self._front.socket))
        try:
            writer.write(f"{command}\n".encode())
            return (await reader.read()).decode()
        finally:
            writer.close()

    async def take(self, replica: str, *, new_requests: bool) -> None:
        """Send a replica new requests again, or none. Requests that it has go on."""
        for backend in BACKENDS:
            await self.tell(f"set server {backend}/{replica} state {'ready' if new_requests else 'drain'}")

    async def requests(self, replica: str) -> int:
        """Requests, calls and streams that a replica has at this moment."""
        return sum(int(row["scur"]) for row in await self._rows(replica))

    async def is_up(self, replica: str) -> bool:
        """Whether a replica is sent requests of both protocols."""
        return all(row["status"] in ("UP", "no check") for row in await self._rows(replica))

    async def falls(self, replica: str) -> int:
        """How often a replica was found to be well no longer: by its checks of one protocol, whichever saw it less."""
        return min(int(row["chkdown"] or 0) for row in await self._rows(replica))

    async def stop(self) -> None:
        """Take no new connections, let those that are there end, and end."""
        if self.process is None or self.process.returncode is not None:
            return
        self.process.send_signal(signal.SIGUSR1)
        try:
            await asyncio.wait_for(self.process.wait(), self._front.hard_stop_s + 5)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    async def _rows(self, replica: str) -> list[dict[str, str]]:
        table = (await self.tell("show stat")).removeprefix("# ").strip()
        return [
            row for row in csv.DictReader(io.StringIO(table)) if row["pxname"] in BACKENDS and row["svname"] == replica
        ]


def haproxy() -> str:
    """Where HAProxy is. Raises ValueError if it is not installed."""
    # Debian keeps it where only administrators look.
    found = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise ValueError("haproxy is not installed; on Debian: apt-get install haproxy")
    return found


def _parse_replica(text: str) -> Replica:
    name, _, address = text.partition("=")
    host, *ports = address.rsplit(":", 2)
    if not name or not host or len(ports) != 2 or not all(port.isdecimal() for port in ports):
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: NAME=HOST:HTTP_PORT:GRPC_PORT")
    return Replica(name=name, host=host, http_port=int(ports[0]), grpc_port=int(ports[1]))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Flags of where HAProxy listens."""
    parser.add_argument("--http", default=Front.http, metavar="ADDRESS:PORT", help=f"for clients ({Front.http})")
    parser.add_argument("--grpc", default=Front.grpc, metavar="ADDRESS:PORT", help=f"for clients ({Front.grpc})")
    parser.add_argument(
        "--stats", default=Front.stats, metavar="ADDRESS:PORT", help=f"HAProxy's own page, and /metrics ({Front.stats})"
    )
    parser.add_argument("--tls-pem", type=Path, help="certificate chain and private key in one file, for both")
    parser.add_argument(
        "--slowstart-s", type=int, default=Front.slowstart_s, help="for a replica that is back to get its whole share"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the configuration."""
    parser = argparse.ArgumentParser(prog="python -m deploy.balancer", description="A configuration for HAProxy.")
    parser.add_argument(
        "--server", type=_parse_replica, action="append", required=True, metavar="NAME=HOST:HTTP_PORT:GRPC_PORT"
    )
    parser.add_argument("--socket", type=Path, default=Path("/run/haproxy/admin.sock"), help="of the runtime API")
    add_options(parser)
    given = parser.parse_args(arguments)
    front = Front(
        http=given.http,
        grpc=given.grpc,
        stats=given.stats,
        socket=given.socket,
        tls_pem=given.tls_pem,
        slowstart_s=given.slowstart_s,
    )
    try:
        print(configuration(front, given.server), end="")
    except ValueError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
