"""Left and right as the names of keypoints tell them: `left_eye`, `eye_right`, `LeftEye`, `lEye`, `L_Eye`, `lefteye`.

"Left" is the person's own left. The explorer's `palette.js` reads names by the same rules.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

Side = Literal["left", "right", "middle"]

_SIDES: dict[str, Side] = {"left": "left", "right": "right", "l": "left", "r": "right"}
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W_A-Za-z]+")  # they end at what is no letter, before a capital
_GLUED = re.compile(r"^(left|right)(.+)$")


def side_of(name: str) -> Side:
    """The person's own side that a keypoint of this name is on; middle where the name does not tell."""
    return _split(name)[0]


def flip_order_of(names: Sequence[str]) -> tuple[int, ...]:
    """The keypoint that each one becomes in a mirrored picture, [K], as far as the names tell.

    Two names are a pair if they differ in nothing but the side, and no third name is like them; every other keypoint
    becomes itself.
    """
    alike: dict[tuple[str, ...], dict[Side, list[int]]] = defaultdict(lambda: {"left": [], "right": [], "middle": []})
    for joint, name in enumerate(names):
        side, rest = _split(name)
        alike[rest][side].append(joint)
    order = list(range(len(names)))
    for of_side in alike.values():
        if len(of_side["left"]) == len(of_side["right"]) == 1:
            (left,), (right,) = of_side["left"], of_side["right"]
            order[left], order[right] = right, left
    return tuple(order)


def _split(name: str) -> tuple[Side, tuple[str, ...]]:
    """The side that a name tells, and its words with a gap where that was said.

    `left` and `right` count anywhere, `l` and `r` as the first or the last word. A name that has two sides, or nothing
    beside one, is of none.
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    ends = (0, len(words) - 1)
    marks = [at for at, word in enumerate(words) if word in ("left", "right") or (word in _SIDES and at in ends)]
    if len(marks) == 1 and len(words) > 1:
        (at,) = marks
        return _SIDES[words[at]], (*words[:at], "", *words[at + 1 :])
    if not marks and words and (glued := _GLUED.match(words[0])):
        return _SIDES[glued[1]], ("", glued[2], *words[1:])
    return "middle", tuple(words)
