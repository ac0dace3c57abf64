r"""Measure person detectors beside each other: how many of the annotated people they find, and how precisely.

    python -m training.evaluate_detector --annotations dev.json --images dev \
        --detectors embedded whole hog onnx:yolox_s.onnx

Of the annotations, persons with a labelled joint count. Recall and AP are at an intersection over union of 0.5, by
pycocotools; sizes are COCO's, in pixels of these photographs, by the area of the box. `told` is recall and precision of
the boxes with at least `--told-above`, which is what a service tells. Where not everybody is annotated, AP and
precision read low.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from model.checkpoint import write_atomically
from model.detection import DetectionLimits, Detections, PersonDetector
from model.finder_checkpoint import load_finder, write_finder_card
from model.geometry import Array
from model.load_detector import EMBEDDED
from training.coco import read_persons
from training.command import run_command
from training.dataset import read_image
from training.detect import FoundPeople, add_detection_options, find_people, limits_of
from training.detection_score import coco_detections, score_boxes, told_figures
from training.detectors_compared import ALLOWED_COMPARED, compared_detector
from training.provenance import short_name

COLUMNS = ("recall", "recall_small", "recall_medium", "recall_large", "AP50", "told_recall", "told_precision",
           "told_boxes", "ms")  # fmt: skip
FOUND, ANNOTATED = (255, 140, 0), (0, 200, 0)


def evaluate(
    detector: PersonDetector, truth: dict[int, Array], found: FoundPeople, *, told_above: float
) -> dict[str, Any]:
    """The figures of one detector: see the module. `ms` is the median of a picture.

    Args:
        truth: of every photograph, the annotated boxes [N, 4].
        found: of the same photographs.
    """
    ids = [image["id"] for image in found.images]
    pairs = [(image_id, truth.get(image_id, np.zeros((0, 4)))) for image_id in ids]
    told = [
        Detections(one.boxes_xywh[one.scores >= told_above], one.scores[one.scores >= told_above])
        for one in found.detections
    ]
    return {
        "detector": detector.name,
        **score_boxes(pairs, coco_detections(ids, found.detections)),
        **told_figures([boxes for _, boxes in pairs], told),
        "ms": round(statistics.median(found.milliseconds), 1),
    }


def save_pictures(found: FoundPeople, truth: dict[int, Array], images_dir: Path, out: Path, count: int) -> None:
    """Write some photographs, evenly spread, with annotated boxes in green and found ones in orange with scores."""
    out.mkdir(parents=True, exist_ok=True)
    for number in np.linspace(0, len(found.images) - 1, min(count, len(found.images))).round().astype(int):
        image = found.images[number]
        picture = read_image(images_dir / image["file_name"]).copy()
        for box in truth.get(image["id"], np.zeros((0, 4))):
            _draw(picture, box, ANNOTATED, "")
        for box, score in zip(found.detections[number].boxes_xywh, found.detections[number].scores, strict=True):
            _draw(picture, box, FOUND, f"{score:.2f}")
        name = f"{Path(image['file_name']).stem}.png"
        cv2.imwrite(str(out / name), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def _draw(picture: Any, box: Array, color: tuple[int, int, int], text: str) -> None:
    left, top, right, bottom = (round(float(edge)) for edge in (*box[:2], *(box[:2] + box[2:] - 1)))
    cv2.rectangle(picture, (left, top), (right, bottom), color, 2)
    if text:
        for shade, thickness in (((0, 0, 0), 3), (color, 1)):
            cv2.putText(
                picture, text, (left + 3, top + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, shade, thickness, cv2.LINE_AA
            )


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate_detector",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--detectors", nargs="+", required=True, metavar="SETTING", help=ALLOWED_COMPARED)
    add_detection_options(parser)
    add("--min-score", type=float, default=0.02, help="less likely boxes do not count at all")
    add("--told-above", type=float, default=DetectionLimits.min_score, help="score of the boxes that a service tells")
    add("--out", type=Path, metavar="JSON", help="write the figures here")
    add("--write-card", action="store_true", help="add the figures of `embedded` to its card")
    add("--save-pictures", type=int, default=0, metavar="N", help="draw N photographs of each detector")
    add("--pictures-dir", type=Path, default=Path("pictures"), metavar="DIR")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 2 for options or files that do not work."""
    given = build_parser().parse_args(argv)
    return run_command("training.evaluate_detector", lambda: _evaluate(given))


def _evaluate(given: argparse.Namespace) -> None:
    limits = limits_of(given)
    detectors = [
        compared_detector(setting, limits, threads=given.threads, embedded=given.embedded)
        for setting in given.detectors
    ]  # all of them before the work
    truth: dict[int, list[Array]] = {}
    for person in read_persons(given.annotations, given.images).persons:
        truth.setdefault(person.image_id, []).append(person.box_xywh)
    annotated = {image_id: np.stack(boxes) for image_id, boxes in truth.items()}
    rows = []
    for detector in detectors:
        found = find_people(detector, given.annotations, given.images)
        row = evaluate(detector, annotated, found, told_above=given.told_above)
        rows.append(row)
        if given.save_pictures:
            told = replace(found, detections=[_told(one, given.told_above) for one in found.detections])
            folder = given.pictures_dir / detector.name.replace(":", "-")
            save_pictures(told, annotated, given.images, folder, given.save_pictures)
    protocol = {
        "annotations": short_name(given.annotations),
        "images": len(found.images),
        "persons": sum(map(len, annotated.values())),
        "told_above": given.told_above,
    }
    _print(rows, protocol)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(given.out, (json.dumps({**protocol, "detectors": rows}, indent=2) + "\n").encode())
    if given.write_card:
        _write_card(given.embedded, rows, protocol)


def _told(found: Detections, above: float) -> Detections:
    return Detections(found.boxes_xywh[found.scores >= above], found.scores[found.scores >= above])


def _print(rows: list[dict[str, Any]], protocol: dict[str, Any]) -> None:
    print(", ".join(f"{name} {value}" for name, value in protocol.items()))
    print("| detector | " + " | ".join(name.replace("_", " ") for name in COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for row in rows:
        print(f"| {row['detector']} | " + " | ".join(_short(row[name]) for name in COLUMNS) + " |")


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.1f}" if value > 1 else f"{value:.3f}"


def _write_card(checkpoint: Path, rows: list[dict[str, Any]], protocol: dict[str, Any]) -> None:
    measured = [row for row in rows if row["detector"] == EMBEDDED]
    if not measured:
        raise ValueError(f"--write-card and detectors without {EMBEDDED!r}; allowed: with it")
    _, card = load_finder(checkpoint)
    figures = {name: value for name, value in measured[0].items() if name not in ("detector", "ms")}
    others = [known for known in card.metrics if known.get("annotations") != protocol["annotations"]]
    write_finder_card(checkpoint, replace(card, metrics=[*others, {**protocol, **figures}]))


if __name__ == "__main__":
    sys.exit(main())
