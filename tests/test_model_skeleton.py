import pytest
from pycocotools.cocoeval import Params

from model.skeleton import (
    FLIP_ORDER,
    KEYPOINT_NAMES,
    LIMBS,
    LOWER_BODY,
    NUM_KEYPOINTS,
    OKS_SIGMAS,
    UPPER_BODY,
)


def test_there_are_seventeen_of_each():
    assert NUM_KEYPOINTS == len(KEYPOINT_NAMES) == len(set(KEYPOINT_NAMES)) == len(FLIP_ORDER) == len(OKS_SIGMAS) == 17


def test_mirroring_twice_changes_nothing_and_swaps_sides():
    assert [FLIP_ORDER[other] for other in FLIP_ORDER] == list(range(17))
    assert FLIP_ORDER[0] == 0
    for joint, other in enumerate(FLIP_ORDER[1:], start=1):
        assert {KEYPOINT_NAMES[joint].split("_")[0], KEYPOINT_NAMES[other].split("_")[0]} == {"left", "right"}
        assert KEYPOINT_NAMES[joint].split("_")[1] == KEYPOINT_NAMES[other].split("_")[1]


def test_limbs_join_different_known_joints_once_and_mirror_into_limbs():
    limbs = {frozenset(limb) for limb in LIMBS}
    assert len(limbs) == len(LIMBS) == 19
    assert all(len(limb) == 2 and limb <= set(range(17)) for limb in limbs)
    assert {frozenset(FLIP_ORDER[joint] for joint in limb) for limb in limbs} == limbs


def test_the_two_halves_are_the_whole_body_and_part_above_the_hips():
    assert list(UPPER_BODY + LOWER_BODY) == list(range(17))
    assert KEYPOINT_NAMES[LOWER_BODY[0]] == "left_hip"


def test_widths_are_those_of_the_coco_evaluation():
    assert Params("keypoints").kpt_oks_sigmas.tolist() == pytest.approx(OKS_SIGMAS, abs=1e-12)
