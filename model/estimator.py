"""From persons in photographs to keypoints: the one path that evaluation and serving share.

    image + boxes -> crops (uint8) -> network -> heatmaps -> points in the crop -> points in the image

What is measured is therefore what is served. Knows nothing of files, requests or threads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from model.attention import AttentionCollector
from model.btranspose import BTranspose
from model.crop import Pixels, warp_crop
from model.dependency import JointAttention, read_attention
from model.expected_oks import KeypointDecoder
from model.geometry import Array, apply_affine, box_to_affine, invert_affine
from model.heatmap import flip_heatmaps
from model.levels import LEVELS, Level
from model.runtime import Runtime, TorchRuntime
from model.variants import PoseConfig

GUESS_BELOW = 0.2  # a keypoint's score; so little OKS is earned by a guess


@dataclass(frozen=True)
class PersonCrop:
    """The crop of one person and the way back: pixels [H, W, 3] uint8 RGB, and the affine [2, 3] image -> crop."""

    pixels: Pixels
    image_to_crop: Array


@dataclass(frozen=True)
class Keypoints:
    """K keypoints of one person: points [K, 2] float64 (x, y) in the frame that the producer names, scores [K] 0..1."""

    points: Array
    scores: npt.NDArray[np.float64]


@dataclass(frozen=True)
class ExplainedKeypoints(Keypoints):
    """Keypoints, and the attention behind each of them at the levels that were asked for."""

    attention: Mapping[Level, JointAttention]


def crop_person(image: Pixels, box_xywh: npt.ArrayLike, config: PoseConfig) -> PersonCrop:
    """Crop one person: image [H, W, 3] uint8 RGB, box [4] in image pixels. Raises ValueError for an impossible box."""
    image_to_crop = box_to_affine(box_xywh, config.input_hw)
    return PersonCrop(warp_crop(image, image_to_crop, config.input_hw), image_to_crop)


def keypoints_to_image(keypoints: Keypoints, crop: PersonCrop) -> Keypoints:
    """The same keypoints in the image frame instead of the crop frame."""
    return Keypoints(apply_affine(invert_affine(crop.image_to_crop), keypoints.points), keypoints.scores)


def pose_score(keypoint_scores: npt.NDArray[np.float64], box_score: float = 1.0) -> float:
    """Score of a whole pose, 0..1: the OKS that it is expected to earn, times the box's score.

    OKS is the mean over the joints that are annotated, and those are the ones that can be seen: of joints with a score
    of 0.1 a sixth are annotated, of those with 0.9 nearly all. So each joint counts with its own score as weight.
    """
    weight = keypoint_scores.sum()
    return box_score * float((keypoint_scores**2).sum() / weight) if weight > 0 else 0.0


class PoseEstimator:
    """The network on one device: crops in, keypoints in the crop frame out. One call at a time.

    Args:
        net: the network; it is moved to `device` and put in evaluation mode.
        device: where it runs.
        dtype: torch.float32, or torch.bfloat16 for autocast.
        runtime: runs the fast path in place of torch; attention is always collected by torch.
    """

    def __init__(
        self,
        net: BTranspose,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        runtime: Runtime | None = None,
    ) -> None:
        self._torch = TorchRuntime(net, device, dtype)
        self.runtime = runtime or self._torch
        self.net = self._torch.net
        self.config = net.config
        self._decoder = KeypointDecoder(net.config)

    @torch.inference_mode()
    def estimate(self, crops: Sequence[Pixels], *, flip_test: bool = False) -> list[Keypoints]:
        """Keypoints of each crop, in the crop frame and in the same order.

        Args:
            crops: [H, W, 3] uint8 RGB each, of `config.input_hw`.
            flip_test: also run the mirrored crops and average the heatmaps; twice the work.

        Raises ValueError for a crop of another shape.
        """
        if not crops:
            return []
        pixels = self._stacked(crops)
        heatmaps = self.runtime.heatmaps(pixels)
        if flip_test:
            mirrored = np.ascontiguousarray(pixels[:, :, ::-1])
            flipped = flip_heatmaps(self.runtime.heatmaps(mirrored), self.config.skeleton.flip_order)
            heatmaps = (heatmaps + flipped) / 2
        return self.decode(heatmaps)

    @torch.inference_mode()
    def explain(self, crops: Sequence[Pixels], *, levels: Collection[Level] = LEVELS) -> list[ExplainedKeypoints]:
        """Keypoints of each crop with the attention behind them, all of the same pass.

        The crops run one at a time: the attention matrices of one person may take a hundred megabytes.

        Args:
            crops: as `estimate` has them.
            levels: where attention is collected.

        Raises ValueError for a crop of another shape.
        """
        return [self._explain(self._stacked([crop]), levels) for crop in crops]

    def _explain(self, crop: Pixels, levels: Collection[Level]) -> ExplainedKeypoints:
        collector = AttentionCollector(levels)
        with self._torch.autocast():
            heatmaps = self.net(self._torch.batch(crop), collector)
        (found,) = self.decode(heatmaps)
        attention = {}
        for level in levels:
            last_layers = (collector.weights_out(level) or [])[-self.config.attention_layers(level) :]
            weights = [layer[0] for layer in last_layers]  # of the one crop
            attention[level] = read_attention(weights, found.points, self.config.tokens_hw, level)
        return ExplainedKeypoints(found.points, found.scores, attention)

    def decode(self, heatmaps: torch.Tensor) -> list[Keypoints]:
        """Keypoints of each crop, in the crop frame; heatmaps [B, K, H, W] of this network."""
        with _one_thread():
            points, scores = self._decoder(heatmaps)
        pairs = zip(points.double().cpu().numpy(), scores.double().cpu().numpy(), strict=True)
        return [Keypoints(*pair) for pair in pairs]

    def _stacked(self, crops: Sequence[Pixels]) -> Pixels:
        """[B, H, W, 3]."""
        for crop in crops:
            if crop.shape != (*self.config.input_hw, 3):
                raise ValueError(f"crop has shape {crop.shape}; allowed: {(*self.config.input_hw, 3)}")
        return np.stack(crops)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Small operations, on a CPU, without its other cores.

    Where these have other work, each operation waits until they have time for their share: under load that takes tens
    of milliseconds, for work of one.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
