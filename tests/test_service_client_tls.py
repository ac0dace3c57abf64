"""The client over TLS: it checks who the service is, and says who it is itself."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
import trustme

from client_answers import StandIn, some_poses
from client_blocking import opened
from client_servers import grpc_stand_in, http_stand_in
from service.client import connect
from service.errors import Unavailable


@dataclass
class Files:
    ca: trustme.CA
    ca_cert: Path
    client_cert: Path
    client_key: Path
    stranger_ca_cert: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Files:
    folder = tmp_path_factory.mktemp("certificates")
    ca, stranger = trustme.CA(), trustme.CA()
    client = ca.issue_cert("client@example.org")
    made = Files(ca, folder / "ca.pem", folder / "client.pem", folder / "client-key.pem", folder / "stranger.pem")
    ca.cert_pem.write_to_path(made.ca_cert)
    stranger.cert_pem.write_to_path(made.stranger_ca_cert)
    client.cert_chain_pems[0].write_to_path(made.client_cert)
    client.private_key_pem.write_to_path(made.client_key)
    return made


@contextmanager
def served(scheme: str, files: Files, *, mutual: bool = False) -> Iterator[StandIn]:
    certificate = files.ca.issue_cert("127.0.0.1")
    chain, key = certificate.cert_chain_pems[0].bytes(), certificate.private_key_pem.bytes()
    if scheme == "grpcs":
        roots = files.ca_cert.read_bytes() if mutual else None
        with grpc_stand_in(grpc.ssl_server_credentials([(key, chain)], roots, mutual)) as stand_in:
            yield stand_in
        return
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    if mutual:
        files.ca.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    with http_stand_in(context) as stand_in:
        yield stand_in


@pytest.fixture(params=["https", "grpcs"])
def scheme(request) -> str:
    return request.param


@pytest.fixture(params=["sync", "async"])
def surface(request) -> str:
    return request.param


def test_a_service_with_a_certificate_of_a_known_authority_is_asked(scheme, surface, files):
    with served(scheme, files) as server, opened(surface, server.address, ca_cert=files.ca_cert) as client:
        assert server.address.startswith(f"{scheme}://")
        assert client.estimate(b"picture") == some_poses()
        assert client.is_ready()


def test_a_service_with_a_certificate_of_somebody_else_is_not_asked(scheme, surface, files):
    with served(scheme, files) as server:
        for authorities in (files.stranger_ca_cert, None):
            with opened(surface, server.address, ca_cert=authorities) as client, pytest.raises(Unavailable):
                client.estimate(b"picture")
        assert not server.asked


def test_a_service_that_asks_for_a_certificate_gets_it(scheme, surface, files):
    pair = {"client_cert": files.client_cert, "client_key": files.client_key}
    with served(scheme, files, mutual=True) as server:
        with opened(surface, server.address, ca_cert=files.ca_cert, **pair) as client:
            assert client.estimate(b"picture") == some_poses()
        with opened(surface, server.address, ca_cert=files.ca_cert) as client, pytest.raises(Unavailable):
            client.estimate(b"picture")
    assert len(server.asked) == 1


def test_a_refusal_that_comes_after_the_handshake_is_an_error_of_the_service(surface, monkeypatch):
    """In TLS 1.3 the other side may say so in place of its first answer, and httpx passes that on as it came."""

    def refused(*_):
        raise ssl.SSLError(1, "tlsv13 alert certificate required")

    async def refused_async(*_):
        refused()

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", refused)
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", refused_async)
    with opened(surface, "https://127.0.0.1:1") as client:
        with pytest.raises(Unavailable, match=r"connection to https://127\.0\.0\.1:1 broke: .*certificate required"):
            client.estimate(b"picture")
        assert not client.is_ready()


def test_a_client_certificate_goes_with_the_usual_authorities(scheme, files):
    with connect(f"{scheme}://127.0.0.1:1", client_cert=files.client_cert, client_key=files.client_key) as client:
        assert not client.is_ready()


def test_a_certificate_file_that_is_missing_is_named(scheme, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.pem"):
        connect(f"{scheme}://127.0.0.1:1", ca_cert=tmp_path / "missing.pem")


@pytest.mark.parametrize("content", [b"", b"no certificate"])
def test_a_file_without_certificates_lets_nobody_be_trusted(scheme, surface, files, tmp_path, content):
    empty = tmp_path / "empty.pem"
    empty.write_bytes(content)
    with served(scheme, files) as server:
        with pytest.raises((ValueError, Unavailable)), opened(surface, server.address, ca_cert=empty) as client:
            client.estimate(b"picture")
        assert not server.asked
