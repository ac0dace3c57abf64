"""Pictures of any folders, persons' boxes, and the examples made of them."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from drawings import draw_coco, noise_photograph, ramp_photograph
from training.coco import AnnotationError
from training.dataset import EpochBatches
from training.dino_data import TRIES, PictureViews, around, find_pictures
from training.dino_probe import find_labelled, knn_accuracy, middle
from training.dino_sheet import contact_sheet
from training.views import ViewAugmentation

CONTEXT = (1.0, 2.0)


def write_picture(path, *, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), noise_photograph(60, 80, seed=seed))


@pytest.fixture
def folder(tmp_path):
    """Six pictures in a tree, and things that are none."""
    for number, name in enumerate(("b.jpg", "a.JPEG", "x/c.png", "x/y/d.jpg", "x/y/e.webp", "z/f.bmp")):
        write_picture(tmp_path / "tree" / name, seed=number)
    (tmp_path / "tree" / "notes.txt").write_text("no picture")
    (tmp_path / "tree" / ".hidden.jpg").write_bytes(b"no picture")
    return tmp_path / "tree"


def views_of(pictures, *, seed=3):
    return PictureViews(pictures, (64, 48), (32, 24), 2, ViewAugmentation(), context=CONTEXT, seed=seed)


def test_pictures_are_found_at_any_depth_in_a_fixed_order(folder):
    pictures = find_pictures([folder])
    names = [str(pictures.path(number).relative_to(folder)) for number in range(len(pictures))]
    assert names == ["a.JPEG", "b.jpg", "x/c.png", "x/y/d.jpg", "x/y/e.webp", "z/f.bmp"]
    assert np.isnan(pictures.boxes_xywh).all()


def test_several_folders_are_joined(folder):
    assert len(find_pictures([folder / "x", folder / "z"])) == 4


def test_the_digest_tells_the_set_not_its_place(folder, tmp_path):
    before = find_pictures([folder]).digest()
    shutil.copytree(folder, tmp_path / "moved")
    assert find_pictures([tmp_path / "moved"]).digest() == before
    (folder / "b.jpg").unlink()
    assert find_pictures([folder]).digest() != before


@pytest.mark.parametrize("name", ["none", "empty"])
def test_folders_without_images_are_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnnotationError, match=rf"image folder .*{name} (does not exist|has no images)"):
        find_pictures([tmp_path / name])


def test_persons_of_annotations_are_looked_at_with_their_boxes(tmp_path):
    annotations, images = draw_coco(tmp_path, persons=6)
    content = json.loads(annotations.read_text())
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][1]["bbox"] = [5, 5, 8, 40]  # tiny
    content["annotations"][2]["category_id"] = 18
    content["annotations"][3]["bbox"] = [-10, 5, 60, 400]
    del content["annotations"][4]["keypoints"]
    annotations.write_text(json.dumps(content))
    pictures = find_pictures([], [(annotations, images)])
    assert len(pictures) == 3
    assert pictures.boxes_xywh[0].tolist() == [0, 5, 50, 115]
    assert pictures.path(0) == images / "101.jpg"


def test_annotations_of_another_layout_are_refused(tmp_path):
    annotations, images = draw_coco(tmp_path, persons=2)
    content = json.loads(annotations.read_text())
    del content["annotations"][0]["bbox"]
    annotations.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match=r"annotations\.json: KeyError\('bbox'\)"):
        find_pictures([], [(annotations, images)])


@pytest.mark.parametrize(
    ("box", "context", "expected"),
    [
        ([100, 100, 30, 40], 1.0, (100, 100, 30, 40)),
        ([100, 100, 30, 40], 2.0, (85, 80, 60, 80)),
        ([100, 100, 10, 40], 1.0, (90, 100, 30, 40)),  # grown to the shape of a view
        ([0, 0, 30, 40], 2.0, (0, 0, 45, 60)),  # what lies beyond the picture is left out
    ],
)
def test_the_part_around_a_person(box, context, expected):
    left, top, width, height = expected
    picture = ramp_photograph(240, 250)
    got = around(picture, np.array(box, dtype=float), (64, 48), context)
    assert np.array_equal(got, picture[top : top + height, left : left + width])


@pytest.mark.parametrize("workers", [0, 2])
def test_examples_follow_from_seed_epoch_and_picture_alone(folder, workers):
    views = views_of(find_pictures([folder]))
    order = EpochBatches(6, 2, seed=3, epoch=5)
    loader = DataLoader(views, batch_sampler=order, num_workers=workers)
    for indices, batch in zip(order, loader, strict=True):
        for row, index in enumerate(indices):
            assert index[0] == 5
            for got, expected in zip(batch, views[index], strict=True):
                assert torch.equal(got[row], expected)


def test_epochs_seeds_and_pictures_differ(folder):
    pictures = find_pictures([folder])
    first = views_of(pictures)[0, 0][0]
    for other in (views_of(pictures)[1, 0][0], views_of(pictures)[0, 1][0], views_of(pictures, seed=4)[0, 0][0]):
        assert not torch.equal(first, other)
    colours = [views_of(pictures)[0, number][2] for number in range(6)]
    assert len({tuple(rows.flatten().tolist()) for rows in colours}) == 6


@pytest.mark.parametrize("content", [b"", b"garbage", None], ids=["empty", "garbage", "missing"])
def test_a_picture_that_cannot_be_read_is_replaced_and_named(folder, content):
    pictures = find_pictures([folder])
    if content is None:
        (folder / "b.jpg").unlink()
    else:
        (folder / "b.jpg").write_bytes(content)
    views = views_of(pictures)
    example = views[0, 1]
    unread = example[3].tolist()
    assert unread[0] == 1
    assert set(unread[1:]) <= {1, -1}
    assert example[0].float().std() > 0
    assert all(torch.equal(one, other) for one, other in zip(example, views[0, 1], strict=True))
    assert views[0, 2][3].tolist() == [-1] * TRIES


def test_a_set_that_cannot_be_read_at_all_is_an_error(folder):
    pictures = find_pictures([folder])
    shutil.rmtree(folder)
    with pytest.raises(AnnotationError, match=r"cannot read .*, nor are 9 others"):
        views_of(pictures)[0, 0]


def test_a_contact_sheet_has_a_row_for_each_picture(folder):
    sheet = contact_sheet(views_of(find_pictures([folder])), rows=4)
    assert sheet.shape == (4 * (64 + 4), (64 + 4) + 2 * (48 + 4) + 2 * (24 + 4), 3)
    assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 1000


def test_labelled_pictures_are_the_subfolders(folder):
    labelled = find_labelled(folder)
    assert labelled.classes == ("x", "z")
    assert labelled.labels == (0, 0, 0, 1)
    with pytest.raises(AnnotationError, match="has 1 subfolders; allowed: one for each class"):
        find_labelled(folder / "x")


def test_the_middle_of_a_picture_has_the_shape_of_a_view():
    picture = ramp_photograph(128, 200)
    assert np.array_equal(middle(picture, (128, 96)), picture[:, 52:148])
    assert middle(picture, (64, 48)).shape == (64, 48, 3)


def slow_knn(features, labels, neighbours, temperature):
    """Each against all others, one by one."""
    right = 0
    for this, feature in enumerate(features):
        cosines = [
            (float(feature @ other) / float(np.linalg.norm(feature) * np.linalg.norm(other)), label)
            for number, (other, label) in enumerate(zip(features, labels, strict=True))
            if number != this
        ]
        votes = dict.fromkeys(range(4), 0.0)
        for cosine, label in sorted(cosines, reverse=True)[:neighbours]:
            votes[label] += np.exp(cosine / temperature)
        right += max(votes, key=votes.__getitem__) == labels[this]
    return right / len(labels)


@pytest.mark.parametrize(("neighbours", "temperature"), [(1, 0.07), (5, 0.07), (20, 0.5), (100, 1.0)])
def test_nearest_neighbours_vote(neighbours, temperature, monkeypatch):
    monkeypatch.setattr("training.dino_probe.ROWS", 7)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 50)
    features = rng.normal(size=(50, 6)) + 1.2 * np.eye(4, 6)[labels]
    expected = slow_knn(features, labels, neighbours, temperature)
    got = knn_accuracy(
        torch.from_numpy(features), torch.from_numpy(labels), neighbours=neighbours, temperature=temperature
    )
    assert got == pytest.approx(expected)
    assert 0.3 < got < 0.95
