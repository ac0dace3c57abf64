"""The network by OpenVINO behind torch's face, for servers that want an `nn.Module`.

As `model.openvino_runtime`, in the same precision and the same two compiled forms, with two differences: it takes
floats that are already normalised, and calls of several threads at a time. Import it by `rival_models`, which keeps
OpenVINO from telling its makers.
"""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
import torch
from torch import Tensor, nn

from model.btranspose import BTranspose
from model.openvino_runtime import PART, PRECISIONS, convert_module, keep

Floats = npt.NDArray[np.float32]


class OpenVinoNet(nn.Module):
    """See the module. A single crop that is alone has all cores; of several, in one call or in calls of several
    threads, each stream of cores takes the next ones when it is free.

    Args:
        net: the network; left as it is.
        checkpoint_sha256: names it in the folder of what is kept.
        dtype: torch.float32 or torch.bfloat16.
        cache_dir: where converted and compiled networks are kept; None: nowhere.
    """

    def __init__(
        self, net: BTranspose, *, checkpoint_sha256: str, dtype: torch.dtype, cache_dir: Path | None = None
    ) -> None:
        super().__init__()
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": PRECISIONS[dtype]}
        if cache_dir is not None:
            cache_dir.mkdir(parents=True, exist_ok=True)
            settings["CACHE_DIR"] = str(cache_dir)
        self._core = ov.Core()
        converted = _converted(self._core, net, checkpoint_sha256, cache_dir)
        one = self._core.compile_model(converted, "CPU", settings | {"PERFORMANCE_HINT": "LATENCY"})
        many = self._core.compile_model(converted, "CPU", settings | {"PERFORMANCE_HINT": "THROUGHPUT"})
        self._one = one.create_infer_request()
        self._streams = ov.AsyncInferQueue(many, many.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._streams.set_callback(_put)
        self._heatmaps_shape = (net.config.num_keypoints, *net.config.heatmap_hw)
        self._calls = 0
        self._counting = threading.Lock()
        self._starting = threading.Lock()

    def forward(self, crops: Tensor) -> Tensor:
        """[B, 3, H, W] float32 normalised -> [B, K, H/4, W/4] float32."""
        with self._counting:
            self._calls += 1
            alone = self._calls == 1  # nobody else is, until this call is over: `_one` has one caller at a time
        try:
            images = crops.contiguous().numpy()
            heatmaps = self._one.infer([images])[0] if alone and len(images) == 1 else self._many(images)
        finally:
            with self._counting:
                self._calls -= 1
        return torch.from_numpy(heatmaps)

    def _many(self, images: Floats) -> Floats:
        """In small parts, as `OpenVinoRuntime.heatmaps`."""
        found = np.empty((len(images), *self._heatmaps_shape), dtype=np.float32)
        part = PART if len(images) >= PART * len(self._streams) else 1
        firsts = range(0, len(images), part)
        done = threading.Semaphore(0)
        for first in firsts:
            with self._starting:  # the queue looks for a free stream and takes it in two steps
                self._streams.start_async([images[first : first + part]], (found[first : first + part], done))
        for _ in firsts:  # `wait_all` would wait for the parts of other threads, too
            done.acquire()
        return found


def _put(request: ov.InferRequest, asked: tuple[Floats, threading.Semaphore]) -> None:
    """A stream is done with its part: keep the heatmaps, and tell who waits for them."""
    place, done = asked
    place[:] = request.get_output_tensor().data
    done.release()


def _converted(core: ov.Core, net: BTranspose, checkpoint_sha256: str, cache_dir: Path | None) -> ov.Model:
    """The network for OpenVINO, from the folder or anew."""
    crops = torch.zeros(2, 3, *net.config.input_hw)
    if cache_dir is None:
        return convert_module(net, crops)
    key = json.dumps([checkpoint_sha256, net.config.to_json(), ov.__version__, torch.__version__], sort_keys=True)
    kept = cache_dir / f"floats-{hashlib.sha256(key.encode()).hexdigest()[:24]}.xml"
    if not kept.exists():
        keep(convert_module(net, crops), kept)
    return core.read_model(kept)
