import json
import re

import numpy as np
import pytest

from drawings import coco_annotation, draw_coco, figure_points, write_coco
from model.geometry import clip_box
from training.coco import AnnotationError, read_json, read_persons

BOX = np.array([10.0, 20.0, 50.0, 80.0])
IMAGE = {"id": 7, "file_name": "7.jpg", "height": 120, "width": 160}


def annotation(**changes):
    return coco_annotation(1, 7, BOX, figure_points(BOX)) | changes


def read(tmp_path, *annotations):
    return read_persons(write_coco(tmp_path / "data.json", [IMAGE], list(annotations)), tmp_path)


def keypoints(*visibilities):
    """17 joints at (5, 6), of which the first ones have these visibilities and the rest 0."""
    values = [*visibilities, *[0] * (17 - len(visibilities))]
    return [number for v in values for number in (5, 6, v)]


def test_a_drawn_set_is_read(tmp_path):
    annotations_path, images_dir = draw_coco(tmp_path, persons=5)
    data = read_persons(annotations_path, images_dir)
    assert (data.name, data.num_images, len(data.persons)) == ("annotations", 3, 5)
    assert [person.annotation_id for person in data.persons] == [1, 2, 3, 4, 5]
    assert [person.image_id for person in data.persons] == [100, 100, 101, 101, 102]
    assert all(person.image_path.is_file() for person in data.persons)


def test_a_person_has_a_box_points_and_labels(tmp_path):
    (person,) = read(tmp_path, annotation()).persons
    assert person.image_path == tmp_path / "7.jpg"
    assert person.box_xywh.tolist() == BOX.tolist()
    np.testing.assert_allclose(person.points_image, figure_points(BOX))
    assert person.labelled.tolist() == [True] * 17


def test_occluded_joints_are_labelled_and_missing_ones_are_not(tmp_path):
    (person,) = read(tmp_path, annotation(keypoints=keypoints(1, 2, 0))).persons
    assert person.labelled.tolist() == [True, True] + [False] * 15


def test_a_name_can_be_given(tmp_path):
    annotations_path, images_dir = draw_coco(tmp_path, persons=1)
    assert read_persons(annotations_path, images_dir, name="drawn").name == "drawn"


@pytest.mark.parametrize(
    "changes",
    [
        {"iscrowd": 1},
        {"keypoints": [0] * 51},
        {"keypoints": []},
        {"keypoints": keypoints(0)},
        {"bbox": [10, 20, 0, 80]},
        {"bbox": [10, 20, 50, 0]},
        {"bbox": [200, 20, 50, 80]},
        {"bbox": [10, -100, 50, 80]},
    ],
    ids=["crowd", "all zero", "no keypoints", "none labelled", "no width", "no height", "right of it", "above it"],
)
def test_persons_that_cannot_be_used_are_left_out(tmp_path, changes):
    data = read(tmp_path, annotation(**changes), annotation(id=2))
    assert [person.annotation_id for person in data.persons] == [2]


def test_an_annotation_without_keypoints_is_left_out(tmp_path):
    boxed = annotation()
    del boxed["keypoints"]
    assert read(tmp_path, boxed).persons == ()


def test_boxes_are_clipped_to_their_image(tmp_path):
    (person,) = read(tmp_path, annotation(bbox=[-10, 100, 300, 80])).persons
    assert person.box_xywh.tolist() == [0, 100, 160, 20]


@pytest.mark.parametrize(
    ("box", "clipped"),
    [
        ([10, 20, 30, 40], [10, 20, 30, 40]),
        ([-5.5, -6, 30, 40], [0, 0, 24.5, 34]),
        ([90, 70, 30, 40], [90, 70, 10, 10]),
        ([-10, -10, 500, 500], [0, 0, 100, 80]),
    ],
)
def test_clipping_keeps_the_part_inside(box, clipped):
    assert clip_box(box, 100, 80).tolist() == clipped


@pytest.mark.parametrize("box", [[200, 0, 10, 10], [0, 200, 10, 10], [-20, 0, 10, 10], [0, -20, 10, 10]])
def test_a_box_beside_the_image_has_no_area(box):
    clipped = clip_box(box, 100, 80)
    assert (clipped[2:] >= 0).all()
    assert clipped[2] * clipped[3] == 0


def refused(path, images_dir, *parts):
    with pytest.raises(AnnotationError) as caught:
        read_persons(path, images_dir)
    for part in parts:
        assert str(part) in str(caught.value)


@pytest.mark.parametrize("content", [{"images": []}, {"annotations": []}, [], "text"])
def test_a_file_without_the_two_lists_is_refused(tmp_path, content):
    path = tmp_path / "data.json"
    path.write_text(json.dumps(content))
    refused(path, tmp_path, path, "needs `images` and `annotations`")


@pytest.mark.parametrize("count", [3, 50, 54])
def test_a_wrong_number_of_keypoints_is_refused_naming_the_annotation(tmp_path, count):
    path = write_coco(tmp_path / "data.json", [IMAGE], [annotation(id=31, keypoints=[1] * count)])
    refused(path, tmp_path, path, "annotation 31", f"keypoints has {count} numbers; allowed: 51")


@pytest.mark.parametrize("missing", ["image_id", "bbox", "id"])
def test_a_missing_field_is_refused_by_name(tmp_path, missing):
    record = annotation()
    del record[missing]
    path = write_coco(tmp_path / "data.json", [IMAGE], [record])
    refused(path, tmp_path, path, f"annotation {record.get('id')}", f"KeyError('{missing}')")


@pytest.mark.parametrize("changes", [{"bbox": [1, 2, 3]}, {"bbox": None}, {"keypoints": ["x"] * 51}])
def test_a_field_of_the_wrong_kind_is_refused(tmp_path, changes):
    path = write_coco(tmp_path / "data.json", [IMAGE], [annotation(**changes)])
    refused(path, tmp_path, path, "annotation 1")


def test_an_unknown_image_is_refused(tmp_path):
    path = write_coco(tmp_path / "data.json", [IMAGE], [annotation(image_id=8)])
    refused(path, tmp_path, path, "annotation 1", "KeyError(8)")


@pytest.mark.parametrize(
    ("images", "annotations"),
    [([{"file_name": "7.jpg"}], []), (["text"], []), ([IMAGE], ["text"]), (5, []), ([IMAGE], 5), ([IMAGE], [5])],
    ids=["image without id", "image is text", "annotation is text", "no list of images", "no list", "number"],
)
def test_records_that_are_not_of_the_layout_are_refused(tmp_path, images, annotations):
    path = write_coco(tmp_path / "data.json", images, annotations)
    refused(path, tmp_path, path)


@pytest.mark.parametrize(
    "changes", [{"bbox": [10, 20, float("nan"), 80]}, {"keypoints": [float("nan"), 5, 2] * 17}], ids=["box", "joints"]
)
def test_numbers_that_are_not_finite_are_refused(tmp_path, changes):
    path = write_coco(tmp_path / "data.json", [IMAGE], [annotation(**changes)])
    refused(path, tmp_path, path, "annotation 1")


def test_a_missing_image_folder_is_refused(tmp_path):
    path = write_coco(tmp_path / "data.json", [IMAGE], [])
    refused(path, tmp_path / "nowhere", f"image folder {tmp_path / 'nowhere'} does not exist")


def test_a_file_that_is_not_json_is_refused(tmp_path):
    path = tmp_path / "data.json"
    path.write_text("{")
    with pytest.raises(AnnotationError, match=re.escape(f"{path} is not JSON")):
        read_json(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(AnnotationError, match=r"cannot read .*none\.json: No such file"):
        read_json(tmp_path / "none.json")
