r"""Draw what a run has come to: loss, accuracy and learning rate by epoch, its setting in words, and samples.

    python -m training.summary runs/c3a1-4
    python -m training.summary runs/plain runs/from-dino --out comparison.png

The runs themselves draw it after every epoch, beside their checkpoint (`best.png`, `dino.png`). Of several runs it
draws one line each, and says in which settings they differ.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from model.checkpoint import write_atomically
from model.crop import Pixels
from training.coco import AnnotationError
from training.curves import FAINT, INK, PALETTE, TEXT_SIZE, TITLE_SIZE, Chart, Line, draw_chart
from training.dataset import read_image
from training.png import encode_png
from training.run_record import POSE, PRETRAINING, RunError, RunRecord, headline, in_words, read_record, read_records
from training.sheet import stack, text_block

CHART_WH = (420, 300)
WIDTH = 3 * CHART_WH[0]
HEADLINE_SIZE = 24
MARGIN, GAP = 24, 16
SAMPLES_NAME = "samples.png"
SAMPLES_TITLES = {POSE: "Persons of the validation set", PRETRAINING: "Pictures, their global views, their local views"}
MOST_ENLARGED = 3
WHERE = ("run_dir", "device", "workers", "minutes_between_saves", "photograph_cache", "cache_gib")  # no arms of a trial

# Title of a chart, whether it begins at 0, and the columns of the log with the names of their lines.
CHARTS: dict[str, tuple[tuple[str, bool, dict[str, str]], ...]] = {
    POSE: (
        ("Loss on training views", False, {"loss": "loss"}),
        ("Validation, boxes gt", True, {"val_AP": "AP", "val_AP50": "AP50", "val_AR": "AR"}),
        ("Learning rate", True, {"learning_rate": "learning rate"}),
    ),
    PRETRAINING: (
        (
            "Loss (nats)",
            False,
            {"loss": "loss", "entropy": "teacher's entropy", "marginal_entropy": "entropy of the mean"},
        ),
        ("Divergence to the teacher, and k-NN", True, {"divergence": "divergence", "knn": "k-NN accuracy"}),
        ("Learning rate", True, {"learning_rate": "learning rate"}),
    ),
}


def draw_summary(record: RunRecord, samples: Pixels | None) -> Pixels:
    """[H, W, 3] uint8 RGB of one run."""
    charts = [
        Chart(
            title,
            [
                Line(name, *record.values(column), PALETTE[number])
                for number, (column, name) in enumerate(columns.items())
                if record.values(column)[0] or len(columns) == 1
            ],
            from_zero=from_zero,
            epochs=record.epochs,
        )
        for title, from_zero, columns in CHARTS[record.kind]
    ]
    words = text_block(_sentences(in_words(record)), WIDTH, TEXT_SIZE, FAINT)
    parts = [text_block(headline(record), WIDTH, HEADLINE_SIZE), words, _side_by_side(charts)]
    if samples is not None:
        title = SAMPLES_TITLES[record.kind]
        parts += [text_block(title, WIDTH, TITLE_SIZE), _fitted(samples)]
    return stack(parts, gap=GAP, margin=MARGIN)


def draw_comparison(records: Sequence[RunRecord]) -> Pixels:
    """[H, W, 3] uint8 RGB of several runs of one kind. Raises RunError for runs of both."""
    if len({record.kind for record in records}) > 1:
        raise RunError("runs of training.train and of training.pretrain have nothing in common; allowed: either kind")
    colors = [PALETTE[number % len(PALETTE)] for number in range(len(records))]
    charts = []
    for title, from_zero, columns in CHARTS[records[0].kind]:
        column, name = next(iter(columns.items()))
        lines = [
            Line(record.name, *record.values(column), color) for record, color in zip(records, colors, strict=True)
        ]
        title = title if len(columns) == 1 else f"{title}: {name}"
        epochs = max(record.epochs for record in records)
        charts.append(Chart(title, lines, from_zero=from_zero, epochs=epochs, legend=False))
    arms = [
        text_block(f"{headline(record)}{_differences(record, records)}", WIDTH, TEXT_SIZE, color)
        for record, color in zip(records, colors, strict=True)
    ]
    common = text_block(_common(records), WIDTH, TEXT_SIZE, FAINT)
    title_text = text_block(f"{len(records)} runs", WIDTH, HEADLINE_SIZE, INK)
    return stack([title_text, *arms, common, _side_by_side(charts)], gap=GAP // 2, margin=MARGIN)


def _differences(record: RunRecord, records: Sequence[RunRecord]) -> str:
    """In which settings a run differs from the others."""
    flat = [_flat(one.settings) for one in records]
    own = _flat(record.settings)
    names = [
        name for name in own if name not in WHERE and len({json.dumps(settings.get(name)) for settings in flat}) > 1
    ]
    return "".join(f"; {name} {_shown(own[name])}" for name in names)


def _common(records: Sequence[RunRecord]) -> str:
    """The facts that are true of all."""
    words = [in_words(record) for record in records]
    same = [[fact for fact in facts if all(fact in other[n] for other in words)] for n, facts in enumerate(words[0])]
    return f"In all of them:\n{_sentences(same)}"


def _sentences(words: Sequence[Sequence[str]]) -> str:
    """A line for each list of facts that is not empty."""
    lines = [", ".join(facts) for facts in words if facts]
    return "\n".join(line[0].upper() + line[1:] for line in lines)


def _flat(settings: Any) -> dict[str, Any]:
    """Settings with those of the augmentation among them."""
    flat = dict(settings)
    return flat | flat.pop("augmentation", {})


def _shown(value: Any) -> str:
    """A setting as it is read; of paths the last part."""
    if isinstance(value, str):
        return value.rstrip("/").rsplit("/", 1)[-1]
    if isinstance(value, list):
        return " ".join(_shown(item) for item in value)
    return "none" if value is None else str(value)


def _side_by_side(charts: Sequence[Chart]) -> Pixels:
    return np.concatenate([draw_chart(chart, CHART_WH) for chart in charts], axis=1)


def _fitted(samples: Pixels) -> Pixels:
    """As wide as the charts at most, and small ones enlarged by a whole factor."""
    scale = WIDTH / samples.shape[1]
    scale = float(min(int(scale), MOST_ENLARGED)) if scale >= 1 else scale
    size = round(samples.shape[1] * scale), round(samples.shape[0] * scale)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(samples, size, interpolation=how), dtype=np.uint8)


def write_summary(run_dir: Path, path: Path | None = None) -> Path:
    """Draw a run from its files, by default beside its product. Returns where. Raises RunError."""
    record = read_record(run_dir)
    samples_path = run_dir / SAMPLES_NAME
    samples = read_image(samples_path) if samples_path.exists() else None
    path = path or run_dir / f"{record.kind}.png"
    write_atomically(path, encode_png(draw_summary(record, samples)))
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 2 for folders that are not those of runs."""
    parser = argparse.ArgumentParser(
        prog="python -m training.summary", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_dirs", nargs="+", type=Path, metavar="RUN_DIR")
    parser.add_argument(
        "--out", type=Path, metavar="PNG", help="default: in the run's folder; of several comparison.png"
    )
    given = parser.parse_args(argv)
    try:
        if len(given.run_dirs) == 1:
            path = write_summary(given.run_dirs[0], given.out)
        else:
            records = read_records(given.run_dirs)
            path = given.out or Path("comparison.png")
            write_atomically(path, encode_png(draw_comparison(records)))
    except (RunError, AnnotationError) as error:
        print(f"training.summary: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"training.summary: cannot write {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
