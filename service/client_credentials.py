"""Who a command is to the service, and how it knows the service: the options of its command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypedDict


class Credentials(TypedDict):
    """As `service.client.connect` takes them."""

    api_key: str | None
    ca_cert: Path | None
    client_cert: Path | None
    client_key: Path | None


def add_credentials(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    add = parser.add_argument
    add("--api-key-file", type=Path, metavar="FILE", help="holds the API key and nothing else")
    add("--ca-cert", type=Path, metavar="PEM", help="who may have signed the service's certificate")
    add("--client-cert", type=Path, metavar="PEM", help="the client's own certificate, for mutual TLS")
    add("--client-key", type=Path, metavar="PEM", help="its private key")


def credentials(given: argparse.Namespace) -> Credentials:
    """What the options say. Raises OSError for a key file that cannot be read."""
    return {
        "api_key": given.api_key_file.read_text().strip() if given.api_key_file else None,
        "ca_cert": given.ca_cert,
        "client_cert": given.client_cert,
        "client_key": given.client_key,
    }
