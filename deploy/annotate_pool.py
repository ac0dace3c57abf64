"""Shards over processes of this machine. One that dies is replaced, and its shard is given to another.

Knows nothing of pictures or poses.
"""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from deploy.annotate_attempt import Attempt
from deploy.annotate_folder import Folder
from deploy.annotate_shard import NetworkIll
from deploy.annotate_work import Job, Process

log = logging.getLogger("deploy.annotate")

MAX_FALSE_STARTS = 3  # processes in a row that end before they can work
TELL_PERIOD_S = 0.5
END_TIMEOUT_S = 10.0


class JobFailed(RuntimeError):
    """No process can do the work. What was done is kept."""


@dataclass(frozen=True)
class Ready:
    """A process has its network."""


@dataclass(frozen=True)
class Progress:
    """Pictures that are over since it was last told."""

    pictures: int


@dataclass(frozen=True)
class Finished:
    """A shard is done."""

    manifest: dict[str, Any]


@dataclass(frozen=True)
class Broken:
    """The process cannot work, and ends."""

    why: str
    at_start: bool


Told = Ready | Progress | Finished


@dataclass(kw_only=True)
class _Worker:
    process: Any
    connection: Connection
    job: Job
    shard: int | None = None
    ready: bool = False


def work(job: Job, connection: Connection) -> None:
    """What a process does: shards that it is sent, until it is sent None."""
    try:
        process = Process(job)
    except Exception as error:
        connection.send(Broken(str(error), at_start=True))
        return
    connection.send(Ready())
    try:
        while (shard := connection.recv()) is not None:
            connection.send(Finished(process.do(shard, _in_lumps(connection))))
    except NetworkIll as error:
        connection.send(Broken(str(error), at_start=False))
    except (EOFError, BrokenPipeError):
        pass  # who sent the shards is gone
    finally:
        process.close()


def _in_lumps(connection: Connection) -> Callable[[int], None]:
    """Tells of pictures now and then, not of each."""
    pictures, told_s = 0, time.monotonic()

    def tell(more: int) -> None:
        nonlocal pictures, told_s
        pictures += more
        if (now_s := time.monotonic()) - told_s > TELL_PERIOD_S:
            connection.send(Progress(pictures))
            pictures, told_s = 0, now_s

    return tell


class LocalPool:
    """Processes of this machine.

    Args:
        jobs: one for each process; they differ in their device.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._jobs = tuple(jobs)
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._false_starts = 0

    @property
    def pids(self) -> list[int]:
        """The processes that are at work."""
        return [worker.process.pid for worker in self._workers]

    def run(self, shards: Iterable[int]) -> Iterator[Told]:
        """Do all shards, and tell what happens. Raises JobFailed. To be closed, if it is left before its end."""
        todo = deque(shards)
        try:
            for job in self._jobs[: len(todo)]:
                self._start(job)
            while self._workers:
                ends = {worker.connection: worker for worker in self._workers}
                for connection in wait(list(ends)):
                    yield from self._hear(ends[connection], todo)  # type: ignore[index]
        finally:
            self._end()

    def _start(self, job: Job) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=work, args=(job, theirs), daemon=True)
        process.start()
        theirs.close()
        self._workers.append(_Worker(process=process, connection=ours, job=replace(job)))

    def _hear(self, worker: _Worker, todo: deque[int]) -> Iterator[Told]:
        try:
            told = worker.connection.recv()
        except (EOFError, OSError):
            self._died(worker, todo, f"process {worker.process.pid} died")
            return
        match told:
            case Ready():
                worker.ready, self._false_starts = True, 0
                self._next(worker, todo)
            case Finished():
                worker.shard = None
                self._next(worker, todo)
            case Broken(why, at_start):
                if at_start:
                    raise JobFailed(why)
                self._died(worker, todo, why)
                return
        yield told

    def _next(self, worker: _Worker, todo: deque[int]) -> None:
        worker.shard = todo.popleft() if todo else None
        try:
            worker.connection.send(worker.shard)
        except OSError:  # it died after it had told
            self._died(worker, todo, f"process {worker.process.pid} died")
            return
        if worker.shard is None:
            self._workers.remove(worker)
            worker.process.join(END_TIMEOUT_S)

    def _died(self, worker: _Worker, todo: deque[int], why: str) -> None:
        self._workers.remove(worker)
        worker.process.join(END_TIMEOUT_S)
        self._false_starts = 0 if worker.ready else self._false_starts + 1
        if self._false_starts >= MAX_FALSE_STARTS:
            raise JobFailed(f"{self._false_starts} processes ended before they could work; is there enough memory?")
        if worker.shard is not None:
            log.warning("%s at shard %d; another takes it", why, worker.shard)
            todo.append(worker.shard)  # the last one: others first, if it is the shard that kills
        if todo:
            self._start(worker.job)

    def _end(self) -> None:
        """End what is at work; that it was ended is nobody's fault."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join(END_TIMEOUT_S)
            if worker.shard is not None:
                Attempt(Folder(worker.job.out), worker.shard).forgive()
        self._workers.clear()
