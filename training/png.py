"""Pictures as PNG files' bytes."""

from __future__ import annotations

import cv2

from model.crop import Pixels


def encode_png(image: Pixels) -> bytes:
    """[H, W, 3] uint8 RGB as the bytes of a PNG. Raises ValueError for what is too large for one."""
    written, png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not written:
        raise ValueError(f"a picture of {image.shape[:2]} pixels cannot be written as PNG")
    return png.tobytes()
