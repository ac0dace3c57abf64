"""Shards over a Ray cluster: Ray Data keeps a pool of processes, lets it grow, and replaces what is lost.

Every machine must see the pictures, the checkpoint and the folder of the job under the same names, and have the
packages. Knows nothing of pictures or poses.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
import ray.data

from deploy.annotate_pool import Finished, JobFailed, Told
from deploy.annotate_work import Job, Process
from deploy.ray_environment import environment

LOCAL = "local"
MANY = 1_000  # processes at most, where no number is given: as many as the cluster has room for


class RayPool:
    """Processes of a cluster.

    Args:
        job: of all of them.
        address: of the cluster; `local` for one of this machine alone, `auto` for the one that runs here.
        workers: processes; 0: as many as there is room for.
        num_cpus, num_gpus: that each of them takes up.
    """

    def __init__(self, job: Job, *, address: str, workers: int, num_cpus: float, num_gpus: float) -> None:
        self._job = job
        self._address = address
        self._pool = {"size": workers} if workers else {"min_size": 1, "max_size": MANY}
        self._takes: dict[str, Any] = {"num_cpus": num_cpus, **({"num_gpus": num_gpus} if num_gpus else {})}

    def run(self, shards: Sequence[int]) -> Iterator[Told]:
        """Do all shards, and tell of each that is done. Raises JobFailed."""
        if not ray.is_initialized():
            ray.init(address=self._address, log_to_driver=False, runtime_env=environment())
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        blocks = ray.data.from_numpy([np.array([shard]) for shard in shards])  # one each: what is given out, and again
        done = blocks.map_batches(
            RayWorker,
            fn_constructor_args=(self._job,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(**self._pool),
            **self._takes,
        )
        try:
            for row in done.iter_rows():
                yield Finished(json.loads(row["manifest"]))
        except ray.exceptions.RayError as error:
            raise JobFailed(f"the work on the cluster failed: {error}") from error


class RayWorker:
    """One process of the pool."""

    def __init__(self, job: Job) -> None:
        self._process = Process(job)

    def __call__(self, batch: dict[str, npt.NDArray[Any]]) -> dict[str, list[str]]:
        return {"manifest": [json.dumps(self._process.do(int(shard))) for shard in batch["data"]]}
