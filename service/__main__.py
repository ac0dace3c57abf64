"""Composition root: settings -> objects -> servers. `python -m service --help` lists the settings."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version

# gRPC writes lines of its own to stderr, whatever the format of the log; what it says here as errors is told as such.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # read when it is imported

import grpc
import torch
from pydantic import ValidationError
from pydantic_settings import CliApp

from model.cuda_runtime import take_own_stream
from model.load_detector import load_detector
from service.access_log import configure_logging, log_request
from service.admission import Admission
from service.api_keys import read_api_keys
from service.core import PoseService
from service.detecting import DetectorQueue
from service.engine import Engine
from service.grpc_server import add_health, add_port, follow_readiness, make_grpc_server
from service.http_admin import admin_beside, create_admin_app
from service.http_api import create_app
from service.http_server import HttpServer, make_http_server
from service.images import ImageLimits
from service.lane import Lane
from service.loading import NetworkLoader, make_loader
from service.loading_thread import is_loading
from service.metrics import Metrics
from service.reloading import Reloads
from service.running import serve
from service.settings import ServiceSettings
from service.tracing import Tracer, make_tracer
from service.tracking_values import TrackerSettings

log = logging.getLogger("service")

VERSION = version("btranspose")
BIRTH_SCORE = 0.3  # of a detection, to begin somebody in a stream: others are wrong too often to be followed
MAX_DETECTED = 8  # pictures that the detector is given at a time


def loader_of(settings: ServiceSettings) -> NetworkLoader:
    """What loads checkpoints as the settings say. Raises ValueError for a device that is not here."""
    return make_loader(
        settings.device,
        lanes=settings.lanes,
        max_batch=settings.max_batch,
        precision=settings.precision,
        runtime=settings.runtime,
        threads=settings.threads,
        cache_dir=settings.cache_dir,
    )


def build_service(settings: ServiceSettings, metrics: Metrics, tracer: Tracer | None) -> PoseService:
    """Load the checkpoint and put the service together. Raises ValueError if the settings do not work here."""
    threads = settings.threads or torch.get_num_threads()  # before the loader leaves one
    load = loader_of(settings)
    network = load(settings.checkpoint)
    info = network.info
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
        [
            Lane(on_start=partial(_begin_lane, device, threads))
            for device in load.devices
            for _ in range(load.lanes)  # in the order of the network's estimators
        ],
        network,
        max_batch=load.max_batch,
        max_waiting=settings.max_waiting,
        stalled_after_s=settings.stalled_after_s,
        observer=metrics,
    )
    detector = detector_of(settings, metrics, threads)
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
        limits=ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels),
        max_persons=settings.max_persons,
        detector=detector,
        min_pose_score=settings.min_pose_score,
        tracking=TrackerSettings(
            detect_every=settings.detect_every, max_tracks=settings.max_persons, birth_score=BIRTH_SCORE
        ),
    )


def detector_of(settings: ServiceSettings, metrics: Metrics, threads: int) -> DetectorQueue | None:
    """What finds persons, if anything does. Raises ValueError for a detector that cannot be used."""
    detector = load_detector(settings.detector, threads=threads, cache_dir=settings.cache_dir)
    if detector is None:
        return None
    log.info("persons are found by %s", detector.name)
    return DetectorQueue(detector, max_batch=MAX_DETECTED, stalled_after_s=settings.stalled_after_s, observer=metrics)


def _begin_lane(device: torch.device, threads: int) -> None:
    """What a lane's thread does first."""
    if device.type == "cuda":
        take_own_stream(device)
    else:
        torch.set_num_threads(threads)


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
    grpc_server = make_grpc_server(
        service, max_frames=settings.max_frames, max_requests=settings.max_requests, observer=metrics
    )
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


@asynccontextmanager
async def changeable(settings: ServiceSettings, service: PoseService, metrics: Metrics) -> AsyncIterator[asyncio.Event]:
    """A service whose network can be replaced, over the admin socket if there is one, and by setting the event.

    Raises ValueError if the socket cannot be had.
    """
    reloads = Reloads(
        service,
        loader_of(settings),
        checkpoint=settings.checkpoint,
        folder=settings.checkpoint_dir,
        observer=metrics,
    )
    asked = asyncio.Event()
    async with AsyncExitStack() as stack:
        if settings.admin_socket is not None:
            app = create_admin_app(reloads, partial(read_keys_again, settings, service))
            await stack.enter_async_context(admin_beside(app, settings.admin_socket))
        following = asyncio.create_task(reloads.follow(asked, asked_by="SIGHUP"))
        try:
            yield asked
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


def read_keys_again(settings: ServiceSettings, service: PoseService) -> int:
    """Have the keys that are now in their file accepted, and no others; how many there are. Raises ValueError."""
    if settings.api_key_file is None:
        raise ValueError("there is no file of API keys; allowed: with --api-key-file")
    keys = read_api_keys(settings.api_key_file)
    service.admission.api_keys = keys
    log.info("%d API keys are accepted", len(keys))
    return len(keys)


async def run(settings: ServiceSettings, service: PoseService, metrics: Metrics) -> int:
    """Serve over both protocols until told to stop; 2 if a port, a certificate or a socket cannot be used."""
    async with AsyncExitStack() as stack:
        try:
            asked = await stack.enter_async_context(changeable(settings, service, metrics))
            http_server, grpc_server = build_servers(settings, service, metrics)
        except ValueError as error:
            return complain(error)

        def on_hangup() -> None:
            if settings.api_key_file is not None:
                try:
                    read_keys_again(settings, service)
                except ValueError as error:
                    log.error("SIGHUP: %s; the keys of before are accepted", error)
            asked.set()

        health = asyncio.create_task(follow_readiness(service, add_health(grpc_server)))
        try:
            return await serve(
                service,
                http_server,
                grpc_server,
                drain_timeout_s=settings.drain_timeout_s,
                drain_delay_s=settings.drain_delay_s,
                on_hangup=on_hangup,
            )
        finally:
            await health


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. 0 after an orderly stop, 1 if work was lost, 2 if the settings do not work."""
    settings = read_settings(argv)
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    signal.signal(signal.SIGHUP, lambda *_: log.warning("SIGHUP before the service runs; nothing is read again"))
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
    if code == 1 or is_loading():
        # Something is still at work that could not be ended, perhaps in the network; do not wait for it again.
        logging.shutdown()
        os._exit(code)
    sys.exit(code)
