"""A detector from what a setting says: `none`, `embedded`, or `onnx:PATH`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from model.crop import Pixels
from model.detection import DetectionLimits, PersonDetector
from model.finder_checkpoint import load_finder
from model.finder_detector import FinderDetector, Maps
from model.person_finder import PersonFinder
from model.runtime import FromPixels, noise_crops

NONE, EMBEDDED, ONNX = "none", "embedded", "onnx:"
ALLOWED = f"{NONE}, {EMBEDDED}, or {ONNX}PATH"
BUNDLED_FINDER = Path(__file__).resolve().parents[1] / "checkpoints" / "person-finder.safetensors"

# Of the largest value of the maps, which are logits and logarithms: by how much OpenVINO may differ from torch.
MAX_DRIFT = 0.002


def load_detector(
    setting: str,
    *,
    threads: int = 0,
    cache_dir: Path | None = None,
    limits: DetectionLimits | None = None,
    embedded: Path = BUNDLED_FINDER,
) -> PersonDetector | None:
    """The detector of a setting; None for `none`. Takes seconds: networks are converted, compiled and tried.

    Args:
        setting: `none`, `embedded`, or `onnx:PATH`.
        threads: of the CPU; 0: as the runtime chooses.
        cache_dir: where converted networks may be kept; None: nowhere.
        limits: which boxes are told; None: those that suit the detector.
        embedded: the checkpoint of the embedded detector.

    Raises ValueError for another setting, and for a file that is missing, damaged or not a detector's.
    """
    if setting == NONE:
        return None
    if setting == EMBEDDED:
        net, card = load_finder(embedded)
        return FinderDetector(_maps(net, card.sha256, threads=threads, cache_dir=cache_dir), card.config, limits)
    if setting.startswith(ONNX) and len(setting) > len(ONNX):
        if find_spec("openvino") is None:
            raise ValueError(f"detector is {setting!r}, and openvino is not installed; try: pip install openvino")
        from model.onnx_detector import OnnxDetector

        path = Path(setting.removeprefix(ONNX)).expanduser()
        return OnnxDetector(path, threads=threads, cache_dir=cache_dir, limits=limits)
    raise ValueError(f"detector is {setting!r}; allowed: {ALLOWED}")


def _maps(net: PersonFinder, sha256: str, *, threads: int, cache_dir: Path | None) -> Maps:
    """The network by OpenVINO where it is installed, if it answers as torch does; otherwise by torch."""
    exact = torch_maps(net)
    if find_spec("openvino") is None:
        return exact
    from model.finder_openvino import openvino_maps

    side = net.config.input_side
    for fresh in (False, True):  # what was kept may come from another version of this program
        fast = openvino_maps(net, sha256, threads=threads, cache_dir=cache_dir, fresh=fresh)
        drift = maps_drift(fast, exact, side)
        if drift <= MAX_DRIFT:
            return fast
    raise ValueError(
        f"the embedded detector by OpenVINO answers otherwise than by torch, by {drift:.2%} of the largest value; "
        f"allowed: {MAX_DRIFT:.1%}"
    )


def torch_maps(net: nn.Module) -> Maps:
    """The network by torch, as it is set up for the process."""
    from_pixels = FromPixels(net).eval()

    @torch.inference_mode()
    def maps(pixels: Pixels) -> Tensor:
        return from_pixels(torch.from_numpy(pixels))

    return maps


def maps_drift(fast: Maps, exact: Maps, side: int) -> float:
    """How far one answers from the other, as a part of the largest value, for noise alone and two of it together."""
    pixels = noise_crops((side, side), 2)
    worst = 0.0
    for part in (pixels[:1], pixels):
        expected, found = exact(np.ascontiguousarray(part)), fast(part)
        if found.shape != expected.shape or not bool(torch.isfinite(found).all()):
            return float("inf")
        worst = max(worst, float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-6)))
    return worst
