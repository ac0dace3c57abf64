"""Bytes to pixels, as training and serving see them. Formats, modes and hostile bytes: test_service_images."""

from __future__ import annotations

import io
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from drawings import noise_photograph
from model import photograph
from model.photograph import decode_photograph
from pictures import encoded, jpeg, square, with_orientation
from service.images import ImageLimits, decode_image

OPTIONS = [{}, {"quality": 5}, {"quality": 100}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}]


@pytest.fixture
def no_simplejpeg(monkeypatch):
    monkeypatch.setattr(photograph, "simplejpeg", None)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(1, 1), (17, 9), (64, 48), (127, 65)])
@pytest.mark.parametrize("options", OPTIONS)
def test_a_plain_jpeg_has_the_very_pixels_that_pillow_gives(mode, size, options, request):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise).convert(mode), "JPEG", **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(decode_photograph(data), expected)
    request.getfixturevalue("no_simplejpeg")
    assert np.array_equal(decode_photograph(data), expected)


@pytest.mark.parametrize("options", OPTIONS)
def test_opencv_would_give_the_same_pixels_of_a_jpeg(options):
    """So what was measured when training decoded by OpenCV holds."""
    data = encoded(Image.fromarray(noise_photograph(61, 83)), "JPEG", **options)
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(decode_photograph(data), cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))


@pytest.mark.parametrize("simplejpeg", [True, False], ids=["simplejpeg", "without"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_with_and_without_the_faster_decoder(orientation, simplejpeg, request):
    data = with_orientation(orientation)
    expected = decode_photograph(data)
    if not simplejpeg:
        request.getfixturevalue("no_simplejpeg")
    assert np.array_equal(decode_photograph(data), expected)
    assert np.array_equal(expected, decode_image(data, ImageLimits()))
    assert np.abs(expected.astype(int) - np.asarray(square())).mean() < 4


def test_without_simplejpeg_the_module_still_loads(monkeypatch):
    """A fresh copy of the module, so that the one in use stays as it is."""
    import importlib.util

    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    spec = importlib.util.spec_from_file_location("without_simplejpeg", photograph.__file__)
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    assert fresh.simplejpeg is None
    assert np.array_equal(fresh.decode_photograph(jpeg()), decode_photograph(jpeg()))


def test_a_jpeg_that_only_pillow_forgives_is_still_read(monkeypatch):
    class Strict:
        def decode_jpeg(self, *_: object) -> None:
            raise ValueError("Corrupt JPEG data: 3 extraneous bytes before marker 0xd9")

    expected = decode_photograph(jpeg())
    monkeypatch.setattr(photograph, "simplejpeg", Strict())
    assert np.array_equal(decode_photograph(jpeg()), expected)


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
def test_formats_that_training_reads_and_serving_does_not(kind):
    assert np.array_equal(decode_photograph(encoded(square(), kind)), np.asarray(square()))


@pytest.mark.parametrize("simplejpeg", [True, False], ids=["simplejpeg", "without"])
def test_a_photograph_that_is_cut_off_is_refused_either_way(simplejpeg, request):
    if not simplejpeg:
        request.getfixturevalue("no_simplejpeg")
    data = encoded(Image.fromarray(noise_photograph(80, 60)), "JPEG")
    with pytest.raises(OSError, match="truncated"):
        decode_photograph(data[: len(data) // 2])


def reduced(data: bytes, factor: int, colours: str) -> tuple[np.ndarray, np.ndarray]:
    """The average of `factor` x `factor` pixels, and libjpeg's own decoding at that scale, both as floats."""
    full = photograph.simplejpeg.decode_jpeg(data, colours).astype(float)
    rows, columns = full.shape[0] // factor, full.shape[1] // factor
    small = photograph.simplejpeg.decode_jpeg(data, colours, min_factor=factor, min_height=rows, min_width=columns)
    assert small.shape[:2] == (rows, columns)
    return full.reshape(rows, factor, columns, factor, -1).mean(axis=(1, 3)), small.astype(float)


def test_why_photographs_are_decoded_in_full():
    """libjpeg's scaled decoding is the average of pixels only without colours, and at an eighth: there it is the mean
    of a block, up to the rounding of both. Anything else differs by many levels somewhere."""
    detail = Image.fromarray(noise_photograph(160, 160, blur=0.7))
    mean, small = reduced(encoded(detail.convert("L"), "JPEG", quality=90), 8, "GRAY")
    assert np.abs(mean - small).max() < 1.5
    coloured = encoded(detail, "JPEG", quality=90, subsampling=2)
    for factor in (2, 4, 8):
        mean, small = reduced(coloured, factor, "RGB")
        assert np.abs(mean - small).max() > 4
