"""The processes of one run, as `torchrun` starts them: who this one is, and what they say to each other.

Without `torchrun` a run is one process, and everything here does nothing. NCCL carries what lies on CUDA devices, gloo
the rest. Knows nothing of networks or data.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from model.device import pick_device

T = TypeVar("T")

LONGEST_WAIT = timedelta(minutes=10)  # for each other; NCCL's own limit, where Gloo's is half an hour
CONNECTING = timedelta(seconds=2)  # to the first process's store; then it is asked for anew where that is

# Whether the launcher's store is to be used, and where the processes of this attempt leave word of their own.
AGENT_STORE, OWN_STORE = "TORCHELASTIC_USE_AGENT_STORE", "btranspose/port"

# What torchrun tells each process.
RANK, SIZE, LOCAL_RANK = "RANK", "WORLD_SIZE", "LOCAL_RANK"


@dataclass(frozen=True, kw_only=True)
class World:
    """This process among `size`: `rank` counts from 0 over all machines; `device` is its own."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def average(self, tensor: Tensor) -> Tensor:
        """The mean over all processes of a tensor that each has. The same numbers in each."""
        if self.size == 1:
            return tensor
        total = tensor.detach().clone()
        dist.all_reduce(total)
        return total / self.size

    def gather(self, value: T) -> list[T]:
        """The value of every process, in the order of their ranks. It is pickled."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def share(self, value: T) -> T:
        """The first process's value, in each."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with the first process's."""
        self.copy_from(0, tensors)

    def copy_from(self, rank: int, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with those of process `rank`."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=rank)

    def part(self, items: Sequence[T]) -> Sequence[T]:
        """This process's share of a list: each item belongs to exactly one process, neighbours stay together."""
        first, end = (len(items) * rank // self.size for rank in (self.rank, self.rank + 1))
        return items[first:end]


@contextmanager
def joined_world(device: str) -> Iterator[World]:
    """The world of this command, on the device that was asked for; left again at the end.

    Under `torchrun`, `auto` and `cuda` mean the CUDA device with the process's number on its machine. Raises ValueError
    for a device that is not there, or that several processes would share.
    """
    size = int(os.environ.get(SIZE, "1"))
    if size == 1:
        yield World(device=pick_device(device))
        return
    own = _device_of(device, int(os.environ[LOCAL_RANK]))
    if own.type == "cuda":
        torch.cuda.set_device(own)
    rank = int(os.environ[RANK])
    store = _own_store(rank) if os.environ.get(AGENT_STORE) == "True" else None
    backend = "cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=LONGEST_WAIT)
    try:
        yield World(device=own, rank=rank, size=size)
    finally:
        dist.destroy_process_group()


def _own_store(rank: int) -> TCPStore:
    """A store that is as old as these processes, kept by the first of them.

    The launcher's is one and the same for all attempts (torch 2.13), and has the addresses of those who died: processes
    that were started again called them, and failed, or waited for each other without end. It is only asked for the port
    of the store of this attempt; who reads an old one finds nobody there, and asks again.
    """
    host = os.environ["MASTER_ADDR"]
    launchers = TCPStore(host, int(os.environ["MASTER_PORT"]), is_master=False, timeout=LONGEST_WAIT)
    if rank == 0:
        own = TCPStore(host, 0, is_master=True, timeout=LONGEST_WAIT, wait_for_workers=False)
        launchers.set(OWN_STORE, str(own.port))
        return own
    deadline = time.monotonic() + LONGEST_WAIT.total_seconds()
    while True:
        port = int(launchers.get(OWN_STORE))
        try:
            found = TCPStore(host, port, is_master=False, timeout=CONNECTING, wait_for_workers=False)
        except dist.DistNetworkError:
            if time.monotonic() > deadline:
                raise
            continue
        found.set_timeout(LONGEST_WAIT)
        return found


def _device_of(device: str, local_rank: int) -> torch.device:
    asked = pick_device(device)
    if asked.type == "cpu":
        return asked
    if ":" in device:
        raise ValueError(f"device is {device!r}; allowed for several processes: auto, cpu, cuda")
    return pick_device(f"cuda:{local_rank}")
