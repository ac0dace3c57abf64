"""The few persons that are looked at while a network learns."""

import dataclasses

import numpy as np
import pytest

from drawings import TINY_HW, draw_coco, lively_network, tiny_config
from model.drawing import LEFT_RGB
from model.estimator import PoseEstimator
from training.coco import read_persons
from training.samples import SAMPLES, TILE, Samples, choose


@pytest.fixture(scope="module")
def persons(tmp_path_factory):
    return read_persons(*draw_coco(tmp_path_factory.mktemp("coco"), persons=20)).persons


def test_they_are_of_different_photographs_and_always_the_same(persons):
    chosen = choose(persons)
    assert chosen == choose(persons)
    assert len({person.image_id for person in chosen}) == len(chosen) == SAMPLES
    assert chosen[0].image_id == persons[0].image_id
    assert chosen[-1].image_id == persons[-1].image_id


def test_those_with_many_joints_come_first(persons):
    few = [dataclasses.replace(person, labelled=np.arange(17) < 3) for person in persons[:10]]
    chosen = choose([*few, *persons[10:]], count=4)
    assert all(person.labelled.all() for person in chosen)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_small_set_gives_all_that_it_has(persons, count):
    assert choose(persons[:count]) == list(persons[:count])


def test_a_sheet_has_truth_prediction_and_heat(persons):
    config = tiny_config()
    estimator = PoseEstimator(lively_network(config))
    sheet = Samples(persons, config).look(estimator)
    assert np.array_equal(sheet, Samples(persons, config).look(estimator))
    height, width = TILE * TINY_HW[0] // TINY_HW[1], TILE
    assert sheet.dtype == np.uint8
    assert sheet.shape[0] > 3 * height
    assert sheet.shape[1] > SAMPLES * width
    truth, heat = sheet[:height], sheet[2 * (height + 6) : 2 * (height + 6) + height]
    assert (np.abs(truth.astype(int) - LEFT_RGB).sum(axis=-1) < 30).any()
    saturated = np.ptp(heat[:, -width:].astype(int), axis=-1)
    assert saturated.max() > 60  # a coloured map over a grey photograph


def test_what_is_predicted_changes_and_what_is_annotated_stays(persons):
    config = tiny_config()
    samples = Samples(persons, config)
    one, other = (samples.look(PoseEstimator(lively_network(config, seed=seed))) for seed in (0, 1))
    height = TILE * TINY_HW[0] // TINY_HW[1]
    assert np.array_equal(one[:height], other[:height])
    assert not np.array_equal(one[height:], other[height:])


def test_a_network_that_is_certain_of_nothing_can_be_looked_at(persons):
    config = tiny_config()
    net = lively_network(config)
    for parameter in net.head.heatmaps.parameters():
        parameter.data.fill_(-1.0)
    Samples(persons, config).look(PoseEstimator(net))
