"""Ray Serve on two machines that are played by two Ray nodes on this one; one is lost under load.

    python -m deploy.try_ray

Prints what came of every request, and how long it took until both replicas were well again. Asks on the loopback
interface only, a few requests a second. Exits with 1 if the service did not recover, or an error lost its status.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import httpx
import ray
from ray import serve
from ray.cluster_utils import Cluster

from deploy.asking import Asking, drawn_picture, table, wait_for
from deploy.fleet import ROOT
from deploy.ray_app import APP, RayOptions, build, start_proxies
from deploy.try_replicas import free_ports
from service.client import connect_async
from service.errors import InvalidParameter, NotAnImage, PoseServiceError

Result = TypeVar("Result")

NODE = {"num_cpus": 2, "object_store_memory": 200 * 2**20}
LOST = "a node is lost"
REPLICA_CPUS = 1.0


def start_cluster() -> tuple[Cluster, Any]:
    """Two nodes: the head, which has the proxies' controller, and one that is to be lost."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    second = cluster.add_node(**NODE)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="critical")
    return cluster, second


def replicas_running() -> int:
    """By Ray's count."""
    app = serve.status().applications.get(APP)
    states = app.deployments["PoseService"].replica_states if app and app.deployments else {}
    return int(states.get("RUNNING", 0))


async def check_errors(http: str, grpc: str) -> list[str]:
    """What should be refused, over both protocols; says what was not, or not with its reason."""
    faults = []
    for address in (http, grpc):
        async with connect_async(address) as client:
            for content, boxes, kind in (
                (b"no picture", None, NotAnImage),
                (drawn_picture(), [(9e3, 9e3, 5.0, 5.0)], InvalidParameter),
            ):
                try:
                    await client.estimate(content, boxes_xywh=boxes)
                    faults.append(f"{address}: no error instead of {kind.reason}")
                except PoseServiceError as error:
                    if type(error) is not kind:
                        faults.append(f"{address}: {error.reason} instead of {kind.reason}: {error}")
    return faults


async def metrics_of_agents() -> int:
    """Series of the service that Prometheus would find at Ray's agents."""
    found = 0
    async with httpx.AsyncClient(timeout=10) as client:
        for node in ray.nodes():
            if node["Alive"]:
                try:
                    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
                    text = (await client.get(url)).text
                except httpx.HTTPError:
                    continue
                found += sum(line.startswith("ray_btranspose_") for line in text.splitlines())
    return found


class InBackground:
    """An event loop in a thread of its own: Ray starts nodes from the main thread only."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """What it comes to."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def seconds_until(condition: Callable[[], bool], timeout_s: float, what: str) -> float:
    """As `wait_for`, where nothing else is to go on in this thread."""

    async def ask() -> bool:
        return condition()

    return asyncio.run(wait_for(ask, timeout_s, what))


def try_ray(cluster: Cluster, second: Any, *, http_port: int, grpc_port: int, steady_s: float) -> list[str]:
    """Ask, lose a node, ask on, get another one. What should not have happened."""
    http, grpc = f"http://127.0.0.1:{http_port}", f"grpc://127.0.0.1:{grpc_port}"
    behind = InBackground()
    asking = Asking(http=http, grpc=grpc, image=drawn_picture(), http_clients=2, grpc_clients=2, pause_s=0.4)

    async def begin(name: str) -> None:
        asking.begin(name)

    faults = behind.run(check_errors(http, grpc))
    notes = {"errors": "; ".join(faults) or "status and reason as the service has them, over HTTP and gRPC"}
    behind.run(begin("steady"))
    behind.run(asking.asked_for(steady_s))

    behind.run(begin(LOST))
    lost_s = time.monotonic()
    cluster.remove_node(second, allow_graceful=False)
    try:
        noticed_s = seconds_until(lambda: replicas_running() < 2, 60, "Ray to notice")
        time.sleep(steady_s)
        behind.run(begin("another node comes"))
        given_s = time.monotonic()
        cluster.add_node(**NODE)
        seconds_until(lambda: replicas_running() == 2, 180, "two replicas")
        notes["recovery"] = (
            f"Ray counted a replica less after {noticed_s:.1f} s; {given_s - lost_s:.1f} s after the loss another node "
            f"was given, and {time.monotonic() - given_s:.1f} s later both replicas were well"
        )
    except TimeoutError as error:
        faults.append(str(error))
    behind.run(begin("well again"))
    behind.run(asking.asked_for(steady_s))
    phases = behind.run(asking.end())
    notes["metrics"] = f"{behind.run(metrics_of_agents())} series ray_btranspose_... at the agents of Ray"
    print(f"\n{table(phases, notes)}")
    for phase in (phases[0], phases[-1]):
        if phase.lost or not all(phase.answered.values()):
            faults.append(f"{phase.name}: {phase.lost.total()} lost, answered {dict(phase.answered)}")
    return faults


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if the service recovered and errors kept their status."""
    parser = argparse.ArgumentParser(prog="python -m deploy.try_ray", description="Ray Serve, and a node that is lost.")
    parser.add_argument("--checkpoint", type=Path, help="instead of the bundled one")
    parser.add_argument("--steady-s", type=float, default=8.0)
    given = parser.parse_args(arguments)
    started_s = time.monotonic()
    http_port, grpc_port = free_ports(2)
    cluster, second = start_cluster()
    try:
        print(f"two nodes after {time.monotonic() - started_s:.1f} s", flush=True)
        start_proxies(host="127.0.0.1", http_port=http_port, grpc_port=grpc_port)
        env = {"BTRANSPOSE_DEVICE": "cpu", "BTRANSPOSE_LOG_LEVEL": "warning"}
        if given.checkpoint:
            env |= {"BTRANSPOSE_CHECKPOINT": str(given.checkpoint.resolve())}
        options = RayOptions(
            min_replicas=2, max_replicas=2, num_cpus=REPLICA_CPUS, max_replicas_per_node=1, health_period_s=1, env=env
        )
        serve.run(build(options), name=APP, route_prefix="/")
        print(f"two replicas after {time.monotonic() - started_s:.1f} s", flush=True)
        faults = try_ray(cluster, second, http_port=http_port, grpc_port=grpc_port, steady_s=given.steady_s)
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()
    for fault in faults:
        print(f"NOT AS IT SHOULD BE: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
