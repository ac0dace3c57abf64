import pytest
from pycocotools.cocoeval import Params

from model.skeleton import COCO


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
