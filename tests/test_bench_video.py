"""bench/video.py: what a clip is worth to a known answerer, what is sent for it, and what is shown of it."""

from __future__ import annotations

import asyncio
import importlib
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drawings import coco_annotation, figure_points, write_coco
from fakes import make_service
from grpc_clients import served
from pictures import encoded
from training.curves import draw_chart

sys.path.append(str(Path(__file__).resolve().parents[1] / "bench"))  # no package: its scripts import each other by name
camera_path, clip, measured, scenes, tracking, video, video_stream = map(
    importlib.import_module,
    ("camera_path", "camera_clip", "video_measured", "camera_scenes", "tracking_measures", "video", "video_stream"),
)

BOXES = np.array([[20.0, 20, 60, 120], [110.0, 30, 70, 110]])
DELAY = 3  # frames


def as_png(pixels):
    return encoded(Image.fromarray(pixels))


def shot_clip(*, scene_s=4.0, pan=0.1, **options):
    persons = tuple(
        scenes.ScenePerson(
            annotation_id=number,
            points_image=figure_points(box),
            visibility=np.full(17, 2),
            box_xywh=box,
            area=float(0.6 * box[2] * box[3]),
        )
        for number, box in enumerate(BOXES, start=1)
    )
    path = camera_path.PathSettings(frame_hw=(96, 128), pan=(pan, pan))
    scene = scenes.Scene(np.full((160, 220, 3), 128, dtype=np.uint8), persons)
    return clip.VirtualCamera([scene], clip.ClipSettings(path=path, scene_s=scene_s, **options))


def true_poses(truth):
    return [tracking.AnsweredPose(one.keypoints_image, one.person_id) for one in truth.persons if one.visible]


class Behind:
    """Answers what was true some frames ago, as an overdone smoother would."""

    def __init__(self, frames):
        self._frames = frames
        self._seen = []

    def __call__(self, frame):
        self._seen.append(true_poses(frame))
        return self._seen[max(0, len(self._seen) - 1 - self._frames)]


def test_who_answers_the_truth_has_full_marks():
    camera = shot_clip()
    found = measured.measure((truth, true_poses(truth)) for truth in camera.truth())
    figures = found.figures
    assert (figures.oks_matched, figures.oks_all, figures.idf1) == (1, 1, 1)
    assert figures.missed == figures.false_answers == figures.false_tracks == figures.switches == 0
    assert figures.person_frames > 150
    assert found.jitter.px == pytest.approx(0, abs=1e-9)
    assert found.lag == pytest.approx(0, abs=1e-3)


def test_who_answers_late_lags_by_that():
    camera, answer = shot_clip(scene_s=8.0), Behind(DELAY)
    found = measured.measure(((frame, answer(frame)) for frame in camera.frames()), min_oks=0.01)
    assert found.lag == pytest.approx(DELAY, abs=0.05)
    assert found.figures.oks_matched < 0.95


def test_poses_in_true_boxes_need_no_matching_and_are_compared_with_what_was_followed():
    truths = list(shot_clip(scene_s=2.0).truth())
    off = [[tracking.AnsweredPose(pose.keypoints_image + 4) for pose in true_poses(truth)] for truth in truths]
    boxed = measured.measure_boxed(zip(truths, off, strict=True))
    assert len(boxed.oks) == sum(person.visible for truth in truths for person in truth.persons)
    assert all(0.3 < alike < 1 for alike in boxed.oks.values())
    middle = float(np.median(list(boxed.oks.values())))
    followed = measured.measure(((truth, true_poses(truth)[:1]) for truth in truths), min_oks=middle)
    (row,) = rows_of(measured.tracking_table("A title", [("2, followed", followed, boxed)]))
    firsts = [boxed.oks[truth.index, truth.persons[0].person_id] for truth in truths]
    assert row["OKS"] == "1.000"
    assert row["OKS in true boxes"] == f"{np.mean(firsts):.3f}"
    assert row["all, in true boxes"] == f"{np.mean(list(boxed.oks.values())):.3f}"
    assert row["missed %"] == "50.0"
    wrong = [alike < middle for alike in boxed.oks.values()]
    assert row["missed in true boxes %"] == f"{100 * np.mean(wrong):.1f}"


def rows_of(table):
    head, _, *rows = [line.strip("| ").split(" | ") for line in ("x" + table.markdown()[1:]).splitlines()]
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_a_table_of_motion_says_milliseconds_and_nothing_where_there_is_nothing():
    camera, answer = shot_clip(scene_s=6.0), Behind(DELAY)
    late = measured.measure(((frame, answer(frame)) for frame in camera.truth()), min_oks=0.01)
    nothing = measured.measure((truth, []) for truth in camera.truth())
    first, second = rows_of(measured.motion_table("A title", [("late", late), ("nothing", nothing)], fps=25))
    assert int(first["lag ms"]) == pytest.approx(1000 * DELAY / 25, abs=3)
    assert (second["lag ms"], second["jitter px"]) == ("–", "–")


def test_the_path_of_a_joint_is_drawn_with_truth_raw_and_smoothed(tmp_path):
    truths = list(shot_clip(scene_s=2.0).truth())
    raw = measured.measure((truth, true_poses(truth)) for truth in truths)
    late = Behind(DELAY)
    smoothed = measured.measure(((truth, late(truth)) for truth in truths), min_oks=0.01)
    chart = measured.joint_chart(raw.paths, {"smoothed": smoothed.paths}, fps=25)
    assert [line.name for line in chart.lines] == ["truth", "raw", "smoothed"]
    true, seen, late_one = (np.array(line.values) for line in chart.lines)
    assert np.array_equal(true, seen)
    assert late_one[DELAY:] == pytest.approx(true[:-DELAY])
    assert chart.lines[0].epochs[:3] == [0, 0.04, 0.08]
    assert draw_chart(chart, (600, 300)).std() > 5
    assert measured.joint_chart([], {}, fps=25) is None


def test_poses_come_back_for_the_visible_persons_of_each_frame():
    """A fake network finds the brightest pixel of each box."""
    truths = list(shot_clip(scene_s=0.2, pan=0.0).truth())
    boxes = [person.box_xywh for person in truths[0].persons]
    image = np.zeros((96, 128, 3), dtype=np.uint8)
    spots = [np.rint(box[:2] + box[2:] * (0.5, 0.4)).astype(int) for box in boxes]
    for x, y in spots:
        image[y - 1 : y + 2, x - 1 : x + 2] = 255
    shots = [video_stream.Shot(truth=truth, jpeg=as_png(image)) for truth in truths]

    async def ask():
        async with served(make_service()) as running:
            return await video_stream.with_boxes(running.address, shots)

    found = asyncio.run(ask())
    assert (found.sent, found.failed, len(found.answers)) == (5, 0, 5)
    for pose, spot in zip(found.answers[0], spots, strict=True):
        assert pose.keypoints_image[0] == pytest.approx(spot, abs=3)


def test_frames_without_anybody_are_not_sent_with_boxes():
    (truth, *_) = shot_clip(scene_s=0.1).truth()
    nobody = video_stream.FrameTruth(index=1, time_s=0.04, size_wh=(128, 96), persons=())
    shots = [video_stream.Shot(truth=one, jpeg=as_png(np.zeros((96, 128, 3), np.uint8))) for one in (nobody, truth)]

    async def ask():
        async with served(make_service()) as running:
            return await video_stream.with_boxes(running.address, shots)

    found = asyncio.run(ask())
    assert (found.sent, [len(poses) for poses in found.answers]) == (1, [0, 2])


def test_frames_with_boxes_are_asked_for_each_by_itself():
    (truth, *_) = shot_clip(scene_s=0.1).truth()
    hidden = replace(truth.persons[0], visible=False)
    shot = video_stream.Shot(truth=replace(truth, persons=(hidden, truth.persons[1])), jpeg=b"jpeg")
    first, later = (video_stream.boxed_request(shot, number) for number in (0, 7))
    assert first.options.plain
    assert (later.frame_id, later.image, later.HasField("options")) == (7, b"jpeg", False)
    (box,) = later.boxes
    assert [box.x, box.y, box.width, box.height] == truth.persons[1].box_xywh.tolist()


def test_what_asks_for_following_is_as_the_contract_has_it():
    (truth, *_) = shot_clip(scene_s=0.1).truth()
    shot = video_stream.Shot(truth=truth, jpeg=b"jpeg")
    smoothing = video_stream.Smoothing(min_cutoff_hz=1.5, beta=0.2)
    first = video_stream.followed_request(shot, 0, 0.0, smoothing=smoothing, detect_every=5)
    assert (first.image, first.captured_us, len(first.boxes)) == (b"jpeg", 0, 0)
    assert (first.options.smoothing.min_cutoff_hz, first.options.smoothing.beta) == (1.5, 0.2)
    assert not first.options.smoothing.HasField("derivative_cutoff_hz")
    assert first.options.detect_every == 5
    raw = video_stream.followed_request(shot, 0, 0.0, smoothing=None, detect_every=0)
    assert not raw.options.HasField("smoothing")
    later = video_stream.followed_request(shot, 3, 0.12, smoothing=smoothing, detect_every=5)
    assert (later.frame_id, later.captured_us, later.HasField("options")) == (3, 120_000, False)


def test_memory_is_kept_as_csv_and_compared_from_first_to_last(tmp_path):
    rows = [(5.0 * number, 90.0 + number, 100.0 + number) for number in range(1, 9)]
    video.write_memory(rows, tmp_path / "memory.csv")
    lines = (tmp_path / "memory.csv").read_text().splitlines()
    assert lines[:2] == ["seconds,pss_mib,rss_mib", "5.0,91.0,101.0"]
    first, last = rows_of(video.memory_table(rows, 0.7))
    assert (first["RSS MiB"], last["RSS MiB"]) == ("102", "108")


@pytest.mark.slow
def test_the_script_writes_its_tables_its_csv_and_its_chart(tmp_path, monkeypatch):
    annotations = [coco_annotation(number, 1, box, figure_points(box)) for number, box in enumerate(BOXES, start=1)]
    (tmp_path / "1.png").write_bytes(as_png(np.full((160, 220, 3), 128, dtype=np.uint8)))
    images = [{"id": 1, "file_name": "1.png", "width": 220, "height": 160}]
    path = write_coco(tmp_path / "annotations.json", images, annotations)
    results = tmp_path / "results"
    options = ["--annotations", str(path), "--images", str(tmp_path), "--people", "2", "--scenes", "1"]
    options += ["--scene-seconds", "2", "--minutes", "0.01", "--size", "160x128", "--results", str(results)]
    monkeypatch.setattr(sys, "argv", ["bench/video.py", *options])
    assert video.main() == 0
    written = {one.name for one in results.iterdir()}
    tables = {f"video-{name}.{kind}" for name in ("memory", "motion", "speed", "tracking") for kind in ("json", "md")}
    assert written == tables | {"video-memory.csv", "video-path.png"}


def test_a_number_that_is_not_there_is_a_dash():
    assert (measured.in_digits(1.25, 1), measured.in_digits(math.nan, 1)) == ("1.2", "–")
