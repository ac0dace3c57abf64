"""What runs the network: crops in, heatmaps out. `PoseEstimator` does all the rest, whichever it is.

A runtime takes pixels, for normalising belongs to the device, and leaves heatmaps where they are, for decoding does
too: little travels either way. It is used by one thread at a time.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model.btranspose import BTranspose
from model.crop import MEAN_RGB, STD_RGB, Pixels, normalise, standardise


class Runtime(Protocol):
    """Runs one network.

    name: as settings call it. device: where it runs, as torch names devices. precision: "float32", "bfloat16", ...
    """

    name: str
    device: torch.device
    precision: str

    def heatmaps(self, crops: Pixels) -> Tensor:
        """[B, H, W, 3] uint8 RGB -> [B, K, H/4, W/4] float on the device."""


class TorchRuntime:
    """The network as torch runs it, on a CPU or on one CUDA device.

    Args:
        net: moved to `device` in channels-last memory and put in evaluation mode.
        device: where it runs.
        dtype: torch.float32, or torch.bfloat16 for autocast.
    """

    name = "torch"

    def __init__(self, net: BTranspose, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        if dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(f"dtype is {dtype}; allowed: torch.float32, torch.bfloat16")
        self.device = torch.device(device)
        self.dtype = dtype
        self.precision = str(dtype).removeprefix("torch.")
        self.net = net.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    @torch.inference_mode()
    def heatmaps(self, crops: Pixels) -> Tensor:
        with self.autocast():
            return self.net(self.batch(crops))

    def batch(self, crops: Pixels) -> Tensor:
        """[B, H, W, 3] uint8 -> [B, 3, H, W] normalised, on the device."""
        return normalise(torch.from_numpy(crops).to(self.device))

    def autocast(self) -> torch.autocast:
        """The precision, for a `with` block."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)


class FromPixels(nn.Module):
    """The network with its normalisation, for runtimes that take a whole graph: [B, H, W, 3] uint8 -> heatmaps.

    Args:
        net: the network.
        dtype: what its weights are in; heatmaps come in float32 whatever it is.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.net = net
        self._dtype = dtype
        # On the device with the weights: a graph that is recorded there may not wait for the host.
        self.register_buffer("mean", torch.tensor(MEAN_RGB), persistent=False)
        self.register_buffer("std", torch.tensor(STD_RGB), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.net(standardise(pixels, self.mean, self.std).to(self._dtype)).float()


def drift(
    fast: Runtime, exact: Runtime, input_hw: tuple[int, int], *, persons: int = 2, crops: Pixels | None = None
) -> float:
    """How far a runtime's heatmaps are from those of another, as a part of the largest value: 0 is the same.

    Both look at the same crops, one alone and all together, for the two may take different paths.

    Args:
        crops: [B, H, W, 3] uint8; if none are given, `noise_crops` of so many persons.
    """
    crops = noise_crops(input_hw, persons) if crops is None else crops
    worst = largest = 0.0
    for count in (1, len(crops)):
        expected = exact.heatmaps(crops[:count]).float().cpu()
        found = fast.heatmaps(crops[:count]).float().cpu()
        if found.shape != expected.shape or not bool(torch.isfinite(found).all()):
            return float("inf")
        worst = max(worst, float((found - expected).abs().max()))
        largest = max(largest, float(expected.abs().max()))
    return worst / max(largest, 1e-6)


def noise_crops(input_hw: tuple[int, int], persons: int) -> Pixels:
    """[persons, H, W, 3] uint8, noise of different coarseness: something to compare runtimes on."""
    return np.stack([_noise(input_hw, cell=4 * 2 ** (number % 5)) for number in range(persons)])


def cloud_crops(input_hw: tuple[int, int], persons: int) -> Pixels:
    """[persons, H, W, 3] uint8, clouds with the spectrum and the contrast of photographs, mostly grey.

    A trained network sees more in them than in noise: squares of colour give it heatmaps of a tenth, and what is small
    against a person's heatmaps is large against those.
    """
    rng = np.random.default_rng(0)
    height, width = input_hw
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    amplitude = 1 / np.maximum(frequency, 1 / max(input_hw))  # of photographs: one over the frequency

    def cloud() -> npt.NDArray[np.float64]:
        return np.fft.irfft2(np.fft.rfft2(rng.standard_normal(input_hw)) * amplitude, s=input_hw)

    crops = []
    for _ in range(persons):
        light, first, second = cloud(), cloud(), cloud()
        colours = np.stack((light, 0.9 * light + 0.3 * first, 0.8 * light + 0.4 * second), axis=-1)
        crops.append((colours - colours.mean()) / colours.std() * 50 + 115)
    return np.stack(crops).clip(0, 255).astype(np.uint8)


def _noise(input_hw: tuple[int, int], *, cell: int) -> npt.NDArray[np.uint8]:
    """[H, W, 3] squares of random colours, `cell` pixels wide."""
    rows, columns = (-(-side // cell) for side in input_hw)
    colors = np.random.default_rng(cell).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    return colors.repeat(cell, axis=0).repeat(cell, axis=1)[: input_hw[0], : input_hw[1]]
