"""PoseService without a protocol: coordinates, boxes and limits, and what is noted of a request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from callers import new_record, play, serving
from fakes import BrightestPixel, make_engine
from model.skeleton import COCO
from pictures import SIZE, SQUARE, huge_png, jpeg, square, with_orientation
from service.errors import InvalidParameter, Late, NotAnImage, Overloaded, TooLarge
from service.images import ImageLimits
from service.poses import PoseRequest, PoseResult


def estimate(request: PoseRequest, estimator: BrightestPixel | None = None, **options: Any) -> PoseResult:
    async def run() -> PoseResult:
        async with serving(estimator, **options) as service:
            return await service.estimate(request, new_record())

    return asyncio.run(run())


def assert_on_the_square(pose, tolerance=0.6):
    assert len(pose.keypoints) == len(COCO)
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


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bad_picture_fails_alone():
    async def scenario() -> None:
        async with serving() as service:
            images = (jpeg(), b"text", jpeg(), jpeg()[:500], huge_png(), jpeg())
            requests = [service.estimate(PoseRequest(image=image), new_record()) for image in images]
            answers = await asyncio.gather(*requests, return_exceptions=True)
        kinds = [PoseResult, NotAnImage, PoseResult, NotAnImage, TooLarge, PoseResult]
        assert [type(answer) for answer in answers] == kinds

    play(scenario)


def test_it_is_noted_what_was_asked_and_where_the_time_went():
    async def scenario() -> None:
        async with serving() as service:
            record = new_record()
            await service.estimate(PoseRequest(image=jpeg(), boxes_xywh=[(0.0, 0.0, 60.0, 80.0)] * 3), record)
        assert (record.persons, record.width, record.height) == (3, *SIZE)
        assert list(record.stages) == ["decode", "queue", "engine"]
        times = [time for stage in record.stages.values() for time in stage]
        assert record.started_s <= times[0]
        assert times == sorted(times)

    play(scenario)


def test_without_boxes_one_person_is_noted():
    async def scenario() -> None:
        async with serving() as service:
            await service.estimate(PoseRequest(image=jpeg()), record := new_record())
            assert record.persons == 1

    play(scenario)


def test_with_no_boxes_the_network_is_not_needed():
    async def scenario() -> None:
        engine = make_engine(estimator := BrightestPixel(), max_waiting=1)
        async with serving(estimator, engine=engine) as service, engine.room(1, flip_test=False):
            record = new_record()
            result = await service.estimate(PoseRequest(image=jpeg(), boxes_xywh=[]), record)
            assert (result.width, result.height, result.poses) == (*SIZE, ())
            assert (record.persons, record.width, record.height) == (0, *SIZE)
            assert list(record.stages) == ["decode"]
            with pytest.raises(NotAnImage):
                await service.estimate(PoseRequest(image=b"text", boxes_xywh=[]), new_record())

    play(scenario)


def test_a_picture_that_cannot_be_read_was_only_decoded():
    async def scenario() -> None:
        engine = make_engine(estimator := BrightestPixel())
        async with serving(estimator, engine=engine) as service:
            with pytest.raises(NotAnImage):
                await service.estimate(PoseRequest(image=b"text"), record := new_record())
            assert list(record.stages) == ["decode"]
            assert engine.persons == 0

    play(scenario)


@pytest.mark.parametrize("because", [Overloaded, Late])
def test_a_picture_that_will_not_be_computed_is_not_decoded(because):
    async def scenario() -> None:
        engine = make_engine(estimator := BrightestPixel(), max_waiting=1)
        async with serving(estimator, engine=engine) as service, engine.room(1, flip_test=False):
            record = new_record(deadline_s=0.0) if because is Late else new_record()
            with pytest.raises(because):
                await service.estimate(PoseRequest(image=b"text"), record)
            assert record.stages == {}

    play(scenario)
