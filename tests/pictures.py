"""Pictures as clients send them, drawn: one white square on black, in every format and mode."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

SIZE = (60, 80)  # width, height
SQUARE = (40, 20)  # centre of the white square, x and y


def square(size: tuple[int, int] = SIZE, center: tuple[int, int] = SQUARE, half: int = 3) -> Image.Image:
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    pixels[center[1] - half : center[1] + half + 1, center[0] - half : center[0] + half + 1] = 255
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(image: Image.Image | None = None, **options: object) -> bytes:
    return encoded(image or square(), "JPEG", quality=95, **options)


def with_orientation(orientation: int) -> bytes:
    """A JPEG whose pixels are stored turned, and whose EXIF tag turns them back to `square()`."""
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = square() if undo is None else square().transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(stored, exif=exif)


def huge_png(width: int = 13_000, height: int = 13_000) -> bytes:
    """A small file that claims, and holds, a huge black picture."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    compressor = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    rows = b"".join(compressor.compress(row * 100) for _ in range(height // 100)) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
