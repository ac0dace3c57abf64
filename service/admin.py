"""Ask a running service for another network: `python -m service.admin SOCKET status|reload|rollback|keys`.

    python -m service.admin /run/btranspose/admin.sock reload --checkpoint c3a1-4-2.safetensors

What it says is what the service says, as JSON. Exit code 0, or 1 if that is not what was asked for, or 2 if there is no
service at the socket. Knows nothing of networks.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any

LOAD_TIMEOUT_S = 900.0  # converting and checking a network; a load goes on when nobody waits for it any more
ACTIONS = {
    "status": ("GET", "/"),
    "reload": ("POST", "/reload"),
    "rollback": ("POST", "/rollback"),
    "keys": ("POST", "/keys"),
}


class UnixConnection(HTTPConnection):
    """HTTP to a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("admin", timeout=LOAD_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(path: str, action: str, checkpoint: str | None = None) -> tuple[int, Any]:
    """Status and JSON of the answer. Raises OSError or HTTPException if there is none."""
    method, route = ACTIONS[action]
    with closing(UnixConnection(path)) as connection:
        connection.request(method, route, None if checkpoint is None else json.dumps({"checkpoint": checkpoint}))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m service.admin", description="Change a running service.")
    parser.add_argument("socket", help="of the service, as its --admin-socket has it")
    parser.add_argument(
        "action",
        choices=ACTIONS,
        help="status: what serves; reload: load a checkpoint, and have it serve if it can; rollback: the one before "
        "serves again, at once; keys: read the file of API keys again",
    )
    parser.add_argument(
        "--checkpoint", metavar="NAME", help="of reload: NAME.safetensors in --checkpoint-dir; default: --checkpoint"
    )
    given = parser.parse_args(argv)
    if given.checkpoint is not None and given.action != "reload":
        parser.error(f"--checkpoint is for reload, not for {given.action}")
    try:
        status, said = ask(given.socket, given.action, given.checkpoint)
    except (OSError, HTTPException, ValueError) as error:
        print(f"python -m service.admin: no answer at {given.socket}: {error}", file=sys.stderr)
        return 2
    if status != HTTPStatus.OK:
        print(f"python -m service.admin: {said['detail']}", file=sys.stderr)
        return 1
    print(json.dumps(said, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
