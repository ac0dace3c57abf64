"""Bytes from a stranger -> an upright RGB picture, within limits that are checked before anything is decoded.

Knows nothing of requests or poses. Never opens a file or a URL; only the three formats that clients send are tried, so
that the rarer decoders of the library cannot be reached.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from model.crop import Pixels
from service.errors import NotAnImage, TooLarge

FORMATS = ("JPEG", "PNG", "WEBP")


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """The largest picture that is taken: bytes as sent, pixels when decoded, and pixels along one side."""

    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000
    max_side: int = 16_384


def decode_image(data: bytes, limits: ImageLimits) -> Pixels:
    """Decode a JPEG, PNG or WebP picture; of an animation the first frame.

    EXIF orientation is applied. Transparency is shown on black, grey and palette pictures become RGB, CMYK is
    converted, 16 bits a channel become 8.

    Args:
        data: the file's bytes.

    Returns:
        [H, W, 3] uint8 RGB.

    Raises NotAnImage for anything that cannot be read, TooLarge before decoding what is too large.
    """
    if len(data) > limits.max_bytes:
        raise TooLarge(f"the image has {len(data)} bytes; allowed: at most {limits.max_bytes}")
    if not data:
        raise NotAnImage("the image is empty; send the bytes of a JPEG, PNG or WebP picture")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:  # reads the header only
            _check_size(image.width, image.height, limits)
            return _to_rgb(image)
    except TooLarge:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLarge(f"the picture is too large; allowed: at most {limits.max_pixels} pixels") from error
    except UnidentifiedImageError as error:
        raise NotAnImage("the body is not a JPEG, PNG or WebP picture") from error
    except MemoryError:
        raise
    except Exception as error:
        # Decoders meet hostile bytes here and raise whatever they meet (OSError, struct.error, zlib.error, ...). Their
        # own words may name memory addresses, so they are not passed on.
        raise NotAnImage("the picture is damaged or cut off and cannot be read") from error


def _check_size(width: int, height: int, limits: ImageLimits) -> None:
    if width * height > limits.max_pixels:
        raise TooLarge(
            f"the picture is {width} x {height} = {width * height} pixels; allowed: at most {limits.max_pixels}"
        )
    if max(width, height) > limits.max_side:
        raise TooLarge(f"the picture is {width} x {height} pixels; allowed: at most {limits.max_side} on a side")


def _to_rgb(image: Image.Image) -> Pixels:
    if image.format == "JPEG" and image.mode == "RGB" and image.getexif().get(0x0112, 1) == 1:
        return np.asarray(image)  # the common case, without a copy
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        # 16-bit grey: the library would cut the values off at 255 instead of scaling them.
        grey = np.asarray(upright, dtype=np.float64) / 257.0
        return np.repeat(np.clip(np.rint(grey), 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    if upright.has_transparency_data:
        layered = upright.convert("RGBA")
        black = Image.new("RGBA", layered.size, (0, 0, 0, 255))
        upright = Image.alpha_composite(black, layered)
    return np.asarray(upright.convert("RGB"))
