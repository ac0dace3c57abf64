"""Annotations that are spoilt in one way each, and what the check says of them."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from drawings import STANDING, coco_annotation, draw_coco, figure_points
from model.skeleton import COCO
from training.check_data import check, main
from training.keypoint_sets import FROM_FILE
from training.side_findings import measure_sides, swapped_persons


@pytest.fixture
def drawn(tmp_path):
    return draw_coco(tmp_path / "coco", persons=24)


def spoilt(drawn, change):
    """The annotations after a change to their content, and the folder."""
    content = json.loads(drawn[0].read_text())
    change(content)
    drawn[0].write_text(json.dumps(content))
    return drawn


def found(drawn, severity=None):
    report = check(*drawn, FROM_FILE)
    return {one["what"]: one for one in report["findings"] if severity in (None, one["severity"])}


def test_a_sound_set_has_nothing_to_find_fault_with(drawn, capsys):
    assert main(["--annotations", str(drawn[0]), "--images", str(drawn[1])]) == 0
    said = capsys.readouterr().out
    assert "12 images, 24 annotations of 'person', 24 persons to train on" in said
    assert "nothing to find fault with" in said
    assert "left_shoulder / right_shoulder    0.0 % of 24" in said
    lines = {line.split()[0]: line.split() for line in said.splitlines() if line.startswith(COCO.names)}
    assert lines["left_ankle"][1] == "24"


def drop_file(content):
    content["images"][0]["file_name"] = "none.jpg"


def wrong_size(content):
    content["images"][1] |= {"width": 161}


def same_image_twice(content):
    content["images"].append(dict(content["images"][0]))


def same_annotation_twice(content):
    content["annotations"][1]["id"] = content["annotations"][0]["id"]


def unknown_image(content):
    content["annotations"][0]["image_id"] = 999


def too_few_numbers(content):
    content["annotations"][0]["keypoints"] = [1, 2, 2]


def not_finite(content):
    content["annotations"][0]["keypoints"][0] = float("nan")


def no_box(content):
    del content["annotations"][0]["bbox"]


def box_outside(content):
    content["annotations"][0]["bbox"] = [500, 500, 20, 20]


def boxes_elsewhere(content):
    for annotation in content["annotations"]:
        annotation["bbox"][0] += 100


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop_file, "images whose file is missing"),
        (wrong_size, "images of another size than their record says"),
        (same_image_twice, "ids that stand twice in images"),
        (same_annotation_twice, "ids that stand twice in annotations"),
        (unknown_image, "annotations of images that are not listed"),
        (too_few_numbers, "keypoints that are not 51 numbers"),
        (not_finite, "keypoints that are not finite"),
        (no_box, "boxes that are not four finite numbers"),
        (box_outside, "boxes without area in their picture, which are not used"),
        (boxes_elsewhere, "boxes that most of their person's joints lie outside of"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_spoils_training_is_an_error(drawn, change, words):
    spoilt(drawn, change)
    errors = found(drawn, "error")
    assert words in errors
    assert errors[words]["examples"]
    assert main(["--annotations", str(drawn[0]), "--images", str(drawn[1])]) == 1


def beyond(content):
    content["annotations"][0]["bbox"][0] -= 40


def strange_flag(content):
    content["annotations"][0]["keypoints"][2] = 3


def another_count(content):
    content["annotations"][0]["num_keypoints"] = 4


def no_area(content):
    del content["annotations"][0]["area"]


def joint_outside(content):
    content["annotations"][0]["keypoints"][0] = -80


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (beyond, "boxes that reach beyond their picture, which are clipped"),
        (strange_flag, "visibility other than 0, 1, 2 (all above 0 count as labelled)"),
        (another_count, "num_keypoints that is not the number of labelled joints"),
        (no_area, "persons without an area, which evaluation by OKS needs"),
        (joint_outside, "persons with labelled joints outside the picture"),
        (joint_outside, "persons with a joint far outside their box"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_should_be_looked_at_is_a_warning(drawn, change, words):
    spoilt(drawn, change)
    warnings = found(drawn, "warning")
    assert warnings[words]["count"] == 1
    assert not found(drawn, "error")


def test_crowds_and_persons_without_joints_are_noted_and_not_counted(drawn):
    def change(content):
        content["annotations"][0]["iscrowd"] = 1
        content["annotations"][1] |= {"keypoints": [0] * 51, "num_keypoints": 0}

    spoilt(drawn, change)
    assert len(found(drawn, "note")) == len(found(drawn)) == 2
    assert check(*drawn, FROM_FILE)["usable_persons"] == 22


def test_files_are_read_by_their_heads(drawn):
    name = json.loads(drawn[0].read_text())["images"][0]["file_name"]
    (drawn[1] / name).write_bytes(b"no picture")
    assert found(drawn)["images that cannot be read"]["count"] == 1
    assert not {one["what"] for one in check(drawn[0], None, FROM_FILE)["findings"]}, (
        "without a folder nothing is opened"
    )


@pytest.mark.parametrize(("size", "is_wrong"), [((160, 120), True), ((120, 160), False)])
def test_a_picture_that_exif_turns_has_its_upright_size(drawn, size, is_wrong):
    name = json.loads(drawn[0].read_text())["images"][0]["file_name"]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (160, 120)).save(drawn[1] / name, exif=exif)
    spoilt(drawn, lambda content: content["images"][0].update(width=size[0], height=size[1]))
    errors = [what for what in found(drawn, "error") if "EXIF" in what]
    assert bool(errors) == is_wrong


def exchange(points, *pairs):
    points = points.copy()
    for left, right in pairs:
        a, b = COCO.names.index(left), COCO.names.index(right)
        points[[a, b]] = points[[b, a]]
    return points


def people(count, *pairs, seed=0):
    """Standing people who face the camera, with some pairs exchanged: [K, 3] each."""
    rng = np.random.default_rng(seed)
    points = [100 * STANDING + rng.normal(0, 1, size=STANDING.shape) for _ in range(count)]
    return [np.column_stack((exchange(one, *pairs), np.full(17, 2.0))) for one in points]


def test_sides_of_sound_people_agree():
    sides = measure_sides(people(30), COCO)
    assert all(pair.against == 0 for pair in sides.pairs)
    assert (sides.faces, sides.faces_from_behind) == (30, 0)
    assert not sides.is_inverted


def test_a_pair_that_is_exchanged_throughout_is_suspicious_and_only_that_one():
    sides = measure_sides(people(30, ("left_knee", "right_knee")), COCO)
    assert [pair.left for pair in sides.pairs if pair.is_suspicious] == ["left_knee"]


def test_a_set_that_is_exchanged_throughout_is_inverted():
    pairs = [(COCO.names[left], COCO.names[right]) for left, right in COCO.flip_pairs]
    sides = measure_sides(people(30, *pairs), COCO)
    assert sides.is_inverted
    assert not any(pair.is_suspicious for pair in sides.pairs)


def test_of_few_people_nothing_is_said():
    sides = measure_sides(people(5, ("left_knee", "right_knee")), COCO)
    assert not any(pair.is_suspicious for pair in sides.pairs)


def test_a_single_exchange_is_found_by_name():
    sound, odd = people(2)
    odd = np.column_stack((exchange(odd[:, :2], ("left_wrist", "right_wrist")), odd[:, 2]))
    assert swapped_persons([(7, sound), (8, odd)], COCO) == [(8, "left_wrist and right_wrist")]


def test_an_exchange_throughout_is_an_error_of_the_command(drawn, capsys):
    def change(content):
        for annotation in content["annotations"]:
            points = np.reshape(annotation["keypoints"], (-1, 3))
            annotation["keypoints"] = exchange(points, ("left_hip", "right_hip")).ravel().tolist()

    spoilt(drawn, change)
    assert main(["--annotations", str(drawn[0])]) == 1
    assert "left_hip and right_hip: against the other pairs in 24 of 24 persons" in capsys.readouterr().out


def test_a_sample_is_drawn_and_the_report_written(drawn, tmp_path, capsys):
    looks, report = tmp_path / "looks", tmp_path / "out" / "report.json"
    command = ["--annotations", str(drawn[0]), "--images", str(drawn[1]), "--json", str(report)]
    assert main([*command, "--pictures", "3", "--pictures-dir", str(looks)]) == 0
    assert "3 pictures in" in capsys.readouterr().out
    written = sorted(path.name for path in looks.iterdir())
    assert len(written) == 3
    assert cv2.imread(str(looks / written[0])).shape == (640, 853, 3)
    assert json.loads(report.read_text())["usable_persons"] == 24
    assert main([*command, "--pictures", "3", "--pictures-dir", str(tmp_path / "again")]) == 0
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == written, "the seed decides"


@pytest.mark.parametrize("content", ["", "[]", '{"images": 3, "annotations": []}'])
def test_a_file_that_is_none_ends_with_2(tmp_path, content, capsys):
    path = tmp_path / "broken.json"
    path.write_text(content)
    assert main(["--annotations", str(path)]) == 2
    assert str(path) in capsys.readouterr().err


def test_options_that_do_not_go_together_are_refused(drawn, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--annotations", str(drawn[0]), "--pictures", "3"])
    assert "--pictures needs --images" in capsys.readouterr().err


def test_another_keypoint_set_is_checked_by_its_own_names(tmp_path, capsys):
    points = figure_points(np.array([10.0, 10.0, 60.0, 90.0]))
    annotation = coco_annotation(1, 5, np.array([10.0, 10.0, 60.0, 90.0]), points)
    annotation |= {"keypoints": [20, 30, 2, 50, 30, 2], "category_id": 3, "num_keypoints": 2}
    category = {"id": 3, "name": "cat", "keypoints": ["l_ear", "r_ear"], "skeleton": [[1, 2]]}
    image = {"id": 5, "file_name": "a.jpg", "width": 100, "height": 120}
    path = tmp_path / "cats.json"
    path.write_text(json.dumps({"images": [image], "annotations": [annotation], "categories": [category]}))
    assert main(["--annotations", str(path)]) == 0
    said = capsys.readouterr().out
    assert "'cat', 1 persons to train on" in said
    assert "flip_pairs from the names: l_ear/r_ear" in said
    assert "too few persons to say anything" in said


@pytest.mark.parametrize(
    ("where", "field", "value"),
    [
        *(("annotations", "image_id", value) for value in ([1], {})),
        *(("annotations", "keypoints", value) for value in (3.5, True, {"a": 1})),
        *(("annotations", "area", value) for value in ("x", [1, 2])),
        *(("annotations", "iscrowd", value) for value in (None, 2)),
        *(("annotations", "id", value) for value in ("x", [])),
        *(("annotations", "category_id", value) for value in (None, 9)),
        *(("images", "file_name", value) for value in (None, 7)),
        ("images", "id", {}),
    ],
)
def test_a_record_that_makes_no_sense_is_an_error_and_does_not_end_the_check(drawn, tmp_path, where, field, value):
    spoilt(drawn, lambda content: content[where][0].update({field: value}))
    pictures = ["--pictures", "12", "--pictures-dir", str(tmp_path / "looks")]
    assert main(["--annotations", str(drawn[0]), "--images", str(drawn[1]), *pictures]) == 1
    assert len(list((tmp_path / "looks").iterdir())) >= 11


def test_other_categories_are_noted(drawn):
    def add_ball(content):
        content["categories"].append({"id": 2, "name": "ball"})
        content["annotations"].append({"id": 99, "image_id": 100, "category_id": 2, "bbox": [1, 1, 5, 5]})

    assert found(spoilt(drawn, add_ball), "error") == {}
    assert found(drawn, "note")["annotations of other categories, which are not used"]["count"] == 1


def exchange_part(content, share, lefts):
    """Left and right of the pairs with these left joints, in this share of the annotations."""
    pairs = [(COCO.names[left], COCO.names[right]) for left, right in COCO.flip_pairs if COCO.names[left] in lefts]
    for number, annotation in enumerate(content["annotations"]):
        if number % 20 < 20 * share:
            keypoints = np.reshape(annotation["keypoints"], (-1, 3))
            annotation["keypoints"] = exchange(keypoints, *pairs).ravel().tolist()


@pytest.mark.parametrize(
    ("names", "share", "what"),
    [
        (COCO.names, 0.4, "left and right may be exchanged in part of the set"),
        (COCO.names, 0.05, None),
        (("left_hip",), 0.4, "pairs whose left and right may be exchanged in part of the set"),
        (("left_hip",), 0.05, None),
    ],
)
def test_an_exchange_in_part_of_the_set_is_a_warning(tmp_path, names, share, what):
    drawn = draw_coco(tmp_path / "coco", persons=100)
    warned = found(spoilt(drawn, lambda content: exchange_part(content, share, names)))
    assert warned.keys() - {"persons of whom one pair points against all others"} == ({what} if what else set())


def test_the_files_of_images_can_be_left_alone(drawn):
    spoilt(drawn, drop_file)
    assert main(["--annotations", str(drawn[0]), "--images", str(drawn[1]), "--no-images"]) == 0


def test_the_pictures_have_boxes_with_the_id_of_their_annotation(drawn, tmp_path):
    """Of one annotation the box is moved: the pictures differ along both its places, and nowhere far from them."""
    looks = []
    for number, shift in enumerate((0, 20)):
        spoilt(drawn, lambda content, shift=shift: content["annotations"][0].update(bbox=[15 + shift, 12, 50, 80]))
        options = ["--no-images", "--pictures", "12", "--pictures-dir", str(tmp_path / str(number))]
        main(["--annotations", str(drawn[0]), "--images", str(drawn[1]), *options])
        looks.append(cv2.imread(str(tmp_path / str(number) / "100.png")).astype(int))
    scale = looks[0].shape[1] / 160
    differs = np.abs(looks[0] - looks[1]).max(axis=2) > 0
    middle = round(70 * scale)  # of a row that no text and no other part of a box is in
    columns = np.flatnonzero(differs[middle]) / scale
    edges = np.array([15, 35, 65, 85])
    assert np.abs(columns[:, None] - edges).min(axis=1).max() < 2
    assert np.abs(columns[:, None] - edges).min(axis=0).max() < 2
