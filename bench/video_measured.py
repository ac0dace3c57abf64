"""What poses of a video are worth, all measures together, and their tables. Knows no service and no file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from frame_truth import FrameTruth
from path_measures import Jitter, Paths, PosePath, jitter, lag_of_paths
from results import Table
from tracking_measures import MIN_OKS, AnsweredPose, Match, Tally, TrackingFigures, shared_oks, similarity

from model.skeleton import COCO
from training.curves import PALETTE, Chart, Line

Answered = tuple[FrameTruth, Sequence[AnsweredPose]]

SHOWN_S = 6.0  # seconds of the path of a joint that are drawn, at most
JOINTS_SHOWN = ("left_wrist", "right_wrist", "left_elbow", "right_elbow", "left_shoulder", "right_shoulder")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All that is known of one way to answer one video. lag: in frames. tally: whom each answer was matched with."""

    figures: TrackingFigures
    jitter: Jitter
    lag: float
    paths: list[PosePath]
    tally: Tally


def measure(answered: Iterable[Answered], *, min_oks: float = MIN_OKS) -> Measured:
    """Of answers that found people by themselves: who is whom is told by matching.

    Args:
        answered: frames in their order, and the answer to each. Of a function that is shown frame after frame:
            `measure((frame, answer(frame)) for frame in camera.frames())`.
        min_oks: of a match.
    """
    tally, paths = Tally(min_oks), Paths()
    for truth, poses in answered:
        paths.add(truth, poses, tally.add(truth, poses))
    found = paths.all()
    return Measured(figures=tally.figures(), jitter=jitter(found), lag=lag_of_paths(found), paths=found, tally=tally)


@dataclass(frozen=True, kw_only=True)
class Boxed:
    """Of poses in true boxes, whose persons are known: OKS of each (frame, person_id), and how their joints move."""

    oks: dict[tuple[int, int], float]
    jitter: Jitter
    lag: float
    paths: list[PosePath]


def measure_boxed(answered: Iterable[Answered]) -> Boxed:
    """Of answers whose n-th pose is of the n-th visible person; frames without poses are left out."""
    values: dict[tuple[int, int], float] = {}
    paths = Paths()
    for truth, poses in answered:
        asked = [number for number, person in enumerate(truth.persons) if person.visible]
        matches = []
        for answer, (number, pose) in enumerate(zip(asked, poses, strict=False)):
            alike = similarity(truth.persons[number], pose)
            values[truth.index, truth.persons[number].person_id] = alike
            matches.append(Match(number, answer, alike))
        paths.add(truth, poses, matches)
    found = paths.all()
    return Boxed(oks=values, jitter=jitter(found), lag=lag_of_paths(found), paths=found)


def tracking_table(title: str, rows: Iterable[tuple[str, Measured, Boxed]]) -> Table:
    """Who was followed, and how well, beside the same persons and frames in true boxes.

    Missed is who has no answer of enough OKS: nobody may have been found there, or the pose may be wrong. How many the
    network's poses alone account for is what is missed in true boxes.
    """
    columns = ["", "person-frames", "missed %", "missed in true boxes %"]
    columns += ["OKS", "OKS in true boxes", "OKS, missed as 0", "all, in true boxes"]
    columns += ["false answers", "false tracks", "never found", "switches", "renamed after cover / leaving"]
    table = Table("video-tracking", title, [*columns, "fragmentations", "IDF1"])
    for name, measured, boxed in rows:
        found = measured.figures
        ours, theirs, _ = shared_oks(measured.tally, boxed.oks)
        table.add(
            name,
            found.person_frames,
            in_digits(100 * found.missed / found.person_frames if found.person_frames else math.nan, 1),
            in_digits(100 * mean_of([value < measured.tally.min_oks for value in boxed.oks.values()]), 1),
            in_digits(ours, 3),
            in_digits(theirs, 3),
            in_digits(found.oks_all, 3),
            in_digits(mean_of(list(boxed.oks.values())), 3),
            found.false_answers,
            found.false_tracks,
            found.never_found,
            found.switches,
            f"{found.renamed_after_cover} / {found.renamed_after_leaving}",
            found.fragmentations,
            in_digits(found.idf1, 3),
        )
    return table


def motion_table(title: str, rows: Iterable[tuple[str, Measured | Boxed]], *, fps: float) -> Table:
    """How joints move."""
    columns = ["", "jitter px", "typical jitter px", "jitter, thousandths of the person's size", "steadiest joint px"]
    table = Table("video-motion", title, [*columns, "least steady joint px", "lag frames", "lag ms"])
    for name, found in rows:
        joints = [(value, COCO.names[joint]) for joint, value in enumerate(found.jitter.joints_px) if value >= 0]
        first, last = (f"{value:.2f} ({joint})" for value, joint in (min(joints), max(joints))) if joints else "––"
        table.add(
            name,
            in_digits(found.jitter.px, 2),
            in_digits(found.jitter.typical_px, 2),
            in_digits(1000 * found.jitter.relative, 1),
            first,
            last,
            in_digits(found.lag, 2),
            in_digits(1000 * found.lag / fps, 0),
        )
    return table


def mean_of(values: Sequence[float]) -> float:
    """NaN of none."""
    return float(np.mean(values)) if values else math.nan


def in_digits(value: float, digits: int) -> str:
    """A number, or a dash where there is none."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def joint_chart(raw: Sequence[PosePath], others: Mapping[str, Sequence[PosePath]], *, fps: float) -> Chart | None:
    """The horizontal path of the joint of an arm that was followed longest: truth, raw, and other answers.

    None if none was followed for two frames.
    """
    joints = [COCO.names.index(name) for name in JOINTS_SHOWN]
    lengths = {
        (number, joint): int(path.counted[:, joint].sum()) for number, path in enumerate(raw) for joint in joints
    }
    if max(lengths.values(), default=0) < 2:
        return None
    number, joint = max(lengths, key=lambda one: lengths[one])
    path = raw[number]
    inside = np.flatnonzero(path.counted[:, joint])
    span = range(int(inside[0]), min(int(inside[-1]) + 1, int(inside[0]) + round(SHOWN_S * fps)))
    frames = [path.first + row for row in span]
    seconds = [(frame - frames[0]) / fps for frame in frames]
    lines = [
        Line("truth", seconds, [float(path.true[row, joint, 0]) for row in span], PALETTE[-1]),
        Line("raw", seconds, [float(path.answered[row, joint, 0]) for row in span], PALETTE[1]),
    ]
    for color, (name, paths) in zip((PALETTE[0], PALETTE[2]), others.items(), strict=False):
        there = {
            one.first + row: float(one.answered[row, joint, 0])
            for one in paths
            if one.person_id == path.person_id
            for row in range(len(one))
        }
        lines.append(Line(name, seconds, [there.get(frame, math.nan) for frame in frames], color))
    title = f"{COCO.names[joint].replace('_', ' ')}, x in pixels of the frame"
    return Chart(title, lines, along="seconds")
