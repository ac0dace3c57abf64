"""Damage, reproducibly: pictures of every kind that clients send, and ways to spoil them or any other bytes."""

from __future__ import annotations

import random
import struct
import zlib
from contextlib import suppress

import numpy as np
from PIL import Image

from pictures import encoded, jpeg, square, with_orientation

SIZE = (24, 32)

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
EDGES = (0, 1, 0x7F, 0x80, 0xFF)


def _small() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    noise[8:16, 8:16] = 255
    return Image.fromarray(noise)


def seeds() -> list[bytes]:
    """Small pictures in every format and mode that the service takes."""
    small = _small()
    other = small.rotate(180)
    pngs = [encoded(small.convert(mode)) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")]
    deep = Image.fromarray((np.arange(SIZE[0] * SIZE[1], dtype=np.uint16) * 80).reshape(SIZE[1], SIZE[0]))
    pngs += [
        encoded(deep),
        encoded(small.convert("P"), transparency=0),
        encoded(small, transparency=(255, 255, 255)),
        encoded(small.quantize(4), bits=2),
        encoded(small, save_all=True, append_images=[other]),
        encoded(small, exif=_exif(6)),
    ]
    jpegs = [jpeg(small.convert(mode)) for mode in ("L", "RGB", "CMYK")]
    jpegs += [
        jpeg(small, progressive=True),
        jpeg(small, exif=_exif(5)),
        jpeg(small, optimize=True, comment=b"hello"),
        with_orientation(8),
    ]
    webps = [
        encoded(small, "WEBP"),
        encoded(small, "WEBP", lossless=True),
        encoded(small.convert("RGBA"), "WEBP", lossless=True),
        encoded(small.convert("RGBA"), "WEBP", quality=10),
        encoded(small, "WEBP", save_all=True, append_images=[other], duration=50),
        encoded(small, "WEBP", exif=_exif(3)),
    ]
    return [*pngs, *jpegs, *webps, encoded(square(), "GIF"), b""]


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def mutated(content: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """The same bytes, spoilt in one to four ways."""
    for _ in range(chance.randint(1, 4)):
        content = chance.choice(WAYS)(content, others, chance)
    return content


def _flip_bits(content: bytes, _: list[bytes], chance: random.Random) -> bytes:
    spoilt = bytearray(content)
    for _ in range(chance.randint(1, 8) if spoilt else 0):
        spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
    return bytes(spoilt)


def _edit_header(content: bytes, _: list[bytes], chance: random.Random) -> bytes:
    """Sizes, types and counts stand in the first bytes."""
    spoilt = bytearray(content)
    for _ in range(chance.randint(1, 3) if spoilt else 0):
        spoilt[chance.randrange(min(len(spoilt), 64))] = chance.choice([*EDGES, chance.randrange(256)])
    return bytes(spoilt)


def _edit_number(content: bytes, _: list[bytes], chance: random.Random) -> bytes:
    """Some 32 bits become another number, at times a huge one."""
    at = chance.randrange(len(content) + 1)
    number = chance.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, len(content), chance.randrange(2**32)])
    return content[:at] + struct.pack(chance.choice("<>") + "I", number) + content[at + 4 :]


def _cut_off(content: bytes, _: list[bytes], chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def _leave_out(content: bytes, _: list[bytes], chance: random.Random) -> bytes:
    at = chance.randrange(len(content) + 1)
    return content[:at] + content[at + chance.randint(1, 40) :]


def _repeat(content: bytes, _: list[bytes], chance: random.Random) -> bytes:
    start = chance.randrange(len(content) + 1)
    part = content[start : start + chance.randint(1, 60)]
    return content[:start] + part * chance.randint(2, 20) + content[start:]


def _splice(content: bytes, others: list[bytes], chance: random.Random) -> bytes:
    other = chance.choice(others)
    return content[: chance.randrange(len(content) + 1)] + other[chance.randrange(len(other) + 1) :]


def _insert_noise(content: bytes, _: list[bytes], chance: random.Random) -> bytes:
    at = chance.randrange(len(content) + 1)
    return content[:at] + chance.randbytes(chance.randint(1, 30)) + content[at:]


def _edit_png_chunk(content: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """A chunk is spoilt, doubled, moved or left out, and its checksum mended, so that the decoder does look at it."""
    chunks = png_chunks(content)
    if not chunks:
        return _flip_bits(content, others, chance)
    at = chance.randrange(len(chunks))
    kind, inside = chunks[at]
    match chance.randrange(5):
        case 0:
            chunks[at] = (kind, _edit_header(inside, others, chance))
        case 1:
            chunks.insert(at, (kind, inside))
        case 2:
            chunks.insert(chance.randrange(len(chunks)), chunks.pop(at))
        case 3:
            del chunks[at]
        case _:
            with suppress(zlib.error):  # it holds nothing compressed, or that has been spoilt before
                chunks[at] = (kind, zlib.compress(_flip_bits(zlib.decompress(inside), others, chance)))
    return PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(inside)) + kind + inside + struct.pack(">I", zlib.crc32(kind + inside))
        for kind, inside in chunks
    )


def png_chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and content of each chunk; none of what is no whole PNG."""
    chunks = []
    at = len(PNG_SIGNATURE)
    while content.startswith(PNG_SIGNATURE) and at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        inside = content[at + 8 : at + 8 + length]
        if zlib.crc32(content[at + 4 : at + 8] + inside) != int.from_bytes(content[at + 8 + length : at + 12 + length]):
            return []
        chunks.append((content[at + 4 : at + 8], inside))
        at += 12 + length
    return chunks


WAYS = (
    _flip_bits,
    _edit_header,
    _edit_number,
    _cut_off,
    _leave_out,
    _repeat,
    _splice,
    _insert_noise,
    _edit_png_chunk,
    _edit_png_chunk,
)
