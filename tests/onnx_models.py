"""Small ONNX files that say what the person detectors of the field say, of boxes that a test plants.

They look at one thing: the highest value of the first channel of their input, which must be blue. Every score is the
planted one times that value, brought back to 0..1 from however the family has its pixels: so a score comes out as it
was planted only if a blue picture arrived in the right order of channels and the right range.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 64
RAW = (0.0, 255.0)  # mean and standard deviation that were taken off
STANDARD = (103.53, 57.375)  # of blue, as mmdetection has them
Shape = Sequence[int | str | None]


def constant(name: str, value) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype=np.float32), name)


def how_blue(scale: tuple[float, float], *, sliced: bool) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes from `images` to `blue` [B, 1, 1]: 1 for a picture with a pixel that is as blue as can be."""
    mean, std = (0.0, 1.0) if scale == RAW else scale
    nodes, constants = [], [constant("mean", mean / 255), constant("std", std / 255)]
    source = "images"
    if sliced:  # as YOLOX begins: every other pixel, four times
        for number, (row, column) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
            constants += [
                numpy_helper.from_array(np.array(value, dtype=np.int64), f"{name}{number}")
                for name, value in (("from", [row, column]), ("to", [1000, 1000]), ("axes", [2, 3]), ("steps", [2, 2]))
            ]
            given = ["images", *(f"{name}{number}" for name in ("from", "to", "axes", "steps"))]
            nodes.append(helper.make_node("Slice", given, [f"slice{number}"]))
        nodes.append(helper.make_node("Concat", [f"slice{number}" for number in range(4)], ["focus"], axis=1))
        source = "focus"
    constants.append(numpy_helper.from_array(np.array([0], dtype=np.int64), "first"))
    nodes += [
        helper.make_node("Gather", [source, "first"], ["channel"], axis=1),  # [B, 1, H, W]
        helper.make_node("ReduceMax", ["channel"], ["highest"], axes=[2, 3], keepdims=0),  # [B, 1]
        helper.make_node("Mul", ["highest", "std"], ["scaled"]),
        helper.make_node("Add", ["scaled", "mean"], ["blue1"]),
        helper.make_node("Unsqueeze", ["blue1", "two"], ["blue"]),  # [B, 1, 1]
    ]
    constants.append(numpy_helper.from_array(np.array([2], dtype=np.int64), "two"))
    return nodes, constants


def times_blue(value: np.ndarray, columns: slice, output: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes that say [1, N, C] for every picture of a batch, some columns of it times `blue`."""
    seen = np.zeros_like(value)
    seen[..., columns] = value[..., columns]
    nodes = [
        helper.make_node("Mul", [f"{output}_seen", "blue"], [f"{output}_scaled"]),
        helper.make_node("Add", [f"{output}_scaled", f"{output}_plain"], [output]),
    ]
    return nodes, [constant(f"{output}_seen", seen), constant(f"{output}_plain", value - seen)]


def save(
    path: Path,
    parts: Sequence[tuple[list[onnx.NodeProto], list[onnx.TensorProto]]],
    outputs: dict[str, tuple[int, Shape]],
    input_shape: Shape,
) -> Path:
    graph = helper.make_graph(
        [node for nodes, _ in parts for node in nodes],
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [one for _, constants in parts for one in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def yolox(
    path: Path,
    boxes: Sequence[tuple[float, float, float, float, float, int]],
    *,
    decoded: bool,
    input_shape: Shape = (1, 3, SIDE, SIDE),
    classes: int = 80,
) -> Path:
    """Of boxes (left, top, right, bottom, score, class), each at the cell of stride 8 that its centre lies in."""
    cells = np.concatenate(
        [
            np.array([(column, row, stride) for row in range(SIDE // stride) for column in range(SIDE // stride)])
            for stride in (8, 16, 32)
        ]
    ).astype(np.float64)
    said = np.zeros((1, len(cells), 5 + classes))
    said[..., :2] = 0.5
    if decoded:
        said[..., :2] = (said[..., :2] + cells[:, :2]) * cells[:, 2:]
        said[..., 2:4] = cells[:, 2:]
    for left, top, right, bottom, score, label in boxes:
        x, y, w, h = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
        place = int(y // 8) * (SIDE // 8) + int(x // 8)
        raw = [x / 8 - x // 8, y / 8 - y // 8, np.log(w / 8), np.log(h / 8)]
        said[0, place, :5] = [*([x, y, w, h] if decoded else raw), score]
        said[0, place, 5 + label] = 1
    parts = [how_blue(RAW, sliced=False), times_blue(said, slice(4, 5), "output")]
    return save(path, parts, {"output": (TensorProto.FLOAT, [input_shape[0], *said.shape[1:]])}, input_shape)


def nms(
    path: Path,
    boxes: Sequence[tuple[float, float, float, float, float, int]],
    *,
    sliced: bool,
    labels: bool = True,
    input_shape: Shape = (1, 3, SIDE, SIDE),
) -> Path:
    """Of boxes (left, top, right, bottom, score, class), as mmdeploy exports them."""
    said = np.array([[box[:5] for box in boxes]], dtype=np.float64)
    parts = [how_blue(RAW if sliced else STANDARD, sliced=sliced), times_blue(said, slice(4, 5), "dets")]
    outputs: dict[str, tuple[int, Shape]] = {"dets": (TensorProto.FLOAT, [input_shape[0], None, 5])}
    if labels:
        numbers = np.array([[box[5] for box in boxes]], dtype=np.float32)
        nodes = [
            helper.make_node("Mul", ["blue1", "nothing"], ["zero"]),
            helper.make_node("Add", ["zero", "numbers"], ["labels_float"]),
            helper.make_node("Cast", ["labels_float"], ["labels"], to=TensorProto.INT64),
        ]
        parts.append((nodes, [constant("nothing", 0.0), constant("numbers", numbers)]))
        outputs["labels"] = (TensorProto.INT64, [input_shape[0], None])
    return save(path, parts, outputs, input_shape)


def rtmdet(
    path: Path,
    boxes: Sequence[tuple[float, float, float, float, float, int]],
    *,
    classes: int = 80,
    input_shape: Shape = (1, 3, SIDE, SIDE),
) -> Path:
    """Of boxes (left, top, right, bottom, score, class), each at the corner of stride 8 that its centre is beyond.

    Scores are logits here, so a picture that is not blue halves the logit of what is nobody, too.
    """
    parts = [how_blue(STANDARD, sliced=False)]
    outputs: dict[str, tuple[int, Shape]] = {}
    for level, stride in enumerate((8, 16, 32)):
        side = SIDE // stride
        logits = np.full((1, classes, side, side), -20.0)
        distances = np.full((1, 4, side, side), float(stride))
        for left, top, right, bottom, score, label in boxes if stride == 8 else ():
            column, row = int((left + right) / 2 // 8), int((top + bottom) / 2 // 8)
            logits[0, label, row, column] = np.log(score / (1 - score))
            distances[0, :, row, column] = [8 * column - left, 8 * row - top, right - 8 * column, bottom - 8 * row]
        for name, value in ((f"cls_{level}", logits), (f"bbox_{level}", distances)):
            shape = numpy_helper.from_array(np.array([-1, 1, 1, 1], dtype=np.int64), f"{name}_shape")
            nodes = [helper.make_node("Reshape", ["blue", f"{name}_shape"], [f"{name}_blue"])]
            scaled = value if name.startswith("cls") else np.zeros_like(value)
            nodes += [
                helper.make_node("Mul", [f"{name}_seen", f"{name}_blue"], [f"{name}_scaled"]),
                helper.make_node("Add", [f"{name}_scaled", f"{name}_plain"], [name]),
            ]
            constants = [shape, constant(f"{name}_seen", scaled), constant(f"{name}_plain", value - scaled)]
            parts.append((nodes, constants))
            outputs[name] = (TensorProto.FLOAT, [input_shape[0], *value.shape[1:]])
    return save(path, parts, outputs, input_shape)
