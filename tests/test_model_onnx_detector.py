"""Person detectors from ONNX files: every layout, with boxes that were planted, and clear words for all else."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from model.detection import DetectionLimits
from model.load_detector import load_detector
from onnx_models import RAW, SIDE, how_blue, nms, rtmdet, save, times_blue, yolox

PERSON, DOG = 0, 16
# Input pixels; scores; classes. The last one is a dog.
PLANTED = [
    (9.0, 5.0, 25.0, 45.0, 0.9, PERSON),
    (30.0, 10.5, 47.0, 60.0, 0.6, PERSON),
    (4.0, 50.0, 20.0, 62.0, 0.8, DOG),
]
PEOPLE = np.array([box[:4] for box in PLANTED if box[5] == PERSON])
LAYOUTS = {
    "yolox": partial(yolox, decoded=False),
    "yolox decoded": partial(yolox, decoded=True),
    "nms of RTMDet": partial(nms, sliced=False),
    "nms of YOLOX": partial(nms, sliced=True),
    "rtmdet": rtmdet,
}


def blue(height: int, width: int) -> np.ndarray:
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    picture[..., 2] = 255
    return picture


def load(path: Path, **options):
    detector = load_detector(f"onnx:{path}", threads=1, **options)
    assert detector is not None
    return detector


def xywh(edges: np.ndarray) -> np.ndarray:
    return np.column_stack((edges[:, :2], edges[:, 2:] - edges[:, :2]))


@pytest.mark.parametrize("batch", [1, "batch"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_planted_people_are_found_where_they_are_in_pictures_of_any_size(layout, batch, tmp_path):
    detector = load(LAYOUTS[layout](tmp_path / "net.onnx", PLANTED, input_shape=(batch, 3, SIDE, SIDE)))
    assert detector.name == "onnx:net.onnx"
    assert detector.batch == (1 if batch == 1 else 8)
    pictures = [blue(SIDE, SIDE), blue(2 * SIDE, SIDE), blue(SIDE // 2, SIDE // 2)]
    found = detector.detect(pictures)
    assert len(found) == 3
    for one, scale in zip(found, (1.0, 2.0, 0.5), strict=True):
        expected = xywh(PEOPLE * scale)
        if scale == 2.0:  # letterboxed at the top left: what is beyond column 32 of the input is not picture
            expected = xywh(np.array([[18.0, 10.0, 50.0, 90.0], [60.0, 21.0, 64.0, 120.0]]))
        np.testing.assert_allclose(one.boxes_xywh, expected, atol=0.01)
        np.testing.assert_allclose(one.scores, [0.9, 0.6], atol=0.01)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_red_is_not_taken_for_blue(layout, tmp_path):
    detector = load(LAYOUTS[layout](tmp_path / "net.onnx", PLANTED), limits=DetectionLimits(min_score=0.55))
    (found,) = detector.detect([blue(SIDE, SIDE)[..., ::-1].copy()])
    assert len(found.scores) == 0


def test_a_network_of_people_only_needs_no_labels(tmp_path):
    people = [box for box in PLANTED if box[5] == PERSON]
    (found,) = load(nms(tmp_path / "net.onnx", people, sliced=False, labels=False)).detect([blue(SIDE, SIDE)])
    np.testing.assert_allclose(found.boxes_xywh, xywh(PEOPLE), atol=0.01)


def test_rows_and_columns_that_are_left_open_are_640(tmp_path):
    shape = ("batch", 3, "height", "width")
    detector = load(nms(tmp_path / "net.onnx", PLANTED, sliced=False, input_shape=shape))
    assert detector.input_hw == (640, 640)
    (found,) = detector.detect([blue(640, 640)])
    np.testing.assert_allclose(found.boxes_xywh, xywh(PEOPLE), atol=0.01)


def test_of_the_same_person_found_twice_the_likelier_box_is_told(tmp_path):
    twice = [*PLANTED, (10.0, 6.0, 25.0, 45.0, 0.7, PERSON)]
    (found,) = load(nms(tmp_path / "net.onnx", twice, sliced=False)).detect([blue(SIDE, SIDE)])
    np.testing.assert_allclose(found.scores, [0.9, 0.6], atol=0.01)


def test_no_pictures_have_no_people(tmp_path):
    assert load(nms(tmp_path / "net.onnx", PLANTED, sliced=False)).detect([]) == []


def test_a_compiled_network_is_kept(tmp_path):
    path = nms(tmp_path / "net.onnx", PLANTED, sliced=False)
    load(path, cache_dir=tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir())
    (found,) = load(path, cache_dir=tmp_path / "kept").detect([blue(SIDE, SIDE)])
    assert len(found.scores) == 2


def refused(path: Path) -> str:
    with pytest.raises(ValueError, match=str(path.name)) as caught:
        load(path)
    return str(caught.value)


def test_a_file_that_is_not_there_or_not_onnx_is_refused(tmp_path):
    assert "does not exist; allowed" in refused(tmp_path / "nowhere.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    assert "is not an ONNX file that OpenVINO can read" in refused(tmp_path / "text.onnx")
    assert "does not exist" in refused(tmp_path)


@pytest.mark.parametrize("shape", [(1, 1, SIDE, SIDE), (2, 3, SIDE, SIDE), (1, 3, 50, SIDE), (1, SIDE, SIDE, 3)])
def test_an_input_that_is_no_picture_is_refused_by_what_it_is(shape, tmp_path):
    said = refused(yolox(tmp_path / "net.onnx", PLANTED, decoded=False, input_shape=shape))
    assert f"[{','.join(map(str, shape))}] f32; allowed: one, [B, 3, H, W] float32" in said


@pytest.mark.parametrize("shape", [(1, 84, 5), (1, 10, 4), (1, 90, 84), (1, 1000)])
def test_outputs_of_another_family_are_refused_by_what_they_are(shape, tmp_path):
    value = np.zeros(shape)
    if shape == (1, 84, 5):  # boxes with labels that do not go with them
        parts = [how_blue(RAW, sliced=False), times_blue(value, slice(0), "dets"), times_blue(value, slice(0), "more")]
        outputs = dict.fromkeys(("dets", "more"), (TensorProto.FLOAT, shape))
    else:
        parts = [how_blue(RAW, sliced=False), times_blue(value[None] if value.ndim == 2 else value, slice(0), "said")]
        outputs = {"said": (TensorProto.FLOAT, [1, *shape] if value.ndim == 2 else shape)}
    said = refused(save(tmp_path / "net.onnx", parts, outputs, (1, 3, SIDE, SIDE)))
    assert "is not a person detector of a known layout: its outputs for an input of 64x64 are " in said
    assert "allowed: one output [B, A, 5 + classes] of YOLOX" in said


def test_a_batch_that_only_the_input_promises_is_not_used(tmp_path, caplog):
    """Some exports leave the batch open and fix it in a reshape further on."""
    path = nms(tmp_path / "net.onnx", PLANTED, sliced=False, labels=False, input_shape=("batch", 3, SIDE, SIDE))
    model = onnx.load(path)
    shape = onnx.numpy_helper.from_array(np.array([1, len(PLANTED), 5], dtype=np.int64), "one")
    model.graph.initializer.append(shape)
    for node in model.graph.node:
        node.output[:] = ["inside" if name == "dets" else name for name in node.output]
    model.graph.node.append(helper.make_node("Reshape", ["inside", "one"], ["dets"]))
    onnx.save(model, path)
    detector = load(path)
    assert detector.batch == 1
    assert "says that it takes several pictures at a time, and does not" in caplog.text
    assert [len(found.scores) for found in detector.detect([blue(SIDE, SIDE)] * 2)] == [3, 3]
