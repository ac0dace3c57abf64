"""What is asked and what is answered, whatever the protocol. Plain values: knows nothing of how poses are found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from model.levels import COLORMAPS, Level, Mode
from service.errors import InvalidParameter

Box = tuple[float, float, float, float]  # x, y, width, height

ALL_KEYPOINTS = "all"  # instead of one keypoint

NO_DETECTOR = "none"

DECIMALS = 3  # of a coordinate in pixels and of a score, rounded once for every protocol


@dataclass(frozen=True, kw_only=True)
class RawPicture:
    """Pixels of an upright picture: `rgb` has 3 bytes for each, row by row from the top, without padding."""

    width: int
    height: int
    rgb: bytes


Image = bytes | RawPicture  # the bytes of a JPEG, PNG or WebP file, or the pixels themselves


@dataclass(frozen=True, kw_only=True)
class PoseRequest:
    """A picture and the persons in it.

    `image`: the bytes of a file; `raw`, where it is given, is the picture instead. `boxes_xywh` are in pixels of the
    upright picture; None means those that the detector finds, or, without one, that the whole picture is one person.
    """

    image: bytes = b""
    boxes_xywh: Sequence[Box] | None = None
    flip_test: bool = False
    raw: RawPicture | None = None

    @property
    def picture(self) -> Image:
        """What is to be looked at."""
        return self.image if self.raw is None else self.raw


@dataclass(frozen=True, kw_only=True)
class Pose:
    """One person: its box, and K keypoints (x, y, score) in pixels of the upright picture; scores in 0..1.

    `track_id`: in a stream the same for the same person, from 1; 0 for who is not followed.
    """

    box_xywh: Box
    score: float
    keypoints: tuple[tuple[float, float, float], ...]
    track_id: int = 0


@dataclass(frozen=True, kw_only=True)
class PoseResult:
    """The poses in the order of the request's boxes, and the size of the upright picture.

    `detected`: whether the detector looked at it; then its surest person comes first, each is there once,
    and nobody whose pose has a low score.
    """

    width: int
    height: int
    poses: tuple[Pose, ...]
    detected: bool = False


@dataclass(frozen=True, kw_only=True)
class DependencyRequest:
    """One person of a picture, and which attention is to be shown.

    box_xywh: in pixels of the upright picture; None: the whole picture.
    keypoint: name or index; None for the figure of all, which is a picture.
    layer: of the level, from 0; None: the last (of the figure of the encoder: a row for each).
    head: from 0; None: their mean (of the figure of `mhsa`: a row for each, unless `mean_of_heads`).
    threshold: attention below this part of the map's largest is not drawn; 0..1. Numbers are not changed by it.
    as_picture: a PNG, instead of the numbers.
    """

    image: bytes
    box_xywh: Box | None = None
    keypoint: str | int | None = None
    level: Level = "encoder"
    layer: int | None = None
    head: int | None = None
    mean_of_heads: bool = False
    mode: Mode = "dependency"
    threshold: float = 0.0
    colormap: str = COLORMAPS[0]
    as_picture: bool = True


@dataclass(frozen=True, kw_only=True)
class DependencyMap:
    """What one keypoint depended on.

    level, layer, head, mode: what was read; head None is the mean of all.
    keypoint: its name. point: its x, y in pixels of the upright picture, and its score.
    query: row and column of the keypoint's token.
    attention: [H][W], of six significant digits; in mode `dependency` it sums to 1.
    region_xywh: the part of the upright picture that the map covers; it may reach beyond the picture.
    width, height: of the upright picture.
    """

    level: Level
    layer: int
    head: int | None
    mode: Mode
    keypoint: str
    query: tuple[int, int]
    attention: tuple[tuple[float, ...], ...]
    point: tuple[float, float, float]
    region_xywh: Box
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class AttentionShape:
    """How many layers a level of the network has, and how many heads each of them."""

    layers: int
    heads: int


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What is being served. `skeleton`: pairs of indices of the keypoints that a drawing joins.

    `detector`: what finds persons where a request has no boxes; `none`: then the whole picture is one person.
    """

    variant: str
    label: str
    parameters: int
    input_hw: tuple[int, int]
    checkpoint_sha256: str
    runtime: str
    device: str
    precision: str
    attention: Mapping[Level, AttentionShape]
    keypoint_names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...]
    detector: str = NO_DETECTOR


def keypoint_word(keypoint: str | int | None) -> str:
    """A keypoint as text: the inverse of `read_keypoint`."""
    return ALL_KEYPOINTS if keypoint is None else str(keypoint)


def read_keypoint(text: str) -> str | None:
    """A keypoint as text; None for `all`. Which names and numbers there are is the network's to say."""
    return None if text == ALL_KEYPOINTS else text


def keypoint_index(keypoint: str | int, names: Sequence[str]) -> int:
    """The index of a keypoint that is given by name or by index, also as text. Raises InvalidParameter."""
    if isinstance(keypoint, int):
        if not 0 <= keypoint < len(names):
            raise InvalidParameter(f"keypoint is {keypoint}; allowed: 0 to {len(names) - 1}")
        return keypoint
    if keypoint in names:
        return names.index(keypoint)
    if keypoint.isascii() and keypoint.isdecimal() and len(keypoint) <= 4 and int(keypoint) < len(names):
        return int(keypoint)
    raise InvalidParameter(
        f"keypoint is {keypoint[:60]!r}; allowed: {', '.join(names)}, their index from 0, or {ALL_KEYPOINTS!r}"
    )
