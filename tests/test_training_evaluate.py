"""The evaluation command on drawn photographs: both protocols, its files, its complaints."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from drawings import draw_coco, lively_network, tiny_config
from model.checkpoint import read_card, save_checkpoint
from model.skeleton import COCO
from training.boxes import detected_boxes
from training.coco import read_persons
from training.evaluate import main
from training.oks import METRIC_NAMES
from training.person_accuracy import describe_accuracy, read_true_poses


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    annotations, images = draw_coco(folder, persons=6)
    checkpoint = folder / "tiny.safetensors"
    save_checkpoint(checkpoint, lively_network(tiny_config()), training={"task": "keypoints"})
    return annotations, images, checkpoint


def run(drawn, *options: object) -> int:
    annotations, images, checkpoint = drawn
    given = ["--checkpoint", checkpoint, "--annotations", annotations, "--images", images, *options]
    return main([str(option) for option in [*given, "--device", "cpu"]])


def truth_as_results(annotations):
    content = json.loads(annotations.read_text())
    return [
        {"image_id": one["image_id"], "category_id": 1, "keypoints": one["keypoints"], "score": 0.9}
        for one in content["annotations"]
    ]


def test_a_checkpoint_with_ground_truth_boxes(drawn, tmp_path, capsys):
    assert run(drawn, "--no-flip-test", "--out", tmp_path / "out.json") == 0
    summary = json.loads((tmp_path / "out.json").read_text())
    assert set(METRIC_NAMES) <= summary.keys()
    assert (summary["boxes"], summary["flip_test"]) == ("gt", False)
    assert (summary["images"], summary["persons"], summary["poses"]) == (3, 6, 6)
    assert {"calibration", "errors", "baselines"}.isdisjoint(summary)
    said = capsys.readouterr().out
    assert "boxes gt, no flip test" in said
    assert f"mean OKS {summary['mean_oks']:.3f}, PCK@0.2 {summary['pck']['all']:.3f} of 102 labelled joints" in said


def test_finer_figures_are_those_of_the_results(drawn, tmp_path, capsys):
    given = ["--no-flip-test", "--calibration", "--errors", "--baselines", "--out", tmp_path / "out.json"]
    assert run(drawn, *given, "--save-results", tmp_path / "results.json") == 0
    summary = json.loads((tmp_path / "out.json").read_text())
    data = read_persons(drawn[0], drawn[1])
    results = json.loads((tmp_path / "results.json").read_text())
    assert [one["image_id"] for one in results] == [person.image_id for person in data.persons]
    poses = np.reshape([one["keypoints"] for one in results], (6, 17, 3))
    found = describe_accuracy(poses[..., :2], read_true_poses(data), names=COCO.names, sigmas=COCO.oks_sigmas)
    assert found == {"mean_oks": pytest.approx(summary["mean_oks"]), "pck": summary["pck"]}
    assert summary["calibration"]["poses"]["count"] == 6
    outcomes = [row["outcome"] * row["count"] for row in summary["calibration"]["poses"]["bins"] if row["count"]]
    assert sum(outcomes) / 6 == pytest.approx(summary["mean_oks"])
    assert summary["calibration"]["keypoints"]["count"] == 102
    assert 0 < summary["baselines"]["heatmap_loss"]["constant"] < summary["baselines"]["heatmap_loss"]["nothing"]
    said = capsys.readouterr().out
    assert "score of a pose against its OKS: expected calibration error" in said
    assert sum(summary["errors"]["all"].values()) == pytest.approx(1)
    assert [group["persons"] for group in summary["errors"]["by_labelled_joints"].values()] == [6]
    assert "every joint" in said
    assert "the mean pose in every box: mean OKS" in said
    assert max(map(len, said.splitlines())) <= 120


def test_a_card_keeps_finer_figures_but_not_every_bin(drawn, tmp_path):
    checkpoint = tmp_path / "tiny.safetensors"
    save_checkpoint(checkpoint, lively_network(tiny_config()), training={"task": "keypoints"})
    assert run((*drawn[:2], checkpoint), "--write-card", "--calibration") == 0
    (measured,) = read_card(checkpoint).metrics
    assert set(measured["pck"]["joints"]) == set(COCO.names)
    assert 0 < measured["mean_oks"] < 1
    assert set(measured["calibration"]["poses"]) == {"count", "expected_calibration_error"}
    assert len(str(measured["mean_oks"])) <= 8


def test_detections_are_another_protocol(drawn, tmp_path):
    content = json.loads(drawn[0].read_text())
    boxes = [
        {"image_id": one["image_id"], "category_id": 1, "bbox": one["bbox"], "score": 0.5}
        for one in content["annotations"]
    ]
    strangers = [
        {"image_id": 99, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 1.0},
        {"image_id": 100, "category_id": 18, "bbox": [0, 0, 9, 9], "score": 1.0},
        {"image_id": 100, "category_id": 1, "bbox": [500, 500, 9, 9], "score": 1.0},
    ]
    detections = tmp_path / "detections.json"
    detections.write_text(json.dumps(boxes + boxes + strangers))
    assert run(drawn, "--detections", detections, "--out", tmp_path / "out.json") == 0
    summary = json.loads((tmp_path / "out.json").read_text())
    assert (summary["boxes"], summary["flip_test"]) == ("detections", True)
    assert (summary["mean_oks"], summary["pck"]) == (None, None), "nobody says whose pose it is"
    assert summary["poses"] == 6, "each person was detected twice; the weaker pose is suppressed"


def test_detected_boxes_are_clipped_and_keep_their_scores(drawn, tmp_path):
    detections = tmp_path / "detections.json"
    detections.write_text(json.dumps([{"image_id": 100, "category_id": 1, "bbox": [-5, 100, 50, 50], "score": 0.3}]))
    (person,) = detected_boxes(detections, drawn[0], drawn[1])
    assert person.box_xywh.tolist() == [0, 100, 45, 20]
    assert person.box_score == 0.3


def test_perfect_results_score_one(drawn, tmp_path, capsys):
    results = tmp_path / "results.json"
    results.write_text(json.dumps(truth_as_results(drawn[0])))
    assert main(["--results", str(results), "--annotations", str(drawn[0]), "--out", str(tmp_path / "o.json")]) == 0
    summary = json.loads((tmp_path / "o.json").read_text())
    assert (summary["AP"], summary["AR"], summary["boxes"]) == (1.0, 1.0, "gt")
    assert "AP 1.000" in capsys.readouterr().out


def test_saved_results_score_the_same(drawn, tmp_path):
    assert run(drawn, "--save-results", tmp_path / "results.json", "--out", tmp_path / "a.json") == 0
    again = ["--results", tmp_path / "results.json", "--annotations", drawn[0], "--out", tmp_path / "b.json"]
    assert main([str(option) for option in again]) == 0
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert all(first[name] == second[name] for name in METRIC_NAMES)


def test_pictures_show_prediction_beside_truth(drawn, tmp_path):
    assert run(drawn, "--save-pictures", 2, "--pictures-dir", tmp_path / "pictures") == 0
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert [picture.name for picture in pictures] == ["100.png", "101.png"]
    picture = cv2.imread(str(pictures[0]))
    assert picture.shape == (480, 2 * 640, 3)
    annotated = picture[:, 640:].astype(int)
    photograph = cv2.resize(cv2.imread(str(drawn[1] / "100.jpg")), (640, 480)).astype(int)
    assert np.abs(annotated - photograph).max() > 100, "nothing is drawn"


def test_the_card_gets_the_figures_once_for_each_protocol(drawn):
    for flip in ("--flip-test", "--no-flip-test", "--flip-test"):
        assert run(drawn, flip, "--write-card") == 0
    card = read_card(drawn[2])
    assert [(known["boxes"], known["flip_test"]) for known in card.metrics] == [("gt", False), ("gt", True)]
    assert card.training == {"task": "keypoints"}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--checkpoint", "x.safetensors", "--annotations", "a.json"], "needs --images"),
        (["--results", "x.json", "--annotations", "a.json", "--write-card"], "go with --checkpoint"),
        (["--annotations", "a.json"], "required"),
    ],
)
def test_options_that_do_not_go_together(options, complaint, capsys):
    with pytest.raises(SystemExit) as stop:
        main(options)
    assert stop.value.code == 2
    assert complaint in capsys.readouterr().err


def test_files_that_do_not_work_are_one_clear_line(drawn, tmp_path, capsys):
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    for options in (
        ["--results", str(broken), "--annotations", str(drawn[0])],
        ["--results", str(tmp_path / "none.json"), "--annotations", str(drawn[0])],
    ):
        assert main(options) == 2
        said = capsys.readouterr().err
        assert said.startswith("training.evaluate: ")
        assert ".json" in said
    broken.write_text(json.dumps([{"image_id": 100, "category_id": 1, "bbox": [1, 2, 3], "score": 1}]))
    assert run(drawn, "--detections", broken) == 2
    assert "detection 0" in capsys.readouterr().err
