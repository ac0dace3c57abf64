"""Person detectors that somebody else trained, from an ONNX file: `onnx:PATH`. Run by OpenVINO.

What the network wants and what it says are recognised when it is loaded (`model.onnx_layouts`), and tried on a blank
picture; a file that is something else is refused with what was found and what is allowed. docs/detectors.md says where
such files come from.

Pixels reach a network as its family was trained: letterboxed at the top left on grey 114, blue first; as they are
(0..255) for YOLOX, which is known by its output or by a graph that begins with slices of the input, and with mean and
standard deviation for RTMDet.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from model.crop import MEAN_RGB, STD_RGB, Pixels
from model.detection import DetectionLimits, Detections, choose, letterbox
from model.onnx_layouts import Numbers, UnknownLayout, recognise
from model.openvino_runtime import openvino_core, prepare, run

log = logging.getLogger(__name__)

FILL = 114
FREE_SIDE = 640  # rows and columns, where the network leaves them open
BATCH = 8  # the most pictures that run together
ANY = -1  # of a batch or a side that the network leaves open
SLICES = ("StridedSlice", "Slice")


class OnnxDetector:
    """See the module.

    Args:
        path: the file.
        threads: of the CPU; 0: as OpenVINO chooses.
        cache_dir: where compiled networks are kept; None: nowhere.
        limits: which boxes are told.

    Raises ValueError, naming the file, if it cannot be read or run, or is no detector of a layout that is known.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 0,
        cache_dir: Path | None = None,
        limits: DetectionLimits | None = None,
    ) -> None:
        self.name = f"onnx:{path.name}"
        self.limits = limits or DetectionLimits()
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        if cache_dir is not None:
            prepare(cache_dir)
            settings["CACHE_DIR"] = str(cache_dir)
        model = _read(path)
        batch, self.input_hw = _input_of(model, path)
        sliced = _begins_with_slices(model)
        try:
            self._compile(model, batch, settings, standardised=not sliced)
            blank = np.full((2, *self.input_hw, 3), FILL, dtype=np.uint8)
            said = self._run(blank[:1])
            self.layout = recognise([_name_of(*port) for port in enumerate(model.outputs)], said, self.input_hw)
            self.batch = BATCH if batch == ANY and self._runs_two(blank, said) else 1
        except UnknownLayout as error:
            raise ValueError(f"{path} is not a person detector of a known layout: {error}") from error
        except RuntimeError as error:
            raise ValueError(f"{path} cannot be run by OpenVINO: {_first_line(error)}") from error
        raw = sliced or self.layout.name == "yolox"
        self._compile(_read(path), ANY if self.batch > 1 else 1, settings, standardised=not raw)
        log.info("%s: layout %s, input %dx%d, %d at a time", self.name, self.layout.name, *self.input_hw, self.batch)

    def _compile(self, model: ov.Model, batch: int, settings: dict[str, Any], *, standardised: bool) -> None:
        """Have the network run, with pixels as its family wants them."""
        model = _from_pixels(model, standardised=standardised)
        # Rows and columns are set once and for all, so that the compiler knows them.
        model.reshape([batch, *self.input_hw, 3])
        self._request = openvino_core().compile_model(model, "CPU", settings).create_infer_request()

    def detect(self, images: Sequence[Pixels]) -> list[Detections]:
        """As `model.detection.PersonDetector.detect`."""
        detections = []
        for first in range(0, len(images), self.batch):
            part = [
                letterbox(image, self.input_hw, fill=FILL, centred=False)
                for image in images[first : first + self.batch]
            ]
            found = self.layout.read(self._run(np.stack([picture.pixels for picture in part])))
            for picture, (edges, scores) in zip(part, found, strict=True):
                detections.append(choose(edges, scores, picture, self.limits))
        return detections

    def _run(self, pixels: Pixels) -> list[Numbers]:
        """Every output [B, ...] of pictures [B, H, W, 3]."""
        return run(self._request, pixels)

    def _runs_two(self, blank: Pixels, of_one: list[Numbers]) -> bool:
        """Whether two pictures at a time work: some exports say that they do and do not."""
        try:
            of_two = self._run(blank)
        except RuntimeError:
            of_two = []
        works = len(of_two) == len(of_one) and all(
            len(two) == 2 and two.shape[2:] == one.shape[2:] for one, two in zip(of_one, of_two, strict=True)
        )
        if not works:
            log.warning("%s says that it takes several pictures at a time, and does not; giving it one", self.name)
        return works


def _read(path: Path) -> ov.Model:
    if not path.is_file():
        raise ValueError(f"{path} does not exist; allowed after onnx: the path of an ONNX file")
    try:
        return openvino_core().read_model(path)
    except RuntimeError as error:
        raise ValueError(f"{path} is not an ONNX file that OpenVINO can read: {_first_line(error)}") from error


def _input_of(model: ov.Model, path: Path) -> tuple[int, tuple[int, int]]:
    """The batch (1, or `ANY`) and the rows and columns of a network's only input, [B, 3, H, W] float32."""
    ports = model.inputs
    shapes = [port.get_partial_shape() for port in ports]
    told = ", ".join(
        f"{_name_of(number, port)} {shape} {port.get_element_type().get_type_name()}"
        for number, (port, shape) in enumerate(zip(ports, shapes, strict=True))
    )
    wrong = ValueError(
        f"{path} is not a person detector of a known layout: its inputs are {told}; "
        f"allowed: one, [B, 3, H, W] float32, B any or 1, H and W multiples of 32 or any"
    )
    if len(ports) != 1 or ports[0].get_element_type() != ov.Type.f32:
        raise wrong
    if shapes[0].rank.is_dynamic or len(shapes[0]) != 4:
        raise wrong
    batch, channels, *sides = (ANY if side.is_dynamic else side.get_length() for side in shapes[0])
    rows, columns = (FREE_SIDE if side == ANY else side for side in sides)
    if batch not in (ANY, 1) or channels not in (-1, 3) or rows % 32 or columns % 32 or not rows * columns:
        raise wrong
    return batch, (rows, columns)


def _from_pixels(model: ov.Model, *, standardised: bool) -> ov.Model:
    """The network with everything that its family does to pixels before: [B, H, W, 3] uint8 RGB -> its outputs."""
    steps = ov.preprocess.PrePostProcessor(model)
    pixels = steps.input()
    pixels.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    pixels.tensor().set_color_format(ov.preprocess.ColorFormat.RGB)
    pixels.model().set_layout(ov.Layout("NCHW"))
    wanted = pixels.preprocess()
    wanted.convert_element_type(ov.Type.f32)
    wanted.convert_color(ov.preprocess.ColorFormat.BGR)
    if standardised:
        wanted.mean([255 * value for value in reversed(MEAN_RGB)])
        wanted.scale([255 * value for value in reversed(STD_RGB)])
    return steps.build()


def _begins_with_slices(model: ov.Model) -> bool:
    """Whether the input is cut into every other pixel at once, as YOLOX begins."""
    readers = [port.get_node().get_type_name() for port in model.inputs[0].get_target_inputs()]
    return bool(readers) and all(reader in SLICES for reader in readers)


def _name_of(number: int, port: ov.Output) -> str:
    names = sorted(port.get_names())
    return str(names[0]) if names else f"number {number}"


def _first_line(error: Exception) -> str:
    """What OpenVINO says, without where in its sources it says so."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (told or lines or ["no reason given"])[0]
