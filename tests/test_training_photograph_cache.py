"""Decoded photographs in a folder: the same pixels, within a budget, whoever reads and writes."""

import os
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from torch.utils.data import DataLoader

from drawings import TINY_HW, draw_coco, noise_photograph
from model.skeleton import COCO
from training.augment import Augmentation
from training.coco import AnnotationError, read_persons
from training.dataset import EpochBatches, PersonViews, read_image
from training.photograph_cache import PhotographCache

BYTES = 40 * 30 * 3 + 12  # of one photograph as it is kept


@pytest.fixture
def photographs(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), noise_photograph(40, 30, seed=number))
    return paths


class Counting:
    """Reads, and notes what was read."""

    def __init__(self):
        self.paths = []

    def __call__(self, path):
        self.paths.append(path)
        return read_image(path)


@pytest.fixture
def made(tmp_path):
    """A function that makes a cache over a folder, and what it decoded."""

    def make(photographs=10):
        decoded = Counting()
        return PhotographCache(tmp_path / "cache", photographs * BYTES, decoded), decoded.paths

    return make


def kept(cache):
    return sorted(cache.folder.glob("*.rgb"))


def test_a_photograph_is_decoded_once_and_keeps_its_pixels(made, photographs):
    cache, decoded = made()
    for _ in range(3):
        for path in photographs:
            assert np.array_equal(cache.read(path), read_image(path))
    assert decoded == photographs


def test_another_run_finds_what_was_kept(made, photographs):
    made()[0].read(photographs[0])
    cache, decoded = made()
    assert np.array_equal(cache.read(photographs[0]), read_image(photographs[0]))
    assert decoded == []


def test_the_budget_holds_over_runs_and_what_is_beyond_it_is_decoded_again(made, photographs):
    for _ in range(2):
        cache, decoded = made(photographs=2)
        for path in photographs * 2:
            assert np.array_equal(cache.read(path), read_image(path))
        assert len(kept(cache)) == 2
    assert decoded == photographs[2:] * 2
    assert sum(path.stat().st_size for path in kept(cache)) == 2 * BYTES


def test_what_is_kept_cannot_be_written_to(made, photographs):
    cache, _ = made()
    cache.read(photographs[0])
    with pytest.raises(ValueError, match="read-only"):
        cache.read(photographs[0])[0, 0] = 0


def test_a_photograph_that_was_replaced_is_read_anew(made, photographs):
    cache, _ = made()
    cache.read(photographs[0])
    cv2.imwrite(str(photographs[0]), noise_photograph(20, 50, seed=9))
    os.utime(photographs[0], ns=(1, 1))
    assert np.array_equal(cache.read(photographs[0]), read_image(photographs[0]))


@pytest.mark.parametrize("content", [b"", b"RGB", b"RGB8" + bytes(8 + 3), b"????" + bytes(BYTES - 4)])
def test_a_damaged_file_is_replaced_and_not_counted_twice(made, photographs, content):
    cache, _ = made(photographs=1)
    cache.read(photographs[0])
    kept(cache)[0].write_bytes(content)
    (cache.folder / "used").write_text(str(len(content)))
    again, decoded = made(photographs=1)
    for _ in range(2):
        assert np.array_equal(again.read(photographs[0]), read_image(photographs[0]))
    assert decoded == photographs[:1]
    assert (cache.folder / "used").read_text() == str(BYTES)


def test_a_folder_that_takes_nothing_costs_only_speed(made, photographs):
    cache, decoded = made()
    (cache.folder / "used").mkdir()
    for _ in range(2):
        assert np.array_equal(cache.read(photographs[0]), read_image(photographs[0]))
    assert decoded == photographs[:1] * 2


def test_what_cannot_be_read_is_refused_as_without_it(made, tmp_path):
    cache, _ = made()
    with pytest.raises(AnnotationError, match=r"cannot read .*missing\.jpg: No such file"):
        cache.read(tmp_path / "missing.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"no photograph")
    with pytest.raises(AnnotationError, match=r"broken\.jpg is not a photograph"):
        cache.read(tmp_path / "broken.jpg")
    assert kept(cache) == []


def test_many_who_write_at_once_keep_the_budget(made, photographs):
    caches = [made(photographs=3)[0] for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda cache: [cache.read(path) for path in photographs], caches))
    assert len(kept(caches[0])) == 3
    assert (caches[0].folder / "used").read_text() == str(3 * BYTES)


def test_a_budget_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="max_bytes is 0; allowed: above 0"):
        PhotographCache(tmp_path, 0, read_image)


def test_examples_are_the_same_with_and_without_it_and_in_processes(tmp_path):
    persons = read_persons(*draw_coco(tmp_path / "coco", persons=6)).persons
    cache = PhotographCache(tmp_path / "cache", 10**9, read_image)
    views = [
        PersonViews(persons, TINY_HW, Augmentation(), seed=5, skeleton=COCO, read=read)
        for read in (read_image, cache.read)
    ]
    for epoch in (0, 1):
        order = EpochBatches(6, 2, seed=0, epoch=epoch)
        plain = list(DataLoader(views[0], batch_sampler=order))
        for workers in (0, 2):
            found = list(DataLoader(views[1], batch_sampler=order, num_workers=workers))
            for one, other in zip(plain, found, strict=True):
                assert all((left == right).all() for left, right in zip(one, other, strict=True))
    assert len(kept(cache)) == 3  # two persons a photograph
