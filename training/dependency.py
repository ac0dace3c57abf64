r"""Compare what several checkpoints attend to: in pictures, as the paper's Figures 3 and 4 do, and in numbers.

A figure of photographs that show one person each:

    python -m training.dependency --checkpoints a.safetensors b.safetensors --images one.jpg two.jpg --out figure.png

With annotations `--images` is their folder. Every annotated person is then measured, too: how much of the attention
lies in the person's box, and how far its peak is from the predicted joint (`training.dependency_measures` says more):

    python -m training.dependency --checkpoints checkpoints/c3a1-4.safetensors \
        --annotations person_keypoints_val2017.json --images val2017 --out figure.png --json figures.json

All maps are of the last layer and the mean of its heads; the JSON has every layer and head.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from model.checkpoint import CheckpointError, load_checkpoint, read_card, write_atomically
from model.device import pick_device, pick_dtype
from model.estimator import PoseEstimator
from model.levels import COLORMAPS, MODES
from model.skeleton import Skeleton
from training.coco import AnnotationError, KeypointData, read_persons
from training.dependency_comparison import Comparison, Look, ShownPerson, annotated_persons, photographed_persons
from training.dependency_measures import MEASURES, Measured, measure
from training.keypoint_sets import KeypointChoice, check_agreement, describe
from training.provenance import short_name
from training.settings import Precision

ALL = "all"
DEFAULT_KEYPOINTS = ("nose", "left_elbow", "right_wrist", "left_hip", "right_knee", "left_ankle")
FIGURE_SUFFIX = ".png"


def compare(given: argparse.Namespace) -> dict[str, Any] | None:
    """Do what the command line says; the figures as JSON, None if nothing was to be measured."""
    device = pick_device(given.device)
    dtype = pick_dtype(given.precision, device)
    for path in filter(None, (given.out, given.json)):
        path.parent.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    skeleton = _skeleton_of(given.checkpoints)
    data = _read_data(given, skeleton)
    persons = data.persons[: given.limit] if data else ()
    comparison = Comparison(_figure_persons(given, data), _look(given, skeleton)) if given.out else None
    loaded = [load_checkpoint(path) for path in given.checkpoints]  # all of them, so that the last one cannot fail late
    checkpoints = []
    for path, name, (net, card) in zip(given.checkpoints, display_names(given.checkpoints), loaded, strict=True):
        estimator = PoseEstimator(net, device, dtype)
        if comparison:
            comparison.add(estimator, f"{card.config.label}\n{name}")
        if persons:
            measured = measure(estimator, persons, mode=given.mode, name=name)
            about = {"name": name, "file": short_name(path), "sha256": card.sha256, "label": card.config.label}
            checkpoints.append(about | {"input_hw": list(card.config.input_hw)} | _figures(measured))
    if comparison:
        write_atomically(given.out, comparison.to_png())
    if data is None or not persons:
        return None
    return {
        "annotations": short_name(data.annotations_path),
        "boxes": "gt",
        "persons": len(persons),
        "joints": int(sum(person.labelled.sum() for person in persons)),
        "query": "predicted joint",
        "mode": given.mode,
        "runtime": f"torch {device.type} {str(dtype).removeprefix('torch.')}",
        "checkpoints": checkpoints,
    }


def _skeleton_of(checkpoints: Sequence[Path]) -> Skeleton:
    """The keypoints that all of them find. Raises CheckpointError."""
    skeletons = [read_card(path).config.skeleton for path in checkpoints]
    for path, skeleton in zip(checkpoints, skeletons, strict=True):
        if skeleton.names != skeletons[0].names:
            raise CheckpointError(
                f"{path} has {describe(skeleton)}; allowed: {describe(skeletons[0])}, as the first one"
            )
    return skeletons[0]


def _read_data(given: argparse.Namespace, skeleton: Skeleton) -> KeypointData | None:
    if given.annotations is None:
        return None
    choice = KeypointChoice(category=given.category)
    data = read_persons(given.annotations, given.images[0], choice=choice, known=(skeleton,))
    check_agreement(skeleton, str(given.checkpoints[0]), data.keypoints.skeleton, str(given.annotations))
    if not data.persons:
        raise AnnotationError(f"{given.annotations} has no person with a labelled joint")
    return data


def _figure_persons(given: argparse.Namespace, data: KeypointData | None) -> list[ShownPerson]:
    if data is None:
        return photographed_persons(given.images, given.boxes)
    return annotated_persons(data, images=given.figure_images, image_ids=given.image_ids)


def _look(given: argparse.Namespace, skeleton: Skeleton) -> Look:
    usual = [name for name in DEFAULT_KEYPOINTS if name in skeleton.names]
    names = given.keypoints or usual or [ALL]
    if wrong := [name for name in names if name not in (*skeleton.names, ALL)]:
        raise ValueError(f"--keypoints is {', '.join(wrong)}; allowed: {', '.join(skeleton.names)}, or {ALL}")
    chosen = skeleton.names if ALL in names else names
    return Look(
        skeleton,
        tuple(skeleton.names.index(name) for name in chosen),
        mode=given.mode,
        threshold=given.threshold,
        colormap=given.colormap,
    )


def _figures(measured: Measured) -> dict[str, Any]:
    references = {"uniform": measured.uniform, "center": measured.center}
    return {
        "levels": {level: tally.to_json() for level, tally in measured.levels.items()},
        "references": {
            name: {"mean": tally.means(0), "median": tally.medians(0)} for name, tally in references.items()
        },
    }


def display_names(paths: Sequence[Path]) -> list[str]:
    """The stem of each file; with its folder where that says no more than `best`, or where two are the same."""
    stems = [path.stem for path in paths]
    return [
        f"{path.resolve().parent.name}/{path.stem}" if path.stem == "best" or stems.count(path.stem) > 1 else path.stem
        for path in paths
    ]


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.dependency", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--checkpoints", type=Path, nargs="+", required=True, metavar="FILE", help="the rows of the figure")
    add("--images", type=Path, nargs="+", required=True, metavar="PATH", help="photographs; or the annotations' folder")
    add("--annotations", type=Path, metavar="JSON", help="measure the persons of this COCO file")
    add("--boxes", type=_box, nargs="+", metavar="X,Y,W,H", help="the person in each photograph, else all of it")
    add("--out", type=Path, metavar="PNG", help="write the figure here")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--figure-images", type=int, default=2, metavar="N", help="show N photographs (2): the person best labelled"
    )
    chosen.add_argument("--image-ids", type=int, nargs="+", metavar="ID", help="show all persons of these photographs")
    add("--keypoints", nargs="+", metavar="NAME",
        help=f"the columns of the figure, or {ALL}; one of each pair and the nose if not given")  # fmt: skip
    add("--category", metavar="NAME", help="of the annotations; needed where several categories have keypoints")
    add("--limit", type=int, metavar="N", help="measure the first N persons; 0: only draw")
    add("--json", type=Path, metavar="JSON", help="write the figures here")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--precision", default="fp32", choices=get_args(Precision), help="auto: as the service chooses")
    add("--threshold", type=float, default=0.0, help="hide values below this part of each map's largest, 0 to 1")
    add("--colormap", default=COLORMAPS[0], choices=COLORMAPS)
    add("--mode", default=MODES[0], choices=MODES, help="what the joint looked at, or what looked at it")
    return parser


def _box(text: str) -> list[float]:
    try:
        box = [float(part) for part in text.split(",")]
    except ValueError:
        box = []
    if len(box) != 4 or not all(map(math.isfinite, box)):
        raise argparse.ArgumentTypeError(f"box is {text!r}; allowed: X,Y,W,H in pixels")
    return box


def _complaint(given: argparse.Namespace) -> str | None:
    """What does not go together."""
    measures = given.annotations is not None and given.limit != 0
    pairs = (
        (not given.out and not measures, "nothing to do: give --out, or --annotations to measure"),
        (given.annotations and len(given.images) > 1, "--annotations takes one folder as --images"),
        (given.annotations and given.boxes, "--boxes is for photographs; --annotations has its own"),
        (given.image_ids and not given.annotations, "--image-ids needs --annotations"),
        (given.json and not measures, "--json needs --annotations, and something to measure"),
        (
            given.boxes and len(given.boxes) != len(given.images),
            f"--boxes has {len(given.boxes or ())} boxes; allowed: one for each of the {len(given.images)} photographs",
        ),
        (
            given.out and given.out.suffix.lower() != FIGURE_SUFFIX,
            f"--out is {given.out}; allowed: a name that ends in {FIGURE_SUFFIX}",
        ),
        (not 0.0 <= given.threshold <= 1.0, f"--threshold is {given.threshold:g}; allowed: 0 to 1"),
        (given.figure_images < 1, f"--figure-images is {given.figure_images}; allowed: at least 1"),
        (given.limit is not None and given.limit < 0, f"--limit is {given.limit}; allowed: at least 0"),
    )
    return next((complaint for wrong, complaint in pairs if wrong), None)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 2 for options or files that do not work."""
    parser = build_parser()
    given = parser.parse_args(argv)
    if complaint := _complaint(given):
        parser.error(complaint)
    try:
        report = compare(given)
        if report and given.json:
            write_atomically(given.json, (json.dumps(report, indent=2) + "\n").encode())
    except (ValueError, OSError) as error:
        print(f"training.dependency: {error}", file=sys.stderr)
        return 2
    if report:
        print(table(report))
    return 0


def table(report: dict[str, Any]) -> str:
    """The figures of `compare` for a terminal: the last layer of each level, the mean of its heads."""
    lines = [
        f"{report['annotations']}: {report['persons']} persons, {report['joints']} labelled joints, "
        f"boxes {report['boxes']}, {report['runtime']}",
        f"{report['mode']} maps of each predicted joint: last layer, mean of heads",
        "",
        f"{'':34}in the box   from the peak (heaviest token) to the predicted joint: mean (median)",
        f"{'':34}{'mean':>10}   {'crop pixels':>15}   {'image pixels':>15}   {'crop heights':>15}",
    ]
    for checkpoint in report["checkpoints"]:
        rows = {"MHSA": checkpoint["levels"]["mhsa"], "encoder": checkpoint["levels"]["encoder"]}
        rows |= {"uniform attention": checkpoint["references"]["uniform"]}
        rows |= {"the crop's centre": checkpoint["references"]["center"]}
        lines.append(f"{checkpoint['label']} {checkpoint['name']}, {checkpoint['input_hw'][0]} x "
                     f"{checkpoint['input_hw'][1]}")  # fmt: skip
        lines += [_table_row(name, row["mean"], row["median"]) for name, row in rows.items()]
    return "\n".join(lines)


def _table_row(name: str, mean: dict[str, float | None], median: dict[str, float | None]) -> str:
    share = "-" if mean["box_share"] is None else f"{100 * mean['box_share']:.1f} %"
    cells = [
        f"{f'{mean[measure]:.{digits}f} ({median[measure]:.{digits}f})':>15}"
        for measure, digits in zip(MEASURES[1:], (1, 1, 3), strict=True)
    ]
    return f"  {name:32}{share:>10}   " + "   ".join(cells)


if __name__ == "__main__":
    torch.set_float32_matmul_precision("high")
    sys.exit(main())
