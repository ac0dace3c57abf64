"""A set of keypoints from what is told of it: fields are read, and what is not told is derived.

Knows nothing of files. Fields are those of `training.keypoint_sets`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from model.sides import flip_order_of, side_of
from model.skeleton import COCO, Skeleton

DEFAULT_SIGMA = 0.067  # the mean of COCO's 17


def complete(described: Mapping[str, Any], known: Sequence[Skeleton]) -> tuple[Skeleton, list[str]]:
    """A whole set of what is described, and what was derived for it. Raises ValueError, TypeError."""
    names = _names(described.get("keypoints", known[0].names))
    base = next((one for one in known if one.names == names), None)
    notes = []
    index = _Indices(names)
    limbs = described.get("skeleton")
    flip_pairs, sigmas = described.get("flip_pairs"), described.get("sigmas")
    if flip_pairs is not None:
        flip_order = _flip_order(index.pairs("flip_pairs", flip_pairs), len(names))
    elif base is not None:
        flip_order = base.flip_order
    else:
        flip_order = flip_order_of(names)
        notes.append(_flip_note(names, flip_order))
    if base is not None and sigmas is None:
        oks_sigmas = base.oks_sigmas
    else:
        oks_sigmas, assumed = _sigmas(names, sigmas, base or COCO)
        notes += [_sigma_note(assumed)] if assumed else []
    halves = {}
    for half in ("upper_body", "lower_body"):
        given = described.get(half)
        derived = getattr(base, half) if base is not None else _half(names, getattr(COCO, half))
        halves[half] = derived if given is None else index.of(half, given)
    if not (halves["upper_body"] or halves["lower_body"]):
        notes.append("upper_body and lower_body are not given: no views of half a body")
    skeleton = Skeleton(
        names=names,
        flip_order=flip_order,
        limbs=index.pairs("skeleton", limbs) if limbs else (base.limbs if base is not None else ()),
        oks_sigmas=oks_sigmas,
        **halves,
    )
    return skeleton, notes


class _Indices:
    """Keypoints by name, or by number from 1, as indices from 0."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def of(self, field: str, words: Any) -> tuple[int, ...]:
        if not isinstance(words, list):
            raise TypeError(f"{field} is {words!r}; allowed: a list of names, or of numbers from 1")
        return tuple(self._index(field, word) for word in words)

    def pairs(self, field: str, pairs: Any) -> tuple[tuple[int, int], ...]:
        if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            raise TypeError(f"{field} is {shown(pairs)}; allowed: a list of pairs of names, or of numbers from 1")
        return tuple((self._index(field, first), self._index(field, second)) for first, second in pairs)

    def _index(self, field: str, word: Any) -> int:
        if isinstance(word, str) and word in self._names:
            return self._names.index(word)
        if isinstance(word, int) and not isinstance(word, bool) and 1 <= word <= len(self._names):
            return word - 1
        allowed = f"{', '.join(self._names)}, or their numbers 1 to {len(self._names)}"
        raise ValueError(f"{field} has {word!r}; allowed: {allowed}")


def _names(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list | tuple) or not given or not all(isinstance(name, str) for name in given):
        raise TypeError(f"keypoints is {given!r}; allowed: a list of names")
    return tuple(given)


def _flip_order(pairs: Sequence[tuple[int, int]], count: int) -> tuple[int, ...]:
    order = list(range(count))
    for first, second in pairs:
        if first == second or order[first] != first or order[second] != second:
            raise ValueError(f"flip_pairs has keypoint {first + 1} or {second + 1} twice; allowed: each in one pair")
        order[first], order[second] = second, first
    return tuple(order)


def _sigmas(names: tuple[str, ...], given: Any, base: Skeleton) -> tuple[tuple[float, ...], dict[str, float]]:
    """A width for each keypoint, and those of them that were not given."""
    if isinstance(given, list):
        if len(given) != len(names):
            raise ValueError(f"sigmas has {len(given)} numbers; allowed: {len(names)}, one for each keypoint")
        return tuple(given), {}
    told: Any = {} if given is None else given
    wrong = sorted(told.keys() - set(names)) if isinstance(told, Mapping) else told
    if wrong or not isinstance(told, Mapping):
        raise ValueError(f"sigmas has {wrong!r}; allowed: a list of {len(names)} numbers, or numbers by name")
    usual = dict(zip(base.names, base.oks_sigmas, strict=True))
    assumed = {name: usual.get(name, DEFAULT_SIGMA) for name in names if name not in told}
    return tuple(told[name] if name in told else assumed[name] for name in names), assumed


def _half(names: tuple[str, ...], half_of_coco: tuple[int, ...]) -> tuple[int, ...]:
    """The half of a set of COCO's joints, some of them or in another order; of any other set none."""
    if not set(names) <= set(COCO.names):
        return ()
    wanted = {COCO.names[joint] for joint in half_of_coco}
    return tuple(joint for joint, name in enumerate(names) if name in wanted)


def _flip_note(names: tuple[str, ...], flip_order: tuple[int, ...]) -> str:
    pairs = [f"{names[a]}/{names[b]}" for a, b in enumerate(flip_order) if a < b]
    lonely = [name for joint, name in enumerate(names) if flip_order[joint] == joint and side_of(name) != "middle"]
    note = f"flip_pairs from the names: {', '.join(pairs) or 'none'}"
    return note + (f"; without a counterpart: {', '.join(lonely)}" if lonely else "")


def _sigma_note(assumed: Mapping[str, float]) -> str:
    by_default = [name for name, sigma in assumed.items() if name not in COCO.names or sigma == DEFAULT_SIGMA]
    as_coco = [name for name in assumed if name not in by_default]
    parts = [f"as COCO's for {', '.join(as_coco)}"] if as_coco else []
    parts += [f"{DEFAULT_SIGMA} for {', '.join(by_default)}"] if by_default else []
    return f"sigmas that are not given: {'; '.join(parts)}"


def shown(value: object) -> str:
    """A value in a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 300 else text[:297] + "..."
