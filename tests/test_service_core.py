"""PoseService and its engine, without a protocol: coordinates, limits, failures, order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fakes import BrightestPixel, make_service
from model.skeleton import NUM_KEYPOINTS
from pictures import SIZE, SQUARE, huge_png, jpeg, square, with_orientation
from service.core import PoseRequest, PoseResult, PoseService
from service.errors import EngineFailed, InvalidParameter, NotAnImage, Overloaded, TooLarge, Unavailable
from service.images import ImageLimits


async def ready(service: PoseService) -> PoseService:
    await service.warm_up()
    return service


def estimate(request: PoseRequest, estimator: BrightestPixel | None = None, **options: Any) -> PoseResult:
    async def run() -> PoseResult:
        service = await ready(make_service(estimator, **options))
        try:
            return await service.estimate(request)
        finally:
            service.close()

    return asyncio.run(run())


def assert_on_the_square(pose, tolerance=0.6):
    assert len(pose.keypoints) == NUM_KEYPOINTS
    for x, y, score in pose.keypoints:
        assert (x, y) == pytest.approx(SQUARE, abs=tolerance)
        assert score == 0.5
    assert pose.score == 0.5


def test_without_boxes_the_whole_picture_is_one_person():
    result = estimate(PoseRequest(image=jpeg()))
    assert (result.width, result.height) == SIZE
    assert [pose.box_xywh for pose in result.poses] == [(0, 0, *SIZE)]
    assert_on_the_square(result.poses[0])


def test_every_box_gets_its_pose_in_order():
    boxes = [(30.0, 10.0, 20.0, 20.0), (0.0, 0.0, 60.0, 80.0), (-5.5, -20.0, 50.0, 60.0), (20.0, 5.0, 100.0, 40.0)]
    result = estimate(PoseRequest(image=jpeg(), boxes_xywh=boxes))
    assert [pose.box_xywh for pose in result.poses] == boxes
    for pose in result.poses:
        assert_on_the_square(pose)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_coordinates_are_of_the_upright_picture(orientation):
    result = estimate(PoseRequest(image=with_orientation(orientation)))
    assert (result.width, result.height) == SIZE
    assert_on_the_square(result.poses[0])


def test_no_boxes_no_poses():
    result = estimate(PoseRequest(image=jpeg(), boxes_xywh=[]))
    assert result.poses == ()
    assert (result.width, result.height) == SIZE


def test_many_boxes_are_run_in_batches_and_none_is_lost():
    estimator = BrightestPixel()
    result = estimate(PoseRequest(image=jpeg(), boxes_xywh=[(30.0, 10.0, 20.0, 20.0)] * 21), estimator)
    assert len(result.poses) == 21
    assert estimator.batches == [1, 8, 8, 5]  # the first is the warm-up


def test_flip_test_reaches_the_engine():
    estimator = BrightestPixel()
    estimate(PoseRequest(image=jpeg(), flip_test=True), estimator)
    assert estimator.flip_tests == [False, True]


@pytest.mark.parametrize(
    ("box", "complaint"),
    [
        ((0, 0, 0, 10), "w and h above 0"),
        ((0, 0, 10, -1), "w and h above 0"),
        ((float("nan"), 0, 10, 10), "finite numbers"),
        ((0, float("inf"), 10, 10), "finite numbers"),
        ((0, 0, 1e300, 10), "numbers up to 1e"),
        ((60, 0, 10, 10), "wholly outside the upright picture of 60 x 80"),
        ((0, 80, 10, 10), "wholly outside"),
        ((-10, 0, 10, 10), "wholly outside"),
        ((0, -10.5, 10, 10), "wholly outside"),
    ],
)
def test_bad_boxes_are_named(box, complaint):
    with pytest.raises(InvalidParameter, match=complaint) as error:
        estimate(PoseRequest(image=jpeg(), boxes_xywh=[(0, 0, 10, 10), box]))
    assert str(error.value).startswith("boxes[1] is [")


def test_too_many_boxes():
    with pytest.raises(InvalidParameter, match="boxes has 200 entries; allowed: at most 100"):
        estimate(PoseRequest(image=jpeg(), boxes_xywh=[(0.0, 0.0, 10.0, 10.0)] * 200))


@pytest.mark.parametrize("box", [(39.0, 19.0, 1e-3, 1e-3), (-9e5, -9e5, 1e6, 1e6), (0.0, 20.0, 1e6, 1.0)])
def test_extreme_boxes_are_answered(box):
    result = estimate(PoseRequest(image=jpeg(), boxes_xywh=[box]))
    assert len(result.poses) == 1


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bad_picture_fails_alone():
    async def run() -> list[object]:
        service = await ready(make_service())
        requests = [PoseRequest(image=image) for image in (jpeg(), b"text", jpeg(), jpeg()[:500], huge_png(), jpeg())]
        answers = await asyncio.gather(*map(service.estimate, requests), return_exceptions=True)
        service.close()
        return answers

    answers = asyncio.run(run())
    assert [type(answer) for answer in answers] == [
        PoseResult,
        NotAnImage,
        PoseResult,
        NotAnImage,
        TooLarge,
        PoseResult,
    ]


def test_a_failing_network_fails_its_request_only():
    async def run() -> None:
        estimator = BrightestPixel()
        service = await ready(make_service(estimator))
        estimator.fails_with = RuntimeError("CUDA error at 0x7f00")
        with pytest.raises(EngineFailed) as error:
            await service.estimate(PoseRequest(image=jpeg()))
        assert "CUDA" not in str(error.value)
        estimator.fails_with = None
        assert_on_the_square((await service.estimate(PoseRequest(image=jpeg()))).poses[0])
        service.close()

    asyncio.run(run())


def test_answers_are_counted_against_crops():
    async def run() -> None:
        estimator = BrightestPixel()
        service = await ready(make_service(estimator))
        estimator.forgets = 1
        with pytest.raises(EngineFailed):
            await service.estimate(PoseRequest(image=jpeg(), boxes_xywh=[(0.0, 0.0, 9.0, 9.0)] * 3))
        service.close()

    asyncio.run(run())


def test_more_than_may_wait_is_refused_and_the_rest_is_answered():
    async def run() -> None:
        estimator = BrightestPixel()
        service = await ready(make_service(estimator, max_waiting=5, max_persons=5))
        estimator.gate.clear()
        boxes = [(0.0, 0.0, 60.0, 80.0)] * 3
        first = asyncio.create_task(service.estimate(PoseRequest(image=jpeg(), boxes_xywh=boxes)))
        second = asyncio.create_task(service.estimate(PoseRequest(image=jpeg(), boxes_xywh=boxes)))
        refused, _ = await asyncio.wait((first, second), return_when=asyncio.FIRST_COMPLETED)
        estimator.gate.set()
        (late,) = {first, second} - refused
        assert len((await late).poses) == 3
        with pytest.raises(Overloaded, match="allowed: at most 5"):
            await refused.pop()
        assert len((await service.estimate(PoseRequest(image=jpeg(), boxes_xywh=boxes))).poses) == 3
        service.close()

    asyncio.run(run())


def test_not_ready_until_warm_and_again_when_stopping():
    async def run() -> None:
        service = make_service()
        with pytest.raises(Unavailable, match="warming up"), service.admission():
            pass
        await service.warm_up()
        assert await service.why_not_ready() is None
        service.stop()
        with pytest.raises(Unavailable, match="shutting down"), service.admission():
            pass
        service.close()

    asyncio.run(run())


def test_stopping_while_warming_up_stays_stopped():
    async def run() -> None:
        estimator = BrightestPixel()
        estimator.gate.clear()
        service = make_service(estimator)
        warm_up = asyncio.create_task(service.warm_up())
        await asyncio.sleep(0)
        service.stop()
        estimator.gate.set()
        await warm_up
        assert await service.why_not_ready() == "the service is shutting down"
        service.close()

    asyncio.run(run())


def test_a_failed_warm_up_stays_not_ready():
    async def run() -> None:
        estimator = BrightestPixel()
        estimator.fails_with = RuntimeError("no kernel image")
        service = await ready(make_service(estimator))
        assert "failed its first run" in str(await service.why_not_ready())
        service.close()

    asyncio.run(run())


def test_readiness_follows_a_network_that_fails_and_recovers():
    async def run() -> None:
        estimator = BrightestPixel()
        service = await ready(make_service(estimator))
        estimator.fails_with = RuntimeError("device lost")
        with pytest.raises(EngineFailed):
            await service.estimate(PoseRequest(image=jpeg()))
        assert "the network fails" in str(await service.why_not_ready())
        estimator.fails_with = None
        assert await service.why_not_ready() is None
        service.close()

    asyncio.run(run())


def test_numbers_that_are_not_finite_are_a_failure():
    async def run() -> None:
        estimator = BrightestPixel()
        service = await ready(make_service(estimator))
        estimator.score = float("nan")
        with pytest.raises(EngineFailed):
            await service.estimate(PoseRequest(image=jpeg()))
        service.close()

    asyncio.run(run())


def test_requests_are_admitted_up_to_a_number_and_places_come_back():
    async def run() -> None:
        service = await ready(make_service(max_requests=2))
        full = pytest.raises(Overloaded, match="2 requests are being worked on; allowed: at most 2")
        with service.admission(), service.admission(), full, service.admission():
            pass
        with pytest.raises(ValueError, match="any"), service.admission(), service.admission():
            raise ValueError("any")
        with service.admission(), service.admission():
            pass
        service.close()

    asyncio.run(run())


def test_boxes_that_together_read_too_many_pixels_are_refused():
    small_limit = ImageLimits(max_pixels=10_000)
    image = jpeg(square((100, 100), (50, 60)))
    whole = [(0.0, 0.0, 100.0, 100.0)]
    with pytest.raises(InvalidParameter, match="the 5 boxes together cover 50000 pixels; allowed: at most 40000"):
        estimate(PoseRequest(image=image, boxes_xywh=whole * 5), limits=small_limit)
    assert len(estimate(PoseRequest(image=image, boxes_xywh=whole * 4), limits=small_limit).poses) == 4


def test_thin_boxes_count_with_the_region_that_is_cropped_for_them():
    slivers = [(50.0, 0.0, 0.01, 100.0)] * 5
    request = PoseRequest(image=jpeg(square((100, 100), (50, 60))), boxes_xywh=slivers)
    with pytest.raises(InvalidParameter, match="the 5 boxes together cover 50000 pixels"):
        estimate(request, limits=ImageLimits(max_pixels=10_000))


def test_a_box_is_clipped_to_the_picture_as_in_evaluation():
    inside, over = (0.0, 0.0, 60.0, 50.0), (-40.0, -30.0, 300.0, 80.0)
    first, second = estimate(PoseRequest(image=jpeg(), boxes_xywh=[inside, over])).poses
    assert first.keypoints == second.keypoints
    assert second.box_xywh == over


def test_the_event_loop_stays_free_while_the_network_runs():
    async def run() -> None:
        estimator = BrightestPixel()
        service = await ready(make_service(estimator))
        estimator.gate.clear()
        request = asyncio.create_task(service.estimate(PoseRequest(image=jpeg(square((400, 300), (50, 60))))))
        for _ in range(100):
            await asyncio.sleep(0)  # would never return if the network ran on the loop
        assert not request.done()
        estimator.gate.set()
        await request
        service.close()

    asyncio.run(run())
