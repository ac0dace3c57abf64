r"""Measure a checkpoint, or a results file, by object keypoint similarity (OKS).

A checkpoint with ground-truth boxes:

    python -m training.evaluate --checkpoint checkpoints/c3a1-4.safetensors \
        --annotations person_keypoints_val2017.json --images val2017 --flip-test

With a detector's boxes (a COCO detection file: image_id, category_id 1, bbox, score), which reads 2 to 3 points lower:

    python -m training.evaluate --checkpoint ... --annotations ... --images ... --detections detections.json

On several devices, each taking its part of the persons:

    torchrun --nproc-per-node 8 -m training.evaluate --checkpoint ... --annotations ... --images ...

A results file that something else made:

    python -m training.evaluate --results results.json --annotations person_keypoints_val2017.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch

from model.checkpoint import read_card, write_atomically, write_card
from model.loading import load_estimators
from model.pick_runtime import RUNTIMES
from model.quantised import INT8
from model.skeleton import COCO, Skeleton
from training.boxes import detected_boxes, ground_truth_boxes
from training.coco import KeypointData, check_layout, read_json, read_persons
from training.finer_figures import NOT_MEASURED, as_text, finer_figures, for_card
from training.keypoint_sets import (
    KeypointChoice,
    KeypointSet,
    add_keypoint_options,
    check_agreement,
    read_keypoint_set,
)
from training.oks import METRIC_NAMES, ScorerMissing, score_results, suppress_duplicates
from training.pictures import save_pictures
from training.predict import BoxedPerson, predict
from training.provenance import short_name
from training.settings import Precision
from training.world import World, joined_world


def evaluate_checkpoint(given: argparse.Namespace, world: World) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The figures of a checkpoint with their protocol, and its COCO results; of several processes, in the first."""
    (estimator,), card = load_estimators(
        given.checkpoint, world.device, precision=given.precision, runtime=given.runtime, cache_dir=given.cache_dir
    )
    skeleton = card.config.skeleton
    keypoints = _keypoints_of(given, known=(skeleton,))
    check_agreement(skeleton, str(given.checkpoint), keypoints.skeleton, str(given.keypoints or given.annotations))
    persons, data = _persons_of(given, keypoints, known=(skeleton,))
    results = predict(
        estimator,
        persons,
        flip_test=given.flip_test,
        batch_size=given.batch_size,
        category_id=keypoints.result_category_id,
        world=world,
    )
    if not world.first:
        return {}, []
    if given.detections:
        results = suppress_duplicates(results, sigmas=skeleton.oks_sigmas)
    figures = NOT_MEASURED
    if data is not None and results:
        figures = finer_figures(
            estimator,
            data,
            results,
            skeleton=skeleton,
            calibrate=given.calibration,
            errors=given.errors,
            baselines=given.baselines,
            batch_size=given.batch_size,
        )
    summary = score_results(results, given.annotations, keypoints) | {
        "boxes": "detections" if given.detections else "gt",
        "flip_test": given.flip_test,
        **_describe_truth(given.annotations, keypoints),
        "poses": len(results),
        "runtime": f"{estimator.runtime.name} {world.device.type} {estimator.runtime.precision}",
        **figures,
    }
    return summary, results


def _persons_of(
    given: argparse.Namespace, keypoints: KeypointSet, *, known: Sequence[Skeleton]
) -> tuple[list[BoxedPerson], KeypointData | None]:
    """Who is looked at; and with ground-truth boxes, what is known about them."""
    if given.detections:
        category_id = keypoints.result_category_id
        return detected_boxes(given.detections, given.annotations, given.images, category_id=category_id), None
    data = read_persons(given.annotations, given.images, choice=_choice(given), known=known)
    return ground_truth_boxes(data), data


def evaluate_results(given: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The figures of a results file. Which boxes it was made from only its maker knows: `--boxes` says it."""
    results = read_json(given.results)
    keypoints = _keypoints_of(given, known=(COCO,))
    summary = score_results(results, given.annotations, keypoints) | {
        "boxes": given.boxes,
        **_describe_truth(given.annotations, keypoints),
        "poses": len(results),
        **NOT_MEASURED,
    }
    return summary, results


def _choice(given: argparse.Namespace) -> KeypointChoice:
    return KeypointChoice(given.keypoints, given.category)


def _keypoints_of(given: argparse.Namespace, *, known: Sequence[Skeleton]) -> KeypointSet:
    content = read_json(given.annotations)
    check_layout(content, given.annotations)
    return read_keypoint_set(content, given.annotations, _choice(given), known=known)


def _describe_truth(annotations_path: Path, keypoints: KeypointSet) -> dict[str, Any]:
    """What the figures were measured on."""
    content = read_json(annotations_path)
    check_layout(content, annotations_path)
    annotations = filter(keypoints.includes, content["annotations"])
    counted = [one for one in annotations if any((one.get("keypoints") or ())[2::3]) and not one.get("iscrowd")]
    return {
        "annotations": short_name(annotations_path),
        "images": len(content["images"]),
        "persons": len(counted),
    }


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", type=Path, help="measure this network; needs --images")
    what.add_argument("--results", type=Path, metavar="JSON", help="score this COCO keypoint results file")
    add("--annotations", type=Path, required=True, metavar="JSON", help="the ground truth")
    add("--images", type=Path, metavar="DIR")
    add_keypoint_options(parser)
    boxes = parser.add_mutually_exclusive_group()
    boxes.add_argument("--boxes", default="gt", choices=("gt", "detections"), help="gt: the annotated boxes (default)")
    boxes.add_argument("--detections", type=Path, metavar="JSON", help="use these boxes instead")
    add("--flip-test", action=argparse.BooleanOptionalAction, default=True, help="also look at the mirrored crop")
    add("--calibration", action="store_true",
        help="also compare scores and confidences with the OKS that came of them; with ground-truth boxes")  # fmt: skip
    add("--errors", action="store_true", help="also count what kind of mistakes there are; with ground-truth boxes")
    add("--baselines", action="store_true",
        help="also measure the heatmap loss, and what is reached without looking at the picture")  # fmt: skip
    add("--out", type=Path, metavar="JSON", help="write the figures here")
    add("--save-results", type=Path, metavar="JSON", help="write the poses here, as COCO results")
    add("--save-pictures", type=int, default=0, metavar="N", help="draw N photographs: predicted beside true")
    add("--pictures-dir", type=Path, default=Path("pictures"), metavar="DIR")
    add("--write-card", action="store_true", help="add the figures to the checkpoint's card")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--precision", default="auto", choices=(*get_args(Precision), INT8),
        help="auto: as the service chooses; int8: what training.quantize made, on a CPU")  # fmt: skip
    add("--runtime", default="auto", choices=RUNTIMES, help="auto: as the service chooses")
    add("--cache-dir", type=Path, metavar="DIR", help="keep converted networks here (by default nowhere)")
    add("--batch-size", type=int, default=32)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 2 for options or files that do not work."""
    parser = build_parser()
    given = parser.parse_args(argv)
    if given.checkpoint and not given.images:
        parser.error("--checkpoint needs --images")
    if given.checkpoint and given.boxes == "detections" and not given.detections:
        parser.error("--boxes detections needs --detections")
    if given.results and (given.write_card or given.detections):
        parser.error("--write-card and --detections go with --checkpoint")
    if (given.calibration or given.errors or given.baselines) and (given.results or given.detections):
        parser.error("--calibration, --errors and --baselines go with --checkpoint and ground-truth boxes")
    if given.save_pictures and not given.images:
        parser.error("--save-pictures needs --images")
    if given.batch_size < 1:
        parser.error(f"--batch-size is {given.batch_size}; allowed: at least 1")
    try:
        for path in filter(None, (given.out, given.save_results)):
            path.parent.mkdir(parents=True, exist_ok=True)  # before the work, not after it
        with joined_world(given.device) as world:
            _evaluate(given, world)
    except (ValueError, OSError, ScorerMissing) as error:
        print(f"training.evaluate: {error}", file=sys.stderr)
        return 2
    return 0


def _evaluate(given: argparse.Namespace, world: World) -> None:
    """Measure, write what was asked for, and print the figures: all but measuring is the first process's."""
    if given.checkpoint:
        summary, results = evaluate_checkpoint(given, world)
    elif world.first:
        summary, results = evaluate_results(given)
    if world.first:
        _write_outputs(given, summary, results)
        _print_summary(summary)


def _write_outputs(given: argparse.Namespace, summary: dict[str, Any], results: list[dict[str, Any]]) -> None:
    if given.out:
        write_atomically(given.out, (json.dumps(summary, indent=2) + "\n").encode())
    if given.save_results:
        keys = ("image_id", "category_id", "keypoints", "score")
        stripped = [{key: result[key] for key in keys} for result in results]
        write_atomically(given.save_results, json.dumps(stripped).encode())
    if given.save_pictures:
        known = (read_card(given.checkpoint).config.skeleton if given.checkpoint else COCO,)
        saved = save_pictures(
            results,
            given.annotations,
            given.images,
            given.pictures_dir,
            limit=given.save_pictures,
            keypoints=_keypoints_of(given, known=known),
        )
        print(f"{saved} pictures in {given.pictures_dir}")
    if given.write_card:
        card = read_card(given.checkpoint)
        protocol = ("boxes", "flip_test", "annotations", "runtime")
        others = [known for known in card.metrics if any(known.get(key) != summary[key] for key in protocol)]
        write_card(given.checkpoint, replace(card, metrics=[*others, for_card(summary)]))


def _print_summary(summary: dict[str, Any]) -> None:
    flip = {True: ", flip test", False: ", no flip test", None: ""}[summary.get("flip_test")]
    runtime = f", {summary['runtime']}" if "runtime" in summary else ""
    counts = ", ".join(f"{summary[what]} {what}" for what in ("images", "persons", "poses"))
    print(f"{counts}, boxes {summary['boxes']}{flip}{runtime}")
    print(" ".join(f"{name} {summary[name]:.3f}" for name in METRIC_NAMES))
    if text := as_text(summary):
        print(text)


if __name__ == "__main__":
    torch.set_float32_matmul_precision("high")
    sys.exit(main())
