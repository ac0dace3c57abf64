"""Dependency maps and poses in one queue: never in one batch, and neither keeps the other waiting for long."""

from __future__ import annotations

import asyncio
from collections import Counter

from callers import Faulty, ask, new_record, play, serving, start, until
from fakes import make_admission, make_engine
from model.levels import Level
from pictures import jpeg
from service.core import PoseService
from service.poses import DependencyMap, DependencyRequest

POSES: tuple[Level, ...] = ()


class Told(Faulty):
    """Says of each batch what it was for, when it begins: the levels, none for poses, and how many persons."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[tuple[tuple[Level, ...], int]] = []
        self._levels = POSES
        self.gate.let()  # the warm-up

    def estimate(self, crops, *, flip_test=False):
        self.ran.append((self._levels, len(crops)))
        return super().estimate(crops, flip_test=flip_test)

    def explain(self, crops, *, levels):
        self._levels = tuple(levels)
        try:
            return super().explain(crops, levels=levels)
        finally:
            self._levels = POSES


def begin_map(service: PoseService, level: Level = "encoder") -> asyncio.Task[DependencyMap | bytes]:
    request = DependencyRequest(image=jpeg(), keypoint=0, level=level, as_picture=False)
    return asyncio.create_task(service.explain(request, new_record()))


async def busy(service: PoseService, estimator: Told) -> asyncio.Task:
    """A pose that runs, until it is let through."""
    pose = start(service)
    await until(lambda: len(estimator.ran) == 2)
    return pose


def test_maps_never_share_a_batch_with_poses_nor_levels_with_each_other():
    async def scenario() -> None:
        estimator = Told()
        async with serving(estimator, admission=make_admission(max_dependencies=6)) as service:
            first = await busy(service, estimator)
            asked = [first]
            for _ in range(3):
                asked += [start(service), begin_map(service, "mhsa"), begin_map(service, "encoder")]
            await until(lambda: service._engine.waiting == 9)
            estimator.gate.set()
            await asyncio.gather(*asked)
        batches = Counter(estimator.ran[2:])
        assert batches == {(POSES, 3): 1, (("mhsa",), 3): 1, (("encoder",), 3): 1}, "what may run together does"

    play(scenario)


def test_a_flood_of_maps_keeps_a_pose_waiting_for_a_batch_of_each_level_at_most():
    async def scenario() -> None:
        estimator = Told()
        async with serving(estimator) as service:
            flood = [begin_map(service, level) for level in ("mhsa", "encoder") * 2]
            await until(lambda: service._engine.waiting + service._engine._batcher.running == 4)
            pose = start(service)
            await until(lambda: service._engine.persons == 5 and service._engine.waiting >= 4)
            batches = 0
            while not pose.done():
                begun = len(estimator.ran)
                estimator.gate.let()
                batches += 1
                await until(lambda begun=begun: pose.done() or len(estimator.ran) > begun)
                flood = [one if not one.done() else begin_map(service) for one in flood]  # it never ends
            # The one that ran when the pose came, those of both levels that were there before, and its own.
            assert batches <= 4
            estimator.gate.set()
            await asyncio.gather(*flood)

    play(scenario)


def test_a_crowd_in_one_picture_does_not_keep_a_map_waiting():
    """Batches begin in turn with the oldest and with who has had least."""

    async def scenario() -> None:
        estimator = Told()
        async with serving(estimator, engine=make_engine(estimator, max_batch=2)) as service:
            crowd = start(service, 20)
            await until(lambda: len(estimator.ran) == 2)
            found = begin_map(service)
            await until(lambda: service._engine.waiting == 19)
            estimator.gate.let(3)
            await found
            assert not crowd.done()
            assert [levels for levels, _ in estimator.ran[1:5]].count(("encoder",)) == 1
            estimator.gate.set()
            assert len((await crowd).poses) == 20

    play(scenario)


def test_maps_that_come_without_end_do_not_starve_a_crowd():
    async def scenario() -> None:
        estimator = Told()
        async with serving(estimator, engine=make_engine(estimator, max_batch=2)) as service:
            flood = [begin_map(service) for _ in range(4)]
            await until(lambda: service._engine.waiting + service._engine._batcher.running == 4)
            crowd = start(service, 8)
            await until(lambda: service._engine.persons == 12 and service._engine.waiting >= 10)
            while not crowd.done():
                begun = len(estimator.ran)
                estimator.gate.let()
                await until(lambda begun=begun: crowd.done() or len(estimator.ran) > begun)
                flood = [one if not one.done() else begin_map(service) for one in flood]
                assert len(estimator.ran) < 20
            estimator.gate.set()
            await asyncio.gather(*flood)

    play(scenario)


def test_persons_of_maps_and_of_poses_share_one_limit():
    async def scenario() -> None:
        estimator = Told()
        async with serving(estimator, engine=make_engine(estimator, max_waiting=3)) as service:
            asked = [start(service), begin_map(service), begin_map(service)]
            await until(lambda: service._engine.persons == 3)
            for refused in (begin_map(service), asyncio.create_task(ask(service))):
                (error,) = await asyncio.gather(refused, return_exceptions=True)
                assert "3 persons are being worked on; allowed: at most 3" in str(error)
            estimator.gate.set()
            await asyncio.gather(*asked)

    play(scenario)
