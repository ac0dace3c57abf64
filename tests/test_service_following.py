"""Frames without boxes: the detector finds people, the stream follows them, and each keeps its number."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx
import numpy as np
import pytest
from PIL import Image

from callers import new_record, serving
from fakes import BrightestPixel, make_engine, make_service
from grpc_clients import HeldBack, Served, ask, estimate_request, frame, outcomes, stream_of, until
from http_clients import ask as http_ask
from model.crop import Pixels
from model.detection import Detections
from pictures import encoded
from service.core import PoseService
from service.detecting import DetectorQueue
from service.pb import pose_pb2 as pb
from service.poses import PoseRequest, PoseResult
from service.tracking_values import TrackerSettings

SIZE = (120, 200)  # rows, columns
SPAN = 24  # pixels of a person


class BlobDetector:
    """Finds the bright squares of a picture; notes how often it looks. `stutters`: tells each twice."""

    name = "blobs"

    def __init__(self) -> None:
        self.looks = 0
        self.fails = False
        self.stutters = False

    def detect(self, images: Sequence[Pixels]) -> list[Detections]:
        if self.fails:
            raise RuntimeError("no detector today")
        self.looks += len(images)
        return [self._found(image) for image in images]

    def _found(self, image: Pixels) -> Detections:
        found = self._blobs(image)
        if not self.stutters:
            return found
        boxes = np.concatenate((found.boxes_xywh, found.boxes_xywh + np.array([0, 0, 1, 1])))
        return Detections(boxes, np.concatenate((found.scores, found.scores - 0.2)))

    def _blobs(self, image: Pixels) -> Detections:
        columns = np.flatnonzero((image > 128).all(axis=2).any(axis=0))
        groups = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1) if len(columns) else []
        boxes = []
        for group in groups:
            rows = np.flatnonzero((image[:, group[0] : group[-1] + 1] > 128).all(axis=2).any(axis=1))
            boxes.append([group[0] - 8.0, rows[0] - 8.0, len(group) + 16.0, len(rows) + 16.0])
        scores = 0.9 - 0.1 * np.arange(len(boxes))
        return Detections(np.array(boxes, dtype=float).reshape(-1, 4), scores)


class SpreadOut(BrightestPixel):
    """Keypoints in a ring around the brightest place, as large as a person is in its crop."""

    def estimate(self, crops, *, flip_test: bool = False):
        ring = np.stack([15 * np.cos(np.arange(17)), 20 * np.sin(np.arange(17))], axis=1)
        return [
            type(found)(found.points + ring, found.scores) for found in super().estimate(crops, flip_test=flip_test)
        ]


def picture(*lefts: int, top: int = 40) -> bytes:
    """Bright squares on dark ground."""
    image = np.full((*SIZE, 3), 40, dtype=np.uint8)
    for left in lefts:
        image[top : top + 30, max(left, 0) : left + SPAN] = 255
    return encoded(Image.fromarray(image))


def watching(detector: BlobDetector | None, **settings: object) -> PoseService:
    return make_service(
        engine=make_engine(SpreadOut()),
        detector=None if detector is None else DetectorQueue(detector, max_batch=4),
        tracking=TrackerSettings(**settings),  # type: ignore[arg-type]
    )


def timed(frame_id: int, image: bytes, **fields: object) -> pb.StreamPosesRequest:
    message = frame(frame_id, image, **fields)
    message.captured_us = frame_id * 40_000
    return message


def ids(answers: Sequence[pb.StreamPosesResponse]) -> list[list[int]]:
    return [[pose.track_id for pose in answer.poses] for answer in answers]


def test_two_people_keep_their_numbers_and_the_detector_looks_now_and_then():
    detector = BlobDetector()
    frames = [timed(number, picture(20 + 2 * number, 150 - number)) for number in range(25)]
    answers = ask(watching(detector, detect_every=10), lambda to: stream_of(to, frames))
    assert outcomes(answers) == [(number, 0, "") for number in range(25)]
    assert ids(answers) == [[1, 2]] * 25
    seen = [number for number, answer in enumerate(answers) if answer.detected]
    assert seen == [0, 10, 20]
    assert detector.looks == 1 + len(seen)  # and when it was warmed up
    for number, answer in enumerate(answers):  # between detections, too, the boxes go along
        left = [np.mean([point.x for point in pose.keypoints]) for pose in answer.poses]
        assert left == pytest.approx([31.5 + 2 * number, 161.5 - number], abs=3)


def test_frames_are_followed_in_their_order_however_many_are_on_their_way():
    frames = [timed(number, picture(20 + 3 * number)) for number in range(30)]

    async def talk(to: Served) -> list[pb.StreamPosesResponse]:
        return await stream_of(to, frames)

    answers = ask(watching(BlobDetector(), detect_every=5), talk, max_frames=16)
    assert ids(answers) == [[1]] * 30


def test_the_client_may_ask_for_more_detections_or_for_plain_frames():
    frames = [timed(number, picture(20, 120)) for number in range(4)]
    frames[0].options.detect_every = 1
    answers = ask(watching(BlobDetector()), lambda to: stream_of(to, frames))
    assert [answer.detected for answer in answers] == [True] * 4

    frames[0].options.Clear()
    frames[0].options.plain = True
    answers = ask(watching(BlobDetector()), lambda to: stream_of(to, frames))
    assert ids(answers) == [[0, 0]] * 4
    assert all(answer.detected for answer in answers)


def test_a_call_of_its_own_has_the_detectors_people_the_surest_first():
    detector = BlobDetector()

    async def talk(to: Served) -> tuple[pb.EstimatePoseResponse, pb.EstimatePoseResponse, str]:
        image = picture(20, 120)
        return (
            await to.poses.EstimatePose(estimate_request(image)),
            await to.poses.EstimatePose(estimate_request(picture())),
            (await to.poses.GetModel(pb.GetModelRequest())).detector,
        )

    both, nobody, name = ask(watching(detector), talk)
    assert [round(pose.bbox.x) for pose in both.poses] == [12, 112]
    assert not nobody.poses
    assert (nobody.image.width, nobody.image.height) == SIZE[::-1]
    assert name == "blobs"


def test_a_person_of_two_detections_is_told_once_and_one_of_two_sent_boxes_twice():
    detector = BlobDetector()
    detector.stutters = True
    box, record = (12.0, 32.0, 40.0, 46.0), new_record()

    async def talk() -> tuple[PoseResult, PoseResult]:
        async with serving(SpreadOut(), detector=DetectorQueue(detector, max_batch=4)) as service:
            image = picture(20, 120)
            return (
                await service.estimate(PoseRequest(image=image), record),
                await service.estimate(PoseRequest(image=image, boxes_xywh=[box, box]), new_record()),
            )

    detected, asked = asyncio.run(talk())
    assert [pose.box_xywh[0] for pose in detected.poses] == [12, 112]
    assert record.persons == 2
    assert [pose.box_xywh for pose in asked.poses] == [box, box]


@pytest.mark.parametrize(("least", "told"), [(0.5, [12, 112]), (0.51, [])])  # the network is always as sure as 0.5
def test_a_pose_below_the_least_score_is_told_of_a_sent_box_and_not_of_a_detected_one(least, told):
    async def talk() -> tuple[PoseResult, PoseResult]:
        queue = DetectorQueue(BlobDetector(), max_batch=4)
        async with serving(SpreadOut(), detector=queue, min_pose_score=least) as service:
            image = picture(20, 120)
            sent = PoseRequest(image=image, boxes_xywh=[(12.0, 32.0, 40.0, 46.0)])
            return (
                await service.estimate(PoseRequest(image=image), new_record()),
                await service.estimate(sent, new_record()),
            )

    detected, asked = asyncio.run(talk())
    assert [pose.box_xywh[0] for pose in detected.poses] == told
    assert detected.detected
    assert len(asked.poses) == 1


def test_http_has_the_same_people_as_grpc():
    async def talk(client: httpx.AsyncClient) -> tuple[httpx.Response, httpx.Response]:
        posted = await client.post("/pose", content=picture(20, 120), headers={"Content-Type": "image/png"})
        return posted, await client.get("/model")

    posted, model = http_ask(talk, watching(BlobDetector()))
    assert [round(pose["bbox"][0]) for pose in posted.json()["poses"]] == [12, 112]
    assert model.json()["detector"] == "blobs"


def test_boxes_of_the_client_are_kept_and_get_numbers():
    boxes = [(10.0, 30.0, 45.0, 50.0), (110.0, 30.0, 45.0, 50.0)]
    frames = [timed(number, picture(20, 120), boxes=boxes) for number in range(3)]
    detector = BlobDetector()
    answers = ask(watching(detector), lambda to: stream_of(to, frames))
    assert ids(answers) == [[1, 2]] * 3
    assert [pose.bbox.x for pose in answers[0].poses] == [10.0, 110.0]
    assert not any(answer.detected for answer in answers)


def test_a_bad_frame_between_changes_nothing_about_who_is_followed():
    frames = [timed(0, picture(20)), timed(1, b"nothing"), timed(2, picture(22)), timed(3, picture(24))]
    answers = ask(watching(BlobDetector()), lambda to: stream_of(to, frames))
    assert outcomes(answers) == [(0, 0, ""), (1, 3, "not_an_image"), (2, 0, ""), (3, 0, "")]
    assert ids(answers) == [[1], [], [1], [1]]


def test_a_detector_that_fails_is_told_in_the_frame_and_the_stream_goes_on():
    detector = BlobDetector()

    async def talk(to: Served) -> list[pb.StreamPosesResponse]:
        call = to.poses.StreamPoses()
        answers = []
        for number in range(3):
            detector.fails = number == 1
            message = timed(number, picture(20))
            message.options.detect_every = 1
            await call.write(message)
            answers.append(await call.read())
        await call.done_writing()
        return answers

    answers = ask(watching(detector), talk)
    assert outcomes(answers) == [(0, 0, ""), (1, 13, "engine_failed"), (2, 0, "")]
    assert ids(answers) == [[1], [], [1]]


def test_a_service_whose_detector_fails_its_first_run_is_not_ready():
    detector = BlobDetector()
    detector.fails = True
    service = watching(detector)

    async def talk(to: Served) -> str | None:
        await until(lambda: "detector" in (service.admission.closed_because or ""))
        return await service.why_not_ready()

    assert ask(service, talk, ready=False) == "the detector failed its first run; see the log"


def test_pictures_whose_people_are_looked_for_are_refused_while_the_service_is_full():
    estimator = HeldBack()
    detector = BlobDetector()
    service = make_service(
        engine=make_engine(estimator, max_waiting=1), detector=DetectorQueue(detector, max_batch=4), max_persons=1
    )

    async def talk(to: Served) -> str:
        estimator.gate.clear()
        entered = estimator.entered
        boxes = [(0.0, 0.0, 50.0, 50.0)]
        first = asyncio.ensure_future(to.poses.EstimatePose(estimate_request(picture(20), boxes)))
        await until(lambda: estimator.entered > entered)
        looks = detector.looks
        try:
            await to.poses.EstimatePose(estimate_request(picture(20)))
        except Exception as error:
            assert detector.looks == looks
            return error.code().name
        finally:
            estimator.gate.set()
            await first
        return ""

    assert ask(service, talk) == "RESOURCE_EXHAUSTED"
