"""The network on a CPU by OpenVINO: several times as fast as torch, with the same numbers, or nearly, in int8.

The module is converted once, with its normalisation, and kept in a folder together with what the compiler made of it,
so that the next start is quick. Two compiled forms are used: one for the shortest answer to one person (all cores work
on it), one for the most persons a second (each stream of cores has its own part of a batch).

Knows nothing of collecting attention: that is torch's.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

# OpenVINO tells its makers over the network that it was imported, unless it does not find this module.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import numpy as np
import numpy.typing as npt
import openvino as ov
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import Tensor, nn

from model.btranspose import BTranspose
from model.crop import Pixels
from model.quantised import INT8, read_quantised
from model.runtime import FromPixels

log = logging.getLogger(__name__)

PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}
INPUTS = {torch.uint8: ov.Type.u8, torch.float32: ov.Type.f32}
PART = 2  # persons that a stream runs at a time; more are no cheaper
FORMAT = 1  # of what is kept; raised when this module changes what it makes of a network


class OpenVinoRuntime:
    """See the module.

    Args:
        net: the network; left as it is.
        checkpoint_sha256: names it in the folder of what is kept.
        dtype: torch.float32 or torch.bfloat16.
        threads: of the CPU; 0: as OpenVINO chooses.
        cache_dir: where converted and compiled networks are kept; None: nowhere.
        fresh: convert anew, whatever is kept.
        quantised: the network's file in int8, run in its place; `dtype` is then that of what is not quantised in it.

    Raises ValueError for a folder that cannot be written, and as `model.quantised.read_quantised`.
    """

    name = "openvino"
    device = torch.device("cpu")

    def __init__(
        self,
        net: BTranspose,
        *,
        checkpoint_sha256: str,
        dtype: torch.dtype = torch.float32,
        threads: int = 0,
        cache_dir: Path | None = None,
        fresh: bool = False,
        quantised: Path | None = None,
    ) -> None:
        if dtype not in PRECISIONS:
            raise ValueError(f"dtype is {dtype}; allowed: torch.float32, torch.bfloat16")
        self.precision = str(dtype).removeprefix("torch.") if quantised is None else INT8
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": PRECISIONS[dtype]}
        if cache_dir is not None:
            prepare(cache_dir)
            settings["CACHE_DIR"] = str(cache_dir)
        core = openvino_core()
        if quantised is None:
            converted = kept_or_made(
                core, _key(net, checkpoint_sha256), lambda: convert(net), cache_dir=cache_dir, fresh=fresh
            )
        else:
            converted = read_quantised(core, quantised, net.config, checkpoint_sha256=checkpoint_sha256)
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        one = core.compile_model(converted, "CPU", settings | {"PERFORMANCE_HINT": "LATENCY"})
        many = core.compile_model(converted, "CPU", settings | {"PERFORMANCE_HINT": "THROUGHPUT"})
        self._one = one.create_infer_request()
        self._heatmaps_shape = (net.config.num_keypoints, *net.config.heatmap_hw)
        self._streams = ov.AsyncInferQueue(many, many.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._streams.set_callback(_put)

    def heatmaps(self, crops: Pixels) -> Tensor:
        persons = len(crops)
        if persons == 1 or len(self._streams) == 1:
            return torch.from_numpy(run(self._one, crops)[0])
        found = np.empty((persons, *self._heatmaps_shape), dtype=np.float32)
        # Small parts, taken by whichever stream is free: a core that other work disturbs does not hold up the rest.
        part = PART if persons >= PART * len(self._streams) else 1
        for first in range(0, persons, part):
            self._streams.start_async([crops[first : first + part]], found[first : first + part])
        self._streams.wait_all()
        return torch.from_numpy(found)


def _put(request: ov.InferRequest, place: npt.NDArray[np.float32]) -> None:
    """A stream is done with its part: keep the heatmaps before the next part overwrites them."""
    place[:] = request.get_output_tensor().data


def run(request: ov.InferRequest, images: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Every output of a network with one input, which is these images.

    Not by `infer`, where what goes wrong is lost: it returns as if all was well (OpenVINO 2026.4), and leaves its task
    in a queue, from which another network of this process later runs it. If the first one is gone by then, the process
    ends.

    Raises RuntimeError if the network fails.
    """
    request.start_async([images])
    request.wait()
    return [np.array(tensor.data) for tensor in request.output_tensors]


@cache
def openvino_core() -> ov.Core:
    """One for the process, and never let go.

    Each gives the thread that makes it a stack for signal handlers, and takes the one before back when it ends: ended
    in another order than made, they leave the thread with a stack that is gone, and the next signal ends the process.
    """
    return ov.Core()


def prepare(cache_dir: Path) -> None:
    """Make the folder of what is kept. Raises ValueError if it cannot be written."""
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=cache_dir).close()
    except OSError as error:
        raise ValueError(f"cache_dir is {cache_dir}, which cannot be written: {error.strerror}") from error


def kept_or_made(
    core: ov.Core, key: str, make: Callable[[], ov.Model], *, cache_dir: Path | None, fresh: bool = False
) -> ov.Model:
    """A network for OpenVINO, from the folder of what is kept or anew.

    Args:
        key: names it in the folder.
        make: converts it.
        cache_dir: the folder, which is there; None: nothing is kept.
        fresh: convert anew, whatever is kept.
    """
    kept = None if cache_dir is None else cache_dir / f"{key}.xml"
    if kept is not None and not fresh and kept.exists() and kept.with_suffix(".bin").exists():
        try:
            return core.read_model(kept)
        except RuntimeError:
            log.warning("%s cannot be read; converting the network again", kept)
    log.info("converting the network for OpenVINO; this is done once")
    model = make()
    if kept is not None:
        keep(model, kept)
    return model


def keep(model: ov.Model, kept: Path, *, check: Callable[[Path], object] = lambda _: None) -> None:
    """Write both files, the one that is looked for last, so that another process never reads half of them.

    Args:
        kept: NAME.xml; NAME.bin will lie beside it.
        check: is given the finished file before it takes its place; what it raises prevents that.
    """
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        written = Path(folder) / kept.name
        ov.save_model(model, written, compress_to_fp16=False)
        check(written)
        written.with_suffix(".bin").replace(kept.with_suffix(".bin"))
        written.replace(kept)


def convert(net: BTranspose) -> ov.Model:
    """The network with its normalisation, for any number of crops at a time."""
    return convert_module(FromPixels(net), torch.zeros(2, *net.config.input_hw, 3, dtype=torch.uint8))


def convert_module(module: nn.Module, crops: Tensor) -> ov.Model:
    """A module for any number of crops at a time, of the type and size of these: uint8 or float32.

    The front end is called directly: `openvino.convert_model` brings its own machinery of command lines and statistics.
    """
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # sizes of this network become constants of the graph: that is meant
        traced = torch.jit.trace(module.eval(), crops, check_trace=False)  # type: ignore[no-untyped-call]
    front_end = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced)  # must outlive the conversion
    model = front_end.convert(front_end.load(decoder))
    model.inputs[0].get_node().set_partial_shape(ov.PartialShape([-1, *crops.shape[1:]]))
    model.inputs[0].get_node().set_element_type(INPUTS[crops.dtype])
    model.validate_nodes_and_infer_types()
    return model


def _key(net: BTranspose, checkpoint_sha256: str) -> str:
    return key_of(checkpoint_sha256, net.config.to_json())


def key_of(checkpoint_sha256: str, config: dict[str, Any]) -> str:
    """The name of a converted network: of these weights in this shape, by what converts it now."""
    parts = [FORMAT, checkpoint_sha256, config, ov.__version__, torch.__version__]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
