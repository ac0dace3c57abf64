"""The image of `try_container.py`: docker's command line, the wheels, the build and its size."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WHEELS = ROOT / "deploy" / "wheels"


class Wrong(Exception):
    """The container is not as it should be; the message says how."""


def say(text: str) -> None:
    """Progress and findings."""
    print(text, flush=True)


@dataclass(frozen=True)
class Docker:
    """The command line of docker, and how containers of this trial are reached."""

    command: tuple[str, ...]
    host_network: bool

    def __call__(self, *arguments: str, check: bool = True) -> str:
        """What it prints. Raises Wrong with its complaint if it fails."""
        done = subprocess.run((*self.command, *arguments), capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise Wrong(f"docker {arguments[0]}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout.strip()

    def logs(self, container: str) -> list[str]:
        """Everything that a container wrote."""
        done = subprocess.run((*self.command, "logs", container), capture_output=True, text=True, check=True)
        return (done.stdout + done.stderr).splitlines()


def download_wheels(variant: str) -> None:
    """All wheels of the image, by this Python's pip. Raises Wrong for a Python of another version than the image's."""
    if sys.version_info[:2] != (3, 11):
        raise Wrong(f"--wheels needs Python 3.11, as the image has; this is {sys.version.split()[0]}")
    for lock in (f"requirements-{variant}.txt", "requirements-build.txt"):
        options = ("--no-deps", "--require-hashes", "--only-binary", ":all:", "--quiet", "--dest", str(WHEELS))
        command = (sys.executable, "-m", "pip", "download", *options, "--requirement", str(ROOT / "deploy" / lock))
        if subprocess.run(command, check=False).returncode:
            raise Wrong(f"the wheels of {lock} could not be downloaded")


def build(docker: Docker, image: str, *, variant: str, build_args: Sequence[str], wheels: bool) -> None:
    """Build an image of this name; with `wheels` from wheels that are downloaded first, without a network.

    Raises Wrong if it cannot be built.
    """
    arguments = [f"VARIANT={variant}", *build_args]
    if wheels:
        say("downloading wheels")
        download_wheels(variant)
        arguments.append("PIP_NO_INDEX=1")
    network = "none" if wheels else ("host" if docker.host_network else "default")
    flags = [flag for argument in arguments for flag in ("--build-arg", argument)]
    say(f"building {image}, network {network}")
    command = (*docker.command, "build", "--network", network, *flags, "--tag", image, str(ROOT))
    started = time.monotonic()
    if subprocess.run(command, env=os.environ | {"DOCKER_BUILDKIT": "1"}, check=False).returncode:
        raise Wrong("the image could not be built")
    say(f"built in {time.monotonic() - started:.0f} s")


def show_sizes(docker: Docker, image: str) -> None:
    """The size of the image and of its layers."""
    total = int(docker("image", "inspect", "--format", "{{.Size}}", image))
    say(f"size of {image}: {total / 2**20:.0f} MiB")
    for line in docker("history", "--format", "{{.Size}}\t{{.CreatedBy}}", image).splitlines():
        size, _, made_by = line.partition("\t")
        if size.endswith(("MB", "GB")):
            say(f"  {size:>8}  {made_by[:70] or 'the base'}")
