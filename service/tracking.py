"""Who is who in a stream of frames: the state of one stream, without threads, clocks or I/O.

For each frame the caller asks, in this order:

    detection_due()                  whether the detector should look at this frame
    boxes(time, size, detections)    where to look for people
    update(time, poses)              who was found there

or, where the client itself sent boxes, `identify`. A frame of which the poses never came may be left out: the next one
begins with `boxes` again, and nobody is missed for it.

The life of a person:

    a detection that is nobody's --> tentative --> told of, with an id --> lost --> forgotten
                                         |  min_hits        ^               |  max_lost_s
                                         | missed           `- found again -'
                                         v
                                     forgotten

Rules:

- Poses and people are matched all at once, for the greatest total similarity (`service.matching`).
- Poses that are one person seen twice count as one. So of two people who cross, the hidden one is lost and goes on by
  its own velocity, instead of following the other, and is found again by its place.
- Of two people in one place the younger is forgotten after `duplicate_s`.
- Only detections, and boxes that the client sent, begin people.
- Bounded: `max_tracks` people, of a fixed size each. Ids count from 1 and are never used again in a stream.
- Time need not behave (`service.stream_clock`). At a cut, and when the size of the pictures changes, everybody is
  forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.skeleton import Skeleton
from service.looking import Look, look_at
from service.matching import Matches, match
from service.one_euro import OneEuroFilter, SmoothingSettings
from service.poses import Box
from service.stream_clock import StreamClock
from service.track import Sighting, Track, sighting_of
from service.tracking_values import FoundPersons, Tracked, TrackedInput, TrackerSettings, check_keypoints

MIN_JOINTS = 3  # confident keypoints of a pose of somebody


class Tracker:
    """The people of one stream. Not for use by several threads at a time.

    Args:
        skeleton: of the network that finds the poses.
        settings: how people are followed.
        smoothing: of the keypoints that are told; None: as they were found.
    """

    def __init__(
        self, skeleton: Skeleton, settings: TrackerSettings, smoothing: SmoothingSettings | None = None
    ) -> None:
        self._skeleton = skeleton
        self._settings = settings
        self._smoothing = smoothing
        self._clock = StreamClock(settings.max_gap_s)
        self._tracks: list[Track] = []
        self._births = 0
        self._last_id = 0
        self._image_hw: tuple[int, int] | None = None
        self._looks: list[Look] | None = None  # of the frame whose poses are awaited
        self._looks_s = 0.0  # that frame's time, as it was given
        self._is_detected = False  # whether the detector looked at it
        self._since_detection: int | None = None  # frames; None: the detector has seen nothing of this
        self._detected_s = 0.0
        self._is_troubled = False  # somebody who was just born was missed, and the detector has not looked since

    @property
    def people(self) -> int:
        """How many are followed or remembered."""
        return len(self._tracks)

    def detection_due(self) -> bool:
        """Whether the detector should look at the coming frame."""
        settings = self._settings
        if self._since_detection is None or self._since_detection >= settings.detect_every:
            return True
        expected_s = self._clock.now_s + self._clock.step_s
        if expected_s - self._detected_s >= settings.detect_every_s:
            return True
        return self._since_detection >= settings.detect_again and (
            self._is_troubled
            or not self._tracks
            or any(track.fell or track.lost_since_s is not None for track in self._tracks)
        )

    def boxes(self, time_s: float, image_hw: tuple[int, int], detections: FoundPersons | None) -> list[Box]:
        """Where to look for people in this frame, at most `max_tracks` boxes, within the picture.

        Args:
            time_s: the frame's timestamp.
            image_hw: rows and columns of the upright picture.
            detections: the detector's, of this very frame; None if it did not look at it.

        Raises ValueError for a timestamp that is not finite; nothing has changed then.
        """
        self._begin(time_s, image_hw)
        self._is_detected = detections is not None
        self._looks = look_at(self._tracks, self._clock.now_s, image_hw, detections, self._settings)
        self._looks_s = time_s
        return [(float(x), float(y), float(w), float(h)) for x, y, w, h in (look.box for look in self._looks)]

    def update(self, time_s: float, poses: Sequence[TrackedInput]) -> list[Tracked]:
        """Who was found in the boxes of this frame, in their order.

        Args:
            time_s: as it was given to `boxes`.
            poses: of the boxes that it gave, in the same order.

        Raises ValueError for poses of no or of another frame, or of another number of keypoints; nothing has changed
        then.
        """
        looks = self._looks
        if looks is None or time_s != self._looks_s or len(poses) != len(looks):
            awaited = "no frame" if looks is None else f"{len(looks)} poses of the frame at {self._looks_s} s"
            raise ValueError(f"poses are {len(poses)} of the frame at {time_s} s; allowed: {awaited}, as boxes asked")
        check_keypoints(poses, len(self._skeleton))
        self._looks = None
        threshold = self._settings.min_joint_score
        sightings = [sighting_of(pose, threshold, look.detected) for pose, look in zip(poses, looks, strict=True)]
        somebody = [number for number, sighting in enumerate(sightings) if self._is_somebody(sighting)]
        tracked = self._follow(sightings, somebody, [look.track for look in looks], given=False)
        self._note_frame(detected=self._is_detected)
        return tracked

    def identify(self, time_s: float, poses: Sequence[TrackedInput]) -> list[Tracked]:
        """Who is in the boxes that the client sent, in their order: every pose is told, and is somebody at once.

        Of several boxes of one person the best gets the id, the others 0. Keypoints are smoothed if that was asked for.
        The client's boxes count as a detector's of this frame. Errors as of `boxes` and `update`.
        """
        check_keypoints(poses, len(self._skeleton))
        self._begin(time_s, None)
        self._looks = None
        threshold = self._settings.min_joint_score
        sightings = [sighting_of(pose, threshold, np.asarray(pose.box_xywh, dtype=np.float64)) for pose in poses]
        tracked = self._follow(sightings, range(len(sightings)), [None] * len(sightings), given=True)
        self._note_frame(detected=True)
        return tracked

    def _begin(self, time_s: float, image_hw: tuple[int, int] | None) -> None:
        """A frame came."""
        is_cut = self._clock.advance(time_s)
        is_resized = None not in (image_hw, self._image_hw) and image_hw != self._image_hw
        self._image_hw = image_hw or self._image_hw
        if is_cut or is_resized:
            self._tracks = []
            self._since_detection = None

    def _note_frame(self, *, detected: bool) -> None:
        """The frame is done."""
        if detected:
            self._since_detection, self._detected_s, self._is_troubled = 0, self._clock.now_s, False
        if self._since_detection is not None:
            self._since_detection += 1

    def _is_somebody(self, sighting: Sighting) -> bool:
        enough = min(MIN_JOINTS, len(self._skeleton))
        return sighting.score >= self._settings.min_score and int(sighting.counted.sum()) >= enough

    def _follow(
        self,
        sightings: Sequence[Sighting],
        somebody: Sequence[int],
        looked_for: Sequence[Track | None],
        *,
        given: bool,
    ) -> list[Tracked]:
        """The one place where people are found, lost, born and forgotten.

        Args:
            sightings: of this frame.
            somebody: the numbers of those that are a person.
            looked_for: whom each box was for.
            given: the boxes are the client's: all are told, and each new one is somebody at once.
        """
        now_s = self._clock.now_s
        found = [sightings[number] for number in somebody]
        expected = [looked_for[number] for number in somebody]
        matches = match(self._tracks, found, expected, now_s, self._skeleton.oks_sigmas, self._settings)
        who: dict[int, Track] = {}
        for person, pose in matches.pose_of.items():
            who[somebody[pose]] = self._tracks[person]
            self._see(self._tracks[person], found[pose])
        self._forget(matches)
        at_once = given or (self._since_detection is None and self._is_detected)
        for group in matches.new:
            number = somebody[max(group, key=lambda pose: found[pose].score)]
            if (given or looked_for[number] is None) and self._has_room():
                who[number] = self._bear(sightings[number])
        for track in who.values():
            if not track.is_confirmed and (at_once or track.hits >= self._settings.min_hits):
                self._last_id += 1
                track.track_id = self._last_id
        return [self._told(sighting, who.get(number), given=given) for number, sighting in enumerate(sightings)]

    def _see(self, track: Track, sighting: Sighting) -> None:
        low = self._settings.low_score
        track.fell = track.fell or sighting.score < low <= track.score
        track.see(sighting, self._clock.now_s)

    def _forget(self, matches: Matches) -> None:
        """Note who was missed, and drop those that are not to be remembered."""
        now_s, kept = self._clock.now_s, []
        for number, track in enumerate(self._tracks):
            if number not in matches.pose_of:
                track.miss(now_s)
                self._is_troubled |= not track.is_confirmed
            other = matches.shadowed_by.get(number)
            track.note_shadow(now_s, None if other is None else self._tracks[other])
            if not track.is_over(now_s, self._settings):
                kept.append(track)
        self._tracks = kept

    def _has_room(self) -> bool:
        """Whether somebody may be born; whoever was lost longest gives way."""
        if len(self._tracks) < self._settings.max_tracks:
            return True
        lost = [track for track in self._tracks if track.lost_since_s is not None]
        if not lost:
            return False
        self._tracks.remove(min(lost, key=lambda track: track.seen_s))
        return True

    def _bear(self, sighting: Sighting) -> Track:
        smoother = None if self._smoothing is None else OneEuroFilter(len(self._skeleton), self._smoothing)
        track = Track(self._births, sighting, self._clock.now_s, smoother)
        self._births += 1
        self._tracks.append(track)
        return track

    def _told(self, sighting: Sighting, track: Track | None, *, given: bool) -> Tracked:
        return Tracked(
            track_id=0 if track is None else track.track_id,
            points_image=sighting.points if track is None else track.told_points(sighting, self._clock.now_s),
            scores=sighting.scores,
            told=given or (track is not None and track.is_confirmed),
            box_xywh=sighting.looked_at,
        )
