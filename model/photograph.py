"""Bytes of a picture file -> upright RGB pixels: the one way in which training, evaluation and serving decode.

A plain JPEG is decoded by libjpeg-turbo directly where simplejpeg is installed, everything else by Pillow. Both are the
same decoder with the same settings (accurate DCT, smooth upsampling of colours), so the pixels are identical, which is
tested; without simplejpeg a photograph takes about half as long again. Pixels are always decoded in full: libjpeg's
scaled decoding is not the average of the full pixels (see benchmarks/README.md).

Knows nothing of files, limits or callers; whoever takes bytes from strangers opens, and checks the size that the header
claims, before it asks for pixels (`service.images`).
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:  # a client decodes, too, and has no use for torch
    from model.crop import Pixels

try:
    import simplejpeg
except ImportError:  # some machines that train have only what the network needs
    simplejpeg = None

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")

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


def decode_photograph(data: bytes, formats: tuple[str, ...] = FORMATS) -> Pixels:
    """Decode a picture file; of an animation the first frame. What is shown is as `upright_rgb` says.

    Args:
        data: the file's bytes.
        formats: those that are tried, as Pillow names them.

    Returns:
        [H, W, 3] uint8 RGB.

    Raises whatever the decoder meets (OSError, ValueError, struct.error, ...) for what cannot be read.
    """
    with Image.open(io.BytesIO(data), formats=formats) as image:
        return upright_rgb(image, data)


def upright_rgb(image: Image.Image, data: bytes) -> Pixels:
    """The pixels of an opened picture, of which only the header was read so far.

    EXIF orientation is applied. Transparency is shown on black, grey and palette pictures become RGB, CMYK is
    converted, 16 bits a channel become 8.

    Args:
        image: as Pillow opened it.
        data: the bytes that it was opened from.

    Returns:
        [H, W, 3] uint8 RGB. Errors as `decode_photograph`.
    """
    if simplejpeg is not None and image.format == "JPEG" and image.mode in ("RGB", "L"):
        return _plain_jpeg(image, data)
    return _to_rgb(image)


def _plain_jpeg(image: Image.Image, data: bytes) -> Pixels:
    """The same pixels as `_to_rgb`, sooner: the same library, without the detour over another image."""
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
