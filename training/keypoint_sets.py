"""Which keypoints annotations have: what the category in a COCO file says, and what a small TOML adds to it.

Both have the same fields: `keypoints` (names in their order), `skeleton` (pairs that a drawing joins), and, beyond
COCO's own format, `flip_pairs`, `sigmas`, `upper_body` and `lower_body`. A keypoint is meant by its name, or by its
number from 1 as COCO's `skeleton` counts. What is not given is taken from a known set of the same names (COCO's, that
of a checkpoint, that of the first file of a run), or else derived by `training.keypoint_fields`: flip pairs from left
and right in the names, widths from COCO's joints of the same name or their mean, and no body halves. Whatever was
derived can be said (`notes`).
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from model.skeleton import COCO, Skeleton
from training.keypoint_fields import complete, shown

FIELDS = ("keypoints", "skeleton", "flip_pairs", "sigmas", "upper_body", "lower_body")
CATEGORY = "category"  # of a TOML: the name of the category that it describes
PERSON = "person"
DECIDING = ("names", "flip_order", "oks_sigmas")  # fields that files of one run, or of one measurement, must share


class AnnotationError(ValueError):
    """An annotation or results file cannot be used. The message names the file, the record and what is wrong."""


@dataclass(frozen=True)
class KeypointChoice:
    """What the command line says about the keypoints: a TOML that describes them, the name of the category."""

    toml: Path | None = None
    category: str | None = None


@dataclass(frozen=True)
class KeypointSet:
    """The keypoints of one annotation file.

    category_id, category: whose annotations count; None: all, for the file does not tell categories of keypoints apart.
    notes: lines that say what was derived or assumed.
    """

    skeleton: Skeleton
    category_id: int | None = None
    category: str = PERSON
    notes: tuple[str, ...] = ()

    @property
    def result_category_id(self) -> int:
        """The category of results for this file."""
        return 1 if self.category_id is None else self.category_id

    def includes(self, annotation: Mapping[str, Any]) -> bool:
        """Whether an annotation is of this category; one that names none is."""
        return self.category_id is None or annotation.get("category_id", self.category_id) == self.category_id


FROM_FILE = KeypointChoice()


def read_keypoint_set(
    content: Mapping[str, Any],
    annotations_path: Path,
    choice: KeypointChoice = FROM_FILE,
    *,
    known: Sequence[Skeleton] = (COCO,),
) -> KeypointSet:
    """The keypoints of an annotation file.

    Args:
        content: of the file, an object.
        annotations_path: for messages.
        choice: of the command line.
        known: sets that complete one of the same names; the first is that of a file that names no keypoints at all.

    Raises AnnotationError if there is more than one set to choose from, or a field that cannot be.
    """
    told = {} if choice.toml is None else read_toml(choice.toml)
    category = _pick(content, annotations_path, choice.category or told.get(CATEGORY), is_described="keypoints" in told)
    described = {name: category[name] for name in FIELDS if category.get(name) is not None}
    if not described.get("keypoints"):
        described.pop("keypoints", None)  # some tools write an empty list
    if {"keypoints"} <= described.keys() & told.keys() and described["keypoints"] != told["keypoints"]:
        raise AnnotationError(
            f"{choice.toml} has the keypoints {told['keypoints']}, and category {category.get('name')!r} of "
            f"{annotations_path} has {described['keypoints']}; allowed: the same, or only one of both"
        )
    described |= {name: value for name, value in told.items() if name in FIELDS}
    source = f"{annotations_path}: category {category.get('name')!r}" if choice.toml is None else str(choice.toml)
    try:
        skeleton, notes = complete(described, known)
    except (TypeError, ValueError) as error:
        raise AnnotationError(f"{source}: {error}") from error
    if "keypoints" not in described and (skeleton.names != COCO.names or category.get("name", PERSON) != PERSON):
        notes.insert(0, f"the file names no keypoints: {describe(skeleton)} are assumed")
    category_id = category.get("id")
    if category and (not isinstance(category_id, int) or isinstance(category_id, bool)):
        raise AnnotationError(f"{annotations_path}: category {category.get('name')!r} has the id {category_id!r}")
    return KeypointSet(skeleton, category_id, str(category.get("name", PERSON)), tuple(notes))


def read_toml(path: Path) -> dict[str, Any]:
    """The fields of a TOML that describes keypoints. Raises AnnotationError."""
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AnnotationError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # also of text that is not UTF-8
        raise AnnotationError(f"{path} is not TOML: {error}") from error
    if unknown := sorted(told.keys() - {*FIELDS, CATEGORY}):
        raise AnnotationError(f"{path} has the fields {', '.join(unknown)}; allowed: {', '.join((*FIELDS, CATEGORY))}")
    if not isinstance(told.get(CATEGORY, ""), str):
        raise AnnotationError(f"{path}: category is {told[CATEGORY]!r}; allowed: its name")
    return told


def add_keypoint_options(parser: argparse._ActionsContainer) -> None:
    """`--keypoints` and `--category`; `KeypointChoice(given.keypoints, given.category)` is what they say."""
    parser.add_argument(
        "--keypoints", type=Path, metavar="TOML", help="describes the keypoints, or what the annotations leave open"
    )
    parser.add_argument(
        "--category", metavar="NAME", help="of the annotations; needed where several categories have keypoints"
    )


def check_agreement(skeleton: Skeleton, source: str, other: Skeleton, other_source: str) -> None:
    """Raises AnnotationError unless two sets have the same keypoints, pairs and widths: limbs are for drawing alone."""
    for field in fields(Skeleton):
        mine, its = getattr(skeleton, field.name), getattr(other, field.name)
        if field.name in DECIDING and mine != its:
            raise AnnotationError(
                f"{other_source} has other keypoints than {source}: {field.name} is {shown(its)}; allowed: "
                f"{shown(mine)}. If both mean the same, describe them in one TOML and give it by --keypoints"
            )


def check_resumed(stored: Any, skeleton: Skeleton, run_dir: Path) -> None:
    """Raises ValueError unless a run goes on with the keypoints that it began with.

    `stored` is None in the state of a run from before there were others than COCO's.
    """
    before = COCO if stored is None else Skeleton.from_json(stored)
    if before.names != skeleton.names or before.flip_order != skeleton.flip_order:
        raise ValueError(
            f"{run_dir} was started with {describe(before)}; now there are {describe(skeleton)}; allowed: the same "
            "ones, or another --run-dir"
        )


def told_of(keypoints: KeypointSet) -> list[str]:
    """Lines for a command to print: which keypoints these are, and what was derived; none where they are COCO's."""
    if keypoints.skeleton == COCO and not keypoints.notes:
        return []
    return [f"{keypoints.category}: {describe(keypoints.skeleton)}", *keypoints.notes]


def describe(skeleton: Skeleton) -> str:
    """One line that says which keypoints these are."""
    of_coco = "COCO's " if skeleton.names == COCO.names else ""
    shown = ", ".join(skeleton.names[:20]) + (", ..." if len(skeleton) > 20 else "")
    return f"{of_coco}{len(skeleton)} keypoints: {shown}"


def _pick(content: Mapping[str, Any], path: Path, name: str | None, *, is_described: bool) -> dict[str, Any]:
    """The category that is meant; empty if the file does not tell categories of keypoints apart."""
    categories = content.get("categories") or []
    if not isinstance(categories, list) or not all(isinstance(one, dict) for one in categories):
        raise AnnotationError(f"{path} has `categories` that are not a list of objects")
    candidates = [one for one in categories if one.get("keypoints")]
    if name is not None:
        found = [one for one in categories if one.get("name") == name]
        if not found and (categories or name != PERSON):
            names = ", ".join(repr(one.get("name")) for one in categories) or "none: it has no categories"
            raise AnnotationError(f"category is {name!r}; allowed in {path}: {names}")
        candidates = found
    elif not candidates and is_described:
        candidates = categories if len(categories) == 1 else [one for one in categories if one.get("name") == PERSON]
        if categories and not candidates:
            candidates = categories
    if len(candidates) > 1:
        names = ", ".join(repr(one.get("name")) for one in candidates)
        raise AnnotationError(f"{path} has keypoints of several categories: {names}; choose one by --category NAME")
    return candidates[0] if candidates else {}
