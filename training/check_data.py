r"""Check annotations in COCO's layout before anything is trained on them.

    python -m training.check_data --annotations train.json --images train --pictures 12 --pictures-dir looks

Ends with 0 if nothing was found that spoils training (warnings may be), 1 if something was, 2 if the file or an option
cannot be used at all. `docs/own-data.md` explains what is looked for.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.checkpoint import write_atomically
from training.coco import AnnotationError, Person, annotations_of, check_layout, read_json, read_person
from training.data_findings import (
    ELSEWHERE,
    Checked,
    Findings,
    check_annotations,
    check_categories,
    check_ids,
    images_by_id,
)
from training.data_pictures import draw_sample
from training.image_findings import check_images
from training.keypoint_sets import KeypointChoice, KeypointSet, add_keypoint_options, describe, read_keypoint_set
from training.side_findings import FEW, Sides, measure_sides, swapped_persons

PADDING = 1.25  # of a box, as crops have it
CROP_HEIGHT = 256  # rows of the paper's input, for what a box's height means


def check(annotations_path: Path, images_dir: Path | None, choice: KeypointChoice) -> dict[str, Any]:
    """Everything that is found, as plain JSON; images' files are left alone without a folder.

    Raises AnnotationError for a file that is not of COCO's layout, or whose keypoints cannot be told.
    """
    content = read_json(annotations_path)
    check_layout(content, annotations_path)
    keypoints = read_keypoint_set(content, annotations_path, choice)
    findings = Findings()
    check_ids(content, findings)
    images = images_by_id(content)
    annotations = annotations_of(content, keypoints, annotations_path)
    check_categories(content, keypoints, findings)
    checked = check_annotations(annotations, images, keypoints, findings)
    if images_dir is not None:
        if not images_dir.is_dir():
            raise AnnotationError(f"image folder {images_dir} does not exist")
        check_images(content["images"], images_dir, findings)
    points = [one.keypoints for one in checked]
    sides = measure_sides(points, keypoints.skeleton)
    named = [(one.annotation.get("id"), one.keypoints) for one in checked]
    for identity, pair in swapped_persons(named, keypoints.skeleton):
        findings.add("note", "persons of whom one pair points against all others", f"annotation {identity}: {pair}")
    _judge(sides, findings)
    findings.worsen(ELSEWHERE, of=len(checked))
    return {
        "annotations": str(annotations_path),
        "images": len(content["images"]),
        "annotated": len(annotations),
        "category": keypoints.category,
        "keypoints": describe(keypoints.skeleton),
        "derived": list(keypoints.notes),
        "usable_persons": len(_usable(checked, images, keypoints)),
        "joints": _frequencies(checked, keypoints),
        "box_heights": _box_heights(checked),
        "sides": {
            "pairs": [vars(pair) | {"share": round(pair.share, 4)} for pair in sides.pairs],
            "faces": sides.faces,
            "faces_from_behind": sides.faces_from_behind,
        },
        "findings": [vars(finding) for finding in findings.sorted()],
    }


def _usable(checked: Sequence[Checked], images: dict[Any, dict[str, Any]], keypoints: KeypointSet) -> list[Person]:
    """The persons that training would use."""
    persons = []
    for one in checked:
        try:
            person = read_person(one.annotation, images, Path(), len(keypoints.skeleton))
        except (KeyError, TypeError, ValueError):
            continue
        if person is not None:
            persons.append(person)
    return persons


def _frequencies(checked: Sequence[Checked], keypoints: KeypointSet) -> dict[str, dict[str, int]]:
    """By joint: in how many persons it is labelled, and in how many of these it is visible."""
    flags = np.array([one.keypoints[:, 2] for one in checked]).reshape(-1, len(keypoints.skeleton))
    return {
        name: {"labelled": int((flags[:, joint] > 0).sum()), "visible": int((flags[:, joint] == 2).sum())}
        for joint, name in enumerate(keypoints.skeleton.names)
    }


def _box_heights(checked: Sequence[Checked]) -> dict[str, float] | None:
    """Quartiles of the boxes' height in pixels, and the share that a crop of 256 rows would enlarge more than twice."""
    heights = np.array([one.box_xywh[3] for one in checked if one.box_xywh is not None])
    if not heights.size:
        return None
    quartiles = np.percentile(heights, (25, 50, 75))
    small = float((heights * PADDING * 2 < CROP_HEIGHT).mean())
    return {"lower_quartile": float(quartiles[0]), "median": float(quartiles[1]), "upper_quartile": float(quartiles[2]),
            "enlarged_more_than_twice": round(small, 4)}  # fmt: skip


def _judge(sides: Sides, findings: Findings) -> None:
    """What the sides say about the whole set."""
    for pair in sides.pairs:
        told = f"{pair.left} and {pair.right}: against the other pairs in {pair.against} of {pair.persons} persons"
        if pair.is_suspicious:
            findings.add("error", "pairs whose left and right seem to be exchanged", told)
        elif pair.is_unusual:
            findings.add("warning", "pairs whose left and right may be exchanged in part of the set", told)
    told = f"{sides.faces_from_behind} of {sides.faces} persons with a visible face have their left on the left"
    if sides.is_inverted:
        findings.add("error", "left and right seem to be exchanged throughout", told)
    elif sides.is_mixed:
        findings.add("warning", "left and right may be exchanged in part of the set", told)


def as_text(report: dict[str, Any]) -> str:
    """For a terminal of 100 columns."""
    lines = [
        f"{report['annotations']}: {report['images']} images, {report['annotated']} annotations of "
        f"{report['category']!r}, {report['usable_persons']} persons to train on",
        report["keypoints"],
        *report["derived"],
        "",
    ]
    width = max(map(len, report["joints"]))
    most = max(1, *(one["labelled"] for one in report["joints"].values()))
    lines += [f"{'joint':{width}}  labelled  visible"]
    for name, one in report["joints"].items():
        bar = "#" * round(30 * one["labelled"] / most)
        lines.append(f"{name:{width}}  {one['labelled']:8}  {one['visible']:7}  {bar}")
    if heights := report["box_heights"]:
        lines += ["", f"height of a box: {heights['lower_quartile']:.0f}, {heights['median']:.0f}, "
                  f"{heights['upper_quartile']:.0f} pixels (quartiles); a crop of {CROP_HEIGHT} rows enlarges "
                  f"{100 * heights['enlarged_more_than_twice']:.0f} % more than twice"]  # fmt: skip
    lines += ["", *_sides_text(report["sides"]), ""]
    for finding in report["findings"]:
        lines.append(f"{finding['severity']}: {finding['what']}: {finding['count']}")
        lines += [f"    {example}" for example in finding["examples"]]
    return "\n".join([*lines, *([] if report["findings"] else ["nothing to find fault with"])])


def _sides_text(sides: dict[str, Any]) -> list[str]:
    told = [pair for pair in sides["pairs"] if pair["persons"] >= FEW]
    if not told:
        return [f"left and right: too few persons to say anything (at least {FEW} with three clear pairs)"]
    width = max(len(f"{pair['left']} / {pair['right']}") for pair in told)
    lines = ["left and right: how often a pair points against the others of its person"]
    for pair in told:
        both = f"{pair['left']} / {pair['right']}"
        lines.append(f"  {both:{width}}  {100 * pair['share']:5.1f} % of {pair['persons']}")
    if sides["faces"] >= FEW:
        share = 100 * sides["faces_from_behind"] / sides["faces"]
        lines.append(f"  of {sides['faces']} persons with a visible face {share:.1f} % have their left on the left")
    return lines


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.check_data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--annotations", type=Path, required=True, metavar="JSON")
    add("--images", type=Path, metavar="DIR", help="without it, only the annotations are looked at")
    add("--no-images", action="store_true", help="do not look at the files of the images, only draw them")
    add_keypoint_options(parser)
    add("--json", type=Path, metavar="OUT", help="also write everything here")
    add("--pictures", type=int, default=0, metavar="N", help="draw N random photographs with their joints")
    add("--pictures-dir", type=Path, default=Path("pictures"), metavar="DIR")
    add("--seed", type=int, default=0, help="of the photographs that are drawn")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = build_parser()
    given = parser.parse_args(argv)
    if given.pictures < 0:
        parser.error(f"--pictures is {given.pictures}; allowed: at least 0")
    if given.pictures and not given.images:
        parser.error("--pictures needs --images")
    choice = KeypointChoice(given.keypoints, given.category)
    try:
        report = check(given.annotations, None if given.no_images else given.images, choice)
        print(as_text(report))
        if given.json:
            given.json.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(given.json, (json.dumps(report, indent=2) + "\n").encode())
        if given.pictures:
            drawn = draw_sample(
                given.annotations, given.images, choice, given.pictures_dir, count=given.pictures, seed=given.seed
            )
            print(f"{drawn} pictures in {given.pictures_dir}")
    except (ValueError, OSError) as error:
        print(f"training.check_data: {error}", file=sys.stderr)
        return 2
    return int(any(finding["severity"] == "error" for finding in report["findings"]))


if __name__ == "__main__":
    sys.exit(main())
