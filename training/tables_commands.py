"""The commands that make a row of the paper from this repository: full COCO, 256x192, the published schedule."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.tables_paper import PaperRow

DETECTIONS = "COCO_val2017_detections_AP_H_56_person.json"  # the boxes of most published figures with a detector
PUBLISHED = {
    "--input": "256x192",
    "--epochs": "230",
    "--batch-size": "16",
    "--learning-rate": "1e-4",
    "--learning-rate-end": "1e-5",
}

Command = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FullScale:
    """Where COCO, ImageNet and the runs lie, and which position terms the networks have."""

    coco: Path = Path("coco")
    imagenet: Path = Path("imagenet/train")
    runs_dir: Path = Path("runs/paper")
    position: str = "relative"


def row_commands(row: PaperRow, places: FullScale) -> dict[str, Command]:
    """By what they do, in order: pre-train (where the row is), train, and evaluate with either boxes."""
    commands: dict[str, Command] = {}
    run, pretrained = places.runs_dir / row.key, places.runs_dir / f"pretrain-{row.variant}"
    shape = ("--variant", row.variant, "--position", places.position)
    annotations = places.coco / "annotations"
    val = (str(annotations / "person_keypoints_val2017.json"), str(places.coco / "val2017"))
    if row.dino:
        commands["pre-train"] = _python(
            "training.pretrain",
            *("--recipe", "paper", *shape, "--images", str(places.imagenet), "--run-dir", str(pretrained)),
        )
    start = ("--init", str(pretrained / "dino.safetensors")) if row.dino else ()
    loss = ("--loss", row.loss) if row.loss != "mse" else ()
    commands["train"] = _python(
        "training.train",
        *(*shape, *(word for pair in PUBLISHED.items() for word in pair), *loss, *start),
        *("--train", str(annotations / "person_keypoints_train2017.json"), str(places.coco / "train2017")),
        *("--val", *val, "--run-dir", str(run)),
    )
    evaluate = (
        "training.evaluate",
        *("--checkpoint", str(run / "best.safetensors"), "--annotations", val[0], "--images", val[1]),
        *("--flip-test", "--write-card"),
    )
    commands["evaluate, boxes gt"] = _python(*evaluate)
    commands["evaluate, boxes detections"] = _python(*evaluate, "--detections", str(annotations / DETECTIONS))
    return commands


def in_lines(command: Sequence[str], width: int, indent: str = "") -> str:
    """A command for a shell, broken at its options so that no line is longer than `width` where that can be."""
    pieces: list[list[str]] = []
    for word in command:
        if word.startswith("--") or not pieces:
            pieces.append([])
        pieces[-1].append(word)
    lines = [""]
    for piece in map(shlex.join, pieces):
        if lines[-1] and len(indent) + len(lines[-1]) + 1 + len(piece) + 2 > width:
            lines.append("   ")
        lines[-1] = f"{lines[-1]} {piece}" if lines[-1] else piece
    return " \\\n".join(indent + line for line in lines)


def _python(module: str, *arguments: str) -> Command:
    return ("python", "-m", module, *arguments)
