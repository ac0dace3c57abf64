"""The gRPC server around `service.grpc_api`: health, reflection, limits, keepalive and TLS."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from service.core import PoseService
from service.grpc_api import PoseServicer
from service.pb import pose_pb2, pose_pb2_grpc
from service.streaming import StreamObserver

SERVICE_NAME = pose_pb2.DESCRIPTOR.services_by_name["PoseService"].full_name
BOXES_BYTES = 2**20  # of a message beside its picture; far more boxes than are taken
MAX_METADATA_BYTES = 16 * 2**10
HEALTH_PERIOD_S = 0.5
SPARE_RPCS = 64  # beside the requests: health checks, and calls about to be refused

OPTIONS = (
    # Half-open connections of a long stream are noticed within a minute and a half; clients may ask as often as every
    # ten seconds.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, not shared
)


def make_grpc_server(
    service: PoseService, *, max_frames: int, max_requests: int, observer: StreamObserver | None = None
) -> grpc.aio.Server:
    """A server without a port; call on the event loop that will run it.

    Args:
        service: behind it.
        max_frames: the most frames of one stream that are read and unanswered, where every frame is answered.
        max_requests: the most calls that the service admits; a few more are let in, to be refused with words.
        observer: is told how the frames of streams fare.
    """
    max_bytes = service.limits.max_bytes + BOXES_BYTES
    server = grpc.aio.server(
        options=(
            *OPTIONS,
            ("grpc.max_receive_message_length", max_bytes),
            ("grpc.max_send_message_length", max_bytes),
        ),
        maximum_concurrent_rpcs=max_requests + SPARE_RPCS,
    )
    servicer = PoseServicer(service, max_frames=max_frames, observer=observer)
    pose_pb2_grpc.add_PoseServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    reflection.enable_server_reflection((SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    return server


def add_port(
    server: grpc.aio.Server,
    address: str,
    *,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    client_ca: Path | None = None,
) -> int:
    """Listen on `host:port`, and say which port it is.

    Args:
        server: not started yet.
        address: port 0 takes any that is free.
        tls_cert: PEM chain of the server; None for plain text.
        tls_key: its private key.
        client_ca: PEM roots; clients must then show a certificate that one of them signed.

    Raises ValueError if a file or the port cannot be used.
    """
    secure = None if tls_cert is None or tls_key is None else _credentials(tls_cert, tls_key, client_ca)
    try:
        return server.add_insecure_port(address) if secure is None else server.add_secure_port(address, secure)
    except RuntimeError as error:
        raise ValueError(f"gRPC cannot listen on {address}: is it taken, or not an address of this machine?") from error


def _credentials(tls_cert: Path, tls_key: Path, client_ca: Path | None) -> grpc.ServerCredentials:
    """For TLS. The files are tried here first, because gRPC does not say which one it cannot use."""
    tried = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    files = f"{tls_cert} and {tls_key}"
    try:
        tried.load_cert_chain(tls_cert, tls_key, password=lambda: "")  # or it would ask on the terminal
        if client_ca is not None:
            files = str(client_ca)
            tried.load_verify_locations(client_ca)
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(f"{files} cannot be used for TLS: {type(error).__name__}") from error
    return grpc.ssl_server_credentials(
        [(tls_key.read_bytes(), tls_cert.read_bytes())],
        root_certificates=client_ca.read_bytes() if client_ca else None,
        require_client_auth=client_ca is not None,
    )


def add_health(server: grpc.aio.Server) -> health.aio.HealthServicer:
    """The standard health service. It is true once `follow_readiness` runs; start that before the server."""
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    return servicer


async def follow_readiness(service: PoseService, servicer: health.aio.HealthServicer) -> None:
    """Keep the health service true until the service stops."""
    told: bool | None = None
    while not service.stopping.is_set():
        ready = await service.why_not_ready() is None
        if ready != told:
            await _tell(servicer, serving=ready)
            told = ready
        try:
            await asyncio.wait_for(service.stopping.wait(), HEALTH_PERIOD_S)
        except TimeoutError:
            continue
    await servicer.enter_graceful_shutdown()


async def _tell(servicer: health.aio.HealthServicer, *, serving: bool) -> None:
    status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
    for name in ("", SERVICE_NAME):
        await servicer.set(name, status)
