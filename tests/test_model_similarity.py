import numpy as np
import pytest

from drawings import STANDING
from model.similarity import box_iou, oks


def test_each_pose_with_each_is_one_pose_with_several():
    rng = np.random.default_rng(0)
    poses = 100 * STANDING + rng.normal(scale=3.0, size=(4, 17, 2))
    others = 100 * STANDING + rng.normal(scale=3.0, size=(3, 17, 2))
    table = oks(poses[:, None], others[None], 5000.0)
    assert table.shape == (4, 3)
    for row, pose in zip(table, poses, strict=True):
        np.testing.assert_allclose(row, oks(pose, others, 5000.0))


def test_each_pair_may_count_its_own_joints():
    poses = np.stack((STANDING, STANDING))
    others = STANDING.copy()
    others[0] += 1e4
    counted = np.ones((2, 17), dtype=bool)
    counted[1, 0] = False
    assert oks(others, poses, 1.0, counted) == pytest.approx([16 / 17, 1.0])


def test_where_no_joint_counts_nothing_is_alike():
    assert oks(STANDING, STANDING[None], 1.0, np.zeros(17, dtype=bool)).tolist() == [0.0]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ([0, 0, 10, 10], 1.0),
        ([5, 0, 10, 10], 1 / 3),
        ([10, 0, 10, 10], 0.0),
        ([20, 30, 10, 10], 0.0),
        ([2, 2, 5, 5], 0.25),
        ([5, 5, 0, 0], 0.0),
    ],
)
def test_shared_area_of_boxes(other, expected):
    first, second = np.array([0.0, 0.0, 10.0, 10.0]), np.array(other, dtype=float)
    assert box_iou(first, second) == pytest.approx(expected)
    assert box_iou(second, first) == pytest.approx(expected)


def test_boxes_without_area_are_nowhere():
    nothing = np.zeros(4)
    assert box_iou(nothing, nothing) == 0.0
