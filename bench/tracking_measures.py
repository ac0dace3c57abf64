"""How well poses follow the people of a video: OKS, identities, who was missed, and who was never there.

Answers are matched with persons frame by frame, so that the sum of OKS is the largest (Hungarian), among pairs of at
least `MIN_OKS`. Only `visible` persons are asked for. An answer that is left over is false, unless more than half of
its joints lie in the box of a person of whom too little is in sight to ask: COCO's rule for persons without labelled
joints, who count neither way.

A *stay* of a person is a run of frames in which they are visible; it ends with their leaving, or behind what passes
before them. Within a stay, and from one to the next, the track that a person is matched with should stay the same:

- switches: another track than the last one, within a stay;
- renamed after a cover, renamed after leaving: another track at the first match of a stay than at the last of an
  earlier one, by why the person was not visible. A tracker without a memory of looks cannot know who comes back;
- fragmentations: matched, then not, then again, within a stay (MOTChallenge);
- false tracks: no frame of them matched anybody, nor was excused;
- IDF1: of the best fixed pairing of persons and tracks (Ristani et al. 2016), over frames.

Pure functions over values. Knows no network, stream or file.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from frame_truth import FramePerson, FrameTruth
from scipy.optimize import linear_sum_assignment

from model.geometry import Array
from model.similarity import oks

MIN_OKS = 0.5  # of a match

PersonFrame = tuple[int, int]  # index of the frame, person_id


@dataclass(frozen=True)
class AnsweredPose:
    """One pose of an answer: keypoints_image [K, 2] in pixels of the frame, and its track; 0: of none."""

    keypoints_image: Array
    track_id: int = 0


@dataclass(frozen=True)
class Match:
    """Whose pose an answer is, by the person's number in the frame, and how alike they are."""

    person: int
    answer: int
    oks: float


@dataclass(frozen=True, kw_only=True)
class TrackingFigures:
    """What is found of a video; the names are explained at the top.

    frames, person_frames: how many, the second of visible persons. matched: of the person_frames. oks_matched: mean of
    those; oks_all: mean with 0 for those that were missed. Not a number where there are none.
    never_found: persons whom no answer matched in any frame. false_answers: over all frames.
    """

    frames: int
    person_frames: int
    matched: int
    oks_matched: float
    oks_all: float
    never_found: int
    false_answers: int
    false_tracks: int
    switches: int
    renamed_after_cover: int
    renamed_after_leaving: int
    fragmentations: int
    idf1: float

    @property
    def missed(self) -> int:
        """Person_frames without a match."""
        return self.person_frames - self.matched


def similarity(person: FramePerson, answer: AnsweredPose) -> float:
    """OKS over the labelled joints inside the frame; 0 if there are none."""
    if not person.labelled.any():
        return 0.0
    return float(oks(person.keypoints_image, answer.keypoints_image[None], person.area, person.labelled)[0])


def match_frame(
    persons: Sequence[FramePerson], answers: Sequence[AnsweredPose], *, min_oks: float = MIN_OKS
) -> list[Match]:
    """Which answers are of which visible persons; the numbers are indices of the two sequences."""
    asked = [number for number, person in enumerate(persons) if person.visible]
    alike = np.array([[similarity(persons[number], answer) for answer in answers] for number in asked])
    if alike.size == 0:
        return []
    alike[alike < min_oks] = 0.0  # a pair that does not count must not cost one that does
    pairs = zip(*linear_sum_assignment(alike, maximize=True), strict=True)
    return [Match(asked[row], int(column), float(alike[row, column])) for row, column in pairs if alike[row, column]]


def is_excused(answer: AnsweredPose, persons: Iterable[FramePerson]) -> bool:
    """Whether most joints of an answer lie in the box of one person who is not visible enough to be asked for."""
    for person in persons:
        if not person.visible:
            first = person.box_xywh[:2] - 0.5
            inside = (answer.keypoints_image >= first) & (answer.keypoints_image < first + person.box_xywh[2:])
            if inside.all(axis=1).mean() > 0.5:
                return True
    return False


@dataclass
class _Followed:
    """What is remembered of one person from frame to frame."""

    track_id: int = 0  # the last that they were matched with; 0: with none yet
    stay_began: bool = False  # and had no match with a track yet
    last_visible: int = -2  # index of a frame
    covered_since: bool = False  # at any time since then
    matched_before: bool = False  # in this stay
    lost: bool = False  # was matched in this stay, and then not


@dataclass
class Tally:
    """Counts over the frames of one video, which are given in order; `figures` tells what came of them."""

    min_oks: float = MIN_OKS
    matches: dict[PersonFrame, tuple[int, float]] = field(default_factory=dict)  # (track_id, OKS)
    counts: Counter[str] = field(default_factory=Counter)
    _people: dict[int, _Followed] = field(default_factory=lambda: defaultdict(_Followed))
    _together: Counter[tuple[int, int]] = field(default_factory=Counter)  # (person_id, track_id) -> frames
    _tracks: Counter[int] = field(default_factory=Counter)  # frames in which an answer of it counted, right or wrong
    _good_tracks: set[int] = field(default_factory=set)
    _all_tracks: set[int] = field(default_factory=set)
    _seen: set[int] = field(default_factory=set)  # person_ids

    def add(self, truth: FrameTruth, answers: Sequence[AnsweredPose]) -> list[Match]:
        """One more frame: what was matched in it."""
        matches = match_frame(truth.persons, answers, min_oks=self.min_oks)
        of_person = {match.person: match for match in matches}
        self.counts["frames"] += 1
        for number, person in enumerate(truth.persons):
            followed = self._people[person.person_id]
            if person.visible:
                self._seen.add(person.person_id)
                self.counts["person_frames"] += 1
                self._begin_stay(followed, truth.index)
                match = of_person.get(number)
                self._follow(followed, None if match is None else answers[match.answer].track_id)
            elif person.occluded:
                followed.covered_since = True
        for match in matches:
            person_id, track_id = truth.persons[match.person].person_id, answers[match.answer].track_id
            self.matches[truth.index, person_id] = (track_id, match.oks)
            if track_id:
                self._together[person_id, track_id] += 1
        self._count_answers(truth, answers, {match.answer for match in matches})
        return matches

    def figures(self) -> TrackingFigures:
        """Over all frames so far."""
        alike = [value for _, value in self.matches.values()]
        found = {person_id for _, person_id in self.matches}
        person_frames = self.counts["person_frames"]
        return TrackingFigures(
            frames=self.counts["frames"],
            person_frames=person_frames,
            matched=len(alike),
            oks_matched=sum(alike) / len(alike) if alike else float("nan"),
            oks_all=sum(alike) / person_frames if person_frames else float("nan"),
            never_found=len(self._seen - found),
            false_answers=self.counts["false_answers"],
            false_tracks=len(self._all_tracks - self._good_tracks),
            switches=self.counts["switches"],
            renamed_after_cover=self.counts["renamed_after_cover"],
            renamed_after_leaving=self.counts["renamed_after_leaving"],
            fragmentations=self.counts["fragmentations"],
            idf1=self._idf1(),
        )

    @staticmethod
    def _begin_stay(followed: _Followed, index: int) -> None:
        if index != followed.last_visible + 1:
            followed.stay_began = True
            followed.matched_before = followed.lost = False
        followed.last_visible = index

    def _follow(self, followed: _Followed, track_id: int | None) -> None:
        """A visible person was matched with an answer of a track (0: of none), or with nothing (None)."""
        if track_id is None:
            followed.lost = followed.matched_before
            return
        self.counts["fragmentations"] += followed.lost
        followed.matched_before, followed.lost = True, False
        if track_id == 0:
            return
        if followed.track_id not in (0, track_id):
            if not followed.stay_began:
                self.counts["switches"] += 1
            else:
                self.counts["renamed_after_cover" if followed.covered_since else "renamed_after_leaving"] += 1
        followed.track_id = track_id
        followed.stay_began = followed.covered_since = False

    def _count_answers(self, truth: FrameTruth, answers: Sequence[AnsweredPose], matched: set[int]) -> None:
        for number, answer in enumerate(answers):
            excused = number not in matched and is_excused(answer, truth.persons)
            if number not in matched and not excused:
                self.counts["false_answers"] += 1
            if answer.track_id:
                self._all_tracks.add(answer.track_id)
                self._tracks[answer.track_id] += not excused
                if number in matched or excused:
                    self._good_tracks.add(answer.track_id)

    def _idf1(self) -> float:
        """2 IDTP over the frames of all visible persons and of all tracks; not a number if there are none."""
        frames = self.counts["person_frames"] + self._tracks.total()
        if frames == 0:
            return float("nan")
        people, tracks = sorted({one for one, _ in self._together}), sorted({one for _, one in self._together})
        table = np.array([[self._together[person, track] for track in tracks] for person in people])
        if table.size == 0:
            return 0.0
        return 2 * float(table[linear_sum_assignment(table, maximize=True)].sum()) / frames


def shared_oks(tally: Tally, other: Mapping[PersonFrame, float]) -> tuple[float, float, int]:
    """Mean OKS of the matches of a tally, of others for the same persons and frames, and how many these are.

    Args:
        tally: of the answers that were followed.
        other: for instance of the same network, given the true box of every person.
    """
    both = [(alike, other[key]) for key, (_, alike) in tally.matches.items() if key in other]
    if not both:
        return float("nan"), float("nan"), 0
    first, second = np.mean(both, axis=0)
    return float(first), float(second), len(both)
