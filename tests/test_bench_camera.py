"""The virtual camera of bench/: what it says of its frames is what they show. Over pictures that are drawn here."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from drawings import JOINT_COLORS, blob_photograph, coco_annotation, draw_joints, figure_points, write_coco
from training.coco import read_persons

sys.path.append(str(Path(__file__).resolve().parents[1] / "bench"))  # no package: its scripts import each other by name
clip, camera_path, scenes, frame_truth, virtual_camera = map(
    importlib.import_module, ("camera_clip", "camera_path", "camera_scenes", "frame_truth", "virtual_camera")
)

SIZE_HW = (96, 128)
BOXES = np.array([[20.0, 20, 60, 120], [110.0, 30, 70, 110]])
STILL = camera_path.PathSettings(frame_hw=SIZE_HW, pan=(0.0, 0.0), zoom=1.0, shake_px=0.0)
MOVING = camera_path.PathSettings(frame_hw=SIZE_HW, roll_degrees=8.0, pan_period_s=(1.0, 3.0))


def drawn_scene(boxes=BOXES, size_hw=(160, 220), *, radius=5):
    """Persons of discs in the colours of their joints, on light grey."""
    image = np.full((*size_hw, 3), 200, dtype=np.uint8)
    persons = []
    for number, box in enumerate(boxes, start=1):
        points = figure_points(box)
        draw_joints(image, points, radius=radius)
        persons.append(
            scenes.ScenePerson(
                annotation_id=number,
                points_image=points,
                visibility=np.full(17, 2),
                box_xywh=box,
                area=float(0.6 * box[2] * box[3]),
            )
        )
    return scenes.Scene(image, tuple(persons))


def camera(path=MOVING, *scenes_, **options):
    return clip.VirtualCamera(scenes_ or (drawn_scene(),), clip.ClipSettings(path=path, **options))


def shows(image, point, joint):
    """Whether a pixel has the colour of a joint."""
    x, y = np.rint(point).astype(int)
    return bool(np.abs(np.array(JOINT_COLORS[joint]) - image[y, x].astype(int)).max() < 60)


def test_the_joints_are_where_the_pixels_say():
    scene = drawn_scene()
    # Some of the head lie under others.
    on_top = {one.annotation_id: [shows(scene.image, *of) for of in zip(one.points_image, range(17), strict=True)]
              for one in scene.persons}  # fmt: skip
    seen = [
        shows(frame.image, person.keypoints_image[joint], joint)
        for frame in camera(MOVING, scene, scene_s=3.0, fps=10).frames()
        for person in frame.persons
        for joint in np.flatnonzero(person.labelled & on_top[person.annotation_id])
    ]
    assert len(seen) > 300
    assert all(seen)


def test_a_joint_is_where_it_says_to_a_small_part_of_a_pixel():
    point = np.array([103.4, 71.8])
    (person,) = drawn_scene(BOXES[:1]).persons
    person = replace(person, points_image=np.tile(point, (17, 1)), box_xywh=np.array([73.0, 40, 60, 60]))
    spot = scenes.Scene(blob_photograph(160, 220, point, sigma=3.0), (person,))
    rows, columns = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    for frame in camera(replace(MOVING, pan=(0.3, 0.1)), spot, scene_s=2.0, fps=5).frames():
        light = frame.image[..., 0] / frame.image[..., 0].sum()
        found = (light * columns).sum(), (light * rows).sum()
        assert found == pytest.approx(frame.persons[0].keypoints_image[0], abs=0.05)


def test_joints_of_pictures_side_by_side_are_where_the_pixels_say():
    other = drawn_scene(np.array([[30.0, 10, 40, 80]]), (100, 180), radius=3)
    joined = scenes.side_by_side([drawn_scene(), other, drawn_scene()])
    assert len(joined.persons) == 5
    assert joined.image.shape == (768, 1024, 3)
    for person in joined.persons:
        assert np.mean([shows(joined.image, point, joint) for joint, point in enumerate(person.points_image)]) > 0.8
    first, second = joined.persons[0], drawn_scene().persons[0]
    scale = (first.box_xywh[2:] / second.box_xywh[2:]).mean()
    assert first.area == pytest.approx(second.area * scale**2)
    (frame,) = camera(replace(STILL, frame_hw=(384, 512)), joined, scene_s=0.04).frames()
    assert all(person.labelled.all() for person in frame.persons)


def test_a_clip_is_a_function_of_its_seed():
    def pixels(seed):
        return [frame.image for frame in camera(fps=5, scene_s=0.6, noise_levels=3.0, seed=seed).frames()]

    first, again, other = pixels(1), pixels(1), pixels(2)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_truth_without_pixels_is_that_of_the_frames_and_survives_a_file(tmp_path):
    shot = camera(fps=5, scene_s=2.0, bar_every_s=2.0)
    lines = [frame_truth.write_line(truth) for truth in shot.truth()]
    assert lines == [frame_truth.write_line(frame) for frame in shot.frames()]
    assert len(lines) == len(shot) == 10
    path = tmp_path / "truth.jsonl"
    path.write_text("\n".join(lines))
    read = list(frame_truth.read_truth(path))
    assert [frame_truth.write_line(truth) for truth in read] == lines
    assert [truth.time_s for truth in read] == [index / 5 for index in range(10)]
    annotation = json.loads(lines[0])["annotations"][0]
    assert {"id", "image_id", "category_id", "bbox", "area", "keypoints", "num_keypoints"} <= annotation.keys()
    assert len(annotation["keypoints"]) == 51
    path.write_text(lines[0] + '\n{"image_id": 1}')
    with pytest.raises(ValueError, match=r"truth.jsonl, line 2 is not the truth of a frame"):
        list(frame_truth.read_truth(path))


def test_frames_are_made_when_they_are_asked_for():
    shot = camera(scene_s=3600.0)
    assert [frame.index for frame in islice(shot.frames(), 2)] == [0, 1]


def test_nothing_is_seen_that_is_not_there():
    """The camera rolls and leaves the picture, and still sees its surroundings: no black corner."""
    empty = replace(drawn_scene(), image=np.full((160, 220, 3), 200, dtype=np.uint8))
    path = replace(MOVING, pan=(1.5, 1.0), roll_degrees=20.0, shake_px=4.0)
    assert all((frame.image == 200).all() for frame in camera(path, empty, fps=5, scene_s=8.0).frames())


def test_persons_leave_and_come_back_as_who_they_were():
    shot = camera(replace(MOVING, pan=(1.0, 0.0)), fps=10, scene_s=12.0)
    there = [{person.person_id for person in truth.persons if person.visible} for truth in shot.truth()]
    for number in (1, 2):
        presence = [number in ids for ids in there]
        assert presence.count(True) > 20
        assert any(first and not second for first, second in pairwise(presence))
        assert any(second and not first for first, second in pairwise(presence))
    assert set().union(*there) == {1, 2}


def test_after_a_cut_there_are_others():
    shot = camera(STILL, drawn_scene(), drawn_scene(BOXES[:1]), fps=5, scene_s=1.0)
    found = [[person.person_id for person in truth.persons] for truth in shot.truth()]
    assert found == [[1, 2]] * 5 + [[3]] * 5


def test_what_is_beyond_the_frame_does_not_count():
    seen_whole, cut = set(), set()
    for truth in camera(replace(MOVING, roll_degrees=0.0), fps=10, scene_s=10.0).truth():
        for person in truth.persons:
            x, y = person.keypoints_image.T
            inside = (x >= -0.5) & (x < 127.5) & (y >= -0.5) & (y < 95.5)
            assert np.array_equal(person.labelled, inside)
            assert person.visible == (inside.sum() >= 6)
            left, top, width, height = person.box_xywh
            assert left >= 0 <= top
            assert left + width <= 128 + 1e-9
            assert top + height <= 96 + 1e-9
            assert min(width, height) > 0
            (seen_whole if inside.all() else cut).add(person.person_id)
    assert seen_whole == cut == {1, 2}


def test_boxes_and_areas_go_with_the_zoom():
    path = replace(STILL, zoom=2.0, pan_period_s=(1.0, 2.0))
    persons = [truth.persons[0] for truth in camera(path, drawn_scene(BOXES[:1]), scene_s=4.0, fps=10).truth()]
    scale = [np.linalg.norm(one.keypoints_image[5] - one.keypoints_image[6]) / (0.4 * 59) for one in persons]
    assert max(scale) / min(scale) > 1.5
    assert [one.area for one in persons] == pytest.approx([0.6 * 60 * 120 * factor**2 for factor in scale])


def test_the_bar_hides_a_joint_for_as_long_as_it_says():
    shot = camera(STILL, drawn_scene(BOXES[:1]), fps=50, scene_s=8.0, bar_every_s=4.0, bar_hides_s=0.5)
    hidden = np.zeros(17)
    for frame in shot.frames():
        (person,) = frame.persons
        covered = person.visibility == frame_truth.HIDDEN
        assert person.occluded == covered.any()
        assert person.visible == ((~covered).sum() >= 6)
        assert person.labelled.all()
        x, y = np.rint(person.keypoints_image).astype(int).T
        assert ((frame.image[y, x] == clip.BAR_LEVEL).all(axis=1) == covered).all()
        hidden += covered
    assert hidden / 50 == pytest.approx(np.full(17, 2 * 0.5), abs=0.05)  # it passes twice


def test_noise_is_as_strong_as_asked_for():
    empty = replace(drawn_scene(), image=np.full((160, 220, 3), 128, dtype=np.uint8))
    first, second = (frame.image.astype(int) for frame in camera(STILL, empty, scene_s=0.08, noise_levels=5.0).frames())
    assert first.std() == pytest.approx(5, rel=0.05)
    assert (first - second).std() == pytest.approx(5 * 2**0.5, rel=0.05)


def test_the_shake_is_as_strong_and_as_quick_as_it_says():
    settings = replace(STILL, shake_px=3.0, shake_hz=(0.5, 10.0))
    aim = np.array([60.0, 40, 60, 60])
    offsets = []
    for seed in range(8):
        path = camera_path.CameraPath((160, 220), aim, settings, np.random.default_rng(seed))
        offsets.append([path.affine(index / 50)[:, 2] for index in range(3000)])
    found = np.array(offsets)
    found -= found.mean(axis=1, keepdims=True)
    assert np.sqrt((found**2).mean(axis=(0, 1))) == pytest.approx([3, 3], rel=0.05)
    power = (np.abs(np.fft.rfft(found * np.hanning(3000)[:, None], axis=1)) ** 2).mean(axis=(0, 2))
    hertz = np.fft.rfftfreq(3000, 1 / 50)
    assert power[(hertz > 0.4) & (hertz < 10.2)].sum() > 0.999 * power.sum()
    slow, quick = (power[(hertz >= low) & (hertz < 2 * low)].sum() for low in (1, 4))
    assert slow / quick == pytest.approx(16, rel=0.5)  # amplitudes of 1 / f, over equal parts of the logarithm


def test_the_camera_that_does_not_turn_sees_everybody():
    path = camera_path.PathSettings(frame_hw=SIZE_HW, pan=(0.0, 0.0), zoom=1.0, shake_px=0.5, view=0.2)
    for truth in camera(path, fps=5, scene_s=4.0).truth():
        assert all(person.labelled.all() for person in truth.persons)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("path", "frame_hw", (95, 128)),
        ("path", "view", 0.0),
        ("path", "pan", (-0.1, 0.0)),
        ("path", "zoom", 0.5),
        ("path", "roll_degrees", 90.0),
        ("path", "pan_period_s", (5.0, 2.0)),
        ("path", "shake_px", -1.0),
        ("path", "shake_hz", (0.0, 2.0)),
        ("clip", "fps", 0.0),
        ("clip", "scene_s", 0.0),
        ("clip", "min_joints", 0),
        ("clip", "bar_every_s", 1.0),
        ("clip", "bar_hides_s", 0.0),
        ("clip", "noise_levels", float("nan")),
        ("clip", "seed", -1),
    ],
)
def test_settings_that_cannot_be_are_refused(kind, name, value):
    settings = {"path": camera_path.PathSettings, "clip": clip.ClipSettings}[kind]
    with pytest.raises(ValueError, match=f"^{name} is .*; allowed: "):
        settings(**{name: value})


def test_a_clip_needs_a_scene():
    with pytest.raises(ValueError, match="allowed: at least 1"):
        clip.VirtualCamera([], clip.ClipSettings())


@pytest.fixture(name="coco", scope="module")
def coco_fixture(tmp_path_factory):
    """Three photographs: of one person, of two, and of two of whom one has few joints."""
    folder = tmp_path_factory.mktemp("coco")
    scene = drawn_scene()
    images, annotations = [], []
    for number, persons in enumerate((scene.persons[:1], scene.persons, scene.persons), start=1):
        Image.fromarray(scene.image).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 220, "height": 160})
        for person in persons:
            annotations.append(coco_annotation(len(annotations) + 1, number, person.box_xywh, person.points_image))
    annotations[-1]["keypoints"][15:] = [0] * 36
    return write_coco(folder / "annotations.json", images, annotations), folder


def test_photographs_are_chosen_by_their_persons(coco):
    photographs = scenes.Photographs(read_persons(*coco), seed=0)
    assert [one.annotation_id for one in photographs.scene(1).persons] == [1]
    for _ in range(2):  # there is one, which is taken again
        pair = photographs.scene(2)
        assert [one.annotation_id for one in pair.persons] == [2, 3]
        assert pair.persons[0].visibility.tolist() == [2] * 17
        assert pair.persons[0].area == pytest.approx(0.6 * 60 * 120)
    assert len(photographs.scene(5).persons) == 5
    with pytest.raises(ValueError, match=r"people is 3; allowed: \[1, 2\]"):
        photographs.scene(3)


def test_the_command_writes_a_video_its_truth_and_a_sheet(coco, tmp_path, monkeypatch, capsys):
    options = ["--annotations", str(coco[0]), "--images", str(coco[1]), "--scenes", "2", "--scene-seconds", "0.5"]
    options += ["--fps", "12.5", "--size", "160x128", "--people", "2"]
    out, truth, sheet = tmp_path / "clip.mp4", tmp_path / "truth.jsonl", tmp_path / "sheet.png"
    written = ["--out", str(out), "--truth", str(truth), "--sheet", str(sheet)]
    monkeypatch.setattr(sys, "argv", ["virtual_camera.py", *options, *written])
    assert virtual_camera.main() == 0
    told = list(frame_truth.read_truth(truth))
    with av.open(str(out)) as container:
        decoded = list(container.decode(video=0))
        assert [float(picture.time) for picture in decoded] == pytest.approx([one.time_s for one in told])
    assert len(decoded) == len(told) == 12
    settings = clip.ClipSettings(path=camera_path.PathSettings(frame_hw=(128, 160)), fps=12.5, scene_s=0.5)
    pair = scenes.Photographs(read_persons(*coco), seed=0).scene(2)
    for picture, frame in zip(decoded, clip.VirtualCamera([pair, pair], settings).frames(), strict=True):
        assert np.abs(picture.to_ndarray(format="rgb24").astype(int) - frame.image).mean() < 4
    with Image.open(sheet) as drawn:
        assert drawn.width > 3 * 160
    assert "frame 0 of 12" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--people", "3"], "people is 3; allowed: [1, 2]"),
        (["--size", "640"], "size is '640'; allowed: WIDTHxHEIGHT"),
        (["--fps", "0"], "fps is 0.0"),
        (["--codec", "nonsense", "--out", "x.mp4"], "codec is 'nonsense'"),
        (["--codec", "aac", "--out", "x.mp4"], "codec is 'aac'"),
        (["--images", "nowhere"], "nowhere does not exist"),
    ],
)
def test_what_cannot_be_had_is_said(coco, more, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["--annotations", str(coco[0]), "--images", str(coco[1]), "--scene-seconds", "0.1", *more]
    monkeypatch.setattr(sys, "argv", ["virtual_camera.py", *options])
    with pytest.raises(SystemExit) as ended:
        virtual_camera.main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
