"""Build the image and try it as an operator would run it: `.venv/bin/python -m deploy.try_container`.

    build -> start (no root, read-only, no capabilities) -> look inside -> ask for poses -> start again from the cache
    -> SIGTERM under load over HTTP and gRPC -> nothing that was admitted may be lost, exit code 0

Needs docker with BuildKit, and the project's environment (`make setup`). `--wheels` first downloads the wheels with the
pip of this Python, as it is configured here, and builds without a network. Exits with 1 and the reason when something
is not as it should be. Removes its containers and its volume; the image stays.
"""

from __future__ import annotations

import argparse
import io
import json
import shlex
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from PIL import Image, ImageDraw

from deploy.image import Docker, Wrong, build, say, show_sizes
from deploy.stop_under_load import Outcome, stop_under_load
from service.client import connect

START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 60  # longer than the service waits for requests to finish
# What the image must do with. docker-compose.yml gives no more; the memory is half of what it allows.
HARDENED = (
    *("--init", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--pids-limit", "512", "--memory", "4g"),
)


@dataclass(frozen=True)
class Running:
    """A container that is ready: its name, its ports on this machine, and how long it took."""

    name: str
    http_port: int
    grpc_port: int
    seconds: float


def free_port() -> int:
    """A port of the loopback interface that nobody has now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def started(docker: Docker, given: argparse.Namespace, volume: str) -> Iterator[Running]:
    """The service in a container, ready and, for docker, healthy. Ends with the container removed."""
    name = f"btranspose-try-{uuid.uuid4().hex[:8]}"
    http_port, grpc_port = free_port(), free_port()
    flags = [*HARDENED, "--volume", f"{volume}:/cache", "--env", "BTRANSPOSE_LOG_FORMAT=json"]
    if docker.host_network:
        flags += ["--network", "host", "--env", "BTRANSPOSE_HOST=127.0.0.1"]
        flags += ["--env", f"BTRANSPOSE_HTTP_PORT={http_port}", "--env", f"BTRANSPOSE_GRPC_PORT={grpc_port}"]
    else:
        flags += ["--publish", f"127.0.0.1:{http_port}:8000", "--publish", f"127.0.0.1:{grpc_port}:50051"]
    if given.variant == "cuda":
        flags += ["--gpus", "all"]
    began = time.monotonic()
    docker("run", "--detach", "--name", name, *flags, given.image)
    try:
        wait_for(docker, name, f"http://127.0.0.1:{http_port}/readyz")
        seconds = time.monotonic() - began
        while (health := docker("inspect", "--format", "{{.State.Health.Status}}", name)) != "healthy":
            if time.monotonic() > began + START_TIMEOUT_S:
                raise Wrong(f"ready, but docker's health check says {health}")
            time.sleep(0.5)
        yield Running(name, http_port, grpc_port, seconds)
    except Exception:
        say("\n".join(docker.logs(name)[-20:]))
        raise
    finally:
        docker("rm", "--force", name, check=False)


def wait_for(docker: Docker, name: str, url: str) -> None:
    """Return when the service is ready. Raises Wrong if it ends, or does not become ready."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            pass
        if docker("inspect", "--format", "{{.State.Running}}", name) != "true":
            raise Wrong("the container ended")
        time.sleep(0.2)
    raise Wrong(f"not ready within {START_TIMEOUT_S:g} s")


def look_inside(docker: Docker, name: str) -> None:
    """Who it runs as, and what it could do. Raises Wrong for root, a capability, a writable root, or a compiler."""
    look = (
        "id -u; grep CapEff /proc/1/status | cut -f2; grep NoNewPrivs /proc/1/status | cut -f2; "
        "touch /app/x 2>/dev/null && echo writable || echo read-only; "
        "for tool in gcc cc g++ clang ld make; do command -v $tool; done; "
        "find / -xdev -perm /6000 -type f 2>/dev/null; true"
    )
    user, capabilities, no_new_privileges, root, *tools = docker("exec", name, "sh", "-c", look).splitlines()
    say(f"user {user}, capabilities {capabilities}, no new privileges {no_new_privileges}, root file system {root}")
    say(f"compilers and setuid programs: {' '.join(tools) or 'none'}")
    if (user, int(capabilities, 16), no_new_privileges, root, tools) != ("10001", 0, "1", "read-only", []):
        raise Wrong("the container can do more than it should")


def drawn_person() -> bytes:
    """A JPEG of a figure on a plain ground."""
    image = Image.new("RGB", (480, 640), (190, 200, 205))
    draw = ImageDraw.Draw(image)
    draw.ellipse((205, 60, 275, 140), fill=(224, 172, 140))
    draw.rounded_rectangle((180, 145, 300, 350), 30, fill=(60, 80, 160))
    for line in ((190, 160, 120, 330), (290, 160, 360, 330)):
        draw.line(line, fill=(224, 172, 140), width=26)
    for line in ((215, 345, 205, 600), (265, 345, 275, 600)):
        draw.line(line, fill=(50, 50, 60), width=40)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def ask(running: Running, picture: bytes) -> None:
    """Ask for poses over both protocols. Raises Wrong for an answer that is not one, or if they differ."""
    say(f"GET /model: {httpx.get(f'http://127.0.0.1:{running.http_port}/model').text[:300]}")
    with connect(f"http://127.0.0.1:{running.http_port}") as client:
        over_http = client.estimate(picture)
    with connect(f"grpc://127.0.0.1:{running.grpc_port}") as client:
        over_grpc = client.estimate(picture)
    if over_http != over_grpc:
        raise Wrong(f"HTTP and gRPC differ: {over_http} and {over_grpc}")
    width, height = Image.open(io.BytesIO(picture)).size
    (pose,) = over_http.poses
    points = pose.keypoints
    inside = sum(0 <= x < width and 0 <= y < height for x, y, _ in points)
    say(f"a picture of {width}x{height}: score {pose.score:.2f}, {inside} of {len(points)} keypoints inside")
    if len(points) != 17 or not all(0 <= score <= 1 for *_, score in points) or inside < 12:
        raise Wrong(f"that is no pose: {points}")


def stop(docker: Docker, running: Running, picture: bytes, clients: int) -> None:
    """SIGTERM under load. Raises Wrong if something that was admitted is lost, or the exit code is not 0."""
    addresses = (f"http://127.0.0.1:{running.http_port}", f"grpc://127.0.0.1:{running.grpc_port}")
    outcomes, told_s = stop_under_load(
        addresses, picture, clients=clients, tell=lambda: docker("kill", "--signal", "TERM", running.name)
    )
    code = int(docker("wait", running.name))
    stopped_s = time.monotonic() - told_s
    lines = docker.logs(running.name)
    check_stop(outcomes, told_s, [json.loads(line) for line in lines if line.startswith("{")])
    say(f"exit code {code}, {stopped_s:.1f} s after SIGTERM")
    say("the log's last lines:\n" + "\n".join(f"  {line[:160]}" for line in lines[-3:]))
    if code:
        raise Wrong(f"the exit code is {code}; expected: 0")


def check_stop(outcomes: dict[str, Outcome], told_s: float, log: list[dict[str, object]]) -> None:
    """Compare what clients got with what the service says it answered."""
    logged = {str(line["request_id"]): line["outcome"] for line in log if line.get("request_id") in outcomes}
    for protocol in ("http", "grpc"):
        of = {name: one for name, one in outcomes.items() if name.startswith(protocol)}
        got = [one for one in of.values() if one.said == "ok"]
        in_flight = sum(one.began_s < told_s < one.ended_s for one in got)
        kinds = {said: sum(one.said == said for one in of.values()) for said in sorted({o.said for o in of.values()})}
        say(f"{protocol}: {len(of)} requests, {in_flight} in flight at SIGTERM and answered after it; {kinds}")
        if not in_flight:
            raise Wrong(f"nothing was in flight over {protocol}, so this shows nothing")
    lost = [name for name, outcome in logged.items() if outcome == "ok" and outcomes[name].said != "ok"]
    lost += [name for name, one in outcomes.items() if one.said == "ok" and logged.get(name) != "ok"]
    odd = {outcome for outcome in logged.values() if outcome not in ("ok", "unavailable", "overloaded")}
    say(f"the service's log: {len(logged)} of these requests, lost {len(lost)}, unexpected outcomes {odd or 'none'}")
    if lost or odd:
        raise Wrong(f"lost: {lost}; unexpected: {odd}")


def arguments() -> argparse.Namespace:
    """What is to be tried."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--variant", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--image", help="its name (btranspose:VARIANT)")
    parser.add_argument("--no-build", action="store_true", help="try an image that is there")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE", help="for docker build")
    parser.add_argument("--wheels", action="store_true", help="download wheels first; build without a network")
    parser.add_argument("--photo", type=Path, help="a photograph to post instead of the drawn figure")
    parser.add_argument("--clients", type=int, default=8, help="of each protocol while it is stopped (8)")
    parser.add_argument("--docker", default="docker", metavar="COMMAND", help="the command, with its options")
    parser.add_argument("--host-network", action="store_true", help="where docker has no bridge")
    given = parser.parse_args()
    given.image = given.image or f"btranspose:{given.variant}"
    return given


def try_it(docker: Docker, given: argparse.Namespace) -> None:
    """Everything, in order. Raises Wrong at the first thing that is not as it should be."""
    picture = given.photo.read_bytes() if given.photo else drawn_person()
    if not given.no_build:
        build(docker, given.image, variant=given.variant, build_args=given.build_arg, wheels=given.wheels)
    show_sizes(docker, given.image)
    volume = f"btranspose-try-{uuid.uuid4().hex[:8]}"
    try:
        with started(docker, given, volume) as running:
            say(f"ready {running.seconds:.1f} s after the start, with an empty cache")
            look_inside(docker, running.name)
            ask(running, picture)
        with started(docker, given, volume) as running:
            say(f"ready {running.seconds:.1f} s after the start, with the cache")
            stop(docker, running, picture, given.clients)
    finally:
        docker("volume", "rm", "--force", volume, check=False)


def main() -> int:
    """Exit code: 0 if everything is as it should be."""
    given = arguments()
    docker = Docker(tuple(shlex.split(given.docker)), given.host_network)
    try:
        try_it(docker, given)
    except Wrong as error:
        say(f"WRONG: {error}")
        return 1
    say("everything is as it should be")
    return 0


if __name__ == "__main__":
    sys.exit(main())
