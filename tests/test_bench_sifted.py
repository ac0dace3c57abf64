"""What is counted of the poses in detected boxes."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np

from drawings import STANDING, draw_coco, lively_network, tiny_config
from model.checkpoint import save_checkpoint
from service.poses import Pose
from training.coco import Person

sys.path.append(str(Path(__file__).resolve().parents[1] / "bench"))  # no package: its scripts import each other by name
sifted = importlib.import_module("sifted")

AREAS = {1: 8000.0, 2: 8000.0}


def person(annotation_id: int, left: float) -> Person:
    box = np.array([left, 10.0, 80.0, 200.0])
    return Person(7, annotation_id, Path("x.jpg"), box, box[:2] + STANDING * box[2:], np.ones(17, dtype=bool))


def pose(of: Person, *, score: float = 0.8, shift: float = 0.0) -> Pose:
    x, y, width, height = of.box_xywh.tolist()
    keypoints = tuple((float(px) + shift, float(py), score) for px, py in of.points_image)
    return Pose(box_xywh=(x, y, width, height), score=score, keypoints=keypoints)


def test_a_person_is_found_once_however_many_poses_there_are():
    one, other = person(1, 20.0), person(2, 300.0)
    assert sifted.count_found({7: [pose(one), pose(one, score=0.7)]}, [one, other], AREAS) == 1
    assert sifted.count_found({7: [pose(one), pose(other), pose(other)]}, [one, other], AREAS) == 2
    assert sifted.count_found({7: [pose(one, shift=100.0)], 8: [pose(other)]}, [one, other], AREAS) == 0


def test_the_table_says_what_is_told_from_each_score(tmp_path, monkeypatch):
    annotations, images = draw_coco(tmp_path, persons=4)
    checkpoint = tmp_path / "tiny.safetensors"
    save_checkpoint(checkpoint, lively_network(tiny_config()), training={})
    given = ["--checkpoint", checkpoint, "--annotations", annotations, "--images", images, "--precision", "fp32"]
    monkeypatch.setattr(sys, "argv", ["bench/sifted.py"])
    sifted.main([*map(str, given), "--least", "0", "1", "--results", str(tmp_path / "kept")])
    content = json.loads((tmp_path / "kept" / "sifted.json").read_text())
    everybody, once, nobody = content["rows"]
    assert [row["told"] for row in content["rows"]] == ["all", "each person once, from 0", "each person once, from 1"]
    assert int(everybody["poses"]) >= int(once["poses"])
    assert (nobody["poses"], nobody["found"]) == ("0", "0")
    assert "persons by embedded" in content["title"]
