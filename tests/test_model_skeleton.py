import json

import pytest
from pycocotools.cocoeval import Params

from model.sides import flip_order_of, side_of
from model.skeleton import COCO, Skeleton


def test_there_are_seventeen_of_each():
    assert len(COCO) == len(COCO.names) == len(set(COCO.names)) == len(COCO.flip_order) == len(COCO.oks_sigmas) == 17


def test_mirroring_twice_changes_nothing_and_swaps_sides():
    assert [COCO.flip_order[other] for other in COCO.flip_order] == list(range(17))
    assert COCO.flip_order[0] == 0
    for joint, other in enumerate(COCO.flip_order[1:], start=1):
        assert {COCO.names[joint].split("_")[0], COCO.names[other].split("_")[0]} == {"left", "right"}
        assert COCO.names[joint].split("_")[1] == COCO.names[other].split("_")[1]


def test_limbs_join_different_known_joints_once_and_mirror_into_limbs():
    limbs = {frozenset(limb) for limb in COCO.limbs}
    assert len(limbs) == len(COCO.limbs) == 19
    assert all(len(limb) == 2 and limb <= set(range(17)) for limb in limbs)
    assert {frozenset(COCO.flip_order[joint] for joint in limb) for limb in limbs} == limbs


def test_the_two_halves_are_the_whole_body_and_part_above_the_hips():
    assert list(COCO.upper_body + COCO.lower_body) == list(range(17))
    assert COCO.names[COCO.lower_body[0]] == "left_hip"


def test_widths_are_those_of_the_coco_evaluation():
    assert Params("keypoints").kpt_oks_sigmas.tolist() == pytest.approx(COCO.oks_sigmas, abs=1e-12)


FIVE = {
    "names": ("nose", "left_ear", "right_ear", "tail_l", "tail_r"),
    "flip_order": (0, 2, 1, 4, 3),
    "limbs": ((0, 1), (0, 2)),
    "oks_sigmas": (0.05,) * 5,
}


def test_a_set_survives_json_and_knows_its_pairs():
    five = Skeleton(**FIVE)
    assert Skeleton.from_json(json.loads(json.dumps(five.to_json()))) == five
    assert five.flip_pairs == ((1, 2), (3, 4))
    assert [five.side(joint) for joint in range(5)] == ["middle", "left", "right", "left", "right"]
    assert len(five) == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ("a", "a", "b", "c", "d")}, r"names is \['a'\]; allowed: each name once"),
        ({"names": ("nose", "left_ear", "right_ear", "7", "x")}, "names is '7'; allowed: no number"),
        ({"names": ("all", "left_ear", "right_ear", "y", "x")}, "names is 'all'; allowed: no number, and not 'all'"),
        ({"names": (" a", "b", "c", "d", "e")}, "names is ' a'; allowed: 1 to 64 printable"),
        ({"flip_order": (0, 2, 1, 4)}, "flip_order is .* each index of 0 to 4 once"),
        ({"flip_order": (1, 2, 0, 4, 3)}, "flip_order is .* in pairs or alone"),
        ({"oks_sigmas": (0.05,) * 4}, "oks_sigmas is .*; allowed: 5 numbers"),
        ({"oks_sigmas": (0.05, 0.05, 0.0, 0.05, 0.05)}, "oks_sigmas of right_ear is 0.0; allowed: above 0"),
        ({"limbs": ((0, 5),)}, r"limbs is \(0, 5\); allowed: two different indices of 0 to 4"),
        ({"limbs": ((1, 1),)}, r"limbs is \(1, 1\); allowed: two different"),
        ({"upper_body": (0, 9)}, "upper_body is .* different indices of 0 to 4"),
        ({"upper_body": (0, 1), "lower_body": (1, 2)}, r"lower_body is \[1\]; allowed: no keypoint that is in upper"),
    ],
)
def test_a_set_that_cannot_be_one_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Skeleton(**(FIVE | changes))


def test_a_set_with_unknown_fields_is_refused():
    with pytest.raises(ValueError, match="skeleton has the fields"):
        Skeleton.from_json({"names": ["a"]})


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("left_eye", "left"),
        ("eye_right", "right"),
        ("LeftEye", "left"),
        ("lEye", "left"),
        ("R_Ankle", "right"),
        ("lefteye", "left"),
        ("nose", "middle"),
        ("left", "middle"),
        ("left_right", "middle"),
        ("ear2", "middle"),
    ],
)
def test_names_tell_sides(name, side):
    assert side_of(name) == side


def test_pairs_differ_in_nothing_but_the_side():
    assert flip_order_of(COCO.names) == COCO.flip_order
    assert flip_order_of(["l_ear", "r_ear", "left_tail", "r_paw", "nose"]) == (1, 0, 2, 3, 4)
    assert flip_order_of(["left_a", "right_a", "Right_A"]) == (0, 1, 2), "two that are alike are no pair"
