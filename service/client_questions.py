"""Questions about dependency maps as a caller puts them, and the kind of answer that belongs to each.

Knows nothing of protocols; reads no more than a picture's file.
"""

from __future__ import annotations

from collections.abc import Collection
from operator import index as whole
from pathlib import Path
from typing import Literal, TypedDict, TypeVar

from model.levels import COLORMAPS, LEVELS, MODES, Level, Mode
from service.client_errors import UnexpectedAnswer
from service.errors import InvalidParameter
from service.poses import ALL_KEYPOINTS, Box, DependencyMap, DependencyRequest, read_keypoint

Word = TypeVar("Word")

MAX_INDEX = 10**6  # of layers and heads; more than a protocol has to carry


class MapOptions(TypedDict, total=False):
    """Which map of a keypoint is meant.

    box_xywh: the person, in pixels of the upright picture; None: the whole picture.
    level: the self-attention in the middle of the network (mhsa), or the encoder at its top (the default).
    layer: of the level, from 0; None: the last.
    head: from 0; None or "mean": their mean.
    mode: what the keypoint's token looked at (dependency, the default), or which tokens looked at it (affect).
    """

    box_xywh: Box | None
    level: Level
    layer: int | None
    head: int | Literal["mean"] | None
    mode: Mode


class PictureOptions(MapOptions, total=False):
    """Which map is drawn, and how.

    Of the figure of all keypoints, without a `layer` (of the encoder) or a `head` (of mhsa) there is a row for each.

    threshold: attention below this part of the map's largest is not drawn; 0..1.
    colormap: one of `model.levels.COLORMAPS`.
    """

    threshold: float
    colormap: str


def asked_keypoint(keypoint: str | int) -> str | None:
    """A keypoint as it is sent; None for `all`. Which there are only the service knows. Raises InvalidParameter."""
    if not str(keypoint):
        raise InvalidParameter("keypoint is ''; allowed: the name of a keypoint, or its index from 0")
    return read_keypoint(str(keypoint))


def map_question(image: bytes | Path, keypoint: str | int, how: MapOptions) -> DependencyRequest:
    """A question for numbers.

    Raises InvalidParameter for what cannot be asked, TypeError for an option that is not known, OSError for an
    unreadable path.
    """
    _check_names(how, MapOptions.__optional_keys__)
    if asked_keypoint(keypoint) is None:
        raise InvalidParameter(
            f"keypoint is {ALL_KEYPOINTS!r}, which is a figure; allowed as numbers: one keypoint at a time"
        )
    return _question(image, keypoint, how, as_picture=False)


def picture_question(image: bytes | Path, keypoint: str | int, how: PictureOptions) -> DependencyRequest:
    """A question for a PNG. Errors as `map_question`."""
    _check_names(how, PictureOptions.__optional_keys__)
    return _question(image, keypoint, how, as_picture=True)


def map_of(answer: DependencyMap | bytes) -> DependencyMap:
    """The map that was asked for."""
    if isinstance(answer, bytes):
        raise UnexpectedAnswer("a map was asked for, and the service answered with a picture")
    return answer


def png_of(answer: DependencyMap | bytes) -> bytes:
    """The picture that was asked for."""
    if not isinstance(answer, bytes):
        raise UnexpectedAnswer("a picture was asked for, and the service answered with a map")
    return answer


def _question(image: bytes | Path, keypoint: str | int, how: MapOptions, *, as_picture: bool) -> DependencyRequest:
    head = how.get("head")
    drawn: PictureOptions = how if as_picture else {}  # type: ignore[assignment] # told apart by their caller
    return DependencyRequest(
        image=image.read_bytes() if isinstance(image, Path) else image,
        box_xywh=_box(how.get("box_xywh")),
        keypoint=asked_keypoint(keypoint),
        level=_word("level", how.get("level", "encoder"), LEVELS),
        layer=_index("layer", how.get("layer"), "a number from 0"),
        head=None if head == "mean" else _index("head", head, "a number from 0, or 'mean'"),
        mean_of_heads=head == "mean",
        mode=_word("mode", how.get("mode", "dependency"), MODES),
        threshold=float(drawn.get("threshold", 0.0)),
        colormap=_word("colormap", drawn.get("colormap", COLORMAPS[0]), COLORMAPS),
        as_picture=as_picture,
    )


def _check_names(how: MapOptions, allowed: Collection[str]) -> None:
    """A misspelt option must not silently change the answer, as it would not of a function that names its own."""
    if unknown := sorted(set(how) - set(allowed)):
        raise TypeError(f"unexpected {', '.join(unknown)}; allowed: {', '.join(sorted(allowed))}")


def _box(box: Box | None) -> Box | None:
    if box is None:
        return None
    if len(box) != 4:
        raise InvalidParameter(f"box_xywh is {box!r}; allowed: four numbers x, y, width, height")
    x, y, width, height = map(float, box)
    return (x, y, width, height)


# What one of the protocols cannot even say is refused here; what fits the network is the service's to say.


def _word(name: str, word: Word, allowed: tuple[Word, ...]) -> Word:
    if word not in allowed:
        raise InvalidParameter(f"{name} is {word!r}; allowed: {', '.join(map(str, allowed))}")
    return word


def _index(name: str, index: int | str | None, allowed: str) -> int | None:
    if index is None:
        return None
    try:
        number = whole(index)  # type: ignore[arg-type] # a string is what the error is for
    except TypeError:
        number = -1
    if not 0 <= number < MAX_INDEX:
        raise InvalidParameter(f"{name} is {index!r}; allowed: {allowed}")
    return number
