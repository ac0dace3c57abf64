"""The service on a Ray cluster: `python -m deploy.ray_app`, or `serve deploy deploy/ray_serve.yaml`.

    clients --> a proxy on each machine: HTTP :8000, gRPC :50051 --> replicas on any machine

Each replica is a whole PoseService: its routes, its gRPC methods, its batches, its limits, its errors. Ray chooses the
replica, starts more when they have much to do, and starts those again that are lost with a machine. The settings are
the `BTRANSPOSE_...` variables, read where this is called and sent along; ports and TLS are Ray's.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import ray
from fastapi import FastAPI
from grpc_health.v1 import health_pb2
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import metrics as ray_metrics

from deploy.ray_environment import environment
from deploy.ray_grpc import stream_poses, unary
from deploy.ray_http import LeaveIdToProxy
from service.__main__ import VERSION, build_service
from service.access_log import configure_logging
from service.grpc_api import PoseServicer
from service.grpc_server import HEALTH_PERIOD_S
from service.http_api import create_app
from service.metrics import Metrics
from service.pb import pose_pb2 as pb
from service.settings import ServiceSettings
from service.tracing import make_tracer

APP = "btranspose"
SERVICERS = [
    "service.pb.pose_pb2_grpc.add_PoseServiceServicer_to_server",
    "grpc_health.v1.health_pb2_grpc.add_HealthServicer_to_server",
]
SPARE_REQUESTS = 32  # more than the service admits are sent to it, so that it is who refuses, with its own words
METRICS_PERIOD_S = 5.0


class RayOptions(BaseModel):
    """What Ray is to know of a replica. The service has its own settings."""

    model_config = ConfigDict(extra="forbid")

    min_replicas: int = Field(default=1, ge=0)
    max_replicas: int = Field(default=8, ge=1)
    num_cpus: float = Field(default=2.0, gt=0, description="cores of a replica; its threads, too, on a CPU")
    num_gpus: float = Field(default=0.0, ge=0, description="GPUs of a replica; 0.5: two share one")
    target_ongoing: float = Field(default=24.0, gt=0, description="requests of a replica that autoscaling aims at")
    downscale_delay_s: float = Field(default=300.0, ge=0)
    max_replicas_per_node: int | None = Field(default=None, ge=1)
    health_period_s: float = Field(default=5.0, gt=0)
    drain_timeout_s: float = Field(default=40.0, gt=0, description="for a replica that stops to finish; 5 s are spare")
    env: dict[str, str] = Field(default_factory=dict, description="BTRANSPOSE_... variables, and others")


@serve.ingress()
class PoseReplica:
    """One PoseService, behind Ray's proxies."""

    async def __init__(self, num_cpus: float) -> None:  # type: ignore[misc]  # Ray awaits it
        settings = ServiceSettings()
        if not settings.threads and num_cpus >= 1:
            settings = settings.model_copy(update={"threads": int(num_cpus)})
        configure_logging(level=settings.log_level, log_format=settings.log_format)
        self._settings = settings
        self._metrics = Metrics()
        self._tracer = make_tracer(os.environ, version=VERSION)
        self._service = await asyncio.to_thread(build_service, settings, self._metrics, self._tracer)
        self._servicer = PoseServicer(self._service, max_frames=settings.max_frames)
        await self._service.warm_up()
        await self.check_health()
        self._mirror = asyncio.create_task(_mirror(self._metrics))

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The routes; Ray asks for them when the service is there."""
        app = create_app(self._service, self._metrics, version=VERSION, body_timeout_s=self._settings.body_timeout_s)
        app.add_middleware(LeaveIdToProxy)
        return app

    async def check_health(self) -> None:
        """For Ray, which starts another replica in place of one that raises here too often."""
        if (reason := await self._service.why_not_ready()) is not None:
            raise RuntimeError(f"not ready: {reason}")

    async def EstimatePose(  # noqa: N802 (the name in the contract)
        self, request: pb.EstimatePoseRequest, grpc_context: Any
    ) -> pb.EstimatePoseResponse:
        """See `PoseServicer`."""
        return await unary(self._servicer.EstimatePose, request, grpc_context, pb.EstimatePoseResponse)

    async def GetDependency(  # noqa: N802
        self, request: pb.GetDependencyRequest, grpc_context: Any
    ) -> pb.GetDependencyResponse:
        """See `PoseServicer`."""
        return await unary(self._servicer.GetDependency, request, grpc_context, pb.GetDependencyResponse)

    async def GetModel(  # noqa: N802
        self, request: pb.GetModelRequest, grpc_context: Any
    ) -> pb.GetModelResponse:
        """See `PoseServicer`."""
        return await unary(self._servicer.GetModel, request, grpc_context, pb.GetModelResponse)

    async def StreamPoses(  # noqa: N802
        self, frames: Any, grpc_context: Any
    ) -> AsyncIterator[pb.StreamPosesResponse]:
        """See `PoseServicer`. The frames of a stream are all answered by one replica."""
        async for answer in stream_poses(self._servicer, frames, grpc_context):
            yield answer

    async def Check(  # noqa: N802
        self, _: health_pb2.HealthCheckRequest
    ) -> health_pb2.HealthCheckResponse:
        """grpc.health.v1: whether the replica that was asked takes pictures."""
        return await self._health()

    async def Watch(  # noqa: N802
        self, _: health_pb2.HealthCheckRequest
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """grpc.health.v1: the same, now and whenever it changes."""
        told = None
        while not self._service.stopping.is_set():
            if (now := await self._health()) != told:
                yield now
                told = now
            await asyncio.sleep(HEALTH_PERIOD_S)

    async def __del__(self) -> None:
        if hasattr(self, "_mirror"):  # it came so far
            self._mirror.cancel()
            await asyncio.to_thread(self._service.close, 5.0)
            if self._tracer is not None:
                self._tracer.close()

    async def _health(self) -> health_pb2.HealthCheckResponse:
        is_ready = await self._service.why_not_ready() is None
        kinds = health_pb2.HealthCheckResponse
        return kinds(status=kinds.SERVING if is_ready else kinds.NOT_SERVING)


async def _mirror(metrics: Metrics) -> None:
    """Give the service's series to Ray, whose agent on each machine Prometheus asks: `ray_btranspose_...`.

    All as gauges, which take any value: the names are those of counters and of histograms' parts, and so is what
    Prometheus makes of them.
    """
    gauges: dict[str, Any] = {}
    while True:
        for family in metrics.registry.collect():
            for sample in family.samples:
                if not sample.name.startswith("btranspose_") or sample.name.endswith("_created"):
                    continue
                if sample.name not in gauges:
                    gauges[sample.name] = ray_metrics.Gauge(
                        sample.name, description=family.documentation, tag_keys=tuple(sample.labels)
                    )
                gauges[sample.name].set(sample.value, tags=dict(sample.labels))
        await asyncio.sleep(METRICS_PERIOD_S)


def build(options: RayOptions) -> serve.Application:
    """The application, for `serve.run`, `serve run deploy.ray_app:build`, and configurations of `serve deploy`."""
    settings = ServiceSettings()
    actor = {
        "num_cpus": options.num_cpus,
        "num_gpus": options.num_gpus,
        "runtime_env": environment(options.env),
    }
    deployment = serve.deployment(
        name="PoseService",
        ray_actor_options=actor,
        autoscaling_config={
            "min_replicas": options.min_replicas,
            "max_replicas": options.max_replicas,
            "target_ongoing_requests": options.target_ongoing,
            "downscale_delay_s": options.downscale_delay_s,
        },
        max_ongoing_requests=settings.max_requests + SPARE_REQUESTS,
        max_queued_requests=settings.max_requests,
        max_replicas_per_node=options.max_replicas_per_node,
        graceful_shutdown_timeout_s=options.drain_timeout_s,
        health_check_period_s=options.health_period_s,
        health_check_timeout_s=30.0,
    )(PoseReplica)
    return deployment.bind(options.num_cpus)


def start_proxies(*, host: str, http_port: int, grpc_port: int) -> None:
    """Ray's proxies, on every machine that has a replica. Does nothing if they are there."""
    serve.start(
        proxy_location="EveryNode",
        http_options={"host": host, "port": http_port},
        grpc_options={"port": grpc_port, "grpc_servicer_functions": SERVICERS},
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Deploy, and return when it serves; `--wait` stays, and takes it down on Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m deploy.ray_app", description="The service on a Ray cluster.")
    parser.add_argument("--address", default="auto", help="of the cluster (auto: the one that runs here)")
    parser.add_argument("--host", default="127.0.0.1", help="that the HTTP proxies listen on; gRPC's listen on all")
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--grpc-port", type=int, default=50051)
    for name, field in RayOptions.model_fields.items():
        if name != "env":
            kind = int if field.annotation in (int, int | None) else float
            flag = f"--{name.replace('_', '-')}"
            parser.add_argument(flag, type=kind, default=field.default, help=field.description or "")
    parser.add_argument("--wait", action="store_true", help="stay, and take the service down in the end")
    given = vars(parser.parse_args(arguments))
    ray.init(address=given["address"], runtime_env=environment())
    start_proxies(host=given["host"], http_port=given["http_port"], grpc_port=given["grpc_port"])
    options = RayOptions(**{name: given[name] for name in RayOptions.model_fields if name in given})
    serve.run(build(options), name=APP, route_prefix="/")
    print(f"serving on every machine: HTTP :{given['http_port']}, gRPC :{given['grpc_port']}")
    if given["wait"]:
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            serve.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
