"""The poses in boxes that a detector found -> those that are told: of somebody, and of each person one.

A detector takes a dog for a person now and then, or puts two boxes around one person, too different for it to notice.
The poses tell. Boxes that a client sent are its own affair: their poses are all told. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from service.association import same_persons
from service.poses import PoseResult
from service.posing import seen_pose
from service.track import as_persons, sighting_of
from service.tracking_values import TrackerSettings


def told_poses(
    result: PoseResult, min_pose_score: float, settings: TrackerSettings, sigmas: Sequence[float]
) -> PoseResult:
    """The same poses in the same order, without those of nobody, and of one person only that of the best score.

    Args:
        min_pose_score: of a pose; below it nobody is there.
        settings: `duplicate_oks` of them says how alike two poses of one person are, `min_joint_score` which keypoints
            count, as in a stream.
        sigmas: [K], of the skeleton.
    """
    poses = tuple(pose for pose in result.poses if pose.score >= min_pose_score)
    if len(poses) > 1:
        sightings = [sighting_of(seen_pose(pose), settings.min_joint_score) for pose in poses]
        groups = same_persons(as_persons(sightings), settings.duplicate_oks, sigmas)
        best = sorted(max(group, key=lambda number: poses[number].score) for group in groups)
        poses = tuple(poses[number] for number in best)
    return replace(result, poses=poses)
