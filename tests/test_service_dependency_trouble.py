"""Dependency maps when something is broken: told alike over both protocols, and bare where it is a defect."""

from __future__ import annotations

import logging

import grpc
import numpy as np
import pytest

from callers import Scene, play_served
from fakes import BrightestPixel
from grpc_clients import dependency_request, refused, trailing
from http_clients import assert_problem
from model.estimator import Keypoints
from service import core

BARE = "an internal error; the log has the details"
NUMBERS = "/dependency?keypoint=nose&format=json"


class NotANumber(BrightestPixel):
    """Its attention is broken, its points are not."""

    def explain(self, crops, *, levels):
        found = super().explain(crops, levels=levels)
        for attention in found[-1].attention.values():
            attention.affect[0, 0, 0, 0, 0] = np.nan
        return found


class Forgets(BrightestPixel):
    def explain(self, crops, *, levels):
        return super().explain(crops, levels=levels)[1:]


class Raises(BrightestPixel):
    def explain(self, crops, *, levels):
        raise RuntimeError("secret CUDA error at 0x7f00")


class ExplainsNothing(BrightestPixel):
    """An estimator that breaks its word: its answer has no attention."""

    def explain(self, crops, *, levels):
        return [Keypoints(one.points, one.scores) for one in super().explain(crops, levels=levels)]


@pytest.mark.parametrize("estimator", [NotANumber, Forgets, Raises])
@pytest.mark.parametrize("path", ["/dependency?keypoint=all", NUMBERS])
def test_a_network_that_fails_is_told_over_both_protocols_and_keeps_its_words(estimator, path):
    async def use(scene: Scene) -> None:
        response = await scene.post(path)
        assert_problem(response, 500, "the network could not be run on this picture")
        assert "secret" not in response.text
        error = await refused(scene.call())
        assert (error.code(), trailing(error)["reason"]) == (grpc.StatusCode.INTERNAL, "engine_failed")
        assert "secret" not in str(error)
        assert await scene.service.why_not_ready() is None, "poses are still found"
        assert (await scene.post("/pose")).status_code == 200

    assert play_served(use, estimator()) == [
        ("grpc", "dependency", "engine_failed"),
        ("http", "dependency", "engine_failed"),
        ("http", "pose", "ok"),
    ]


async def assert_bare(scene: Scene, path: str, caplog: pytest.LogCaptureFixture) -> None:
    response = await scene.post(path)
    assert_problem(response, 500, BARE)
    kind = "json" if path == NUMBERS else "png"
    error = await refused(scene.to.poses.GetDependency(dependency_request(keypoint="nose", format=kind)))
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, BARE)
    assert "reason" not in trailing(error)
    assert "secret" not in response.text + str(error) + str(error.trailing_metadata())
    assert any(line.levelno == logging.ERROR and "failed on a defect" in line.getMessage() for line in caplog.records)


@pytest.mark.parametrize(
    ("broken", "path"), [("dependency_png", "/dependency?keypoint=nose"), ("dependency_map", NUMBERS)]
)
def test_a_defect_in_drawing_or_in_reading_is_a_bare_internal_error(broken, path, monkeypatch, caplog):
    def fail(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(core, broken, fail)

    async def use(scene: Scene) -> None:
        await assert_bare(scene, path, caplog)
        assert scene.maps == 0
        assert (await scene.post("/pose")).status_code == 200

    assert play_served(use, max_dependencies=1)[:2] == [
        ("grpc", "dependency", "internal"),
        ("http", "dependency", "internal"),
    ]


def test_an_answer_without_attention_is_a_bare_internal_error(caplog):
    async def use(scene: Scene) -> None:
        await assert_bare(scene, NUMBERS, caplog)

    play_served(use, ExplainsNothing())
