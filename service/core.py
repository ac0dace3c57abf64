"""`PoseService`: the one object behind every protocol.

A request is admitted before its body is read; its picture is decoded and cropped in a thread, one at a time, so that a
bad one fails alone; its persons go to the engine; the answer is in pixels of the upright picture. Knows nothing of HTTP
or gRPC, of settings, or of how the engine orders its work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from model.crop import Pixels
from model.estimator import ExplainedKeypoints, Keypoints, PersonCrop, keypoints_to_image, pose_score
from service.admission import Admission
from service.cropping import CroppedPicture, check_boxes, crop_persons
from service.engine import Engine
from service.errors import EngineFailed, Overloaded
from service.explaining import checked_dependency, dependency_map, dependency_png, see_person
from service.images import ImageLimits
from service.network import Network
from service.poses import (
    DECIMALS,
    Box,
    DependencyMap,
    DependencyRequest,
    ModelInfo,
    Pose,
    PoseRequest,
    PoseResult,
)
from service.record import RequestRecord
from service.room import Room

MAX_DECODERS = 4  # each may hold a whole decoded picture
PROBE_TIMEOUT_S = 5.0  # how long a health check waits for the network
WARMING_UP = "the network is warming up"
SHUTTING_DOWN = "the service is shutting down"


class PoseService:
    """Estimates poses in pictures.

    Args:
        engine: runs the network; closed with the service.
        admission: opened when the network has run once, closed when the service stops.
        limits: of the pictures that are taken.
        max_persons: the most boxes in one request.
    """

    def __init__(
        self,
        engine: Engine,
        admission: Admission,
        *,
        limits: ImageLimits,
        max_persons: int,
    ) -> None:
        self.limits = limits
        self.max_persons = max_persons
        self.admission = admission
        self.admission.closed_because = WARMING_UP
        self.stopping = asyncio.Event()
        self._engine = engine
        self._decoders = ThreadPoolExecutor(max_workers=MAX_DECODERS, thread_name_prefix="decode")
        # One thread: pictures are drawn one after the other, and poses keep the other cores.
        self._renderer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="render")
        self._probe: asyncio.Task[bool] | None = None

    @property
    def info(self) -> ModelInfo:
        """What `GET /model` tells."""
        return self._engine.network.info

    @property
    def network(self) -> Network:
        """What serves requests that come now. Set it, on the event loop, to serve another from the next request on.

        Those that came before are finished on theirs.
        """
        return self._engine.network

    @network.setter
    def network(self, network: Network) -> None:
        self._engine.network = network

    async def why_not_ready(self) -> str | None:
        """None when pictures are taken and the network answers; otherwise the reason.

        After a failure the network is tried again here, so that a health check notices when it has recovered.
        """
        if self.admission.closed_because is None and self._engine.stalled:
            return "the network has been at one batch for too long; see the log"
        failed = self.admission.closed_because is None and self._engine.failures > 0
        if failed and not await self._network_answers(PROBE_TIMEOUT_S):
            return f"the network failed the last {self._engine.failures} times; see the log"
        return self.admission.closed_because

    async def warm_up(self) -> None:
        """Run the network once, then take requests. Stays not ready, and says so, if that fails."""
        for _ in range(self._engine.lanes):  # one that fails does not keep the others from serving
            if answers := await self._network_answers(None):
                break
        if self.admission.closed_because == WARMING_UP:  # and not stopped meanwhile
            self.admission.closed_because = None if answers else "the network failed its first run; see the log"

    async def estimate(self, request: PoseRequest, record: RequestRecord, *, patient: bool = False) -> PoseResult:
        """The pose of every person of a request that was admitted.

        Args:
            request: what is asked.
            record: what the admission gave; where the time went is noted there.
            patient: wait while the queue is full, instead of raising Overloaded.

        Raises the errors of `service.errors`.
        """
        check_boxes(request.boxes_xywh, max_persons=self.max_persons)
        record.persons = 1 if request.boxes_xywh is None else len(request.boxes_xywh)
        network = self._begin(record)
        if record.persons == 0:
            picture = await self._crop(request, record, network)
            return PoseResult(width=picture.width, height=picture.height, poses=())
        # Room first: a picture that will not be computed need not be decoded.
        async with self._engine.room(
            record.persons,
            network=network,
            flip_test=request.flip_test,
            deadline_s=record.deadline_s,
            patient=patient,
        ) as room:
            picture = await self._crop(request, record, network)
            found = await self._run(room, [crop.pixels for crop in picture.crops], record)
        poses = tuple(map(_pose, picture.boxes_xywh, picture.crops, found))
        return PoseResult(width=picture.width, height=picture.height, poses=poses)

    async def explain(self, request: DependencyRequest, record: RequestRecord) -> DependencyMap | bytes:
        """What a keypoint of one person depended on: a map, or the PNG that was asked for.

        Its person waits in the same queue as those of `estimate`, but runs in a batch of its own kind; how many maps
        may be worked on at a time is the admission's to say.

        Raises the errors of `service.errors`.
        """
        network = self._begin(record)
        config = network.config
        request = checked_dependency(request, config)
        record.persons = 1
        loop = asyncio.get_running_loop()
        with self.admission.dependency():
            async with self._engine.room(
                1, network=network, levels=(request.level,), deadline_s=record.deadline_s
            ) as room:
                with record.stage("decode"):
                    person = await loop.run_in_executor(self._decoders, see_person, request, self.limits, config)
                record.width, record.height = person.width, person.height
                (found,) = await self._run(room, [person.crop.pixels], record)
            if not isinstance(found, ExplainedKeypoints):
                raise TypeError(f"the engine explained with a {type(found).__name__}")
            if not request.as_picture:
                return dependency_map(request, person, found, config)
            with record.stage("render"):
                return await loop.run_in_executor(self._renderer, dependency_png, request, person, found, config)

    def stop(self, because: str = SHUTTING_DOWN) -> None:
        """Take no more requests; those that were taken go on."""
        self.admission.closed_because = because
        self.stopping.set()

    def close(self, timeout_s: float | None = None) -> bool:
        """End the threads after what they are at; False if the network did not end in time."""
        self.stop()
        for threads in (self._decoders, self._renderer):
            threads.shutdown(wait=False, cancel_futures=True)
        return self._engine.close(timeout_s)

    def _begin(self, record: RequestRecord) -> Network:
        """The network on which a request begins, and will be finished, whatever takes over meanwhile."""
        network = self._engine.network
        record.network = network.short_sha256
        return network

    async def _crop(self, request: PoseRequest, record: RequestRecord, network: Network) -> CroppedPicture:
        loop = asyncio.get_running_loop()
        with record.stage("decode"):
            picture = await loop.run_in_executor(self._decoders, crop_persons, request, self.limits, network.config)
        record.width, record.height = picture.width, picture.height
        return picture

    async def _run(self, room: Room, crops: Sequence[Pixels], record: RequestRecord) -> tuple[Keypoints, ...]:
        ready_s = time.monotonic()
        try:
            return await room.run(crops)
        finally:
            ended_s = time.monotonic()
            started_s = ended_s if room.started_s is None else room.started_s
            record.stages["queue"] = (ready_s, started_s)
            if room.started_s is not None:
                record.stages["engine"] = (started_s, ended_s)

    async def _network_answers(self, timeout_s: float | None) -> bool:
        """Whether the network can be run. However many ask at a time, it is tried once."""
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._try_network())
        try:
            return await asyncio.wait_for(asyncio.shield(self._probe), timeout_s)
        except TimeoutError:
            return False

    async def _try_network(self) -> bool:
        network = self._engine.network
        try:
            async with self._engine.room(1, network=network) as room:
                await room.run([network.blank()])
        except EngineFailed:
            return False
        except Overloaded:
            pass  # it has work; how that ends will tell
        return True


def _pose(box: Box, crop: PersonCrop, keypoints_crop: Keypoints) -> Pose:
    keypoints = keypoints_to_image(keypoints_crop, crop)
    return Pose(
        box_xywh=box,
        score=round(pose_score(keypoints.scores), DECIMALS),
        keypoints=tuple(
            (round(float(x), DECIMALS), round(float(y), DECIMALS), round(float(score), DECIMALS))
            for (x, y), score in zip(keypoints.points, keypoints.scores, strict=True)
        ),
    )
