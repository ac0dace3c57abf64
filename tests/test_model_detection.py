"""What every detector does around its network: there and back, once each, within the picture, not too many."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from drawings import ramp_photograph
from model.detection import DetectionLimits, choose, letterbox, suppress

EVERYTHING = DetectionLimits(min_score=0.0, max_overlap=1.0)


def overlap(one, other) -> float:
    """Intersection over union of two boxes x, y, w, h."""
    sides = np.minimum(one[:2] + one[2:], other[:2] + other[2:]) - np.maximum(one[:2], other[:2])
    inside = sides.clip(0).prod()
    return inside / (one[2:].prod() + other[2:].prod() - inside)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("image_hw", [(40, 100), (100, 40), (333, 250), (64, 64), (1, 7), (3000, 20)])
def test_a_picture_fits_into_the_input_and_boxes_find_the_way_back(image_hw, centred):
    picture = letterbox(np.full((*image_hw, 3), 200, dtype=np.uint8), (64, 96), fill=7, centred=centred)
    assert picture.pixels.shape == (64, 96, 3)
    whole = picture.edges_in_input([[0, 0, image_hw[1], image_hw[0]]])[0]
    left, top, right, bottom = whole.round().astype(int)
    np.testing.assert_allclose(whole, [left, top, right, bottom], atol=1e-9)
    seen = np.zeros((64, 96), dtype=bool)
    seen[top:bottom, left:right] = True
    assert (picture.pixels[seen] == 200).all()
    assert (picture.pixels[~seen] == 7).all()
    assert top == 0 or left == 0
    free = (96 - (right - left), 64 - (bottom - top))
    assert (left, top) == ((free[0] // 2, free[1] // 2) if centred else (0, 0))
    edges = np.array([[0.25, 0.5, image_hw[1] / 2, image_hw[0] - 0.5]])
    np.testing.assert_allclose(picture.edges_in_image(picture.edges_in_input(edges)), edges)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_pixels_lie_where_edges_say(factor):
    image = cv2.GaussianBlur(np.zeros((128, 128, 3), dtype=np.uint8), (0, 0), 1)
    image[32:96, 16:48] = 255
    picture = letterbox(image, (round(128 * factor),) * 2, fill=0, centred=True)
    rows, columns = np.nonzero(picture.pixels[..., 0] > 127)
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(picture.edges_in_input([[16, 32, 48, 96]])[0], found, atol=0.51)


def test_a_large_picture_is_averaged_not_sampled():
    checks = (255 * (np.indices((512, 512)).sum(axis=0) % 2)).astype(np.uint8)
    pixels = letterbox(np.repeat(checks[..., None], 3, axis=2), (100, 100), fill=0, centred=False).pixels
    assert np.abs(pixels.astype(float) - 127.5).max() < 30


def test_a_picture_of_the_right_size_is_seen_as_it_is():
    image = ramp_photograph(64, 96)
    np.testing.assert_array_equal(letterbox(image, (64, 96), fill=0, centred=True).pixels, image)


@pytest.mark.parametrize("max_overlap", [0.3, 0.6, 0.8])
def test_the_weaker_of_two_boxes_of_one_person_goes(max_overlap):
    rng = np.random.default_rng(0)
    boxes = np.column_stack((rng.uniform(0, 60, (200, 2)), rng.uniform(10, 50, (200, 2))))
    scores = rng.permutation(200) / 200 + 0.01
    kept = []
    for number in np.argsort(-scores):
        if all(overlap(boxes[number], boxes[other]) <= max_overlap for other in kept):
            kept.append(number)
    assert suppress(boxes, scores, max_overlap=max_overlap).tolist() == kept
    assert 1 < len(kept) < 200


def test_nobody_stays_nobody():
    picture = letterbox(np.zeros((10, 10, 3), dtype=np.uint8), (32, 32), fill=0, centred=True)
    found = choose(np.zeros((0, 4)), np.zeros(0), picture, DetectionLimits())
    assert (found.boxes_xywh.shape, found.scores.shape) == ((0, 4), (0,))


def test_boxes_are_cut_to_the_picture_and_told_likeliest_first():
    picture = letterbox(np.zeros((50, 100, 3), dtype=np.uint8), (200, 200), fill=0, centred=True)  # rows 50 to 150
    edges = np.array([[-20, 40, 60, 90], [100, 60, 180, 500], [10, 0, 90, 45], [20, 110, 40, 130]], dtype=np.float64)
    found = choose(edges, np.array([0.4, 0.9, 0.8, 1.2]), picture, DetectionLimits(min_score=0.3))
    np.testing.assert_allclose(found.boxes_xywh, [[10, 30, 10, 10], [50, 5, 40, 45], [0, 0, 30, 20]])
    np.testing.assert_allclose(found.scores, [1.0, 0.9, 0.4])


def test_what_is_unlikely_or_not_a_number_or_too_much_is_left_out():
    picture = letterbox(np.zeros((100, 100, 3), dtype=np.uint8), (100, 100), fill=0, centred=True)
    edges = np.array([[10.0 * n, 0, 10.0 * n + 8, 50] for n in range(6)])
    scores = np.array([0.9, 0.29, np.nan, 0.8, 0.7, 0.6])
    edges[3, 2] = np.inf
    found = choose(edges, scores, picture, DetectionLimits(min_score=0.3, most_persons=2))
    np.testing.assert_allclose(found.scores, [0.9, 0.7])
    assert len(choose(edges[:, [2, 1, 0, 3]], scores, picture, EVERYTHING).scores) == 0  # inside out


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [("min_score", 1.5, "0..1"), ("max_overlap", -0.1, "0..1"), ("most_persons", 0, "at least 1")],
)
def test_limits_that_cannot_be_are_refused(field, value, allowed):
    with pytest.raises(ValueError, match=f"{field} is {value}; allowed: {allowed}"):
        DetectionLimits(**{field: value})
