import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from drawings import TINY_HW, draw_coco
from model.skeleton import COCO
from training.augment import Augmentation
from training.coco import AnnotationError, read_persons
from training.dataset import EpochBatches, PersonViews, read_image
from training.views import NEUTRAL


@pytest.fixture(scope="module")
def persons(tmp_path_factory):
    return read_persons(*draw_coco(tmp_path_factory.mktemp("coco"), persons=6)).persons


@pytest.fixture
def views(persons):
    return PersonViews(persons, TINY_HW, Augmentation(), seed=5, skeleton=COCO)


def same(one, other):
    return all(torch.equal(left, right) for left, right in zip(one, other, strict=True))


def test_an_example_is_pixels_points_and_labels(views):
    pixels, colours, points, labelled = views[0, 2]
    assert (colours == torch.from_numpy(NEUTRAL)).all()
    assert (pixels.shape, pixels.dtype) == ((64, 48, 3), torch.uint8)
    assert (points.shape, points.dtype) == ((17, 2), torch.float32)
    assert (labelled.shape, labelled.dtype) == ((17,), torch.bool)
    assert len(views) == 6


def test_seed_epoch_and_person_decide_the_example(views, persons):
    again = PersonViews(persons, TINY_HW, Augmentation(), seed=5, skeleton=COCO)
    for index in ((0, 0), (3, 4), (0, 0)):
        assert same(views[index], again[index])


def test_another_epoch_person_or_seed_is_another_example(views, persons):
    assert not same(views[0, 1], views[1, 1])
    assert not same(views[0, 1], views[0, 2])
    assert not same(views[0, 1], PersonViews(persons, TINY_HW, Augmentation(), seed=6, skeleton=COCO)[0, 1])


def test_without_augmentation_every_epoch_is_the_same(persons):
    still = Augmentation(half_body=0.0, scale=0.0, rotation_degrees=0.0, rotation_probability=0.0, flip=0.0)
    views = PersonViews(persons, TINY_HW, still, seed=5, skeleton=COCO)
    assert same(views[0, 1], views[9, 1])


def test_the_points_are_on_the_drawn_joints(persons):
    """Joints are drawn in full colour, the rest of a photograph is nearly grey."""
    still = Augmentation(half_body=0.0, scale=0.0, rotation_degrees=0.0, rotation_probability=0.0, flip=0.0)
    pixels, _, points, _ = PersonViews(persons, (192, 144), still, seed=0, skeleton=COCO)[0, 0]
    columns, rows = points.round().long().unbind(-1)
    colors = pixels[rows, columns].float()
    saturation = (colors.amax(dim=-1) - colors.amin(dim=-1)) / colors.amax(dim=-1)
    assert saturation.median() > 0.7


def batches(**changes):
    return list(EpochBatches(**({"persons": 11, "batch_size": 3, "seed": 1, "epoch": 2} | changes)))


def test_an_epoch_shows_every_person_at_most_once_in_full_batches():
    shown = [number for batch in batches() for _, number in batch]
    assert [len(batch) for batch in batches()] == [3, 3, 3]
    assert len(set(shown)) == 9
    assert set(shown) <= set(range(11))
    assert {epoch for batch in batches() for epoch, _ in batch} == {2}


def test_an_epoch_that_divides_evenly_shows_everyone():
    assert sorted(number for batch in batches(persons=12) for _, number in batch) == list(range(12))


def test_the_order_follows_from_seed_and_epoch():
    assert batches() == batches()
    assert batches() != batches(seed=3)
    assert [[n for _, n in batch] for batch in batches()] != [[n for _, n in batch] for batch in batches(epoch=3)]


@pytest.mark.parametrize("first_batch", [0, 1, 2, 3])
def test_an_epoch_continued_in_the_middle_is_the_rest_of_the_whole(first_batch):
    rest = EpochBatches(11, 3, seed=1, epoch=2, first_batch=first_batch)
    assert list(rest) == batches()[first_batch:]
    assert len(rest) == 3 - first_batch


@pytest.mark.parametrize("batch_size", [0, -1, 12])
def test_a_batch_must_fit_into_the_data(batch_size):
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}; allowed: 1 to the number of persons, 11"):
        batches(batch_size=batch_size)


def test_another_process_loads_the_same_examples(views):
    order = EpochBatches(6, 2, seed=0, epoch=1)
    here = list(DataLoader(views, batch_sampler=order))
    there = list(DataLoader(views, batch_sampler=order, num_workers=1))
    assert len(here) == len(there) == 3
    assert here[0][0].shape == (2, 64, 48, 3)
    assert all(same(one, other) for one, other in zip(here, there, strict=True))


def test_photographs_are_read_as_rgb(tmp_path):
    import cv2

    red = np.zeros((8, 6, 3), dtype=np.uint8)
    red[..., 0] = 255
    cv2.imwrite(str(tmp_path / "red.png"), cv2.cvtColor(red, cv2.COLOR_RGB2BGR))
    assert np.array_equal(read_image(tmp_path / "red.png"), red)


@pytest.mark.parametrize("content", [b"", b"not a photograph", b"\xff\xd8\xff\xe0broken"])
def test_a_broken_photograph_is_refused_by_name(tmp_path, content):
    (tmp_path / "broken.jpg").write_bytes(content)
    with pytest.raises(AnnotationError, match=r"broken\.jpg is not a photograph"):
        read_image(tmp_path / "broken.jpg")


def test_a_missing_photograph_is_refused_by_name(tmp_path):
    with pytest.raises(AnnotationError, match=r"cannot read .*missing\.jpg: No such file"):
        read_image(tmp_path / "missing.jpg")
