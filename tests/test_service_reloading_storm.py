"""Networks take over again and again while requests of every kind come: none is lost, and each is of one network."""

from __future__ import annotations

import asyncio
import random
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fakes import CONFIG, make_admission, make_engine, make_service
from grpc_clients import Served, dependency_request, estimate_request, frame, http_beside, is_idle, until
from grpc_clients import ask as ask_over_grpc
from http_clients import JPEG
from pictures import SQUARE, jpeg
from reload_scenes import OTHER_SIZE, Sized, sha256_of, sized
from service.network import Network
from service.pb import pose_pb2 as pb
from service.record import OK, RequestRecord
from service.reloading import ReloadFailed, Reloads

RELOADS = 14
SEEN_BY_ALL = 3  # of each so many networks that took over, one stays until requests of every kind have met it
KINDS = ("pose over http", "pose over grpc", "map over http", "map over grpc", "stream")
BOXES = [(0.0, 0.0, 60.0, 80.0), (30.0, 10.0, 20.0, 20.0), (20.0, 5.0, 40.0, 40.0)]
WHOLE = jpeg()


class Slow(Sized):
    """Takes a moment for a batch, so that requests are in every state when another network takes over."""

    def estimate(self, crops, *, flip_test=False):
        threading.Event().wait(0.001)
        return super().estimate(crops, flip_test=flip_test)


class Storm:
    """Clients who ask without a pause, and see in each answer which network gave it.

    Networks are numbered: number n gives scores of 0.25 + n / 1000, and every other one takes crops of another size.
    """

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.over = False
        self.networks = 1
        self.answered: dict[str, set[int]] = {}
        self.answers = 0

    def load(self, path: Path) -> Network:
        """Every fifth is damaged."""
        if self.networks % 5 == 4:
            self.networks += 1
            raise ValueError("damaged")
        network = self.network(self.networks)
        self.networks += 1
        return network

    def network(self, number: int) -> Network:
        return sized(0.25 + number / 1000, self.config(number), lanes=self.lanes, kind=Slow)

    def config(self, number: int) -> Any:
        return OTHER_SIZE if number % 2 else CONFIG

    def saw(self, kind: str, keypoints: list[tuple[float, float, float]], newest: int) -> int:
        """The number of the network that found these, which cannot be older than one that was seen before."""
        (score,) = {round(score, 3) for _, _, score in keypoints}
        for x, y, _ in keypoints:
            assert (x, y) == pytest.approx(SQUARE, abs=0.7), "mapped back from the crop of the network that ran"
        number = round((score - 0.25) * 1000)
        assert number >= newest
        self.answered.setdefault(kind, set()).add(number)
        self.answers += 1
        return number

    async def post(self, http: Any, persons: int) -> None:
        newest = 0
        while not self.over:
            answer = await http.post(
                f"/pose?boxes={[list(box) for box in BOXES[:persons]]}", content=WHOLE, headers=JPEG
            )
            assert answer.status_code == 200, answer.text
            flat = [pose["keypoints"] for pose in answer.json()["poses"]]
            assert len(flat) == persons
            newest = self.saw("pose over http", [tuple(one[i : i + 3]) for one in flat for i in (0, 24, 48)], newest)

    async def call(self, to: Served, persons: int) -> None:
        newest = 0
        while not self.over:
            answer = await to.poses.EstimatePose(estimate_request(boxes=BOXES[:persons], flip_test=persons == 1))
            assert len(answer.poses) == persons
            newest = self.saw("pose over grpc", _points(answer.poses), newest)

    async def explain(self, to: Served, http: Any) -> None:
        newest = 0
        while not self.over:
            answer = (await http.post("/dependency?keypoint=nose&format=json", content=WHOLE, headers=JPEG)).json()
            newest = self.saw("map over http", [tuple(answer["point"])], newest)
            assert (len(answer["attention"]), len(answer["attention"][0])) == self.config(newest).tokens_hw
            found = await to.poses.GetDependency(dependency_request(keypoint="nose", level="mhsa", format="json"))
            point = found.point
            newest = self.saw("map over grpc", [(point.x, point.y, point.score)], newest)
            assert (found.height, found.width) == self.config(newest).tokens_hw

    async def stream(self, to: Served) -> None:
        call = to.poses.StreamPoses()
        sent = 0

        async def send() -> None:
            nonlocal sent
            while not self.over:
                await call.write(frame(sent, boxes=BOXES[: 1 + sent % 3]))
                sent += 1
            await call.done_writing()

        sending = asyncio.create_task(send())
        came, newest = 0, 0
        async for answer in call:
            assert isinstance(answer, pb.StreamPosesResponse)
            assert (answer.frame_id, answer.HasField("error")) == (came, False), answer.error
            assert len(answer.poses) == 1 + came % 3
            newest = self.saw("stream", _points(answer.poses), newest)
            came += 1
        await sending
        assert came == sent

    async def reload(self, service: Any, chance: random.Random) -> None:
        reloads = Reloads(service, self.load, checkpoint=Path("start"))
        for _ in range(RELOADS):
            before = self.answers
            await until(lambda before=before: self.answers > before + chance.randint(0, 6))
            with suppress(ReloadFailed):
                await reloads.reload(asked_by="the storm")
                newest = self.networks - 1
                if newest % SEEN_BY_ALL == 0:
                    await until(lambda newest=newest: all(newest in self.answered.get(kind, ()) for kind in KINDS))
            assert await service.why_not_ready() is None
        await until(lambda before=self.answers: self.answers > before + 20)
        self.over = True


def _points(poses: Any) -> list[tuple[float, float, float]]:
    return [(point.x, point.y, point.score) for pose in poses for point in pose.keypoints]


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_storm_of_requests_while_networks_take_over(lanes):
    storm, records = Storm(lanes), list[RequestRecord]()
    first = storm.network(0)
    engine = make_engine(first.estimators[0], others=first.estimators[1:], max_batch=4)
    engine.network = first
    service = make_service(engine=engine, admission=make_admission(observers=[records.append]))

    async def talk(to: Served) -> None:
        async with http_beside(to) as http, asyncio.TaskGroup() as clients:
            for persons in (1, 3):
                clients.create_task(storm.post(http, persons))
                clients.create_task(storm.call(to, persons))
            clients.create_task(storm.stream(to))
            clients.create_task(storm.explain(to, http))
            clients.create_task(storm.reload(service, random.Random(lanes)))
        await until(lambda: is_idle(to))

    ask_over_grpc(service, talk)
    assert {record.outcome for record in records} == {OK}
    assert len([one for one in records if one.caller.method != "stream"]) == storm.answers
    assert storm.networks == RELOADS + 1
    for kind in KINDS:
        assert len(storm.answered[kind]) >= 3, "several networks answered to requests of each kind"
    newest = max(set.union(*storm.answered.values()))
    assert service.info.checkpoint_sha256 == sha256_of(0.25 + newest / 1000), "what came last answered in the end"
