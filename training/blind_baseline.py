"""What a network would reach that does not look at the picture: the floor that a trained one must leave behind.

Two such networks. One predicts nothing, heatmaps of zero. The other predicts the same for everybody: the mean heatmap
of each joint, or the mean pose in the frame of the crop. The means are of the very persons that are measured, so no
constant prediction has a lower loss. A network whose loss does not fall well below has learned where people's joints
usually are, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from model.estimator import PoseEstimator
from model.geometry import apply_affine, box_to_affine, invert_affine
from model.heatmap import encode_heatmaps, target_weights
from model.variants import PoseConfig
from training.coco import Person
from training.loss import heatmap_mse
from training.person_accuracy import Floats, TruePoses
from training.predict import crop_each


def heatmap_losses(estimator: PoseEstimator, persons: Sequence[Person], *, batch_size: int = 32) -> dict[str, float]:
    """The squared error of heatmaps, as training has it, over persons in their annotated boxes, not augmented.

    `network`, without a flip test; `nothing`, heatmaps of zero; `constant`, the best heatmap for all persons together.
    """
    config, total, count = estimator.config, 0.0, 0
    nothing, weighted, weight = 0.0, torch.zeros(()), torch.zeros(())
    crops = crop_each(persons, config)
    with tqdm(total=len(persons), desc="heatmap loss", unit="person", dynamic_ncols=True) as bar:
        while batch := list(islice(crops, batch_size)):
            target, weights = _targets([person for person, _ in batch], config)
            pixels = np.stack([crop.pixels for _, crop in batch])
            predicted = estimator.runtime.heatmaps(pixels).float().cpu()
            total += float(heatmap_mse(predicted, target, weights)) * len(batch)
            nothing += float(heatmap_mse(torch.zeros_like(target), target, weights)) * len(batch)
            weighted = weighted + (target * weights[:, :, None, None]).double().sum(dim=0)
            weight = weight + weights.double().sum(dim=0)
            count += len(batch)
            bar.update(len(batch))
    # sum of w (t - m)^2 = sum of w t^2 - (sum of w t)^2 / sum of w, where m is the weighted mean
    explained = weighted.square() / weight.clamp(min=1)[:, None, None]
    constant = max(0.0, nothing / count - 0.5 * float(explained.mean()) / count)
    return {"network": total / count, "nothing": nothing / count, "constant": constant}


def _targets(persons: Sequence[Person], config: PoseConfig) -> tuple[Tensor, Tensor]:
    """Target heatmaps [B, K, H, W] and weights [B, K]."""
    points = torch.from_numpy(np.stack(list(_points_crop(persons, config)))).float()
    labelled = torch.from_numpy(np.stack([person.labelled for person in persons]))
    sigma = config.heatmap_sigma
    return (
        encode_heatmaps(points, config.heatmap_hw, sigma),
        target_weights(points, labelled, config.heatmap_hw, sigma),
    )


def _points_crop(persons: Sequence[Person], config: PoseConfig) -> Iterator[Floats]:
    for person in persons:
        yield apply_affine(box_to_affine(person.box_xywh, config.input_hw), person.points_image)


def mean_poses(truth: TruePoses, input_hw: tuple[int, int]) -> Floats:
    """The mean pose in each person's box: [N, K, 2] in image pixels. A joint that nobody has lies in the centre."""
    affines = [box_to_affine(box, input_hw) for box in truth.box_xywh]
    points = np.stack([apply_affine(affine, one) for affine, one in zip(affines, truth.points, strict=True)])
    counts = truth.labelled.sum(axis=0)[:, None]
    center = (np.array(input_hw[::-1]) - 1) / 2
    sums = np.where(truth.labelled[..., None], points, 0).sum(axis=0)
    mean = np.where(counts > 0, sums / np.maximum(counts, 1), center)
    return np.stack([apply_affine(invert_affine(affine), mean) for affine in affines])


def describe_baselines(
    estimator: PoseEstimator, persons: Sequence[Person], accuracy_of_mean_pose: dict[str, Any], *, batch_size: int
) -> dict[str, Any]:
    """Losses, and how accurate the mean pose is: plain JSON."""
    return {
        "heatmap_loss": heatmap_losses(estimator, persons, batch_size=batch_size),
        "mean_pose": {"mean_oks": accuracy_of_mean_pose["mean_oks"], "pck": accuracy_of_mean_pose["pck"]["all"]},
    }
