r"""Find people in the photographs of an annotation file, and write them as `training.evaluate --detections` reads them.

    python -m training.detect --detector embedded --annotations dev.json --images dev --out detections.json
    python -m training.evaluate --checkpoint checkpoints/c3a1-4.safetensors --annotations dev.json --images dev \
        --detections detections.json

Detectors: `embedded`, `onnx:PATH` (docs/detectors.md), and to compare with: `hog`, OpenCV's people detector, and
`whole`, the picture as one person.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from model.checkpoint import write_atomically
from model.detection import DetectionLimits, Detections, PersonDetector
from model.load_detector import BUNDLED_FINDER
from training.coco import AnnotationError, check_layout, read_json
from training.command import run_command
from training.dataset import read_image
from training.detection_score import coco_detections
from training.detectors_compared import ALLOWED_COMPARED, compared_detector


@dataclass(frozen=True)
class FoundPeople:
    """What a detector found in the photographs of an annotation file.

    images: the file's records. detections: of each. milliseconds: of each picture, from pixels to boxes.
    """

    images: list[dict[str, Any]]
    detections: list[Detections]
    milliseconds: list[float]


def find_people(detector: PersonDetector, annotations_path: Path, images_dir: Path) -> FoundPeople:
    """Look at every photograph of an annotation file, one at a time. Raises AnnotationError for what cannot be read."""
    content = read_json(annotations_path)
    check_layout(content, annotations_path)
    detections, milliseconds = [], []
    for image in tqdm(content["images"], desc=detector.name, unit="image", dynamic_ncols=True):
        try:
            pixels = read_image(images_dir / image["file_name"])
        except KeyError as error:
            raise AnnotationError(f"{annotations_path}: images: {error!r}") from error
        started = time.perf_counter()
        detections += detector.detect([pixels])
        milliseconds.append(1000 * (time.perf_counter() - started))
    return FoundPeople(content["images"], detections, milliseconds)


def add_detection_options(parser: argparse.ArgumentParser) -> None:
    """What finding people takes, whatever is then done with them."""
    add = parser.add_argument
    add("--annotations", type=Path, required=True, metavar="JSON", help="whose photographs are looked at")
    add("--images", type=Path, required=True, metavar="DIR")
    add("--embedded", type=Path, default=BUNDLED_FINDER, metavar="FILE", help="checkpoint of the embedded detector")
    add("--max-overlap", type=float, default=DetectionLimits.max_overlap, help="of two boxes of different persons")
    add("--most", type=int, default=DetectionLimits.most_persons, help="boxes of a picture")
    add("--threads", type=int, default=0, help="of the CPU; 0: as the runtime chooses")


def limits_of(given: argparse.Namespace) -> DetectionLimits:
    """The limits that a command line asks for. Raises ValueError."""
    return DetectionLimits(min_score=given.min_score, max_overlap=given.max_overlap, most_persons=given.most)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.detect", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--detector", required=True, metavar="SETTING", help=ALLOWED_COMPARED)
    add_detection_options(parser)
    parser.add_argument("--min-score", type=float, default=0.05, help="less likely boxes are not written")
    parser.add_argument("--out", type=Path, required=True, metavar="JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 2 for options or files that do not work."""
    given = build_parser().parse_args(argv)
    return run_command("training.detect", lambda: _detect(given))


def _detect(given: argparse.Namespace) -> None:
    detector = compared_detector(given.detector, limits_of(given), threads=given.threads, embedded=given.embedded)
    given.out.parent.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    found = find_people(detector, given.annotations, given.images)
    records = coco_detections([image["id"] for image in found.images], found.detections)
    write_atomically(given.out, (json.dumps(records) + "\n").encode())
    print(f"{len(records)} boxes in {len(found.images)} photographs, by {detector.name}: {given.out}")


if __name__ == "__main__":
    sys.exit(main())
