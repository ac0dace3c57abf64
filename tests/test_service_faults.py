"""What goes wrong stays where it went wrong: bad pictures, clients who leave, overload, a network that fails."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable, Sequence

import httpx
import pytest

from fakes import BrightestPixel
from http_clients import JPEG, PATIENCE_S, assert_problem, client_of, idle, make_counted, outcomes, served, until
from model.crop import Pixels
from model.estimator import Keypoints
from pictures import encoded, jpeg, square
from service.core import PoseService
from service.metrics import Metrics
from wires import Wire, picture_request

Scene = Callable[[httpx.AsyncClient, PoseService], Awaitable[None]]


class Scripted(BrightestPixel):
    """A network that does what is written for its n-th run, the first being that of warming up."""

    def __init__(self, script: dict[int, str] | None = None) -> None:
        super().__init__()
        self.script = script or {}
        self.runs = 0
        self.asked: list[int] = []  # persons of each run, those that failed too

    def estimate(self, crops: Sequence[Pixels], *, flip_test: bool = False) -> list[Keypoints]:
        self.runs += 1
        what = self.script.get(self.runs, "answers")
        self.asked.append(len(crops))
        if what == "raises":
            raise RuntimeError("secret at 0x7f00")
        found = super().estimate(crops, flip_test=flip_test)
        if what == "answers too few":
            return found[1:]
        if what == "answers too many":
            return [*found, found[0]]
        if what == "answers what is not finite":
            found[0].scores[3] = math.nan
        return found


class Slow(BrightestPixel):
    """Takes 0.2 s for each batch, however many persons it has."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = 0
        self.third_began = threading.Event()

    def estimate(self, crops: Sequence[Pixels], *, flip_test: bool = False) -> list[Keypoints]:
        self.begun += 1
        if self.begun == 1 + 3:  # the first run is that of warming up
            self.third_began.set()
        time.sleep(0.2)
        return super().estimate(crops, flip_test=flip_test)


def post(client: httpx.AsyncClient, picture: bytes = jpeg(), **options: object) -> asyncio.Task[httpx.Response]:
    headers = {**JPEG, **options.pop("headers", {})}
    return asyncio.create_task(client.post("/pose", content=picture, headers=headers, **options))


def play(scene: Scene, estimator: BrightestPixel, **settings: object) -> Metrics:
    """Run a scene; the network is let go in the end, and nothing may stay."""
    service, metrics = make_counted(estimator, **settings)

    async def run() -> None:
        async with client_of(service, metrics) as client:
            try:
                await scene(client, service)
            finally:
                estimator.gate.set()
            await idle(service)

    asyncio.run(run())
    return metrics


BAD_PICTURES = {
    "cut off": jpeg()[:500],
    "no picture": b"hello",
    "empty": b"",
    "another format": encoded(square(), "GIF"),
    "damaged": encoded(square())[:40] + bytes(60) + encoded(square())[100:],
}


@pytest.mark.parametrize("bad", BAD_PICTURES.values(), ids=BAD_PICTURES)
def test_one_bad_picture_among_fifteen_good_ones_fails_alone(bad):
    estimator = BrightestPixel()
    centers = [(8 + 3 * n, 70 - 4 * n) for n in range(15)]

    async def scene(client: httpx.AsyncClient, service: PoseService) -> None:
        good = [post(client, encoded(square(center=center))) for center in centers[:7]]
        refused = post(client, bad)
        good += [post(client, encoded(square(center=center))) for center in centers[7:]]
        for answer, center in zip(await asyncio.gather(*good), centers, strict=True):
            assert answer.status_code == 200
            assert answer.json()["poses"][0]["keypoints"][:2] == pytest.approx(center, abs=1.0)
        assert_problem(await refused, 400, "")

    assert outcomes(play(scene, estimator, max_batch=16)) == {"ok": 15, "not_an_image": 1}
    assert sum(estimator.batches) == 1 + 15


def test_clients_who_leave_are_not_computed_for():
    """200 clients wait half a second, and a batch of at most 16 takes a fifth of one."""
    estimator = Slow()
    service, metrics = make_counted(estimator, max_batch=16, max_requests=300, max_waiting=300)

    async def run() -> None:
        async with served(service, metrics) as port:
            clients = [await Wire.open(port) for _ in range(200)]
            for client in clients:
                await client.send(picture_request(jpeg()))
            # Half a second; on a machine that stalls, when the network has seen that much of its own time.
            await asyncio.to_thread(estimator.third_began.wait, 0.5)
            for client in clients:
                client.leave()
            await idle(service)

    asyncio.run(run())
    ended = outcomes(metrics)
    assert sum(ended.values()) == 200
    assert ended["gone"] >= 200 - 60
    assert sum(estimator.batches[1:]) <= 60


def test_when_the_queue_overflows_all_who_came_in_are_answered():
    estimator = BrightestPixel()

    async def scene(client: httpx.AsyncClient, service: PoseService) -> None:
        for _ in range(2):  # it is as before, afterwards
            estimator.gate.clear()
            asked = [post(client) for _ in range(30)]
            await until(lambda asked=asked: sum(one.done() for one in asked) == 20)
            assert service._engine.persons == 10
            refused = [one.result() for one in asked if one.done()]
            for answer in refused:
                assert_problem(answer, 429, "10 persons are being worked on; allowed: at most 10")
                assert int(answer.headers["retry-after"]) >= 1
            assert (await client.get("/readyz")).status_code == 200, "busy is not broken"
            estimator.gate.set()
            statuses = [answer.status_code for answer in await asyncio.gather(*asked)]
            assert sorted(statuses) == [200] * 10 + [429] * 20
            await idle(service)
        assert (await post(client)).status_code == 200

    metrics = play(scene, estimator, max_waiting=10)
    assert outcomes(metrics) == {"ok": 21, "overloaded": 40}
    assert metrics.registry.get_sample_value("btranspose_rejections_total", {"reason": "overloaded"}) == 40


@pytest.mark.parametrize("what", ["raises", "answers too few", "answers too many", "answers what is not finite"])
def test_a_batch_that_fails_fails_alone(what):
    estimator = Scripted({3: what})

    async def scene(client: httpx.AsyncClient, service: PoseService) -> None:
        estimator.gate.clear()
        first = post(client)
        await until(lambda: service._engine._batcher.running == 1)
        others = []
        for number in range(1, 6):
            others.append(post(client))
            await until(lambda number=number: service._engine.waiting == number)
        estimator.gate.set()
        answers = await asyncio.gather(first, *others)
        assert [answer.status_code for answer in answers] == [200, 500, 500, 500, 200, 200]
        for answer in answers[1:4]:
            assert_problem(answer, 500, "the network could not be run on this picture")
            assert "secret" not in answer.text
        assert (await client.get("/readyz")).status_code == 200, "its last run went well"

    metrics = play(scene, estimator, max_batch=3)
    assert outcomes(metrics) == {"ok": 3, "engine_failed": 3}
    assert metrics.registry.get_sample_value("btranspose_engine_failures_total") == 1
    assert estimator.asked == [1, 1, 3, 2]


def test_of_a_request_in_two_batches_one_of_which_fails_nothing_is_told():
    estimator = Scripted({3: "raises"})
    boxes = "[[0, 0, 60, 80], [0, 0, 60, 40], [0, 0, 30, 80], [30, 40, 30, 40]]"

    async def scene(client: httpx.AsyncClient, service: PoseService) -> None:
        assert_problem(await post(client, params={"boxes": boxes}), 500, "could not be run")
        answer = await post(client, params={"boxes": boxes})
        assert len(answer.json()["poses"]) == 4

    assert outcomes(play(scene, estimator, max_batch=3)) == {"ok": 1, "engine_failed": 1}


def test_a_network_that_keeps_failing_makes_the_service_unready_until_it_recovers():
    estimator = BrightestPixel()

    async def scene(client: httpx.AsyncClient, service: PoseService) -> None:
        estimator.fails_with = RuntimeError("secret at 0x7f00")
        for _ in range(2):
            assert_problem(await post(client), 500, "could not be run")
        not_ready = await client.get("/readyz")
        assert_problem(not_ready, 503, "not ready: the network failed the last 3 times; see the log")
        assert "secret" not in not_ready.text
        assert (await client.get("/healthz")).status_code == 200
        estimator.fails_with = None
        assert (await client.get("/readyz")).status_code == 200, "the health check tries the network itself"
        assert (await post(client)).status_code == 200

    assert outcomes(play(scene, estimator)) == {"ok": 1, "engine_failed": 2}


def test_a_network_that_hangs_makes_the_service_unready_until_it_goes_on():
    estimator = BrightestPixel()

    async def scene(client: httpx.AsyncClient, service: PoseService) -> None:
        estimator.gate.clear()
        hanging = post(client, headers={"x-timeout-ms": "1500"})  # time enough to come to the network
        queued = post(client, headers={"x-timeout-ms": "1500"})
        for answer in await asyncio.gather(hanging, queued):
            assert_problem(answer, 504, "")
        async with asyncio.timeout(PATIENCE_S):
            while (not_ready := await client.get("/readyz")).status_code == 200:
                await asyncio.sleep(0.01)
        assert_problem(not_ready, 503, "the network has been at one batch for too long; see the log")
        assert (await client.get("/healthz")).status_code == 200
        estimator.gate.set()
        await until(lambda: not service._engine.stalled)
        assert (await client.get("/readyz")).status_code == 200
        assert (await post(client)).status_code == 200

    assert outcomes(play(scene, estimator, stalled_after_s=0.1)) == {"ok": 1, "late": 2}
    assert sum(estimator.batches) == 3, "warming up, the one that hung, the last; not the one that waited"
