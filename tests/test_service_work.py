"""What the network is asked to do with persons: the right call, and answers that are whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from callers import crops
from fakes import CONFIG, BrightestPixel
from model.estimator import ExplainedKeypoints
from service.work import Work


def pixels(persons: int) -> list[np.ndarray]:
    return [np.full((*CONFIG.input_hw, 3), 9, dtype=np.uint8)] * persons


class Spoiled(BrightestPixel):
    """One that answers with a number that is none, in one place of one person."""

    def __init__(self, place: str, value: float) -> None:
        super().__init__()
        self.place, self.value = place, value

    def explain(self, crops, *, levels):
        *others, last = super().explain(crops, levels=levels)
        level, attention = next(iter(last.attention.items()))
        if self.place in ("points", "scores"):
            numbers = getattr(last, self.place).copy()
            numbers.flat[-1] = self.value
            return [*others, replace(last, **{self.place: numbers})]
        numbers = getattr(attention, self.place).copy()
        numbers.flat[-1] = self.value
        spoiled = replace(attention, **{self.place: numbers})
        return [*others, ExplainedKeypoints(last.points, last.scores, {**last.attention, level: spoiled})]


@pytest.mark.parametrize("flip_test", [False, True])
def test_without_levels_poses_are_estimated(flip_test):
    estimator = BrightestPixel()
    found = Work(flip_test=flip_test).do(estimator, crops(3, 7))
    assert [round(one.points[0, 0]) for one in found] == [3, 7]
    assert not any(isinstance(one, ExplainedKeypoints) for one in found)
    assert (estimator.flip_tests, estimator.levels) == ([flip_test], [])


@pytest.mark.parametrize("levels", [("mhsa",), ("encoder",), ("mhsa", "encoder")])
def test_with_levels_they_are_explained_at_these(levels):
    estimator = BrightestPixel()
    found = Work(levels).do(estimator, pixels(2))
    assert [set(one.attention) for one in found] == [set(levels)] * 2
    assert estimator.levels == [levels]


@pytest.mark.parametrize("work", [Work(), Work(("mhsa",))])
def test_an_answer_for_each_person_or_none(work):
    estimator = BrightestPixel()
    estimator.forgets = 1
    with pytest.raises(ValueError, match="answered 3 crops with 2 poses"):
        work.do(estimator, pixels(3))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["points", "scores", "dependency", "affect"])
def test_numbers_that_are_none_are_no_answer(place, value):
    with pytest.raises(ValueError, match="not finite"):
        Work(("encoder", "mhsa")).do(Spoiled(place, value), pixels(2))


def test_numbers_that_are_some_are_an_answer():
    assert len(Work(("encoder",)).do(Spoiled("affect", 0.25), pixels(2))) == 2


def test_the_same_work_may_run_together_and_no_other():
    kinds = [Work(), Work(flip_test=True), Work(("mhsa",)), Work(("encoder",))]
    assert len(set(kinds)) == 4
    assert Work(("mhsa",)) == Work(("mhsa",))
