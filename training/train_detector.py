r"""Train the embedded person detector on the boxes of COCO's keypoint annotations.

The bundled one, from the stem and the first groups of the bundled pose network (docs/detectors.md has what came of it):

    python -m training.train_detector --train train.json train --val dev.json dev \
        --init checkpoints/c3a1-4.safetensors --run-dir runs/person-finder

The same command again continues a run that was cut off, exactly where it was.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import cv2

from training.command import run_command
from training.finder_data import WindowAugmentation
from training.finder_settings import FinderOptimizer, FinderSettings
from training.finder_trainer import FinderTrainer
from training.kept_memory import keep_freed_memory
from training.settings import Precision


def build_parser() -> argparse.ArgumentParser:
    """The command line. Defaults are those of `FinderSettings`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.train_detector",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, defaults = parser.add_argument, FinderSettings
    add("--train", nargs=2, type=Path, required=True, metavar=("JSON", "DIR"), help="annotations and images")
    add("--val", nargs=2, type=Path, required=True, metavar=("JSON", "DIR"), help="shows how it goes; chooses nothing")
    add("--run-dir", type=Path, required=True, help="where states, checkpoints and logs go; resumed if it has a state")
    add("--init", type=Path, default=None, metavar="FILE", help="a pose checkpoint, or another finder, to begin from")
    add("--frozen", action="store_true", help="the trunk stays as it begins")
    add("--window", dest="window_side", type=int, default=defaults.window_side, help="pixels each way")
    add("--views", type=int, default=None, help="different windows of each photograph; by default ever new ones")
    add("--feature-cache", type=Path, default=None, metavar="DIR",
        help="keep here what a frozen trunk sees in the views: most of the time is saved")  # fmt: skip
    add("--epochs", type=int, default=defaults.epochs)
    add("--steps", type=int, default=None, help="so many optimiser steps instead of whole epochs")
    add("--batch-size", type=int, default=defaults.batch_size)
    add("--optimizer", choices=get_args(FinderOptimizer), default=defaults.optimizer)
    add("--learning-rate", type=float, default=defaults.learning_rate, help="peak")
    add("--learning-rate-end", type=float, default=defaults.learning_rate_end)
    add("--warmup-steps", type=int, default=defaults.warmup_steps)
    add("--weight-decay", type=float, default=defaults.weight_decay)
    add("--clip-norm", type=float, default=defaults.clip_norm, help="0: no gradient clipping")
    add("--ema-decay", type=float, default=defaults.ema_decay, help="of the averaged weights that are kept")
    add("--precision", choices=get_args(Precision), default=defaults.precision)
    add("--workers", type=int, default=defaults.workers, help="loader processes; 0: this one loads")
    add("--photograph-cache", type=Path, default=None, metavar="DIR", help="keep decoded photographs here, for speed")
    add("--cache-gib", type=float, default=defaults.cache_gib, help="of decoded photographs at most")
    add("--seed", type=int, default=defaults.seed)
    add("--val-every", type=int, default=defaults.val_every, metavar="EPOCHS")
    add("--minutes-between-saves", type=float, default=defaults.minutes_between_saves)
    views = parser.add_argument_group("augmentation (0 turns one off)")
    views.add_argument("--scale", nargs=2, type=float, default=WindowAugmentation.scale, metavar=("LOW", "HIGH"))
    for name in ("flip", "brightness", "contrast", "saturation"):
        views.add_argument(f"--{name}", type=float, default=getattr(WindowAugmentation, name))
    return parser


def parse_settings(argv: Sequence[str] | None) -> FinderSettings:
    """What a command line asks for. Raises ValueError for values that cannot work."""
    given = vars(build_parser().parse_args(argv))
    strengths = {name: given.pop(name) for name in ("flip", "brightness", "contrast", "saturation")}
    augmentation = WindowAugmentation(scale=tuple(given.pop("scale")), **strengths)
    return FinderSettings(
        train_set=tuple(given.pop("train")), val_set=tuple(given.pop("val")), augmentation=augmentation, **given
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 2 for settings or files that do not work, 1 if training diverges."""
    return run_command("training.train_detector", lambda: _train(argv))


def _train(argv: Sequence[str] | None) -> None:
    settings = parse_settings(argv)
    keep_freed_memory()
    if settings.workers == 0:
        cv2.setNumThreads(1)  # one thread computes; others would only get in its way
    figures = FinderTrainer(settings).run()
    print(f"{settings.run_dir / 'person-finder.safetensors'}: " + " ".join(f"{k} {v:.3f}" for k, v in figures.items()))


if __name__ == "__main__":
    sys.exit(main())
