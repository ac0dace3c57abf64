"""Batches of epoch after epoch, from one set of processes."""

import os

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from training.dataset import EpochBatches
from training.loading import EpochLoader


class Numbers(Dataset):
    """An example tells its index, the process that made it, and OpenCV's threads there."""

    def __getitem__(self, index):
        return torch.tensor(index), os.getpid(), cv2.getNumThreads()


def loader_of(workers, epochs=3, asked=None):
    def batches(epoch, first_batch):
        if asked is not None:
            asked.append((epoch, first_batch))
        return EpochBatches(9, 2, seed=1, epoch=epoch, first_batch=first_batch)

    return EpochLoader(Numbers(), batches, epochs=epochs, workers=workers, device=torch.device("cpu"))


def shown(batches):
    return [[tuple(index) for index in numbers.tolist()] for numbers, _, _ in batches]


@pytest.mark.parametrize("workers", [0, 2])
def test_every_epoch_has_its_own_batches_in_order(workers):
    loader = loader_of(workers)
    for epoch in range(3):
        assert shown(loader.epoch(epoch)) == list(EpochBatches(9, 2, seed=1, epoch=epoch))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_may_begin_in_the_middle_and_be_left_there(workers):
    loader = loader_of(workers)
    whole = list(EpochBatches(9, 2, seed=1, epoch=1))
    for batch in loader.epoch(1, 1):
        assert shown([batch]) == whole[1:2]
        break
    assert shown(loader.epoch(1, 2)) == whole[2:]
    assert shown(loader.epoch(0)) == list(EpochBatches(9, 2, seed=1, epoch=0))  # not the one that was begun


def test_the_processes_stay_and_have_one_thread_each():
    cv2.GaussianBlur(np.zeros((500, 500), dtype=np.uint8), (0, 0), 9.0)  # OpenCV has threads here
    before = cv2.getNumThreads()
    loader = loader_of(2)
    processes = [{pid for _, pids, _ in loader.epoch(epoch) for pid in pids.tolist()} for epoch in range(3)]
    assert processes[0] == processes[1] == processes[2]
    assert len(processes[0]) == 2
    assert os.getpid() not in processes[0]
    threads = {number for _, _, numbers in loader_of(1, epochs=1).epoch(0) for number in numbers.tolist()}
    assert threads == {1}
    assert cv2.getNumThreads() == before


def test_the_next_epoch_is_begun_when_one_is_over_but_none_after_the_last():
    asked = []
    loader = loader_of(1, epochs=2, asked=asked)
    list(loader.epoch(0))
    assert asked == [(0, 0), (1, 0)]
    list(loader.epoch(1))
    assert asked == [(0, 0), (1, 0)]
