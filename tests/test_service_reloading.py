"""Another network takes over, or it does not and nothing has changed: what that is to requests, on fakes."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from dataclasses import replace

import pytest

from callers import new_record, start, until
from drawings import tiny_config
from fakes import CONFIG
from http_clients import make_app
from pictures import SIZE, SQUARE, jpeg
from reload_scenes import OTHER_SIZE, Scene, play_reloads, sized
from service.errors import InvalidParameter
from service.network import Network
from service.poses import DependencyRequest, PoseRequest
from service.reloading import ReloadFailed


@pytest.mark.parametrize("lanes", [1, 3])
def test_another_network_serves_from_the_next_request_on_in_every_lane(lanes):
    after = sized(0.7, lanes=lanes)

    async def story(it: Scene) -> None:
        assert await it.score == 0.5
        assert await it.reloads.reload(asked_by="a test") is after
        assert it.service.info.checkpoint_sha256 == after.info.checkpoint_sha256
        assert {(await asked).poses[0].score for asked in [start(it.service) for _ in range(12)]} == {0.7}
        assert await it.service.why_not_ready() is None

    assert play_reloads(story, {"start": after}, lanes=lanes).news == ["ok of 0.7"]
    assert all(estimator.batches for estimator in after.estimators), "each was tried before it served"


def test_what_began_is_finished_on_the_network_that_it_began_on_whatever_the_size_of_the_crops():
    async def story(it: Scene) -> None:
        it.first.gate.clear()
        runs = start(it.service, persons=2)
        await until(lambda: it.service._engine._batcher.running == 2)
        waits = start(it.service, persons=3)
        await until(lambda: it.service._engine.waiting == 3)
        await it.reloads.reload(asked_by="a test")
        comes = start(it.service, persons=4)
        await until(lambda: it.service._engine.waiting == 7)
        it.first.gate.set()
        for asked, persons, score in ((runs, 2, 0.5), (waits, 3, 0.5), (comes, 4, 0.7)):
            poses = (await asked).poses
            assert [pose.score for pose in poses] == [score] * persons
            assert all(pose.keypoints[0][:2] == pytest.approx(SQUARE, abs=0.6) for pose in poses)
        assert it.first.batches == [1, 2, 3], "the warm-up, and no person of another network"

    play_reloads(story, {"start": sized(0.7, OTHER_SIZE)})


def test_a_frame_that_waits_for_room_while_another_network_takes_over_is_of_one_of_them_wholly():
    async def story(it: Scene) -> None:
        it.first.gate.clear()
        fills = start(it.service, persons=2)
        await until(lambda: it.service._engine._batcher.running == 2)
        waits = start(it.service, patient=True)
        await asyncio.sleep(0)
        await it.reloads.reload(asked_by="a test")
        it.first.gate.set()
        for asked, score in ((fills, 0.5), (waits, 0.5)):
            assert (await asked).poses[0].score == score

    play_reloads(story, {"start": sized(0.7, OTHER_SIZE)}, max_waiting=2)


def test_a_map_is_read_with_the_network_that_made_it():
    async def story(it: Scene) -> None:
        question = DependencyRequest(image=jpeg(), keypoint=0, as_picture=False)
        it.first.gate.clear()
        before = asyncio.create_task(it.service.explain(question, new_record()))
        await until(lambda: it.service._engine._batcher.running == 1)
        await it.reloads.reload(asked_by="a test")
        it.first.gate.set()
        for found, config, score in (
            (await before, CONFIG, 0.5),
            (await it.service.explain(question, new_record()), OTHER_SIZE, 0.7),
        ):
            assert (len(found.attention), len(found.attention[0])) == config.tokens_hw
            assert found.point == (*(pytest.approx(where, abs=0.6) for where in SQUARE), score)

    play_reloads(story, {"start": sized(0.7, OTHER_SIZE)})


def test_another_variant_may_take_over_and_its_layers_are_the_ones_that_can_be_asked_for():
    deeper = tiny_config(encoder_layers=2, blocks=(1, 1, 2))
    question = DependencyRequest(image=jpeg(), keypoint=0, layer=3, as_picture=False)

    async def story(it: Scene) -> None:
        await it.service.explain(question, new_record())
        await it.reloads.reload(asked_by="a test")
        assert it.service.info.variant == "tiny"
        with pytest.raises(InvalidParameter, match="layer is 3; allowed of level encoder: 0 to 1"):
            await it.service.explain(question, new_record())
        await it.service.explain(replace(question, layer=1), new_record())

    play_reloads(story, {"start": sized(0.7, deeper)})


def test_the_document_of_the_api_tells_the_layers_of_what_serves():
    deeper = tiny_config(encoder_layers=7)

    async def story(it: Scene) -> None:
        app = make_app(it.service)

        def last_layer() -> int:
            parameters = app.openapi()["paths"]["/dependency"]["post"]["parameters"]
            return next(one["schema"]["maximum"] for one in parameters if one["name"] == "layer")

        before = app.openapi()
        assert last_layer() == CONFIG.encoder_layers - 1
        await it.reloads.reload(asked_by="a test")
        assert last_layer() == 6
        it.reloads.roll_back(asked_by="a test")
        assert app.openapi() == before

    play_reloads(story, {"start": sized(0.7, deeper)})


def failing_in_its_first_run() -> Network:
    network = sized(0.7)
    network.estimators[0].fails_with = RuntimeError("CUDA error at 0x7f00")
    return network


def forgetting_persons() -> Network:
    network = sized(0.7)
    network.estimators[0].forgets = 1
    return network


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (ValueError("start is damaged"), "start is damaged; C3A1(4) 000000000000 () goes on"),
        (FileNotFoundError("secret"), "start cannot be served: FileNotFoundError; .* goes on, and the log has"),
        (MemoryError(), "start cannot be served: MemoryError"),
        (failing_in_its_first_run(), "start cannot be served: RuntimeError"),
        (forgetting_persons(), "the network answered 1 crops with 0 poses"),
        (sized(0.7, lanes=2), "the network has 2 estimators; allowed: 1"),
    ],
)
def test_what_cannot_be_served_changes_nothing_and_is_said(content, words, caplog):
    async def story(it: Scene) -> None:
        with pytest.raises(ReloadFailed, match=words.replace("(", r"\(").replace(")", r"\)")):
            await it.reloads.reload(asked_by="a test")
        assert await it.service.why_not_ready() is None
        assert await it.score == 0.5
        assert it.reloads.before is None
        assert not it.reloads.is_loading
        assert it.reloads.last.outcome == "failed"
        it.files["start"] = sized(0.9)
        await it.reloads.reload(asked_by="a test")
        assert await it.score == 0.9

    caplog.set_level(logging.INFO)
    assert play_reloads(story, {"start": content}).news == ["failed", "ok of 0.9"]
    (said,) = [one for one in caplog.messages if "reload asked by a test: failed" in one]
    assert "goes on" in said


def test_a_network_that_fails_is_replaced_by_one_that_works():
    async def story(it: Scene) -> None:
        it.first.fails_with = RuntimeError("the network is broken")
        with pytest.raises(Exception, match="the network could not be run"):
            await it.score
        assert "the network failed" in (await it.service.why_not_ready() or "")
        await it.reloads.reload(asked_by="a test")
        assert await it.service.why_not_ready() is None
        assert await it.score == 0.7

    play_reloads(story, {"start": sized(0.7)})


def test_a_lane_that_rests_is_tried_with_what_serves_by_then(monkeypatch):
    monkeypatch.setattr("service.engine.FIRST_REST_S", 0.01)
    after = sized(0.7, OTHER_SIZE, lanes=2)

    async def story(it: Scene) -> None:
        it.first.fails_with = RuntimeError("the network is broken")
        await asyncio.gather(*(start(it.service) for _ in range(4)), return_exceptions=True)
        await until(lambda: it.service._engine.resting == 1)
        await it.reloads.reload(asked_by="a test")
        await until(lambda: it.service._engine.resting == 0)
        assert await it.score == 0.7

    play_reloads(story, {"start": after}, lanes=2)


def test_a_network_is_let_go_when_it_neither_serves_nor_was_the_one_before():
    async def story(it: Scene) -> None:
        assert await it.score == 0.5
        first = weakref.ref(it.service.network)
        await it.reloads.reload(asked_by="a test")
        assert first() is not None
        it.files["start"] = sized(0.9)
        await it.reloads.reload(asked_by="a test")  # nobody has asked meanwhile
        gc.collect()
        await until(lambda: first() is None)

    play_reloads(story, {"start": sized(0.7)})


def test_a_picture_without_persons_begins_on_a_network_too():
    async def story(it: Scene) -> None:
        record = new_record()
        result = await it.service.estimate(PoseRequest(image=jpeg(), boxes_xywh=[]), record)
        assert ((result.width, result.height), record.network) == (SIZE, "0" * 12)

    play_reloads(story, {})
