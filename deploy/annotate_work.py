"""A process's own service for a job: built from the settings of the service, and asked by nobody else."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from deploy.annotate_folder import Folder
from deploy.annotate_shard import NOTHING_TOLD, ShardWorker
from model.device import pick_devices
from service.__main__ import build_service
from service.core import PoseService
from service.loading import PER_DEVICE
from service.metrics import Metrics
from service.settings import ServiceSettings

MAX_PERSONS = 2_000  # in one picture
BATCHES_AHEAD = 3  # pictures in flight, in full batches: one runs, one is ready, one is decoded
TIMEOUT_S = 86_400.0  # nobody waits

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a process must know to do shards. Plain values: it is sent to other processes and machines.

    out: of the job. device, threads: of this process; the others as `python -m service` has them.
    """

    out: str
    format: str
    flip_test: bool
    checkpoint: Path
    detector: str
    min_pose_score: float
    device: str
    precision: str
    runtime: str
    threads: int


class Process:
    """The service of a job in this process, and the thread of its event loop, for whichever thread calls.

    Raises ValueError if it cannot work.
    """

    def __init__(self, job: Job) -> None:
        in_flight = BATCHES_AHEAD * PER_DEVICE[pick_devices(job.device)[0].type].max_batch
        settings = ServiceSettings(
            checkpoint=job.checkpoint,
            device=job.device,
            precision=job.precision,  # type: ignore[arg-type]  # checked where the command was read
            runtime=job.runtime,  # type: ignore[arg-type]
            threads=job.threads,
            detector=job.detector,
            min_pose_score=job.min_pose_score,
            max_persons=MAX_PERSONS,
            max_waiting=MAX_PERSONS,
            max_requests=in_flight,
            timeout_s=TIMEOUT_S,
            api_key_file=None,
        )
        settings = settings.model_copy(update={"max_held_bytes": in_flight * (settings.max_image_bytes + 1)})
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="service", daemon=True).start()
        self._service = self._run(_warm_service(settings))
        self._worker = ShardWorker(
            self._service, Folder(job.out), format=job.format, flip_test=job.flip_test, in_flight=in_flight
        )

    def do(self, shard: int, told: Callable[[int], None] = NOTHING_TOLD) -> dict[str, Any]:
        """As `ShardWorker.do`."""
        return self._run(self._worker.do(shard, told))

    def close(self) -> None:
        """End the threads."""
        self._service.close(5.0)
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _warm_service(settings: ServiceSettings) -> PoseService:
    # The memory of small blocks that glibc keeps for each thread adds up over a million pictures.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    service = build_service(settings, Metrics(), None)
    await service.warm_up()
    if (reason := await service.why_not_ready()) is not None:
        raise ValueError(f"the network does not run: {reason}")
    return service
