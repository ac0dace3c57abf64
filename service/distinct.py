"""The poses in detected boxes -> each person once.

A detector puts two boxes around one person now and then, too different for it to notice; the poses in them tell. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from service.association import same_persons
from service.poses import PoseResult
from service.posing import seen_pose
from service.track import as_persons, sighting_of
from service.tracking_values import TrackerSettings


def each_person_once(result: PoseResult, settings: TrackerSettings, sigmas: Sequence[float]) -> PoseResult:
    """The same poses in the same order; of those that are one person, as in a stream, only the one of the best score.

    Args:
        settings: `duplicate_oks` of them says how alike two poses of one person are, `min_joint_score` which keypoints
            count.
        sigmas: [K], of the skeleton.
    """
    if len(result.poses) < 2:
        return result
    sightings = [sighting_of(seen_pose(pose), settings.min_joint_score) for pose in result.poses]
    groups = same_persons(as_persons(sightings), settings.duplicate_oks, sigmas)
    best = sorted(max(group, key=lambda number: result.poses[number].score) for group in groups)
    return replace(result, poses=tuple(result.poses[number] for number in best))
