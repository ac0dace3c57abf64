"""Pictures and persons for the measurements: drawn, always the same ones."""

from __future__ import annotations

import io
import json
from urllib.parse import quote

import cv2
import numpy as np
from PIL import Image

PATCH = 2000  # pixels; what is larger repeats itself, since only its size matters


def drawn_jpeg(width: int, height: int) -> bytes:
    """A picture with detail everywhere, of about the file size of a photograph."""
    rows, columns = min(height, PATCH), min(width, PATCH)
    noise = cv2.GaussianBlur(np.random.default_rng(0).normal(size=(rows, columns, 3)), (0, 0), 2.0)
    patch = np.clip(128 + 60 * noise / noise.std(), 0, 255).astype(np.uint8)
    pixels = np.tile(patch, (-(-height // rows), -(-width // columns), 1))[:height, :width]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def crowd_boxes(persons: int, *, width: int, height: int) -> list[list[int]]:
    """Boxes [x, y, width, height] of up to 40 persons side by side, in eight columns; all of one size."""
    if not 1 <= persons <= 40:
        raise ValueError(f"persons is {persons}; allowed: 1 to 40")
    across, down = width // 8, height // 5
    return [[number % 8 * across, number // 8 * down, across, down] for number in range(persons)]


def pose_path(boxes_xywh: list[list[int]]) -> str:
    """Path and query that ask over HTTP for the poses of these persons."""
    return "/pose?boxes=" + quote(json.dumps(boxes_xywh))
