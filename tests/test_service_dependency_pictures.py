"""What is drawn of a dependency map: its size, the star at the joint, the heat where the map has it, the rows."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fakes import CONFIG, BrightestPixel, make_service
from http_clients import post_dependency
from model.dependency import JointAttention
from model.dependency_picture import PANEL_HEIGHT, PICTURE_HEIGHT
from model.estimator import ExplainedKeypoints
from model.geometry import apply_affine, box_to_affine
from pictures import SIZE, SQUARE, jpeg

SCALE = PICTURE_HEIGHT / CONFIG.input_hw[0]
LOOKS_AT, IS_SEEN_FROM = (1, 4), (6, 1)  # tokens far from the square of the picture, and from each other


class LooksElsewhere(BrightestPixel):
    """Every keypoint looks at one token, and is looked at from another."""

    def explain(self, crops, *, levels):
        found = super().explain(crops, levels=levels)
        return [
            ExplainedKeypoints(one.points, one.scores, {level: self._moved(one.attention[level]) for level in levels})
            for one in found
        ]

    def _moved(self, attention):
        maps = {}
        for name, token in (("dependency", LOOKS_AT), ("affect", IS_SEEN_FROM)):
            values = np.zeros_like(attention.dependency)
            values[..., token[0], token[1]] = 1.0
            maps[name] = values
        return JointAttention(attention.level, attention.queries, maps["dependency"], maps["affect"])


def drawn(estimator: BrightestPixel | None = None, **asked: object) -> np.ndarray:
    response = post_dependency(jpeg(), make_service(estimator), **{"keypoint": "nose", **asked})
    assert response.status_code == 200, response.text
    with Image.open(io.BytesIO(response.content)) as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGB")
        return np.asarray(picture)


def in_picture(point: tuple[float, float], box: tuple[float, ...]) -> np.ndarray:
    """A point of the photograph, x and y, in the picture that is drawn of its person."""
    return SCALE * (apply_affine(box_to_affine(box, CONFIG.input_hw), point) + 0.5) - 0.5


@pytest.mark.parametrize("box", [(0.0, 0.0, 60.0, 80.0), (30.0, 10.0, 20.0, 20.0), (10.0, 15.0, 40.0, 30.0)], ids=str)
def test_the_overlay_is_the_crop_with_a_white_star_at_the_joint(box):
    picture = drawn(box=box)
    assert picture.shape == (PICTURE_HEIGHT, round(SCALE * CONFIG.input_hw[1]), 3)
    white = np.argwhere((picture == 255).all(axis=2))[:, ::-1]
    assert len(white) > 100
    middle = (white.min(axis=0) + white.max(axis=0)) / 2
    assert middle == pytest.approx(in_picture(SQUARE, box), abs=0.6 * SCALE)
    assert (np.ptp(white, axis=0) < 2 * PICTURE_HEIGHT / 32 + 3).all(), "nothing else is white"


@pytest.mark.parametrize("level", ["mhsa", "encoder"])
def test_the_heat_is_where_the_map_says(level):
    """Two pictures that differ in the direction only differ at the two tokens."""
    looked, seen = (drawn(LooksElsewhere(), level=level, mode=mode, threshold=0.5) for mode in ("dependency", "affect"))
    differs = (looked != seen).any(axis=2)
    token = PICTURE_HEIGHT // CONFIG.tokens_hw[0]
    for (row, column), hot, cold in ((LOOKS_AT, looked, seen), (IS_SEEN_FROM, seen, looked)):
        center = (np.array([row, column]) + 0.5) * token - 0.5
        near = differs.copy()
        near[: PICTURE_HEIGHT // 2] &= row < 4
        near[PICTURE_HEIGHT // 2 :] &= row >= 4
        assert np.argwhere(near).mean(axis=0) == pytest.approx(center, abs=0.5)
        at = tuple(np.rint(center).astype(int))
        assert hot[at].sum() > cold[at].sum() + 300, "the top of the colour map is bright, the photograph is black"


def test_a_threshold_hides_what_is_weaker():
    shown = [int((drawn(threshold=part) != drawn(threshold=1.0)).any(axis=2).sum()) for part in (0.0, 0.3, 0.7)]
    assert shown == sorted(shown, reverse=True)
    assert shown[-1] > 0
    assert len(set(shown)) == 3


@pytest.mark.parametrize(
    ("one_row", "rows"),
    [
        ({"level": "mhsa", "head": 0}, {"level": "mhsa"}),
        ({"level": "mhsa", "head": "mean"}, {"level": "mhsa", "layer": 0}),
        ({"level": "encoder", "layer": 0}, {"level": "encoder"}),
        ({"level": "encoder", "layer": 3, "head": 5}, {"level": "encoder", "head": "mean"}),
    ],
    ids=str,
)
def test_the_figure_has_a_row_for_each_head_of_mhsa_and_for_each_layer_of_the_encoder(one_row, rows):
    one, four = drawn(keypoint="all", **one_row), drawn(keypoint="all", **rows)
    step, rest = divmod(four.shape[0] - one.shape[0], 3)
    assert rest == 0
    assert PANEL_HEIGHT < step < one.shape[0]
    assert min(four.shape[1], one.shape[1]) > 18 * PANEL_HEIGHT * CONFIG.input_hw[1] / CONFIG.input_hw[0]


def test_the_figure_of_a_person_shows_the_person():
    whole, box = drawn(keypoint="all", head=0), drawn(keypoint="all", head=0, box=[30, 10, 20, 20])
    assert whole.shape == box.shape
    assert (whole != box).any()


@pytest.mark.parametrize("box", [(39.0, 19.0, 1e-3, 1e-3), (-9e5, -9e5, 1e6, 1e6), (0.0, 20.0, 1e6, 1.0)], ids=str)
def test_extreme_boxes_are_drawn(box):
    assert drawn(box=box).shape == drawn(box=(0, 0, *SIZE)).shape
