"""Whether left and right were exchanged, as far as a picture's geometry tells.

Of somebody who faces the camera, the joints of the person's own left lie to the right in the picture, of somebody seen
from behind to the left: either way all pairs of one person point the same way, unless limbs cross. So a pair that
points against the others again and again is suspicious; and where the face is visible, so is a whole set of which most
persons seem to be seen from behind.

Cannot see: persons seen from the side, a single exchange among crossed limbs, whole persons exchanged where no face
tells who faces the camera, or a set without pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.skeleton import Skeleton

CLEAR = 0.1  # of the joints' extent: a pair that is closer together in x points nowhere
OTHERS = 2  # other pairs that must agree, before one can be against them
SUSPICIOUS = 0.5  # share of persons in which a pair is against the others; by chance and crossed limbs far less
# Beyond what was seen of sound sets: crossed ankles come to 0.08 in COCO and 0.10 in LSP-extended; of COCO's persons
# with a visible face 0.02 to 0.03 have turned their back, or stand on their head.
UNUSUAL = 0.12
UNUSUAL_FACES = 0.06
CERTAINTY_Z = 1.96  # standard errors, of 95 %
FEW = 20  # persons below which nothing is said
FACE_WORDS = ("nose", "eye", "mouth")  # in the names of joints that are visible from the front only


@dataclass(frozen=True)
class PairSides:
    """One left-right pair: in how many persons the others agree on a side, and in how many of them it is against it."""

    left: str
    right: str
    persons: int
    against: int

    @property
    def share(self) -> float:
        """0..1; 0 where nobody can tell."""
        return self.against / self.persons if self.persons else 0.0

    @property
    def is_suspicious(self) -> bool:
        """Whether it is against the others too often for chance and crossed limbs."""
        return self.persons >= FEW and self.share > SUSPICIOUS

    @property
    def is_unusual(self) -> bool:
        """Whether it is against the others more often than crossed limbs explain: in part of the set, perhaps."""
        return self.persons >= FEW and least_share(self.against, self.persons) > UNUSUAL


@dataclass(frozen=True)
class Sides:
    """Of a set: its pairs, and of persons whose face is visible, how many seem to be seen from behind."""

    pairs: tuple[PairSides, ...]
    faces: int
    faces_from_behind: int

    @property
    def is_inverted(self) -> bool:
        """Whether left and right seem to be exchanged throughout."""
        return self.faces >= FEW and self.faces_from_behind > SUSPICIOUS * self.faces

    @property
    def is_mixed(self) -> bool:
        """Whether left and right may be exchanged in part of the set."""
        return self.faces >= FEW and least_share(self.faces_from_behind, self.faces) > UNUSUAL_FACES


def least_share(count: int, of: int) -> float:
    """The lower end of the 95 % interval (Wilson's) of a share of which `count` of so many were seen."""
    share, spread = count / of, CERTAINTY_Z**2 / of
    margin = CERTAINTY_Z * math.sqrt((share * (1 - share) + spread / 4) / of)
    return (share + spread / 2 - margin) / (1 + spread)


def directions(keypoints: npt.NDArray[np.float64], skeleton: Skeleton) -> npt.NDArray[np.int_]:
    """For each left-right pair of one person: 1 if its left lies to the right in the picture, -1, or 0 if unclear.

    Args:
        keypoints: [K, 3] of one person, x, y and visibility.
    """
    there = keypoints[:, 2] > 0
    extent = float(np.ptp(keypoints[there, :2], axis=0).max()) if there.any() else 0.0
    found = []
    for left, right in skeleton.flip_pairs:
        apart = keypoints[left, 0] - keypoints[right, 0]
        clear = there[left] and there[right] and abs(apart) > CLEAR * extent
        found.append(int(np.sign(apart)) if clear else 0)
    return np.array(found, dtype=int)


def measure_sides(persons: Sequence[npt.NDArray[np.float64]], skeleton: Skeleton) -> Sides:
    """The statistic over persons [K, 3] each."""
    pairs = skeleton.flip_pairs
    counts = np.zeros((len(pairs), 2), dtype=int)  # others agree, against them
    faces = behind = 0
    face = [joint for joint, name in enumerate(skeleton.names) if any(word in name.lower() for word in FACE_WORDS)]
    # The pairs of the face themselves say nothing beyond what is to be shown.
    body = [number for number, (left, right) in enumerate(pairs) if not {left, right} & set(face)]
    for keypoints in persons:
        found = directions(keypoints, skeleton)
        for number, direction in enumerate(found):
            others = int(found.sum() - direction)
            if direction and abs(others) >= OTHERS:
                counts[number] += 1, direction != np.sign(others)
        if len(face) > 1 and (keypoints[face, 2] == 2).all() and body:
            side = int(found[body].sum())
            faces, behind = faces + (side != 0), behind + (side < 0)
    names = skeleton.names
    told = (PairSides(names[a], names[b], int(n), int(k)) for (a, b), (n, k) in zip(pairs, counts, strict=True))
    return Sides(tuple(told), faces, behind)


def swapped_persons(
    persons: Sequence[tuple[Any, npt.NDArray[np.float64]]], skeleton: Skeleton
) -> list[tuple[Any, str]]:
    """Persons with one pair against all others of at least three: the id of each, and the pair's name."""
    found = []
    for identity, keypoints in persons:
        signs = directions(keypoints, skeleton)
        for number in np.flatnonzero(signs):
            others = np.delete(signs, number)
            if np.count_nonzero(others) > OTHERS and (others[others != 0] == -signs[number]).all():
                left, right = skeleton.flip_pairs[number]
                found.append((identity, f"{skeleton.names[left]} and {skeleton.names[right]}"))
    return found
