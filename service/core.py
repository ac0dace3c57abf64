"""`PoseService`: the one object behind every protocol.

A request is admitted before its body is read; its picture is decoded and cropped in a thread, one at a time, so that a
bad one fails alone; its persons go to the engine; the answer is in pixels of the upright picture. Knows nothing of HTTP
or gRPC, of settings, or of how the engine orders its work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial

from model.crop import Pixels
from model.detection import Detections
from model.estimator import ExplainedKeypoints, Keypoints
from service.admission import Admission
from service.cropping import CroppedPicture, check_boxes, crop_boxes, crop_persons, fitting_boxes
from service.detecting import DetectorQueue
from service.engine import Engine
from service.explaining import checked_dependency, dependency_map, dependency_png, see_person
from service.images import ImageLimits
from service.network import Network
from service.pictures import OpenPicture, Pictures
from service.poses import (
    NO_DETECTOR,
    Box,
    DependencyMap,
    DependencyRequest,
    ModelInfo,
    PoseRequest,
    PoseResult,
)
from service.posing import boxes_of, pose_result
from service.readiness import Readiness
from service.record import RequestRecord
from service.room import Room
from service.sifting import told_poses
from service.tracking_values import TrackerSettings

SHUTTING_DOWN = "the service is shutting down"


@dataclass(frozen=True)
class Chosen:
    """Whom to look at in a picture that nobody sent boxes for. `detected`: whether the detector looked at it."""

    boxes_xywh: Sequence[Box]
    detected: bool


Choose = Callable[[OpenPicture], Awaitable[Chosen]]


class PoseService:
    """Estimates poses in pictures.

    Args:
        engine: runs the network; closed with the service.
        admission: opened when the network has run once, closed when the service stops.
        limits: of the pictures that are taken.
        max_persons: the most boxes in one request.
        detector: finds the persons of pictures without boxes; closed with the service. None: each is one person.
        min_pose_score: of a pose in a box of the detector; below it nobody is there. Streams have rules of their own.
        tracking: how the persons of a stream are followed, where its client does not say.
    """

    def __init__(
        self,
        engine: Engine,
        admission: Admission,
        *,
        limits: ImageLimits,
        max_persons: int,
        detector: DetectorQueue | None = None,
        min_pose_score: float = 0.0,
        tracking: TrackerSettings | None = None,
    ) -> None:
        self.limits = limits
        self.tracking = tracking or TrackerSettings()
        self.detector = detector
        self.max_persons = max_persons
        self.min_pose_score = min_pose_score
        self.admission = admission
        self.stopping = asyncio.Event()
        self._engine = engine
        self._pictures = Pictures(limits)
        # One thread: pictures are drawn one after the other, and poses keep the other cores.
        self._renderer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="render")
        self._readiness = Readiness(engine, admission, detector)

    @property
    def info(self) -> ModelInfo:
        """What `GET /model` tells."""
        return replace(self._engine.network.info, detector=self.detector.name if self.detector else NO_DETECTOR)

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
        """None when pictures are taken and the network answers; otherwise the reason."""
        return await self._readiness.why_not_ready()

    async def warm_up(self) -> None:
        """Run the network once, and the detector, then take requests. Stays not ready, and says so, if that fails."""
        await self._readiness.warm_up()

    async def estimate(self, request: PoseRequest, record: RequestRecord, *, patient: bool = False) -> PoseResult:
        """The pose of every person of a request that was admitted.

        Args:
            request: what is asked.
            record: what the admission gave; where the time went is noted there.
            patient: wait while the queue is full, instead of raising Overloaded.

        Raises the errors of `service.errors`.
        """
        if request.boxes_xywh is None and self.detector is not None:
            network, choose = self._engine.network, partial(self._detected, record)
            result = await self.estimate_chosen(request, record, choose, patient=patient)
            sigmas = network.config.skeleton.oks_sigmas
            result = told_poses(result, self.min_pose_score, self.tracking, sigmas)
            record.persons = len(result.poses)
            return result
        check_boxes(request.boxes_xywh, max_persons=self.max_persons)
        record.persons = 1 if request.boxes_xywh is None else len(request.boxes_xywh)
        network = self._begin(record)
        if record.persons == 0:
            picture = await self._crop(request, record, network)
            return PoseResult(width=picture.width, height=picture.height, poses=())
        # Room first: a picture that will not be computed need not be decoded.
        async with self._room(record.persons, request, record, network, patient=patient) as room:
            picture = await self._crop(request, record, network)
            found = await self._run(room, [crop.pixels for crop in picture.crops], record)
        return pose_result(picture, found)

    async def estimate_chosen(
        self, request: PoseRequest, record: RequestRecord, choose: Choose, *, patient: bool = False
    ) -> PoseResult:
        """As `estimate`, of the persons that `choose` says when it sees the picture; those with too small a part go.

        Whoever is not patient is refused before the picture is decoded if there is no room even for one person.
        """
        network = self._begin(record)
        if not patient:
            async with self._room(1, request, record, network):
                pass
        async with AsyncExitStack() as until_answered, self._pictures.opened(request.picture, record) as opened:
            chosen = await choose(opened)
            boxes = fitting_boxes(opened.image, chosen.boxes_xywh[: self.max_persons], self.limits, network.config)
            record.persons = len(boxes)
            height, width = opened.image.shape[:2]
            if not boxes:
                return PoseResult(width=width, height=height, poses=(), detected=chosen.detected)
            room = await until_answered.enter_async_context(
                self._room(len(boxes), request, record, network, patient=patient)
            )
            picture = await self._pictures.in_thread(
                lambda: crop_boxes(opened.image, boxes, self.limits, network.config)
            )
            opened.close()  # while the network runs, another picture may take its place
            found = await self._run(room, [crop.pixels for crop in picture.crops], record)
        return replace(pose_result(picture, found), detected=chosen.detected)

    async def detect(self, picture: OpenPicture, record: RequestRecord) -> Detections:
        """The persons that the detector finds. Raises EngineFailed; there must be a detector."""
        assert self.detector is not None
        with record.stage("detect"):
            return await self.detector.detect(picture.image)

    async def _detected(self, record: RequestRecord, picture: OpenPicture) -> Chosen:
        return Chosen(boxes_of(await self.detect(picture, record)), detected=True)

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
                    person = await self._pictures.in_thread(lambda: see_person(request, self.limits, config))
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
        self._pictures.close()
        self._renderer.shutdown(wait=False, cancel_futures=True)
        if self.detector is not None:
            self.detector.close()
        return self._engine.close(timeout_s)

    def _begin(self, record: RequestRecord) -> Network:
        """The network on which a request begins, and will be finished, whatever takes over meanwhile."""
        network = self._engine.network
        record.network = network.short_sha256
        return network

    async def _crop(self, request: PoseRequest, record: RequestRecord, network: Network) -> CroppedPicture:
        with record.stage("decode"):
            picture = await self._pictures.in_thread(lambda: crop_persons(request, self.limits, network.config))
        record.width, record.height = picture.width, picture.height
        return picture

    def _room(
        self, persons: int, request: PoseRequest, record: RequestRecord, network: Network, *, patient: bool = False
    ) -> AbstractAsyncContextManager[Room]:
        return self._engine.room(
            persons, network=network, flip_test=request.flip_test, deadline_s=record.deadline_s, patient=patient
        )

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
