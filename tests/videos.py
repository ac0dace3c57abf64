"""Small videos for the tests: a red square that wanders over grey, so that every frame tells which it is."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SIZE = (96, 64)  # width, height
SQUARE = 8  # pixels
TICKS_S = 90_000
RATE = 25

Pixels = np.ndarray


def center(number: int, size: tuple[int, int] = SIZE) -> tuple[float, float]:
    """Where the square is in a frame."""
    width, height = size
    left = 4 + 3 * number % (width - SQUARE - 8)
    top = 6 + number % (height - SQUARE - 12)
    return left + (SQUARE - 1) / 2, top + (SQUARE - 1) / 2


def picture(number: int, size: tuple[int, int] = SIZE) -> Pixels:
    """[H, W, 3] uint8 RGB of one frame."""
    image = np.full((size[1], size[0], 3), 100, dtype=np.uint8)
    x, y = (round(value - (SQUARE - 1) / 2) for value in center(number, size))
    image[y : y + SQUARE, x : x + SQUARE] = (255, 0, 0)
    return image


def found(image: Pixels) -> tuple[float, float]:
    """Where the square is in a picture."""
    is_red = (image[..., 0].astype(int) - image[..., 1] > 80) & (image[..., 0] > 150)
    rows, columns = np.nonzero(is_red)
    return float(columns.mean()), float(rows.mean())


def write_video(
    path: Path,
    frames: int = 20,
    *,
    times_s: Sequence[float] | None = None,
    size: tuple[int, int] = SIZE,
    rate: int = RATE,
) -> Path:
    """A video of that many frames, or of one for each time."""
    times_s = [number / rate for number in range(frames)] if times_s is None else times_s
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "crf": "10", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv444p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, TICKS_S)
        for number, time_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(picture(number, size), format="rgb24")
            frame.pts, frame.time_base = round(time_s * TICKS_S), Fraction(1, TICKS_S)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def turn(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Have an MP4 say that its frames are to be turned: ISO/IEC 14496-12, 8.3.2, the matrix of `tkhd`."""
    content = bytearray(path.read_bytes())
    matrix = content.rfind(b"tkhd") + 44  # of version 0
    numbers = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", content, matrix, *numbers)
    path.write_bytes(content)


def spoil(path: Path, number: int) -> None:
    """Make the packet of one frame unreadable."""
    with av.open(str(path)) as container:
        packet = [one for one in container.demux(video=0) if one.size][number]
        place, size = packet.pos, packet.size
    content = bytearray(path.read_bytes())
    content[place : place + size] = b"\xff" * size
    path.write_bytes(content)


def read_video(path: Path) -> tuple[list[float], list[Pixels]]:
    """Times in seconds, and pixels as they are stored."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [round(frame.time, 4) for frame in frames], [frame.to_ndarray(format="rgb24") for frame in frames]
