"""Where to look for people in a frame: where they are expected, corrected by detections, and what nobody explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.geometry import Array
from model.similarity import box_iou
from service.association import common_shift, match_boxes
from service.person_box import follow_box, visible_box
from service.track import Track
from service.tracking_values import FoundPersons, TrackerSettings

LEAST_IOU = 0.3  # of a detection with the box that it explains
DUPLICATE_IOU = 0.7  # of a detection with a box that is looked at anyway
LOOK_AGAIN = 3  # frames in which somebody is looked for where they are expected, without a detection there


@dataclass(frozen=True)
class Look:
    """A box [4] to estimate, within the picture; whose it is (None: nobody's yet), and the detector's box behind it."""

    box: Array
    track: Track | None
    detected: Array | None = None


def look_at(
    tracks: Sequence[Track],
    now_s: float,
    image_hw: tuple[int, int],
    detections: FoundPersons | None,
    settings: TrackerSettings,
) -> list[Look]:
    """The boxes of a frame, `max_tracks` at most: people in their order, then detections that are nobody's, best first.

    What detections say of the people is noted on them.
    """
    if detections is None or not len(detections.boxes_xywh):
        detected, mine = np.zeros((0, 4)), {}
    else:
        detected = np.asarray(detections.boxes_xywh, dtype=np.float64)
        mine = _explained(tracks, now_s, detected)
    if detections is not None:
        for number, track in enumerate(tracks):
            track.hear_of_detections(now_s, was_detected=number in mine)
    looks = [
        look for n, track in enumerate(tracks) if (look := _look_for(track, now_s, image_hw, detected, mine.get(n)))
    ]
    for number in sorted(set(range(len(detected))) - set(mine.values())):
        box = visible_box(detected[number], image_hw)
        is_sure = detections is not None and detections.scores[number] >= settings.birth_score
        if box is not None and is_sure and not _is_looked_at(detected[number], looks):
            looks.append(Look(box, None, detected[number]))
    return looks[: settings.max_tracks]


def _explained(tracks: Sequence[Track], now_s: float, detected: Array) -> dict[int, int]:
    """Which detection is whose, by numbers; people first follow a camera that jumped."""
    if not tracks:
        return {}
    expected = np.array([track.expected(now_s)[2] for track in tracks])
    shift = common_shift(expected, detected)
    if shift.any():
        for track in tracks:
            track.shift(shift)
        expected[:, :2] += shift
    unseen_s = np.array([now_s - track.seen_s for track in tracks])
    return dict(match_boxes(expected, unseen_s, detected, LEAST_IOU))


def _look_for(
    track: Track, now_s: float, image_hw: tuple[int, int], detected: Array, number: int | None
) -> Look | None:
    """Where to look for somebody; None: nowhere, until a detection says where."""
    _, _, expected = track.expected(now_s)
    if number is not None:
        box = visible_box(follow_box(expected, detected[number], detected=True), image_hw)
        return Look(detected[number] if box is None else box, track, detected[number])
    box = visible_box(expected, image_hw)
    return None if box is None or track.misses > LOOK_AGAIN else Look(box, track)


def _is_looked_at(box: Array, looks: Sequence[Look]) -> bool:
    boxes = np.array([look.box for look in looks]).reshape(-1, 4)
    return bool((box_iou(box, boxes) > DUPLICATE_IOU).any())
