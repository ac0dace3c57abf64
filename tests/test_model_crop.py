import tracemalloc

import numpy as np
import pytest
import torch

from drawings import blob_photograph, noise_photograph, ramp_photograph
from model.crop import MEAN_RGB, STD_RGB, normalise, warp_crop
from model.geometry import apply_affine, box_to_affine, invert_affine, region_to_affine

INPUT_HW = (64, 48)

# Width of the region in image pixels: enlarged 4.8 times, as it is, 1.5, 2.4 and 4.3 times reduced.
REGION_WIDTHS = (10, 48, 72, 115.2, 206)
VIEWS = [{}, {"flip": True}, {"rotation_degrees": 33.0}, {"rotation_degrees": -120.0, "flip": True}]


def places_in_image(affine, input_hw=INPUT_HW):
    """[rows, columns, 2]: where in the image each crop pixel's centre is."""
    rows, columns = np.mgrid[: input_hw[0], : input_hw[1]]
    return apply_affine(invert_affine(affine), np.stack((columns, rows), axis=-1))


def distance_inside(places, image):
    """How many pixels a place lies inside the image's outermost pixel centres; negative outside."""
    height, width = image.shape[:2]
    return np.minimum(places, np.array([width - 1, height - 1]) - places).min(axis=-1)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("width", REGION_WIDTHS)
def test_every_pixel_shows_the_place_that_the_affine_names(width, view):
    image = ramp_photograph(256, 256)
    affine = region_to_affine([131.3, 120.7], width, INPUT_HW, **view)
    crop = warp_crop(image, affine, INPUT_HW).astype(float)
    places = places_in_image(affine)
    inside = distance_inside(places, image) > 2 * max(width / INPUT_HW[1], 1)
    assert inside.mean() > 0.5
    error = crop[inside][:, :2] - places[inside]
    assert np.abs(error).max() < 1.6  # grey levels, one for each pixel of the image; three roundings make up to 1.5
    assert np.abs(crop[inside][:, 2] - 200).max() <= 1


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("width", REGION_WIDTHS)
def test_a_spot_lands_where_the_affine_says(width, view):
    affine = region_to_affine([120.4, 131.7], width, INPUT_HW, **view)
    spot_crop = np.array([30.3, 21.8])
    spot_image = apply_affine(invert_affine(affine), spot_crop)
    image = blob_photograph(256, 256, spot_image, sigma=3 * width / INPUT_HW[1])
    light = warp_crop(image, affine, INPUT_HW)[..., 0].astype(float)
    rows, columns = np.mgrid[: INPUT_HW[0], : INPUT_HW[1]]
    centroid = np.array([(columns * light).sum(), (rows * light).sum()]) / light.sum()
    np.testing.assert_allclose(centroid, spot_crop, atol=0.03)


@pytest.mark.parametrize("width", REGION_WIDTHS)
def test_what_lies_outside_the_image_is_black_and_the_rest_is_not_touched(width):
    image = np.full((256, 256, 3), 255, dtype=np.uint8)
    affine = region_to_affine([255, 10], width, INPUT_HW)
    crop = warp_crop(image, affine, INPUT_HW)
    depth = distance_inside(places_in_image(affine), image) / max(width / INPUT_HW[1], 1)
    assert (depth > 1).any()
    assert (depth < -2).any()
    assert (crop[depth > 1] == 255).all()
    assert (crop[depth < -2] == 0).all()


@pytest.mark.parametrize("center", [(-2000, 50), (2000, 50), (50, -2000), (50, 3000), (-900, -900)])
@pytest.mark.parametrize("width", REGION_WIDTHS)
def test_a_region_wholly_beside_the_image_is_black(width, center):
    crop = warp_crop(noise_photograph(100, 120), region_to_affine(center, width, INPUT_HW), INPUT_HW)
    assert crop.shape == (*INPUT_HW, 3)
    assert not crop.any()


@pytest.mark.parametrize("box", [[20, 30, 8, 8], [20.5, 30.25, 50, 40], [-10, 20, 90, 120], [0, 0, 200, 250]])
def test_the_crop_of_a_mirrored_photograph_is_the_mirrored_crop(box):
    image = noise_photograph(250, 200, blur=4.0)
    x, y, width, height = box
    plain = warp_crop(image, box_to_affine(box, INPUT_HW), INPUT_HW)
    mirrored_box = [200 - width - x, y, width, height]
    mirrored = warp_crop(np.ascontiguousarray(image[:, ::-1]), box_to_affine(mirrored_box, INPUT_HW), INPUT_HW)
    difference = np.abs(mirrored.astype(float) - plain[:, ::-1])
    assert plain.std() > 20
    assert difference.mean() < 2


def test_the_identity_returns_the_pixels():
    image = noise_photograph(64, 48)
    assert np.array_equal(warp_crop(image, np.eye(2, 3), INPUT_HW), image)


def test_strong_reduction_averages_instead_of_skipping_pixels():
    image = np.zeros((512, 384, 3), dtype=np.uint8)
    image[::2] = 255
    crop = warp_crop(image, region_to_affine([191.5, 255.5], 390, INPUT_HW), INPUT_HW)
    assert np.abs(crop[2:-2, 2:-2].astype(float) - 127.5).max() <= 2


@pytest.mark.parametrize("width", [1e4, 1e6])
@pytest.mark.parametrize("corner", [(0.0, 0.0), (-5e5, -5e5), (10.0, -1e6)])
def test_an_absurdly_large_box_costs_no_memory(width, corner):
    image = noise_photograph(48, 64)
    affine = box_to_affine([*corner, width, width], INPUT_HW)
    tracemalloc.start()
    crop = warp_crop(image, affine, INPUT_HW)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert crop.shape == (*INPUT_HW, 3)
    assert crop.mean() < 10  # the photograph is a speck in it
    assert peak < 8 * 2**20


def test_normalised_pixels_are_imagenet_units():
    pixels = torch.tensor([0, 128, 255], dtype=torch.uint8).reshape(1, 1, 1, 3).expand(2, 8, 8, 3)
    out = normalise(pixels)
    assert out.shape == (2, 3, 8, 8)
    assert out.dtype == torch.float32
    for channel, value in enumerate((0, 128, 255)):
        expected = (value / 255 - MEAN_RGB[channel]) / STD_RGB[channel]
        torch.testing.assert_close(out[:, channel], torch.full((2, 8, 8), expected), atol=1e-6, rtol=0)


def test_normalised_crops_are_channels_last_and_keep_rows_and_columns():
    pixels = torch.from_numpy(np.stack([noise_photograph(16, 8, seed=seed) for seed in (1, 2)]))
    out = normalise(pixels)
    assert out.is_contiguous(memory_format=torch.channels_last)
    back = (out.permute(0, 2, 3, 1) * torch.tensor(STD_RGB) + torch.tensor(MEAN_RGB)) * 255
    torch.testing.assert_close(back, pixels.float(), atol=1e-3, rtol=0)
