"""Drawn photographs and persons, and small networks that are alive: what the tests look at instead of COCO."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from model.btranspose import BTranspose
from model.crop import Pixels
from model.geometry import Array
from model.skeleton import COCO, Skeleton
from model.variants import PoseConfig, variant

TINY_HW = (64, 48)

# One colour for each joint, far apart: 17 hues of full saturation.
JOINT_COLORS = tuple(
    tuple(int(v) for v in cv2.cvtColor(np.array([[[hue, 255, 255]]], dtype=np.uint8), cv2.COLOR_HSV2RGB)[0, 0])
    for hue in np.linspace(0, 169, len(COCO)).astype(int)
)

# A standing person seen from the front, in a box of 1 x 1. The person's left is on the right of the picture.
STANDING = np.array(
    [
        [0.50, 0.06],
        [0.54, 0.04],
        [0.46, 0.04],
        [0.59, 0.06],
        [0.41, 0.06],
        [0.70, 0.20],
        [0.30, 0.20],
        [0.82, 0.36],
        [0.18, 0.36],
        [0.90, 0.50],
        [0.10, 0.50],
        [0.62, 0.54],
        [0.38, 0.54],
        [0.64, 0.76],
        [0.36, 0.76],
        [0.66, 0.96],
        [0.34, 0.96],
    ]
)


def plain_skeleton(count: int) -> Skeleton:
    """So many keypoints, of which nothing is known."""
    return Skeleton.to_draw([f"point_{number}" for number in range(count)], [])


def tiny_config(**changes: Any) -> PoseConfig:
    """A network of every kind of part, of which a step takes milliseconds."""
    small: dict[str, Any] = {
        "key": "tiny",
        "label": "Tiny",
        "conv_planes": (8, 8),
        "mhsa_planes": (16,),
        "blocks": (1, 1, 1),
        "input_hw": TINY_HW,
        "model_dim": 32,
        "encoder_layers": 1,
        "encoder_heads": 4,
        "encoder_ff_dim": 64,
        "heatmap_sigma": 1.5,
    }
    return replace(variant("c3a1-4"), **(small | changes))


def lively_network(config: PoseConfig, *, seed: int = 0) -> BTranspose:
    """A network whose every part matters: a fresh one answers almost zero, whatever it sees."""
    torch.manual_seed(seed)
    net = BTranspose(config)
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            randomise_norm(module)
        elif name.startswith("head.") and isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight)
    for name, parameter in net.named_parameters():
        if name.endswith(("_table", "position_embedding")):
            nn.init.normal_(parameter, std=0.5)
    return net.eval()


def randomise_norm(norm: nn.BatchNorm2d) -> None:
    """Statistics and factors as after training, so that leaving one out shows."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    nn.init.normal_(norm.running_mean, std=0.1)
    nn.init.uniform_(norm.running_var, 0.5, 1.5)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.normal_(norm.bias, std=0.1)


def noise_photograph(height: int, width: int, *, seed: int = 0, blur: float = 2.0) -> Pixels:
    """Blurred coloured noise: everywhere something, nowhere a sharp edge."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(height, width, 3)), (0, 0), blur)
    return np.asarray(np.clip(128 + 50 * noise / noise.std(), 0, 255), dtype=np.uint8)


def ramp_photograph(height: int, width: int) -> Pixels:
    """Red is x and green is y (at most 256 pixels each way), blue is 200: every pixel tells where it is."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack((columns, rows, np.full_like(rows, 200)), axis=-1).astype(np.uint8)


def blob_photograph(height: int, width: int, point: Array, *, sigma: float) -> Pixels:
    """One round light spot on black, centred on a real-valued point."""
    rows, columns = np.mgrid[:height, :width]
    light = 255 * np.exp(-((columns - point[0]) ** 2 + (rows - point[1]) ** 2) / (2 * sigma**2))
    return np.repeat(np.rint(light)[..., None], 3, axis=-1).astype(np.uint8)


def draw_joints(image: Pixels, points: Array, *, radius: int) -> None:
    """A disc of each joint's own colour, in place."""
    for point, color in zip(points, JOINT_COLORS, strict=True):
        cv2.circle(image, (round(float(point[0])), round(float(point[1]))), radius, color, -1)


def draw_figure(image: Pixels, points: Array) -> None:
    """A stick figure: grey limbs, coloured joints, in place."""
    for first, second in COCO.limbs:
        ends = [(round(float(x)), round(float(y))) for x, y in points[[first, second]]]
        cv2.line(image, ends[0], ends[1], (128, 128, 128), 2)
    draw_joints(image, points, radius=3)


def figure_points(box_xywh: Array) -> Array:
    """Where the joints of a standing person are who fills a box."""
    return np.asarray(box_xywh[:2] + STANDING * (box_xywh[2:] - 1))


def coco_annotation(number: int, image_id: int, box_xywh: Array, points: Array) -> dict[str, Any]:
    """An annotation of COCO's layout with every joint visible."""
    keypoints = np.column_stack((points, np.full(len(COCO), 2)))
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [float(v) for v in box_xywh],
        "area": float(0.6 * box_xywh[2] * box_xywh[3]),
        "num_keypoints": len(COCO),
        "keypoints": [float(v) for v in keypoints.ravel()],
    }


def draw_coco(folder: Path, *, persons: int = 8, seed: int = 0) -> tuple[Path, Path]:
    """Photographs (JPEG) of stick figures on noise, two figures each, and their annotations: (JSON, image folder)."""
    rng = np.random.default_rng(seed)
    images_dir = folder / "images"
    images_dir.mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(persons):
        image_id = 100 + number // 2
        if number % 2 == 0:
            photograph = noise_photograph(120, 160, seed=seed * 1000 + number, blur=3.0)
            images.append({"id": image_id, "file_name": f"{image_id}.jpg", "height": 120, "width": 160})
        box = np.array([10 + 75 * (number % 2) + rng.uniform(0, 5), rng.uniform(5, 15), 55.0, 95.0])
        points = figure_points(box)
        draw_figure(photograph, points)
        annotations.append(coco_annotation(number + 1, image_id, box, points))
        cv2.imwrite(str(images_dir / f"{image_id}.jpg"), cv2.cvtColor(photograph, cv2.COLOR_RGB2BGR))
    return write_coco(folder / "annotations.json", images, annotations), images_dir


def write_coco(path: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> Path:
    """A COCO keypoint file."""
    category = {"id": 1, "name": "person", "keypoints": list(COCO.names), "skeleton": []}
    content = {"info": {}, "images": images, "annotations": annotations, "categories": [category]}
    path.write_text(json.dumps(content))
    return path
