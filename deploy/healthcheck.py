"""The image's HEALTHCHECK: exit 0 if this container's service is ready, else 1 with a line that says why.

It reads the same environment as the service, and knows nothing of flags that were given to it instead.
"""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection

TIMEOUT_S = 4.0
EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def connection(environment: Mapping[str, str]) -> HTTPConnection:
    """To the service that this environment configures, over TLS where it has a certificate."""
    host = environment.get("BTRANSPOSE_HOST", "127.0.0.1")
    host = EVERYWHERE.get(host, host)
    port = int(environment.get("BTRANSPOSE_HTTP_PORT", "8000"))
    if not environment.get("BTRANSPOSE_TLS_CERT"):
        return HTTPConnection(host, port, timeout=TIMEOUT_S)
    # Its certificate names what clients call it, which is not this address; and nothing is told to it.
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    return HTTPSConnection(host, port, timeout=TIMEOUT_S, context=unverified)


def main(environment: Mapping[str, str] = os.environ) -> int:
    """Ask `/readyz`."""
    try:
        with closing(connection(environment)) as asking:
            asking.request("GET", "/readyz")
            answer = asking.getresponse()
            body = answer.read(1000).decode(errors="replace")
    except (OSError, HTTPException, ValueError) as error:
        print(f"not ready: {error}")
        return 1
    if answer.status != 200:
        print(f"not ready: {answer.status} {body}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
