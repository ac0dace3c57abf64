"""Sets of keypoints as data: names, left/right pairs, limbs, body halves and OKS widths.

`COCO` is the set of the paper: order, names and numbers are those of the COCO keypoint annotations. Another set comes
from a user's annotations (`training.keypoint_sets`) and travels in every checkpoint. "Left" is the person's own left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from model.fields import require
from model.sides import Side, flip_order_of, side_of

MAX_KEYPOINTS = 1000
MAX_NAME = 64  # characters
RESERVED_NAMES = ("all",)  # asks the service for the figure of all keypoints


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """One set of K keypoints. Indices count from 0, in the order of `names`.

    names: [K], each different from the others.
    flip_order: [K], the keypoint that each one becomes in a mirrored picture; itself where it has no counterpart.
    limbs: pairs of indices that a drawing joins.
    oks_sigmas: [K], standard deviation of human annotation relative to the square root of the person's area.
    upper_body, lower_body: indices of the halves that augmentation may show alone; empty: it never does.

    Raises ValueError, naming the field, its value and what is allowed, for a set that cannot be one.
    """

    names: tuple[str, ...]
    flip_order: tuple[int, ...]
    limbs: tuple[tuple[int, int], ...] = ()
    oks_sigmas: tuple[float, ...]
    upper_body: tuple[int, ...] = ()
    lower_body: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self._check_names()
        self._check_flip_order()
        self._check_sigmas()
        self._check_limbs()
        self._check_halves()

    def __len__(self) -> int:
        """K."""
        return len(self.names)

    @property
    def flip_pairs(self) -> tuple[tuple[int, int], ...]:
        """The pairs that change places in a mirrored picture: (left, right) where the names tell which is which."""
        pairs = ((joint, other) for joint, other in enumerate(self.flip_order) if joint < other)
        return tuple((other, joint) if self.side(joint) == "right" else (joint, other) for joint, other in pairs)

    def side(self, joint: int) -> Side:
        """The person's own side that a keypoint is on, as far as its name tells."""
        return side_of(self.names[joint])

    def to_json(self) -> dict[str, Any]:
        """Plain types only, as stored in a checkpoint."""
        return asdict(self)

    @classmethod
    def to_draw(cls, names: Sequence[str], limbs: Sequence[tuple[int, int]]) -> Skeleton:
        """A set of which no more is known than a drawing needs: its widths mean nothing. Errors as of the class."""
        widths = (1.0,) * len(names)
        return cls(names=tuple(names), flip_order=flip_order_of(names), limbs=tuple(limbs), oks_sigmas=widths)

    @classmethod
    def from_json(cls, stored: Any) -> Skeleton:
        """The inverse of `to_json`. Raises ValueError for unknown, missing or impossible fields."""
        known = {field.name for field in fields(cls)}
        if not isinstance(stored, dict) or set(stored) != known:
            found = sorted(stored) if isinstance(stored, dict) else type(stored).__name__
            raise ValueError(f"skeleton has the fields {found}; allowed: {', '.join(sorted(known))}")
        return cls(**{name: _tuples(value) for name, value in stored.items()})

    def _check_names(self) -> None:
        names = self.names
        is_sane = _is_tuple(names) and all(isinstance(name, str) for name in names)
        require(is_sane and 1 <= len(names) <= MAX_KEYPOINTS, "names", names, f"1 to {MAX_KEYPOINTS} texts")
        for name in names:
            is_fit = name == name.strip() and name.isprintable() and 0 < len(name) <= MAX_NAME
            require(is_fit, "names", name, f"1 to {MAX_NAME} printable characters, no blanks around them")
            is_word = not name.isdecimal() and name not in RESERVED_NAMES
            require(is_word, "names", name, f"no number, and not {' or '.join(map(repr, RESERVED_NAMES))}")
        repeated = sorted({name for name in names if names.count(name) > 1})
        require(not repeated, "names", repeated, "each name once")

    def _check_flip_order(self) -> None:
        order = self.flip_order
        require(_are_indices(order), "flip_order", order, "whole numbers")
        is_order = sorted(order) == list(range(len(self))) and all(order[order[joint]] == joint for joint in order)
        require(is_order, "flip_order", order, f"each index of 0 to {len(self) - 1} once, in pairs or alone")

    def _check_sigmas(self) -> None:
        sigmas = self.oks_sigmas
        is_one_each = _is_tuple(sigmas) and len(sigmas) == len(self)
        require(is_one_each, "oks_sigmas", sigmas, f"{len(self)} numbers, one for each name")
        for name, sigma in zip(self.names, sigmas, strict=True):
            is_width = _is_number(sigma) and 0 < sigma < math.inf
            require(is_width, f"oks_sigmas of {name}", sigma, "above 0, and finite")

    def _check_limbs(self) -> None:
        require(_is_tuple(self.limbs), "limbs", self.limbs, "pairs of indices")
        for limb in self.limbs:
            ends: tuple[int, ...] = limb
            is_pair = _are_indices(ends) and len(ends) == 2 and ends[0] != ends[1]
            is_inside = is_pair and all(0 <= joint < len(self) for joint in ends)
            require(is_inside, "limbs", limb, f"two different indices of 0 to {len(self) - 1}")

    def _check_halves(self) -> None:
        for name in ("upper_body", "lower_body"):
            half = getattr(self, name)
            is_set = _are_indices(half) and len(set(half)) == len(half)
            is_inside = is_set and all(0 <= joint < len(self) for joint in half)
            require(is_inside, name, half, f"different indices of 0 to {len(self) - 1}")
        both = sorted(set(self.upper_body) & set(self.lower_body))
        require(not both, "lower_body", both, "no keypoint that is in upper_body, too")


# What a set says of itself may come from a file, whatever its types promise.
def _is_tuple(value: object) -> bool:
    return isinstance(value, tuple)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_indices(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(one, int) and not isinstance(one, bool) for one in value)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


COCO = Skeleton(
    names=(
        "nose",
        "left_eye",
        "right_eye",
        "left_ear",
        "right_ear",
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
    ),
    flip_order=(0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15),
    # COCO's own list, from 0.
    limbs=(
        (15, 13),
        (13, 11),
        (16, 14),
        (14, 12),
        (11, 12),
        (5, 11),
        (6, 12),
        (5, 6),
        (5, 7),
        (6, 8),
        (7, 9),
        (8, 10),
        (1, 2),
        (0, 1),
        (0, 2),
        (1, 3),
        (2, 4),
        (3, 5),
        (4, 6),
    ),
    oks_sigmas=(
        0.026,
        *(0.025, 0.025),  # eyes
        *(0.035, 0.035),  # ears
        *(0.079, 0.079),  # shoulders
        *(0.072, 0.072),  # elbows
        *(0.062, 0.062),  # wrists
        *(0.107, 0.107),  # hips
        *(0.087, 0.087),  # knees
        *(0.089, 0.089),  # ankles
    ),
    upper_body=tuple(range(11)),
    lower_body=tuple(range(11, 17)),
)
