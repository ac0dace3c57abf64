"""The dependency command on drawn photographs: its table, its figure, its complaints."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from drawings import draw_coco, lively_network, plain_skeleton, tiny_config
from model.checkpoint import CheckpointCard, load_checkpoint, save_checkpoint, write_card
from model.dependency_picture import draw_dependency, skeleton_picture, view_of
from model.estimator import PoseEstimator, crop_person
from model.figure import Panel, draw_figure
from model.skeleton import COCO
from training.coco import KeypointData, Person
from training.dataset import read_image
from training.dependency import display_names, main
from training.dependency_comparison import annotated_persons
from training.keypoint_sets import KeypointSet


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Annotations, their folder, and two checkpoints."""
    folder = tmp_path_factory.mktemp("dependency")
    annotations, images = draw_coco(folder, persons=6)
    content = json.loads(annotations.read_text())
    content["annotations"][1]["keypoints"][0:6] = [0] * 6  # nose and left eye of the second person are not labelled
    annotations.write_text(json.dumps(content))
    first, second = folder / "first.safetensors", folder / "run" / "best.safetensors"
    save_checkpoint(first, lively_network(tiny_config()), training={}, dtype=torch.float32)
    wide = tiny_config(label="Wide", input_hw=(64, 64), encoder_layers=2, blocks=(1, 1, 2))
    save_checkpoint(second, lively_network(wide, seed=1), training={}, dtype=torch.float32)
    return annotations, images, (first, second)


def run(drawn, *options: object, checkpoints: int = 1) -> int:
    annotations, images, paths = drawn
    given = ["--checkpoints", *paths[:checkpoints], "--annotations", annotations, "--images", images, *options]
    return main([str(option) for option in [*given, "--device", "cpu"]])


def test_two_checkpoints_are_measured_side_by_side(drawn, tmp_path, capsys):
    assert run(drawn, "--json", tmp_path / "out" / "figures.json", checkpoints=2) == 0
    report = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert (report["persons"], report["joints"], report["boxes"]) == (6, 6 * 17 - 2, "gt")
    assert (report["mode"], report["runtime"]) == ("dependency", "torch cpu float32")
    assert report["annotations"].endswith("/annotations.json")
    first, second = report["checkpoints"]
    assert (first["name"], second["name"]) == ("first", "run/best")
    assert (first["input_hw"], second["input_hw"], second["label"]) == ([64, 48], [64, 64], "Wide")
    assert len(first["sha256"]) == 64
    assert first["sha256"] != second["sha256"]
    for checkpoint, layers in ((first, {"mhsa": 1, "encoder": 1}), (second, {"mhsa": 2, "encoder": 2})):
        for level, figures in checkpoint["levels"].items():
            assert (figures["layer"], figures["head"]) == (layers[level] - 1, "mean")
            assert len(figures["layers"]) == layers[level]
            assert [len(layer["heads"]) for layer in figures["layers"]] == [4] * layers[level]
            assert figures["mean"] == figures["layers"][-1]["mean"]
            assert 0 < figures["mean"]["box_share"] < 1
            assert len(figures["mean_by_keypoint"]) == 17
    said = capsys.readouterr().out
    assert "6 persons, 100 labelled joints, boxes gt, torch cpu float32" in said
    for level, name in (("mhsa", "MHSA"), ("encoder", "encoder")):
        mean = first["levels"][level]["mean"]
        row = next(line for line in said.splitlines() if line.split()[:1] == [name])
        assert f"{100 * mean['box_share']:.1f} %" in row
        assert f"{mean['peak_crop_heights']:.3f} (" in row
    assert said.count("uniform attention") == said.count("the crop's centre") == 2


def test_the_other_mode_gives_other_numbers(drawn, tmp_path):
    for mode in ("dependency", "affect"):
        assert run(drawn, "--mode", mode, "--limit", 2, "--json", tmp_path / f"{mode}.json") == 0
    row, column = (json.loads((tmp_path / f"{mode}.json").read_text()) for mode in ("dependency", "affect"))
    assert (row["persons"], column["mode"]) == (2, "affect")
    levels = [report["checkpoints"][0]["levels"]["encoder"]["mean"] for report in (row, column)]
    assert levels[0] != levels[1]
    assert row["checkpoints"][0]["references"] == column["checkpoints"][0]["references"]


def picture_of(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture


def test_the_figure_has_a_block_for_each_person_and_a_row_for_each_level(drawn, tmp_path, capsys):
    figures = {}
    for name, checkpoints, options in (
        ("one", 1, ["--figure-images", 1]),
        ("two", 2, ["--figure-images", 1]),
        ("three", 2, ["--figure-images", 3]),
        ("pair", 2, ["--image-ids", 101]),
        ("all", 2, ["--figure-images", 1, "--keypoints", "all"]),
    ):
        out = tmp_path / f"{name}.png"
        assert run(drawn, "--limit", 0, "--out", out, *options, checkpoints=checkpoints) == 0
        figures[name] = picture_of(out)
    assert capsys.readouterr().out == "", "there was nothing to measure"
    heights = {name: figure.shape[0] for name, figure in figures.items()}
    row = (heights["two"] - heights["one"]) / 2
    assert 192 < row < 240
    assert heights["three"] == 3 * heights["two"]
    assert heights["pair"] == 2 * heights["two"], "both persons of the photograph"
    assert heights["all"] == heights["two"]
    column = (figures["all"].shape[1] - figures["two"].shape[1]) / (17 - 6)
    assert 192 <= column < 240, "as wide as the widest checkpoint's crop"


@pytest.mark.parametrize("mode", ["dependency", "affect"])
def test_the_figure_shows_the_last_layer_and_the_mean_of_the_heads(drawn, tmp_path, mode):
    """The whole picture anew, of a network with two layers at both levels."""
    photograph, keypoints = drawn[1] / "100.jpg", (9, 16)
    options = ["--checkpoints", drawn[2][1], "--images", photograph, "--boxes", "12,8,55,95", "--mode", mode]
    options += ["--keypoints", "left_wrist", "right_ankle", "--threshold", 0.4, "--out", tmp_path / "f.png"]
    assert main([str(option) for option in [*options, "--device", "cpu"]]) == 0
    estimator = PoseEstimator(load_checkpoint(drawn[2][1])[0])
    image = read_image(photograph)
    crop = crop_person(image, [12, 8, 55, 95], estimator.config)
    (found,) = estimator.explain([crop.pixels])
    view = view_of(image, crop.image_to_crop, found, estimator.config, height=192)
    rows = []
    for level in ("mhsa", "encoder"):
        stacked = found.attention[level].dependency if mode == "dependency" else found.attention[level].affect
        row = [Panel(skeleton_picture(view))]
        for keypoint in keypoints:
            heat = stacked[1].mean(axis=0)[keypoint]
            pixels = draw_dependency(view, heat, keypoint, threshold=0.4)
            row.append(Panel(pixels, f"score {found.scores[keypoint]:.2f}, max {100 * heat.max():.1f} %"))
        rows.append(row)
    expected = draw_figure(
        rows,
        column_titles=["pose", "left wrist", "right ankle"],
        row_titles=[f"Wide\nrun/best\n{level}\nlayer 1, mean of heads" for level in ("MHSA", "encoder")],
        title=f"100.jpg, box 12,8,55,95: {mode} maps",
        colormap="inferno",
    )
    np.testing.assert_array_equal(picture_of(tmp_path / "f.png")[..., ::-1], expected)


def person(image_id, number, joints, size):
    box = np.array([0.0, 0.0, size, size])
    return Person(image_id, number, Path(f"{image_id}.jpg"), box, np.zeros((17, 2)), np.arange(17) < joints)


def test_the_best_labelled_person_of_each_photograph_is_shown():
    persons = (person(1, 1, 3, 90), person(1, 2, 9, 10), person(2, 3, 9, 20), person(3, 4, 17, 5), person(3, 5, 2, 99))
    data = KeypointData("drawn", Path("a.json"), Path(), num_images=3, persons=persons, keypoints=KeypointSet(COCO))

    def shown(**options):
        chosen = annotated_persons(data, **({"images": 9, "image_ids": None} | options))
        return [(one.image_path.stem, one.box_xywh[2]) for one in chosen]

    assert shown() == [("3", 5), ("2", 20), ("1", 10)], "most joints first, then the larger box"
    assert shown(images=1) == [("3", 5)]
    assert shown(image_ids=[3, 1]) == [("3", 5), ("3", 99), ("1", 90), ("1", 10)]


def test_photographs_need_no_annotations(drawn, tmp_path):
    photographs = sorted(drawn[1].glob("*.jpg"))[:2]
    fixed = ["--checkpoints", *drawn[2], "--keypoints", "left_wrist", "--images", *photographs]
    for name, options in (("whole", []), ("boxed", ["--boxes", "10,8,60,95", "80,5,60,500"])):
        assert main([str(v) for v in [*fixed, "--out", tmp_path / f"{name}.png", *options]]) == 0
    whole, boxed = picture_of(tmp_path / "whole.png"), picture_of(tmp_path / "boxed.png")
    assert whole.shape[0] == boxed.shape[0]
    assert whole.shape != boxed.shape or (whole != boxed).any()


def test_the_figure_obeys_threshold_and_colours(drawn, tmp_path):
    seen = set()
    for number, options in enumerate(
        ([], ["--threshold", 1.0], ["--colormap", "viridis"], ["--mode", "affect"], ["--keypoints", "right_knee"])
    ):
        out = tmp_path / f"{number}.png"
        assert run(drawn, "--limit", 0, "--figure-images", 1, "--out", out, *options) == 0
        seen.add(out.read_bytes())
    assert len(seen) == 5


def test_names_that_tell_checkpoints_apart():
    paths = [Path(text) for text in ("/x/c3a1-4.safetensors", "/run/D/best.safetensors", "/a/n.st", "/b/n.st")]
    assert display_names(paths) == ["c3a1-4", "D/best", "a/n", "b/n"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "nothing to do"),
        (["--annotations", "a.json", "--limit", "0"], "nothing to do"),
        (["--annotations", "a.json", "--images", "one", "two"], "--annotations takes one folder"),
        (["--annotations", "a.json", "--boxes", "1,2,3,4"], "--boxes is for photographs"),
        (["--out", "f.png", "--image-ids", "3"], "--image-ids needs --annotations"),
        (["--out", "f.png", "--json", "f.json"], "--json needs --annotations"),
        (["--out", "f.png", "--boxes", "1,2,3,4", "5,6,7,8"], "--boxes has 2 boxes; allowed: one for each of the 1"),
        (["--out", "f.gif"], "--out is f.gif; allowed: a name that ends in .png"),
        (["--out", "f.png", "--threshold", "1.5"], "--threshold is 1.5; allowed: 0 to 1"),
        (["--out", "f.png", "--threshold", "nan"], "--threshold is nan; allowed: 0 to 1"),
        (["--annotations", "a.json", "--out", "f.png", "--figure-images", "0"], "--figure-images is 0"),
        (["--annotations", "a.json", "--limit", "-1"], "--limit is -1; allowed: at least 0"),
        (["--out", "f.png", "--boxes", "1,2,3"], "box is '1,2,3'; allowed: X,Y,W,H"),
        (["--out", "f.png", "--boxes", "1,2,3,inf"], "box is '1,2,3,inf'; allowed: X,Y,W,H"),
        (["--out", "f.png", "--colormap", "jet"], "jet"),
    ],
)
def test_options_that_do_not_work(options, complaint, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--checkpoints", "x.safetensors", "--images", "one.jpg", *options])
    assert stop.value.code == 2
    assert complaint in capsys.readouterr().err


def test_files_that_do_not_work_are_one_clear_line(drawn, tmp_path, capsys):
    annotations, images, (checkpoint, _) = drawn
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"x")
    write_card(broken, CheckpointCard(config=tiny_config(), sha256="0"))
    few = tmp_path / "few.safetensors"
    save_checkpoint(few, lively_network(tiny_config(skeleton=plain_skeleton(3))), training={})
    nobody = tmp_path / "nobody.json"
    nobody.write_text(json.dumps(json.loads(annotations.read_text()) | {"annotations": []}))
    photograph = next(images.glob("*.jpg"))
    text = tmp_path / "text.jpg"
    text.write_text("no photograph")
    known, out = ["--checkpoints", checkpoint], ["--out", tmp_path / "f.png"]
    for options, complaint in (
        (["--checkpoints", tmp_path / "none.safetensors", "--images", photograph, *out], "none.safetensors"),
        (["--checkpoints", checkpoint, broken, "--images", photograph, *out], "broken.safetensors is damaged"),
        (["--checkpoints", checkpoint, few, "--images", photograph, *out], "few.safetensors has 3 keypoints: point_0"),
        (["--checkpoints", few, "--images", images, "--annotations", annotations], "has other keypoints than"),
        (
            [*known, "--images", photograph, *out, "--keypoints", "left_hand"],
            "--keypoints is left_hand; allowed: nose,",
        ),
        ([*known, "--images", tmp_path / "none", "--annotations", annotations], "image folder"),
        ([*known, "--images", images, "--annotations", tmp_path / "none.json"], "cannot read"),
        ([*known, "--images", images, "--annotations", nobody], "nobody.json has no person"),
        ([*known, "--images", images, "--annotations", annotations, "--image-ids", 7, *out], "image id is 7; allowed"),
        ([*known, "--images", text, *out], "text.jpg is not a photograph"),
        ([*known, "--images", photograph, "--boxes", "500,0,9,9", *out], "box is [500.0, 0.0, 9.0, 9.0]; allowed"),
        ([*known, "--images", *[photograph] * 33, *out], "33 persons; allowed: up to 32"),
        ([*known, "--images", photograph, *out, "--device", "gpu7"], "device is 'gpu7'"),
    ):
        assert main([str(option) for option in options]) == 2
        said = capsys.readouterr().err
        assert said.startswith("training.dependency: ")
        assert complaint in said
        assert not (tmp_path / "f.png").exists()
