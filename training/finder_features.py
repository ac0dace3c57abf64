"""What a trunk that does not learn sees in the windows of a run, kept in a folder: most of a step is then only read.

Half-precision numbers in one file for each window, with the boxes of its people. Emptied by hand.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from torch import Tensor
from torch.utils.data import Dataset

from model.openvino_runtime import convert_module, openvino_core, run
from model.person_finder import Trunk
from training.finder_data import Windows
from training.recolour import recolour, standardised

FeatureExample = tuple[Tensor, Tensor]


class TrunkFeatures(Dataset[FeatureExample]):
    """Windows as a trunk sees them, indexed by (epoch, photograph).

    An example is what the trunk gives [C, S/8, S/8] float32, rounded to half precision, and edges [MAX_PERSONS, 4]
    float32 (see `training.finder_data.Windows`).

    Args:
        windows: of which it has so many views, that they are worth keeping.
        trunk: in evaluation mode, left as it is.
        folder: made if it is not there; may be shared by runs, and by processes.
    """

    def __init__(self, windows: Windows, trunk: Trunk, folder: Path) -> None:
        self.windows = windows
        self.folder = folder
        self._key = _key(windows, trunk)
        folder.mkdir(parents=True, exist_ok=True)
        side = windows.window_side
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        model = convert_module(trunk, torch.zeros(1, 3, side, side))
        self._see: ov.InferRequest = openvino_core().compile_model(model, "CPU", settings).create_infer_request()

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: tuple[int, int]) -> FeatureExample:
        kept = self.folder / f"{self._key}-{self.windows.view_of(index[0])}-{index[1]}.npz"
        try:
            with kept.open("rb") as file, np.load(file) as stored:
                features, edges = stored["features"], stored["edges"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # not there, or not whole
            features, edges = self._make(index, kept)
        return torch.from_numpy(features.astype(np.float32)), torch.from_numpy(edges)

    def _make(self, index: tuple[int, int], kept: Path) -> tuple[np.ndarray, np.ndarray]:
        pixels, edges, colours = self.windows[index]
        image = standardised(recolour(pixels[None], colours[None])).contiguous().numpy()
        features = run(self._see, image)[0][0].astype(np.float16)
        unfinished = kept.with_suffix(f".{os.getpid()}.npz")
        np.savez(unfinished, features=features, edges=edges.numpy())
        unfinished.replace(kept)
        return features, edges.numpy()


def _key(windows: Windows, trunk: Trunk) -> str:
    """Of everything that decides what is kept."""
    parts = {
        "window_side": windows.window_side,
        "input_side": windows.input_side,
        "augmentation": str(windows.augmentation),
        "seed": windows.seed,
        "pictures": [(str(picture.path), picture.boxes_xywh.tolist()) for picture in windows.pictures],
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for name, weight in sorted(trunk.state_dict().items()):
        digest.update(name.encode() + weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
