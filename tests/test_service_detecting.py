"""Pictures of many requests and one detector: batches, failures, and callers that leave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from threading import Event

import numpy as np
import pytest

from callers import until
from model.crop import Pixels
from model.detection import Detections
from service.detecting import DetectorObserver, DetectorQueue
from service.errors import EngineFailed
from service.posing import boxes_of


class WidthDetector:
    """Finds as many persons as the picture has columns; fails on pictures of 13."""

    name = "width"

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = Event()
        self.gate.set()
        self.forgets = 0
        self.says = 1.0

    def detect(self, images: Sequence[Pixels]) -> list[Detections]:
        self.gate.wait(30)
        widths = [image.shape[1] for image in images]
        self.batches.append(widths)
        if 13 in widths:
            raise RuntimeError("thirteen")
        found = [Detections(np.full((width, 4), self.says), np.ones(width)) for width in widths]
        return found[self.forgets :]


class Told(DetectorObserver):
    def __init__(self) -> None:
        self.detected: list[tuple[int, int]] = []
        self.failures = 0

    def on_detected(self, pictures: int, persons: int, seconds: float) -> None:
        assert seconds >= 0
        self.detected.append((pictures, persons))

    def on_detector_failed(self) -> None:
        self.failures += 1


def picture(width: int) -> Pixels:
    return np.zeros((4, width, 3), dtype=np.uint8)


def asking(talk: Callable[[DetectorQueue], Awaitable[object]], detector: WidthDetector, *, told: Told | None = None):
    async def ask() -> object:
        queue = DetectorQueue(detector, max_batch=3, stalled_after_s=0.01, observer=told)
        try:
            return await asyncio.wait_for(talk(queue), 10)
        finally:
            queue.close()

    return asyncio.run(ask())


async def first_runs(queue: DetectorQueue, detector: WidthDetector) -> asyncio.Task[Detections]:
    """A picture that the detector is at, until its gate opens."""
    detector.gate.clear()
    task = asyncio.create_task(queue.detect(picture(1)))
    await asyncio.sleep(0.02)
    return task


def test_pictures_that_wait_run_together_and_each_gets_its_own_answer():
    detector, told = WidthDetector(), Told()

    async def talk(queue: DetectorQueue) -> list[int]:
        first = await first_runs(queue, detector)
        others = [asyncio.create_task(queue.detect(picture(width))) for width in (2, 3, 4, 5)]
        await asyncio.sleep(0)
        assert queue.waiting == 4
        detector.gate.set()
        return [len((await task).scores) for task in (first, *others)]

    assert asking(talk, detector, told=told) == [1, 2, 3, 4, 5]
    assert detector.batches == [[1], [2, 3, 4], [5]]
    assert told.detected == [(1, 1), (3, 9), (1, 5)]


def test_a_picture_on_which_it_fails_fails_alone():
    detector, told = WidthDetector(), Told()

    async def talk(queue: DetectorQueue) -> list[object]:
        first = await first_runs(queue, detector)
        others = [asyncio.create_task(queue.detect(picture(width))) for width in (2, 13, 4)]
        await asyncio.sleep(0)
        detector.gate.set()
        await first
        return [
            len(answer.scores) if isinstance(answer, Detections) else str(answer)
            for answer in await asyncio.gather(*others, return_exceptions=True)
        ]

    assert asking(talk, detector, told=told) == [2, "the detector could not be run on this picture", 4]
    assert told.failures == 1


@pytest.mark.parametrize(("forgets", "says"), [(1, 1.0), (0, float("nan"))])
def test_answers_that_are_missing_or_no_numbers_are_failures(forgets: int, says: float):
    detector = WidthDetector()
    detector.forgets, detector.says = forgets, says

    async def talk(queue: DetectorQueue) -> bool:
        with pytest.raises(EngineFailed):
            await queue.detect(picture(2))
        return await queue.answers()

    assert asking(talk, detector) is False


def test_the_picture_of_a_caller_that_left_is_not_looked_at():
    detector = WidthDetector()

    async def talk(queue: DetectorQueue) -> None:
        first = await first_runs(queue, detector)
        gone, stays = (asyncio.create_task(queue.detect(picture(width))) for width in (2, 3))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        detector.gate.set()
        await asyncio.gather(first, stays)

    asking(talk, detector)
    assert detector.batches == [[1], [3]]


def test_a_batch_that_takes_too_long_is_noticed_while_it_runs():
    detector = WidthDetector()

    async def talk(queue: DetectorQueue) -> None:
        assert not queue.stalled
        first = await first_runs(queue, detector)
        await until(lambda: queue.stalled)
        detector.gate.set()
        await first
        assert not queue.stalled

    asking(talk, detector)


def test_boxes_that_were_found_are_asked_for_in_the_digits_that_are_told():
    found = Detections(np.array([[610.4977416992188, 4.43565, 295.5, 0.0004]]), np.array([0.5]))
    assert boxes_of(found) == [(610.498, 4.436, 295.5, 0.0)]
