"""Detectors beside each other: boxes that the evaluation of poses reads, and figures that can be checked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from drawings import draw_coco
from model.detection import DetectionLimits, Detections
from model.finder_checkpoint import load_finder, save_finder
from model.person_finder import FinderConfig, PersonFinder
from training import detect, evaluate_detector
from training.boxes import detected_boxes
from training.detection_score import coco_detections, overlaps_of, score_boxes, told_figures
from training.detectors_compared import HogDetector, compared_detector

SMALL = FinderConfig(input_side=64, stem_channels=8, planes=(4, 4, 4, 4), blocks=(1, 1, 1, 1), neck_channels=8)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[Path, Path]:
    return draw_coco(tmp_path_factory.mktemp("people"), persons=8)


@pytest.fixture
def finder(tmp_path) -> Path:
    save_finder(tmp_path / "finder.safetensors", PersonFinder(SMALL), training={})
    return tmp_path / "finder.safetensors"


def boxes_of(annotations: Path) -> dict[int, np.ndarray]:
    found: dict[int, list[list[float]]] = {}
    for annotation in json.loads(annotations.read_text())["annotations"]:
        found.setdefault(annotation["image_id"], []).append(annotation["bbox"])
    return {image_id: np.array(boxes) for image_id, boxes in found.items()}


def perfect(truth: dict[int, np.ndarray]) -> list[Detections]:
    return [Detections(boxes, np.linspace(0.9, 0.8, len(boxes))) for boxes in truth.values()]


def test_the_boxes_of_people_score_full_marks_and_moved_ones_none(data):
    truth = boxes_of(data[0])
    pairs, found = list(truth.items()), perfect(truth)
    figures = score_boxes(pairs, coco_detections(list(truth), found))
    assert figures["AP50"] == pytest.approx(1.0, abs=1e-6)
    assert (figures["recall"], figures["recall_medium"]) == (1.0, 1.0)
    assert (figures["recall_small"], figures["recall_large"]) == (-1.0, -1.0)  # there is nobody so small or large
    moved = [Detections(one.boxes_xywh + np.array([0, 60, 0, 0]), one.scores) for one in found]
    assert score_boxes(pairs, coco_detections(list(truth), moved))["recall"] == 0.0
    assert score_boxes(pairs, [])["AP50"] == 0.0


def test_half_of_the_people_are_half_of_the_recall(data):
    truth = boxes_of(data[0])
    half = [Detections(one.boxes_xywh[:1], one.scores[:1]) for one in perfect(truth)]
    figures = score_boxes(list(truth.items()), coco_detections(list(truth), half))
    assert figures["recall"] == pytest.approx(0.5)
    assert figures["AP50"] == pytest.approx(0.5, abs=0.01)


def test_each_person_is_found_once_by_boxes_that_are_told():
    truth = [np.array([[0.0, 0, 10, 10], [20, 0, 10, 10]]), np.zeros((0, 4))]
    boxes = np.array([[0.0, 0, 10, 10], [1, 0, 10, 10], [40, 0, 10, 10]])
    told = [Detections(boxes, np.array([0.9, 0.8, 0.7])), Detections(boxes[:1], np.array([0.5]))]
    figures = told_figures(truth, told)
    assert figures == {"told_recall": 0.5, "told_precision": 0.25, "told_boxes": 4}
    nobody = told_figures([np.zeros((0, 4))], [Detections(np.zeros((0, 4)), np.zeros(0))])
    assert nobody == {"told_recall": -1.0, "told_precision": -1.0, "told_boxes": 0}


def test_overlaps_by_hand():
    found = overlaps_of(np.array([[0.0, 0, 2, 2]]), np.array([[0.0, 0, 2, 2], [1, 0, 2, 2], [5, 5, 1, 1]]))
    np.testing.assert_allclose(found, [[1.0, 1 / 3, 0.0]])


def test_detections_are_what_the_evaluation_of_poses_reads(data, tmp_path, capsys):
    annotations, images = data
    out = tmp_path / "new" / "detections.json"
    given = ["--annotations", str(annotations), "--images", str(images)]
    assert detect.main(["--detector", "whole", *given, "--out", str(out)]) == 0
    assert "4 boxes in 4 photographs, by whole" in capsys.readouterr().out
    persons = detected_boxes(out, annotations, images)
    assert [person.image_id for person in persons] == [100, 101, 102, 103]
    np.testing.assert_allclose([person.box_xywh for person in persons], [[0, 0, 160, 120]] * 4)


def test_the_embedded_detector_is_measured_beside_the_whole_picture(data, finder, tmp_path, capsys):
    annotations, images = data
    given = ["--annotations", str(annotations), "--images", str(images), "--threads", "1", "--embedded", str(finder)]
    out, pictures = tmp_path / "out.json", tmp_path / "pictures"
    drawn = ["--save-pictures", "2", "--pictures-dir", str(pictures), "--told-above", "0"]
    written = ["--out", str(out), "--write-card"]
    assert evaluate_detector.main(["--detectors", "embedded", "whole", *given, *drawn, *written]) == 0
    table = capsys.readouterr().out
    assert "persons 8" in table
    assert "| embedded | " in table
    rows = {row["detector"]: row for row in json.loads(out.read_text())["detectors"]}
    assert rows["whole"]["told_boxes"] == 4
    assert rows["embedded"]["ms"] > 0
    assert cv2.imread(str(pictures / "whole" / "100.png")).shape == (120, 160, 3)
    assert len(list((pictures / "embedded").iterdir())) == 2
    (measured,) = load_finder(finder)[1].metrics
    assert measured["persons"] == 8
    assert measured["recall"] == rows["embedded"]["recall"]


def test_what_cannot_be_measured_is_refused_in_words(data, tmp_path, capsys):
    given = ["--annotations", str(data[0]), "--images", str(data[1])]
    assert detect.main(["--detector", "yolo", *given, "--out", str(tmp_path / "out.json")]) == 2
    assert "detector is 'yolo'; allowed: whole, hog, embedded, or onnx:PATH" in capsys.readouterr().err
    assert detect.main(["--detector", "none", *given, "--out", str(tmp_path / "out.json")]) == 2
    assert "detector is 'none'; allowed: whole" in capsys.readouterr().err
    assert evaluate_detector.main(["--detectors", "whole", *given, "--write-card"]) == 2
    assert "allowed: with it" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


@pytest.mark.skipif(not hasattr(cv2, "HOGDescriptor"), reason="OpenCV 5 has no HOG people detector")
def test_histograms_of_gradients_tell_boxes_within_the_picture():
    picture = np.random.default_rng(0).integers(0, 255, (240, 200, 3), dtype=np.uint8)
    (found,) = HogDetector(DetectionLimits(min_score=0.0, max_overlap=1.0)).detect([picture])
    assert (found.boxes_xywh >= 0).all()
    (tiny,) = HogDetector().detect([picture[:50, :50]])
    assert len(tiny.scores) == 0


@pytest.mark.skipif(hasattr(cv2, "HOGDescriptor"), reason="OpenCV 4 has it")
def test_without_histograms_of_gradients_it_is_said_what_has_them():
    with pytest.raises(ValueError, match=r"detector is 'hog', and OpenCV 5.* has none; allowed with it: OpenCV 4"):
        compared_detector("hog", DetectionLimits())
