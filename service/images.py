"""Bytes from a stranger -> an upright RGB picture, within limits that are checked before anything is decoded.

Knows nothing of requests or poses; how bytes become pixels is `model.photograph`. Never opens a file or a URL; only the
three formats that clients send are tried, so that the rarer decoders of the library cannot be reached.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from model.photograph import upright_rgb
from service.errors import InvalidParameter, NotAnImage, TooLarge
from service.poses import RawPicture

if TYPE_CHECKING:  # a client decodes, too, and has no use for torch
    from model.crop import Pixels

FORMATS = ("JPEG", "PNG", "WEBP")


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """The largest picture that is taken: bytes as sent, pixels when decoded, and pixels along one side."""

    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000
    max_side: int = 16_384


def decode_image(data: bytes | RawPicture, limits: ImageLimits) -> Pixels:
    """Decode a JPEG, PNG or WebP picture; of an animation the first frame. Raw pixels are taken as they are.

    The pixels are those of `model.photograph`, as in training.

    Args:
        data: the file's bytes, or the pixels themselves.

    Returns:
        [H, W, 3] uint8 RGB.

    Raises NotAnImage for anything that cannot be read, TooLarge before decoding what is too large, InvalidParameter for
    raw pixels that are not as many as they should be.
    """
    if isinstance(data, RawPicture):
        return _raw_pixels(data, limits)
    if len(data) > limits.max_bytes:
        raise TooLarge(f"the image has {len(data)} bytes; allowed: at most {limits.max_bytes}")
    if not data:
        raise NotAnImage("the image is empty; send the bytes of a JPEG, PNG or WebP picture")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:  # reads the header only
            _check_size(image.width, image.height, limits)
            return upright_rgb(image, data)
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


def _raw_pixels(raw: RawPicture, limits: ImageLimits) -> Pixels:
    if min(raw.width, raw.height) < 1:
        raise InvalidParameter(f"raw is {raw.width} x {raw.height} pixels; allowed: at least 1 x 1")
    _check_size(raw.width, raw.height, limits)
    wanted = 3 * raw.width * raw.height
    if len(raw.rgb) != wanted:
        raise InvalidParameter(
            f"raw.rgb has {len(raw.rgb)} bytes; allowed of {raw.width} x {raw.height} pixels: {wanted}, 3 for each"
        )
    return np.frombuffer(raw.rgb, dtype=np.uint8).reshape(raw.height, raw.width, 3)


def _check_size(width: int, height: int, limits: ImageLimits) -> None:
    if width * height > limits.max_pixels:
        raise TooLarge(
            f"the picture is {width} x {height} = {width * height} pixels; allowed: at most {limits.max_pixels}"
        )
    if max(width, height) > limits.max_side:
        raise TooLarge(f"the picture is {width} x {height} pixels; allowed: at most {limits.max_side} on a side")
