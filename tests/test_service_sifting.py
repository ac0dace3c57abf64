"""Poses in detected boxes: nobody is not told, one person is told once, and two people are told twice."""

from __future__ import annotations

import pytest

from model.skeleton import COCO
from service.poses import Box, Pose, PoseResult
from service.sifting import told_poses
from service.tracking_values import TrackerSettings
from tracked_frames import ONE_BOX, pose

FAR: Box = (400.0, 100.0, 80.0, 200.0)


def told(box: Box, *, score: float = 0.8, shift: float = 0.0, joints: int = 17) -> Pose:
    """A pose in a box, all of it moved by `shift` pixels."""
    given = pose(box, score=score, shift=shift, joints=joints)
    keypoints = tuple((x, y, s) for (x, y), s in zip(given.points_image.tolist(), given.scores.tolist(), strict=True))
    return Pose(box_xywh=box, score=score, keypoints=keypoints)


def told_of(*poses: Pose, **settings: float) -> list[Pose]:
    result = PoseResult(width=640, height=480, poses=poses, detected=True)
    answer = told_poses(result, 0.3, TrackerSettings(**settings), COCO.oks_sigmas)  # type: ignore[arg-type]
    assert (answer.width, answer.height, answer.detected) == (640, 480, True)
    return list(answer.poses)


def test_of_two_boxes_around_one_person_the_better_pose_stays_and_the_order_is_kept():
    better, worse, other = told(ONE_BOX, score=0.8), told(ONE_BOX, score=0.5, shift=2.0), told(FAR, score=0.9)
    assert told_of(worse, other, better) == [other, better]
    assert told_of(better, worse, other) == [better, other]
    assert told_of(better, other) == [better, other]


@pytest.mark.parametrize("poses", [(), (told(ONE_BOX),)])
def test_nobody_and_one_person_are_as_they_were(poses):
    assert told_of(*poses) == list(poses)


def test_how_alike_two_poses_of_one_person_are_is_a_setting():
    beside = told(ONE_BOX, shift=20.0)
    assert len(told_of(told(ONE_BOX), beside, duplicate_oks=0.9)) == 2
    assert len(told_of(told(ONE_BOX), beside, duplicate_oks=0.1)) == 1


def test_a_pose_of_a_low_score_is_nobodys():
    assert told_of(told(ONE_BOX, score=0.29), told(FAR, score=0.3)) == [told(FAR, score=0.3)]
    assert told_of(told(ONE_BOX, score=0.1)) == []


def test_poses_with_too_few_joints_to_tell_are_all_told():
    weak = told(ONE_BOX, joints=3)
    assert told_of(weak, weak) == [weak, weak]
