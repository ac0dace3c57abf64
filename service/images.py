"""Bytes from a stranger -> an upright RGB picture, within limits that are checked before anything is decoded.

Knows nothing of requests or poses. Never opens a file or a URL; only the three formats that clients send are tried, so
that the rarer decoders of the library cannot be reached.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from service.errors import NotAnImage, TooLarge

if TYPE_CHECKING:  # a client decodes, too, and has no use for torch
    from model.crop import Pixels

FORMATS = ("JPEG", "PNG", "WEBP")

_EXIF_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TO_8_BITS = np.rint(np.arange(2**16) / 257).astype(np.uint8)


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
            return _plain_jpeg(data, image) if _is_plain_jpeg(image) else _to_rgb(image)
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


def _is_plain_jpeg(image: Image.Image) -> bool:
    return image.format == "JPEG" and image.mode in ("RGB", "L")


def _plain_jpeg(data: bytes, image: Image.Image) -> Pixels:
    """The same pixels as `_to_rgb`, in half of the time: the same library, without the detour over another image."""
    try:
        pixels = np.asarray(simplejpeg.decode_jpeg(data, "RGB"))
    except ValueError:
        return _to_rgb(image)  # it is stricter; what is slightly wrong is Pillow's to read or to refuse
    turn = _TURNS.get(_orientation(image))
    return pixels if turn is None else np.asarray(Image.fromarray(pixels).transpose(turn))


def _to_rgb(image: Image.Image) -> Pixels:
    turn = _TURNS.get(_orientation(image))
    upright = image if turn is None else image.transpose(turn)
    if upright.mode.startswith("I"):
        # 16-bit grey: the library would cut the values off at 255 instead of scaling them.
        grey = _TO_8_BITS[np.clip(np.asarray(upright), 0, 65535)]
        return np.repeat(grey[:, :, None], 3, axis=2)
    if upright.has_transparency_data:
        layered = upright.convert("RGBA")
        upright = Image.new("RGB", layered.size)
        upright.paste(layered, mask=layered.getchannel("A"))
    return np.asarray(upright.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or it cannot be read."""
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # a broken tag is no reason to refuse a good picture
        return 1
