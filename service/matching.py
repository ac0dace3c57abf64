"""Which pose of a frame is whose: each person in one pose at most, each pose of one person, together the most alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.geometry import Array
from service.assignment import assign
from service.association import Persons, growth_of, same_persons, similarities
from service.track import Sighting, Track, as_persons
from service.tracking_values import TrackerSettings

OWN_PLACE = 0.1  # added to the similarity of a pose that was found where its person was looked for
SENIORITY = 0.1  # added for people who are long known, where two could be the one that is left: it changes nothing else
SENIOR_HITS = 10  # frames that bring half of it
SECOND_VIEW = 0.15  # more than this alike to somebody else who was found: it is that one, seen once more
SHADOW = 0.75  # similarity of where somebody is expected with another who was found there


@dataclass(frozen=True)
class Matches:
    """By numbers of people and of poses.

    pose_of: the pose of each person that was found.
    new: groups of poses, each of one person who is not known.
    shadowed_by: people who were not found, and are expected where another was: that one.
    """

    pose_of: dict[int, int]
    new: list[list[int]]
    shadowed_by: dict[int, int]


def match(
    tracks: Sequence[Track],
    sightings: Sequence[Sighting],
    looked_for: Sequence[Track | None],
    now_s: float,
    sigmas: Sequence[float],
    settings: TrackerSettings,
) -> Matches:
    """Match people with the poses of a frame; `looked_for`: who was expected in the box of each pose."""
    if not sightings:
        return Matches({}, [], {})
    found = as_persons(sightings)
    groups = same_persons(found, settings.duplicate_oks, sigmas)
    if not tracks:
        return Matches({}, groups, {})
    expected = Persons(*(np.array(part) for part in zip(*(track.expected(now_s) for track in tracks), strict=True)))
    unseen_s = np.array([now_s - track.seen_s for track in tracks])
    alike = similarities(expected, unseen_s, found, sigmas)
    own = np.array([[person is track for person in looked_for] for track in tracks])
    placed = alike + OWN_PLACE * own
    best = np.stack([placed[:, group].max(axis=1) for group in groups], axis=1)  # [N, G]
    # The wider the place where somebody may be, the less likely each spot in it: who was hidden does not take the pose
    # of who is in front.
    likely = 1 / (1 + 2 * growth_of(unseen_s))[:, None]
    hits = np.array([[track.hits] for track in tracks])
    seniority = SENIORITY * hits / (hits + SENIOR_HITS)
    pairs = assign(np.where(best >= settings.match_similarity, likely * best + seniority, 0.0))
    pose_of = {track: groups[group][int(placed[track, groups[group]].argmax())] for track, group in pairs}
    pose_of = _without_second_views(pose_of, likely * alike)
    taken = set(pose_of.values())
    others = [group for group in groups if not taken & set(group)]
    found_alike = alike[list(pose_of)].max(axis=0, initial=0.0)  # [M], to anybody who was found
    new = [group for group in others if found_alike[group].max() <= settings.duplicate_oks]
    return Matches(pose_of, new, _shadows(pose_of, alike))


def _without_second_views(pose_of: dict[int, int], alike: Array) -> dict[int, int]:
    """Without those to whom a pose was given that is clearly another's, who has a pose of their own.

    Two views of one person, through two boxes, may differ by more than two people do who are close; but then one of
    those who are expected explains both.
    """
    kept = dict(pose_of)
    for person, pose in sorted(pose_of.items(), key=lambda pair: float(alike[pair])):  # the least alike first
        rivals = [other for other in kept if other != person]
        if rivals and alike[rivals, pose].max() > alike[person, pose] + SECOND_VIEW:
            del kept[person]
    return kept


def _shadows(pose_of: dict[int, int], alike: Array) -> dict[int, int]:
    """People who were not found -> somebody who was, where they are expected."""
    shadowed_by = {}
    for person in sorted(set(range(len(alike))) - set(pose_of)):
        near = [other for other, pose in pose_of.items() if alike[person, pose] > SHADOW]
        if near:
            shadowed_by[person] = max(near, key=lambda other: float(alike[person, pose_of[other]]))
    return shadowed_by
