"""What HAProxy takes of a core for a picture: `python bench/balancer.py`, with the configuration of `deploy/haproxy`.

Behind it are servers that read a picture and answer at once, so that only HAProxy is measured: by the processor time
that the kernel counts for it, which other work on the machine changes little. HTTP only, without TLS.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from pathlib import Path

from clients import SIZE
from drawn import drawn_jpeg
from load import HttpClient
from results import Table, progress
from server import HOST

from deploy.balancer import Balancer, Front, Replica
from deploy.try_replicas import free_ports

ANSWER = b'{"image": {"width": 640, "height": 480}, "poses": []}' + b" " * 700  # as long as one with a pose
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)


async def answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A connection of a server that reads whatever it is sent and says 200."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            fields = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            await reader.readexactly(int(fields[0].split(b":")[1]) if fields else 0)
            writer.write(HEAD + ANSWER)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def core_seconds(pid: int) -> float:
    """Processor time of a process until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(pictures: int, connections: int, image: bytes) -> float:
    """Core-milliseconds of HAProxy for a picture."""
    ports = free_ports(5)
    servers = [await asyncio.start_server(answer_all, HOST, port, limit=2**20) for port in ports[:2]]
    replicas = [Replica(name=f"r{port}", http_port=port, grpc_port=1) for port in ports[:2]]
    with tempfile.TemporaryDirectory() as folder:
        addresses = [f"{HOST}:{port}" for port in ports[2:]]
        socket = Path(folder) / "haproxy.sock"
        front = Front(http=addresses[0], grpc=addresses[1], stats=addresses[2], socket=socket, hard_stop_s=1)
        balancer = Balancer(front, replicas, Path(folder))
        await balancer.start()
        assert balancer.process is not None
        clients = [HttpClient(HOST, ports[2]) for _ in range(connections)]

        async def ask(client: HttpClient, times: int) -> None:
            for _ in range(times):
                await client.post("/pose", image)

        await asyncio.gather(*(ask(client, 5) for client in clients))
        before_s = core_seconds(balancer.process.pid)
        await asyncio.gather(*(ask(client, pictures // connections) for client in clients))
        taken_s = core_seconds(balancer.process.pid) - before_s
        for client in clients:
            client.close()
        await balancer.stop()
    for server in servers:
        server.close()
    return 1000 * taken_s / (pictures // connections * connections)


def main() -> None:
    """Print the table, and write it where results are kept."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=int, default=3000, help="of each size (3000)")
    parser.add_argument("--connections", type=int, default=8, help="at a time (8)")
    parser.add_argument("--results", type=Path, help="a folder for results as JSON and Markdown")
    given = parser.parse_args()
    table = Table("balancer", "HAProxy before two servers that answer at once, HTTP", ["body", "core-ms a picture"])
    for name, image in (("a picture of 640x480, 0.13 MB", drawn_jpeg(*SIZE)), ("1 kB", bytes(1000))):
        progress(name)
        table.add(name, f"{asyncio.run(measure(given.pictures, given.connections, image)):.3f}")
    table.write(given.results)


if __name__ == "__main__":
    main()
