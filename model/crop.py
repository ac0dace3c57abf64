"""Pixels of a person: warp them out of the photograph, and normalise them for the network.

Crops stay uint8 until they are on the device that runs the network: a quarter of the bytes to move, and one
normalisation for training and serving alike.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.geometry import Array, affine_scale, apply_affine, invert_affine

Pixels = npt.NDArray[np.uint8]

# Of ImageNet, RGB, for pixel values in 0..1: the published networks of this family all use them.
MEAN_RGB = (0.485, 0.456, 0.406)
STD_RGB = (0.229, 0.224, 0.225)

MIN_SCALE = 0.5  # below it bilinear sampling skips pixels, so the image is averaged down first
MAX_FACTOR = 64  # of the averaging; keeps an absurdly large box from costing memory


def warp_crop(image: Pixels, image_to_crop: Array, input_hw: tuple[int, int]) -> Pixels:
    """Sample the crop of one person, bilinearly; what lies outside the image is black.

    A region more than twice as large as the crop is first averaged down by a whole factor, so that large photographs
    do not alias.

    Args:
        image: [H, W, 3] uint8, RGB.
        image_to_crop: [2, 3], see `geometry`.
        input_hw: (rows, columns) of the crop.

    Returns:
        [rows, columns, 3] uint8, RGB.
    """
    scale = affine_scale(image_to_crop)
    affine = image_to_crop
    if scale < MIN_SCALE:
        image, affine = _average_down(
            image, image_to_crop, input_hw, factor=min(math.floor(1 / scale + 1e-6), MAX_FACTOR)
        )
        if image.size == 0:
            return np.zeros((*input_hw, 3), dtype=np.uint8)
    crop = cv2.warpAffine(image, affine, (input_hw[1], input_hw[0]), flags=cv2.INTER_LINEAR)
    return np.asarray(crop, dtype=np.uint8)


def _average_down(
    image: Pixels, image_to_crop: Array, input_hw: tuple[int, int], *, factor: int
) -> tuple[Pixels, Array]:
    """Average `factor` x `factor` pixels into one, only where the crop looks; and the map from there to the crop.

    Returns an empty image when the crop looks wholly beside it.
    """
    height, width = input_hw
    corners = apply_affine(invert_affine(image_to_crop), [[-1, -1], [width, -1], [-1, height], [width, height]])
    first = np.maximum(np.floor(corners.min(axis=0)).astype(int) - factor, 0)
    last = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + factor, image.shape[1::-1])
    seen = image[first[1] : max(last[1], first[1]), first[0] : max(last[0], first[0])]
    if seen.size == 0:
        return seen, image_to_crop
    missing_rows, missing_columns = (-seen.shape[0]) % factor, (-seen.shape[1]) % factor
    if missing_rows or missing_columns:
        padded = cv2.copyMakeBorder(seen, 0, missing_rows, 0, missing_columns, cv2.BORDER_CONSTANT)
        seen = np.asarray(padded, dtype=np.uint8)
    small_hw = seen.shape[0] // factor, seen.shape[1] // factor
    small = cv2.resize(seen, (small_hw[1], small_hw[0]), interpolation=cv2.INTER_AREA)
    # A small pixel's centre p lies at factor * p + (factor - 1) / 2 of the part that was seen.
    linear = image_to_crop[:, :2] * factor
    offset = apply_affine(image_to_crop, first + (factor - 1) / 2)
    return np.asarray(small, dtype=np.uint8), np.column_stack((linear, offset))


def normalise(crops: Tensor) -> Tensor:
    """The network's input from pixels, on the device that the pixels are on.

    Args:
        crops: [B, H, W, 3] uint8, RGB.

    Returns:
        [B, 3, H, W] float32 in channels-last memory, zero mean and unit variance over ImageNet.
    """
    return standardise(crops, torch.tensor(MEAN_RGB, device=crops.device), torch.tensor(STD_RGB, device=crops.device))


def standardise(crops: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """As `normalise`, with the constants (`MEAN_RGB`, `STD_RGB`) on the device already: [3] each."""
    return ((crops.float() / 255.0 - mean) / std).permute(0, 3, 1, 2)
