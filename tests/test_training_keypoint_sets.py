"""Which keypoints annotations have: from their category, from a TOML, derived; and what is refused."""

import json
from pathlib import Path

import pytest

from model.skeleton import COCO, Skeleton
from own_keypoints import CATEGORY, NAMES
from training.coco import read_persons, read_sets
from training.keypoint_fields import DEFAULT_SIGMA
from training.keypoint_sets import (
    FROM_FILE,
    AnnotationError,
    KeypointChoice,
    check_agreement,
    check_resumed,
    read_keypoint_set,
    told_of,
)

PATH = Path("some.json")
COCO_CATEGORY = {"id": 1, "name": "person", "keypoints": list(COCO.names), "skeleton": [[16, 14]]}


def read(*categories, choice=FROM_FILE, **options):
    return read_keypoint_set({"categories": list(categories)}, PATH, choice, **options)


def toml(tmp_path, text):
    path = tmp_path / "keypoints.toml"
    path.write_text(text)
    return KeypointChoice(path)


def test_coco_is_coco_with_its_widths_and_halves():
    found = read(COCO_CATEGORY)
    assert found.skeleton.oks_sigmas == COCO.oks_sigmas
    assert found.skeleton.upper_body == COCO.upper_body
    assert found.skeleton.limbs == ((15, 13),), "the file's own"
    assert found.notes == ()


@pytest.mark.parametrize("content", [{}, {"categories": []}, {"categories": [{"id": 1, "name": "person"}]}])
def test_a_file_that_names_none_is_cocos(content):
    found = read_keypoint_set(content, PATH)
    assert found.skeleton == COCO
    assert found.notes == ()
    assert told_of(found) == []


def test_what_is_not_given_is_derived_and_said():
    found = read(CATEGORY)
    assert found.skeleton.names == NAMES
    assert found.skeleton.flip_pairs == ((1, 2), (3, 4))
    assert found.skeleton.limbs == ((0, 1), (0, 2), (1, 3), (2, 4)), "from 1 in the file"
    assert found.skeleton.oks_sigmas == (DEFAULT_SIGMA, 0.035, 0.035, DEFAULT_SIGMA, DEFAULT_SIGMA), "ears as COCO's"
    said = "\n".join(told_of(found))
    assert "dog: 5 keypoints: snout, left_ear" in said
    assert "flip_pairs from the names: left_ear/right_ear, left_paw/right_paw" in said
    assert "as COCO's for left_ear, right_ear; 0.067 for snout, left_paw, right_paw" in said
    assert "no views of half a body" in said
    assert (found.category_id, found.result_category_id) == (4, 4)


def test_a_toml_adds_what_the_file_leaves_open(tmp_path):
    choice = toml(
        tmp_path,
        'flip_pairs = [["left_ear", "right_ear"], [4, 5]]\nsigmas = {snout = 0.03}\n'
        'upper_body = ["snout", 2, 3]\nlower_body = ["left_paw", "right_paw"]\n',
    )
    found = read(CATEGORY, choice=choice).skeleton
    assert found.flip_pairs == ((1, 2), (3, 4))
    assert found.oks_sigmas[0] == 0.03
    assert (found.upper_body, found.lower_body) == ((0, 1, 2), (3, 4))


def test_a_toml_describes_a_file_without_categories(tmp_path):
    choice = toml(tmp_path, 'keypoints = ["a", "left_b", "right_b"]\nsigmas = [0.1, 0.2, 0.2]\nskeleton = [["a", 2]]\n')
    found = read(choice=choice)
    assert found.skeleton.names == ("a", "left_b", "right_b")
    assert found.skeleton.oks_sigmas == (0.1, 0.2, 0.2)
    assert found.skeleton.limbs == ((0, 1),)


def test_several_categories_must_be_chosen_from():
    with pytest.raises(
        AnnotationError, match="keypoints of several categories: 'person', 'dog'; choose one by --category"
    ):
        read(COCO_CATEGORY, CATEGORY)
    assert read(COCO_CATEGORY, CATEGORY, choice=KeypointChoice(category="dog")).skeleton.names == NAMES
    with pytest.raises(AnnotationError, match=r"category is 'cat'; allowed in some\.json: 'person', 'dog'"):
        read(COCO_CATEGORY, CATEGORY, choice=KeypointChoice(category="cat"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"skeleton": [[1, 9]]}, "skeleton has 9; allowed: snout, .*, or their numbers 1 to 5"),
        ({"skeleton": [1, 2]}, "skeleton is .*; allowed: a list of pairs"),
        ({"flip_pairs": [[1, 2], [2, 3]]}, "flip_pairs has keypoint 2 or 3 twice"),
        ({"flip_pairs": [["snout", "tail"]]}, "flip_pairs has 'tail'; allowed: snout"),
        ({"sigmas": [0.1]}, "sigmas has 1 numbers; allowed: 5"),
        ({"sigmas": {"tail": 1}}, r"sigmas has \['tail'\]; allowed"),
        ({"sigmas": [0.1, 0.1, 0.1, 0.1, -1]}, "oks_sigmas of right_paw is -1; allowed: above 0"),
        ({"keypoints": ["a", "a"], "skeleton": []}, r"names is \['a'\]; allowed: each name once"),
        ({"keypoints": [1, 2]}, "keypoints is .*; allowed: a list of names"),
        ({"id": "four"}, "has the id 'four'"),
    ],
)
def test_a_category_that_cannot_be_is_refused_by_name(changes, message):
    with pytest.raises(AnnotationError, match=message):
        read(CATEGORY | changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("joints = 3", "has the fields joints; allowed: keypoints, "),
        ("keypoints = ", "is not TOML"),
        ("category = 3", "category is 3; allowed: its name"),
        ('keypoints = ["other"]', "and category 'dog' of some.json has .*; allowed: the same, or only one of both"),
    ],
)
def test_a_toml_that_cannot_be_is_refused(tmp_path, text, message):
    with pytest.raises(AnnotationError, match=message):
        read(CATEGORY, choice=toml(tmp_path, text))


def test_a_toml_that_is_not_there_is_named(tmp_path):
    with pytest.raises(AnnotationError, match=r"cannot read .*none\.toml"):
        read(CATEGORY, choice=KeypointChoice(tmp_path / "none.toml"))


def test_files_of_one_run_must_agree(tmp_path):
    (tmp_path / "a").mkdir()

    def write(name, category):
        path = tmp_path / name
        path.write_text(json.dumps({"images": [], "annotations": [], "categories": [category]}))
        return path, tmp_path / "a"

    dogs, other = write("dogs.json", CATEGORY), write("other.json", CATEGORY | {"keypoints": [*NAMES[:-1], "tail"]})
    read_sets([dogs], dogs, FROM_FILE)
    with pytest.raises(AnnotationError, match=r"other\.json has other keypoints than .*dogs\.json: names is"):
        read_sets([dogs], other, FROM_FILE)
    assert read_persons(*dogs).keypoints.skeleton.names == NAMES


def test_what_decides_must_agree_and_limbs_need_not():
    one = read(CATEGORY).skeleton
    check_agreement(one, "a", read(CATEGORY | {"skeleton": []}).skeleton, "b")
    with pytest.raises(AnnotationError, match="b has other keypoints than a: oks_sigmas"):
        check_agreement(one, "a", read(CATEGORY | {"sigmas": [0.1] * 5}).skeleton, "b")


def test_a_run_goes_on_with_its_own_keypoints_only():
    dogs = read(CATEGORY).skeleton
    check_resumed(dogs.to_json(), dogs, Path("runs/x"))
    check_resumed(None, COCO, Path("runs/x"))
    with pytest.raises(ValueError, match=r"runs/x was started with COCO's 17 keypoints: nose, .*; now there are 5"):
        check_resumed(None, dogs, Path("runs/x"))


def test_a_known_set_completes_one_of_the_same_names():
    known = Skeleton(names=NAMES, flip_order=(0, 2, 1, 4, 3), oks_sigmas=(0.01,) * 5, upper_body=(0, 1, 2))
    found = read({"id": 4, "name": "dog", "keypoints": list(NAMES)}, known=(known,))
    assert found.skeleton == known
    assert found.notes == ()
