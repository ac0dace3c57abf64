"""Bytes to pictures: formats, modes, orientation, limits, hostile input."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pictures import SIZE, SQUARE, encoded, huge_png, jpeg, square, with_orientation
from service.errors import NotAnImage, PoseServiceError, TooLarge
from service.images import ImageLimits, decode_image

LIMITS = ImageLimits()


def assert_shows_the_square(pixels: np.ndarray) -> None:
    assert pixels.dtype == np.uint8
    assert pixels.shape == (SIZE[1], SIZE[0], 3)
    truth = np.asarray(square()).astype(int)
    assert np.abs(pixels.astype(int) - truth).mean() < 4
    assert (pixels[SQUARE[1], SQUARE[0]] > 240).all()


@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"lossless": True}), ("WEBP", {})]
)
def test_formats(kind, options):
    assert_shows_the_square(decode_image(encoded(square(), kind, **options), LIMITS))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_png_modes(mode):
    assert_shows_the_square(decode_image(encoded(square().convert(mode)), LIMITS))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpeg_modes(mode):
    assert_shows_the_square(decode_image(jpeg(square().convert(mode)), LIMITS))


def test_sixteen_bit_grey_is_scaled_not_cut_off():
    grey = np.asarray(square().convert("L")).astype(np.uint16) * 257
    grey[0, 0] = 128 * 257
    pixels = decode_image(encoded(Image.fromarray(grey)), LIMITS)
    assert_shows_the_square(pixels)
    assert (pixels[0, 0] == 128).all()


def test_transparency_is_shown_on_black():
    picture = square().convert("RGBA")
    transparent_white = Image.new("RGBA", SIZE, (255, 255, 255, 0))
    transparent_white.paste(picture.crop((30, 10, 50, 30)), (30, 10))
    assert_shows_the_square(decode_image(encoded(transparent_white), LIMITS))


def test_palette_with_a_transparent_colour():
    assert_shows_the_square(decode_image(encoded(square().convert("P"), transparency=0), LIMITS))


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_of_an_animation_the_first_frame(kind):
    others = [Image.new("RGB", SIZE, "red"), Image.new("RGB", SIZE, "blue")]
    data = encoded(square(), kind, save_all=True, append_images=others, duration=50)
    assert_shows_the_square(decode_image(data, LIMITS))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    assert_shows_the_square(decode_image(with_orientation(orientation), LIMITS))


@pytest.mark.filterwarnings("ignore::UserWarning")  # the library warns of the damage
def test_damaged_exif_does_not_spoil_a_good_picture():
    data = jpeg(exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert_shows_the_square(decode_image(data, LIMITS))


def test_an_odd_exif_tag_beside_the_orientation():
    turned = square().transpose(Image.Transpose.ROTATE_90)
    # Orientation 6, and an x resolution (0x011A) whose type is BYTE instead of RATIONAL.
    tags = struct.pack("<HHHII", 2, 0x0112, 3, 1, 6) + struct.pack("<HHII", 0x011A, 1, 1, 72)
    exif = b"Exif\x00\x00II*\x00\x08\x00\x00\x00" + tags + bytes(4)
    assert_shows_the_square(decode_image(jpeg(turned, exif=exif), LIMITS))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_the_smallest_pictures(size):
    assert decode_image(encoded(Image.new("RGB", size, "white")), LIMITS).shape == (size[1], size[0], 3)


@pytest.mark.parametrize(
    "data", [b"", b"hello, I am a text file", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(100)]
)
def test_what_is_not_a_picture(data):
    with pytest.raises(NotAnImage) as error:
        decode_image(data, LIMITS)
    assert "0x" not in str(error.value)


def test_formats_that_are_not_taken():
    for kind in ("GIF", "BMP", "TIFF", "ICO"):
        with pytest.raises(NotAnImage, match="JPEG, PNG or WebP"):
            decode_image(encoded(square(), kind), LIMITS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_picture_that_is_cut_off(kind, part):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 60, 3), dtype=np.uint8))
    data = encoded(noise, kind)
    with pytest.raises(NotAnImage, match="cut off"):
        decode_image(data[: int(len(data) * part)], LIMITS)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_huge_picture_is_refused_by_its_header(monkeypatch):
    data = huge_png()
    assert len(data) < 50_000

    def never(*_: object) -> None:
        raise AssertionError("the pixels were decoded")

    monkeypatch.setattr(Image.Image, "load", never)
    with pytest.raises(TooLarge, match="13000 x 13000"):
        decode_image(data, LIMITS)


def test_a_picture_beyond_the_librarys_own_limit_is_too_large():
    with pytest.raises(TooLarge, match="at most 50000000 pixels"):
        decode_image(huge_png(20_000, 20_000), LIMITS)


def test_limits_name_value_and_allowed():
    with pytest.raises(TooLarge, match=r"60 x 80 = 4800 pixels; allowed: at most 4000"):
        decode_image(jpeg(), ImageLimits(max_pixels=4000))
    with pytest.raises(TooLarge, match="at most 70 on a side"):
        decode_image(jpeg(), ImageLimits(max_side=70))
    data = jpeg()
    with pytest.raises(TooLarge, match=f"{len(data)} bytes; allowed: at most 100"):
        decode_image(data, ImageLimits(max_bytes=100))


@settings(max_examples=150, deadline=None)
@given(st.data())
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_give_a_picture_or_a_clear_error(data):
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP"]))
    content = bytearray(with_orientation(6) if kind == "JPEG" else encoded(square(), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = decode_image(bytes(content), ImageLimits(max_pixels=1_000_000))
    except PoseServiceError as error:
        pixels, said = np.zeros((1, 1, 3), dtype=np.uint8), str(error)
    else:
        said = ""
    assert (pixels.ndim, pixels.dtype) == (3, np.uint8)
    assert "0x" not in said
