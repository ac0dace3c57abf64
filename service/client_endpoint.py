"""Where a service is, and what every call to it takes along; checked before anything is sent."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from service.errors import InvalidParameter

SCHEMES = ("http", "https", "grpc", "grpcs")
MAX_TIMEOUT_S = 999_999  # the longest that a service reads; more than eleven days

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a service is, and what every call to it takes. See `client.connect`."""

    address: str
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 30.0
    ca_cert: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Raises ValueError for what cannot be an endpoint."""
        parts = urlsplit(self.address)
        if parts.scheme not in SCHEMES:
            allowed = ", ".join(f"{scheme}://" for scheme in SCHEMES)
            raise ValueError(f"the address {self.address!r} has the scheme {parts.scheme!r}; allowed: {allowed}")
        port = parts.port  # a ValueError names a port that is none
        is_plain = parts.hostname and parts.username is None and not parts.query and not parts.fragment
        if not is_plain or (self.uses_grpc and (port is None or parts.path.strip("/"))):
            # Not shown whole: there may be a password in it.
            raise ValueError(f"the address is not {parts.scheme}://host:port, with nothing else in it")
        if not self.uses_tls and (self.ca_cert or self.client_cert or self.client_key):
            raise ValueError(f"{parts.scheme}:// does not use certificates; allowed with them: https://, grpcs://")
        if (self.client_cert is None) != (self.client_key is None):
            raise ValueError("a client needs both its certificate and its key: client_cert and client_key")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable() and self.api_key):
            raise ValueError("the API key is empty or has characters that cannot be sent; allowed: printable ASCII")
        self.timeout_of_call_s(None)

    @property
    def host_port(self) -> str:
        """The part of the address after the scheme, without a path."""
        return urlsplit(self.address).netloc

    @property
    def uses_grpc(self) -> bool:
        """Whether the protocol is gRPC; otherwise it is HTTP."""
        return urlsplit(self.address).scheme.startswith("grpc")

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted and the server's certificate is checked."""
        return urlsplit(self.address).scheme in ("https", "grpcs")

    def read_certificates(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """What is in `ca_cert`, `client_key` and `client_cert`. Raises OSError, naming the file that cannot be read."""
        ca, key, certificate = (
            None if path is None else Path(path).read_bytes()
            for path in (self.ca_cert, self.client_key, self.client_cert)
        )
        return ca, key, certificate

    def timeout_of_call_s(self, timeout_s: float | None) -> float:
        """The time that a call may take, in seconds; this endpoint's own where the call has none. Raises ValueError."""
        chosen = self.timeout_s if timeout_s is None else timeout_s
        if not 0 < chosen <= MAX_TIMEOUT_S:
            raise ValueError(f"timeout_s is {chosen}; allowed: seconds above 0, at most {MAX_TIMEOUT_S}")
        return chosen

    def headers(self, request_id: str | None) -> dict[str, str]:
        """What every call sends along, as HTTP headers or as gRPC metadata. Raises InvalidParameter."""
        if request_id is not None and not _REQUEST_ID.fullmatch(request_id):
            raise InvalidParameter(f"request_id is {request_id[:80]!r}; allowed: 1 to 64 of A-Z a-z 0-9 . _ -")
        named = {"x-api-key": self.api_key, "x-request-id": request_id}
        return {name: value for name, value in named.items() if value is not None}
