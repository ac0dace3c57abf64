"""One comparison of `bench/rivals.py`: all servers started, measured in turns, and stopped."""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path

from drawn import drawn_jpeg
from results import progress
from rival_kinds import ROOT, Rival, our_command, rival_command, rival_env
from rival_processes import Processes
from rival_turns import Entry, Failed, Row, confidences, load, start

MANY = 16  # clients
SIZE = (640, 480)
OURS = "BTranspose"
TOLERANCE = 0.05  # of the highest confidence: OpenVINO's two forms round differently
FACTORIES = {"torch": "torch_net", "openvino": "openvino_net"}


class Bench:
    """One comparison.

    Args:
        name: of `FACTORIES`: what runs the rivals' network.
        given: the options of `bench/rivals.py`.
        folder: for what servers print.
        checkpoint: what our service serves.
    """

    def __init__(self, name: str, given: argparse.Namespace, *, folder: Path, checkpoint: Path) -> None:
        self._name, self._given = name, given
        self._folder, self._checkpoint = folder, checkpoint
        self._image = drawn_jpeg(*SIZE)
        self._expected: list[float] = []  # confidences of the first rival

    async def first_start(self, ours: dict[str, tuple[str, ...]]) -> None:
        """Start our service and stop it again: it keeps what it makes of a network. See `run`."""
        with contextlib.suppress(Failed):  # `run` will tell
            (await start(self._ours(ours)[0], self._image)).processes.stop()

    async def run(self, rivals: tuple[Rival, ...], ours: dict[str, tuple[str, ...]]) -> list[Row]:
        """Everything. `ours`: flags of our service, by the name of the row; the first is asked over gRPC, too."""
        rows: list[Row] = []
        with contextlib.ExitStack() as stack:
            for entry in [*self._ours(ours), *map(self._rival, rivals)]:
                rows += await self._started(entry, stack)
            for number in range(self._given.rounds):
                for row in rows:
                    if not row.failed:
                        progress(f"{self._name}, round {number + 1} of {self._given.rounds}: {row.name}")
                        await row.turn(self._image, 1, seconds=self._given.seconds / 2)
                        await row.turn(self._image, MANY, seconds=self._given.seconds)
        return rows

    async def try_threads(self, rivals: tuple[Rival, ...]) -> tuple[Rival, ...]:
        """The rivals, each with that number of torch's threads, 1 or 2, that gives more images a second."""
        chosen = []
        for rival in rivals:
            rates: dict[int, float] = {}
            for threads in (1, 2):
                entry = self._rival(replace(rival, torch_threads=threads))
                with contextlib.ExitStack() as stack:
                    (row,) = await self._started(entry, stack)
                    await row.turn(self._image, MANY, seconds=self._given.seconds)
                rates[threads] = statistics.median(row.rates.get(MANY, [0.0]))
            chosen.append(replace(rival, torch_threads=max(rates, key=lambda threads: rates[threads])))
            progress(f"{rival.name}: {rates[1]:.2f} images/s with one of torch's threads, {rates[2]:.2f} with two")
        return tuple(chosen)

    async def _started(self, entry: Entry, stack: contextlib.ExitStack) -> list[Row]:
        """The rows of a server, which is then warm and held; or one that says why there are none."""
        progress(f"{self._name}: starting {entry.name}")
        try:
            started = await start(entry, self._image)
            stack.callback(started.processes.stop)
            started.processes.hold()
            if entry.rival:
                self._compare(started.answer)
            started.processes.go_on()
            await load(started, self._image, clients=MANY, seconds=0)
            started.processes.hold()
        except Failed as error:
            progress(f"{entry.name} does not take part: {error}")
            return [Row(entry.name, failed=str(error))]
        if not entry.over_grpc:
            return [Row(entry.name, started)]
        return [Row(f"{entry.name}, HTTP", started), Row(f"{entry.name}, gRPC", started, grpc=True)]

    def _compare(self, answer: bytes) -> None:
        """Raises Failed if a rival's first answer is not that of the rivals before it."""
        found = confidences(answer)
        self._expected = self._expected or found
        if len(found) != len(self._expected):
            raise Failed(f"it answers with {len(found)} keypoints, the rivals before it with {len(self._expected)}")
        worst = max(abs(one - two) for one, two in zip(found, self._expected, strict=True))
        if worst > TOLERANCE * max(self._expected):
            raise Failed(f"it answers otherwise than the rivals before it, by {worst:.3f} in a confidence")

    def _ours(self, ours: dict[str, tuple[str, ...]]) -> list[Entry]:
        return [
            Entry(name=name, start=partial(self._start_ours, flags), over_grpc=number == 0, rival=False)
            for number, (name, flags) in enumerate(ours.items())
        ]

    def _rival(self, rival: Rival) -> Entry:
        threads = f" ({rival.torch_threads} threads)" if self._name == "torch" else ""
        return Entry(
            name=rival.name + threads, start=partial(self._start_rival, rival), path=rival.path, headers=rival.headers
        )

    def _start_ours(self, flags: tuple[str, ...], port: int) -> Processes:
        command = our_command(self._checkpoint, http_port=port, grpc_port=port + 1, flags=flags)
        return Processes(command, env=os.environ, cwd=ROOT, log=self._folder / "btranspose.log")

    def _start_rival(self, rival: Rival, port: int) -> Processes:
        venv = self._given.triton_venv if rival.triton else self._given.venv
        command = rival_command(rival, venv=venv, peers=self._given.peers, port=port)
        env = rival_env(rival, factory=FACTORIES[self._name], threads=rival.torch_threads)
        return Processes(command, env=env, cwd=self._folder, log=self._folder / f"{rival.name}.log")
