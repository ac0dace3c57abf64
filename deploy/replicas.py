"""Several replicas of the service on this machine, behind HAProxy: `python -m deploy.replicas --replicas 2`.

    clients --> HAProxy :8000 (HTTP), :50051 (gRPC) --> r1 :18001 :28001, r2 :18002 :28002, ...

What follows `--` goes to every replica as it is: `python -m deploy.replicas --replicas 4 -- --checkpoint NAME`. They
also read the `BTRANSPOSE_...` variables. A replica that dies is started again. SIGHUP exchanges all of them, one after
the other, without losing a request (after a new checkpoint, or a new version of the code); SIGTERM stops everything in
order. `replicas.json` in the run folder says which process is which.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from deploy.balancer import Balancer, Front, Replica, add_options
from deploy.fleet import Fleet, Hooks, Slot

log = logging.getLogger("deploy.replicas")

QUIET_S = 5.0  # how long a replica that gets nothing new may have old requests before it is told to stop
SEEN_WELL_S = 10.0  # for HAProxy to see that a replica is ready
DRAIN_TIMEOUT_S = 30.0  # of the service
DRAIN_DELAY_S = 3.0  # longer than HAProxy's checks need to notice, if a replica is stopped by somebody else
OURS = ("--http-port", "--grpc-port", "--host", "--tls-cert", "--tls-key", "--grpc-client-ca")


class Deployment:
    """Replicas, and HAProxy before them.

    Args:
        fleet: the replicas.
        balancer: knows the same replicas by name.
    """

    def __init__(self, fleet: Fleet, balancer: Balancer) -> None:
        self._fleet = fleet
        self._balancer = balancer
        self._stop = asyncio.Event()
        self._roll = asyncio.Event()
        self._hooks = Hooks(before=self._rest, after=self._resume)

    def stop(self) -> None:
        """End `run`."""
        self._stop.set()

    def roll(self) -> None:
        """Exchange all replicas, one after the other; once more if that is under way."""
        self._roll.set()

    async def run(self) -> int:
        """Serve until told to stop. 0; 1 if something did not start, or work was lost in the end."""
        try:
            await self._fleet.start()
            await self._balancer.start()
        except (RuntimeError, ValueError) as error:
            log.error("%s", error)
            await self._fleet.stop()
            return 1
        log.info("%d replicas are ready behind HAProxy", len(self._fleet.slots))
        tasks = [asyncio.create_task(self._keep_balancer()), asyncio.create_task(self._roll_when_asked())]
        await self._stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        log.info("stopping")
        # The replicas still answer while HAProxy lets go of its clients.
        await self._balancer.stop()
        return 0 if await self._fleet.stop() else 1

    async def _keep_balancer(self) -> None:
        while True:
            assert self._balancer.process is not None
            code = await self._balancer.process.wait()
            log.error("HAProxy ended with exit code %d; it is started again", code)
            try:
                await self._balancer.start()
            except ValueError as error:
                log.error("%s", error)
                await asyncio.sleep(1)

    async def _roll_when_asked(self) -> None:
        while await self._roll.wait():
            self._roll.clear()
            started_s = time.monotonic()
            log.info("all replicas are exchanged, one after the other")
            if len(self._fleet.slots) == 1:
                log.warning("there is only one: until another is ready, requests are refused with 503")
            try:
                for slot in self._fleet.slots:
                    await self._fleet.exchange(slot, self._hooks)
            except (RuntimeError, OSError) as error:
                log.error("the exchange is given up, the other replicas stay as they are: %s", error)
            else:
                log.info("all replicas are exchanged; it took %.0f s", time.monotonic() - started_s)

    async def _rest(self, name: str) -> None:
        """Nothing new for this replica; old requests, and streams above all, may have a moment before it is stopped.

        It finishes them when it is stopped, too: what is waited for are requests that are on their way to it.
        """
        await self._balancer.take(name, new_requests=False)
        end_s = time.monotonic() + QUIET_S
        await asyncio.sleep(0.1)
        while time.monotonic() < end_s and await self._balancer.requests(name):
            await asyncio.sleep(0.1)

    async def _resume(self, name: str) -> None:
        """New requests again, once HAProxy's own checks find it well: nobody else is stopped before that."""
        await self._balancer.take(name, new_requests=True)
        end_s = time.monotonic() + SEEN_WELL_S
        while time.monotonic() < end_s and not await self._balancer.is_up(name):
            await asyncio.sleep(0.1)


def slots(
    replicas: int, *, first_port: int, flags: Sequence[str] = (), devices: Sequence[str] = (), cores: int | None = None
) -> list[Slot]:
    """Places for replicas that share this machine: its cores in equal parts, its devices in turns.

    Raises ValueError for flags that are not the caller's to give, or ports that are none.
    """
    for flag in flags:
        if flag.partition("=")[0] in OURS:
            raise ValueError(f"{flag} after `--`; replicas listen on ports of 127.0.0.1 that are chosen for them")
    if replicas < 1 or not 1024 <= first_port <= 65_535 - 10_000 - replicas:
        raise ValueError(
            f"{replicas} replicas from port {first_port}; allowed: at least 1, from a port between 1024 and "
            f"{65_535 - 10_000 - replicas} (gRPC has the ports 10,000 above)"
        )
    threads = max(1, (cores or os.cpu_count() or 1) // replicas)
    defaults = {
        "--threads": str(threads),
        "--drain-delay-s": f"{DRAIN_DELAY_S:g}",
        "--drain-timeout-s": f"{DRAIN_TIMEOUT_S:g}",
    }
    given = {flag.partition("=")[0] for flag in flags} | {
        "--" + name.removeprefix("BTRANSPOSE_").lower().replace("_", "-") for name in os.environ
    }
    more = [word for flag, value in defaults.items() if flag not in given for word in (flag, value)]
    return [
        Slot(
            name=f"r{number + 1}",
            http_port=first_port + number,
            grpc_port=first_port + 10_000 + number,
            flags=(*more, *flags, *(("--device", devices[number % len(devices)]) if devices else ())),
        )
        for number in range(replicas)
    ]


def build(given: argparse.Namespace, folder: Path) -> Deployment:
    """What the command line asks for. Raises ValueError if it cannot be."""
    places = slots(given.replicas, first_port=given.first_port, flags=given.flags, devices=given.devices)
    front = Front(
        http=given.http,
        grpc=given.grpc,
        stats=given.stats,
        socket=folder / "haproxy.sock",
        tls_pem=given.tls_pem,
        slowstart_s=given.slowstart_s,
        hard_stop_s=round(DRAIN_TIMEOUT_S),
    )
    replicas = [Replica(name=slot.name, http_port=slot.http_port, grpc_port=slot.grpc_port) for slot in places]
    fleet = Fleet(
        places,
        start_timeout_s=given.start_timeout_s,
        stop_timeout_s=DRAIN_TIMEOUT_S + 15,
        status=folder / "replicas.json",
    )
    return Deployment(fleet, Balancer(front, replicas, folder))


async def run(given: argparse.Namespace, folder: Path) -> int:
    """Serve until SIGTERM or SIGINT."""
    deployment = build(given, folder)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, deployment.stop)
    loop.add_signal_handler(signal.SIGHUP, deployment.roll)
    return await deployment.run()


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; what follows `--` is `flags`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    flags: list[str] = []
    with suppress(ValueError):
        where = words.index("--")
        words, flags = words[:where], words[where + 1 :]
    parser = argparse.ArgumentParser(
        prog="python -m deploy.replicas",
        description="Several replicas of the service behind HAProxy. What follows -- goes to `python -m service`.",
    )
    parser.add_argument("--replicas", type=int, default=2, help="how many (2)")
    parser.add_argument("--first-port", type=int, default=18_001, help="of HTTP; gRPC is 10,000 above (18001)")
    parser.add_argument(
        "--devices", nargs="+", default=(), metavar="DEVICE", help="for the replicas in turns: cuda:0 ..."
    )
    parser.add_argument("--start-timeout-s", type=float, default=180.0, help="for a replica to become ready (180)")
    parser.add_argument("--run-dir", type=Path, help="for haproxy.cfg, its socket and replicas.json; else temporary")
    add_options(parser)
    given = parser.parse_args(words)
    given.flags = flags
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. 0; 1 if something did not start or was lost; 2 for a bad command line."""
    given = read_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="btranspose-") as temporary:
        folder = (given.run_dir or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        log.info("run folder %s", folder)
        try:
            return asyncio.run(run(given, folder))
        except ValueError as error:
            print(f"python -m deploy.replicas: {error}", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
