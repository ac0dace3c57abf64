"""Composition root: settings -> objects -> servers. `python -m service --help` lists the settings."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import NamedTuple

# gRPC writes lines of its own to stderr, whatever the format of the log; what it says here as errors is told as such.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # read when it is imported

import grpc
import torch
from pydantic import ValidationError
from pydantic_settings import CliApp

from model.checkpoint import CheckpointCard, read_card
from model.cuda_runtime import take_own_stream
from model.device import pick_devices
from model.estimator import PoseEstimator
from model.loading import load_estimators
from service.access_log import configure_logging, log_request
from service.admission import Admission
from service.api_keys import read_api_keys
from service.core import PoseService
from service.engine import Engine
from service.explaining import attention_shapes
from service.grpc_server import add_health, add_port, follow_readiness, make_grpc_server
from service.http_api import create_app
from service.http_server import HttpServer, make_http_server
from service.images import ImageLimits
from service.lane import Lane
from service.metrics import Metrics
from service.poses import ModelInfo
from service.running import serve
from service.settings import ServiceSettings
from service.tracing import Tracer, make_tracer

log = logging.getLogger("service")

VERSION = version("btranspose")


class PerDevice(NamedTuple):
    """What the settings leave open: batches at a time on a device, and the most persons in one."""

    lanes: int
    max_batch: int


PER_DEVICE = {"cpu": PerDevice(1, 16), "cuda": PerDevice(2, 64)}


def build_service(settings: ServiceSettings, metrics: Metrics, tracer: Tracer | None) -> PoseService:
    """Load the checkpoint and put the service together. Raises ValueError if the settings do not work here."""
    # Only the engine's thread may compute in parallel. OpenMP keeps a team for each thread that ever did, and with more
    # teams than cores it puts its threads to sleep at the end of every loop, which halves the speed of the network.
    threads = settings.threads or torch.get_num_threads()
    torch.set_num_threads(1)
    card = read_card(settings.checkpoint)
    devices = pick_devices(settings.device)
    on = PER_DEVICE[devices[0].type]
    max_batch = settings.max_batch or on.max_batch
    estimators = [
        estimator
        for device in devices
        for estimator in load_estimators(
            settings.checkpoint,
            device,
            precision=settings.precision,
            runtime=settings.runtime,
            threads=settings.threads,
            cache_dir=settings.cache_dir,
            max_batch=max_batch,
            count=settings.lanes or on.lanes,
        )[0]
    ]
    info = _describe(card, estimators)
    runs_on = f"{info.runtime} on {info.device} in {info.precision}"
    log.info("serving %s (%s), %s", info.label, settings.checkpoint.name, runs_on)
    admission = Admission(
        max_requests=settings.max_requests,
        max_dependencies=settings.max_dependencies,
        max_held_bytes=settings.max_held_bytes,
        timeout_s=settings.timeout_s,
        api_keys=read_api_keys(settings.api_key_file) if settings.api_key_file else None,
        observers=(metrics.on_request, log_request, *((tracer.on_request,) if tracer else ())),
    )
    engine = Engine(
        [Lane(each, on_start=partial(_begin_lane, each.runtime.device, threads)) for each in estimators],
        max_batch=max_batch,
        max_waiting=settings.max_waiting,
        stalled_after_s=settings.stalled_after_s,
        observer=metrics,
    )
    metrics.describe(info, version=VERSION)
    metrics.watch(
        engine=engine,
        requests=lambda: admission.requests,
        dependencies=lambda: admission.dependencies,
        is_open=lambda: admission.closed_because is None,
    )
    return PoseService(
        engine,
        admission,
        card=card,
        info=info,
        limits=ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels),
        max_persons=settings.max_persons,
    )


def _begin_lane(device: torch.device, threads: int) -> None:
    """What a lane's thread does first."""
    if device.type == "cuda":
        take_own_stream(device)
    else:
        torch.set_num_threads(threads)


def _describe(card: CheckpointCard, estimators: Sequence[PoseEstimator]) -> ModelInfo:
    """What `GET /model` tells."""
    first = estimators[0]
    return ModelInfo(
        variant=card.config.key,
        label=card.config.label,
        parameters=sum(parameter.numel() for parameter in first.net.parameters()),
        input_hw=card.config.input_hw,
        checkpoint_sha256=card.sha256,
        runtime=first.runtime.name,
        device=",".join(dict.fromkeys(str(each.runtime.device) for each in estimators)),
        precision=first.runtime.precision,
        attention=attention_shapes(card.config),
        keypoint_names=card.config.skeleton.names,
        skeleton=card.config.skeleton.limbs,
    )


def read_settings(argv: list[str] | None = None) -> ServiceSettings:
    """Settings from flags and environment. Exits with 2, one line for each wrong value."""
    try:
        return CliApp.run(ServiceSettings, cli_args=argv)
    except ValidationError as error:
        for wrong in error.errors():
            where = f"{'.'.join(map(str, wrong['loc']))} is {wrong['input']!r}: " if wrong["loc"] else ""
            print(f"python -m service: {where}{wrong['msg'].removeprefix('Value error, ')}", file=sys.stderr)
        sys.exit(2)


def build_servers(
    settings: ServiceSettings, service: PoseService, metrics: Metrics
) -> tuple[HttpServer, grpc.aio.Server]:
    """Both servers, not started yet. Raises ValueError if a port or a certificate cannot be used."""
    http_server = make_http_server(
        create_app(service, metrics, version=VERSION, body_timeout_s=settings.body_timeout_s),
        host=settings.host,
        port=settings.http_port,
        tls_cert=settings.tls_cert,
        tls_key=settings.tls_key,
    )
    grpc_server = make_grpc_server(service, max_frames=settings.max_frames, max_requests=settings.max_requests)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    port = add_port(
        grpc_server,
        f"{host}:{settings.grpc_port}",
        tls_cert=settings.tls_cert,
        tls_key=settings.tls_key,
        client_ca=settings.grpc_client_ca,
    )
    http_server.listen()
    log.info("gRPC running on %s:%d", host, port)
    return http_server, grpc_server


async def run(settings: ServiceSettings, service: PoseService, metrics: Metrics) -> int:
    """Serve over both protocols until told to stop; 2 if a port or a certificate cannot be used."""
    try:
        http_server, grpc_server = build_servers(settings, service, metrics)
    except ValueError as error:
        return complain(error)
    health = asyncio.create_task(follow_readiness(service, add_health(grpc_server)))
    try:
        return await serve(
            service,
            http_server,
            grpc_server,
            drain_timeout_s=settings.drain_timeout_s,
            drain_delay_s=settings.drain_delay_s,
        )
    finally:
        await health


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. 0 after an orderly stop, 1 if work was lost, 2 if the settings do not work."""
    settings = read_settings(argv)
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    metrics = Metrics()
    try:
        tracer = make_tracer(os.environ, version=VERSION)
        service = build_service(settings, metrics, tracer)
    except ValueError as error:
        return complain(error)
    try:
        return asyncio.run(run(settings, service, metrics))
    finally:
        if tracer is not None:
            tracer.close()


def complain(error: ValueError) -> int:
    """Say what does not work with these settings."""
    print(f"python -m service: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    code = main()
    if code == 1:
        # Something is still at work that could not be ended, perhaps in the network; do not wait for it again.
        logging.shutdown()
        os._exit(code)
    sys.exit(code)
