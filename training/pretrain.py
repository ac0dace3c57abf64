r"""Pre-train the backbone on pictures without labels, by DINO (paper section 3.2).

A small run, on whatever pictures are there:

    python -m training.pretrain --images photographs --run-dir runs/dino \
        --global-view 128x96 --local-view 64x48 --epochs 20 --warmup-epochs 1

The paper's setting (two global views, no local ones; 300 epochs of ImageNet), and DINO's published one:

    python -m training.pretrain --recipe paper --images imagenet/train --run-dir runs/dino
    python -m training.pretrain --recipe published --images imagenet/train --run-dir runs/dino --batch-size 64

Then train poses from it:

    python -m training.train --init runs/dino/dino.safetensors ...

On all GPUs of a machine (docs/clusters.md has several machines):

    torchrun --nproc-per-node gpu --max-restarts 3 -m training.pretrain ...

The same command again continues a run that was cut off, exactly where it was.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from model.variants import VARIANTS, Position
from training.command import run_command
from training.dino_settings import RECIPES, PretrainSettings
from training.kept_memory import keep_freed_memory
from training.settings import Precision
from training.train import parse_input_hw
from training.views import ViewAugmentation
from training.world import joined_world

# Flag, default's field, what it means beside its published value.
RUN_FLAGS = (
    ("--epochs", "published: 300"),
    ("--batch-size", "over all processes; published: 1024; the paper: 192"),
    ("--learning-rate", "for a batch of 256, scaled to this one; published: 5e-4"),
    ("--learning-rate-end", "published: 1e-6"),
    ("--warmup-epochs", "published: 10"),
    ("--weight-decay", "published: 0.04"),
    ("--weight-decay-end", "published: 0.4"),
    ("--clip-norm", "of each tensor's gradient, 0: none; published: 3"),
    ("--frozen-epochs", "the prototypes do not learn; published: 1"),
    ("--momentum", "of the teacher, rising to 1; published: 0.996, with batches of 256 0.9995"),
    ("--student-temperature", "published: 0.1"),
    ("--teacher-temperature", "at the start; published: 0.04"),
    ("--teacher-temperature-end", "published: 0.04 or 0.07; above 0.07 is unstable"),
    ("--teacher-temperature-epochs", "from start to end; published: 0 or 30"),
    ("--center-momentum", "published: 0.9"),
    ("--dropout", "of the student's encoder"),
    ("--seed", None),
    ("--workers", "loader processes; change nothing but speed"),
    ("--minutes-between-saves", "how much work a crash can cost"),
    ("--probe-every", "epochs"),
)
HEAD_FLAGS = (
    ("--head-layers", "published: 3; the paper: 2"),
    ("--hidden-dim", "published: 2048; the paper: 1024"),
    ("--bottleneck-dim", "published: 256"),
    ("--out-dim", "prototypes; published: 65536; the paper: 32768"),
)
# Flag and metavar, where a setting of `ViewAugmentation` is not one number.
SEVERAL = {
    "global_scale": ("LOW", "HIGH"),
    "local_scale": ("LOW", "HIGH"),
    "blur": ("GLOBAL1", "GLOBAL2", "LOCAL"),
    "blur_sigma": ("LOW", "HIGH"),
}


def build_parser(recipe: str = "small") -> argparse.ArgumentParser:
    """The command line. Defaults are those of `PretrainSettings`, and of a recipe over them."""
    parser = argparse.ArgumentParser(
        prog="python -m training.pretrain", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--recipe", default="small", choices=RECIPES, help="where the defaults come from (small: these here)")
    add("--images", type=Path, nargs="+", default=[], metavar="DIR", help="folders of images, searched to any depth")
    add(
        "--annotations",
        nargs=2,
        type=Path,
        action="append",
        default=[],
        metavar=("JSON", "DIR"),
        help="COCO annotations and images: views of persons' boxes instead of whole pictures; may be repeated",
    )
    add("--context", type=float, nargs=2, default=PretrainSettings.context, metavar=("LOW", "HIGH"))
    add("--run-dir", type=Path, help="where everything is written, and resumed from")
    add("--show-views", type=Path, metavar="PNG", help="only draw what would be seen of some pictures")
    add("--variant", default=PretrainSettings.variant, choices=VARIANTS)
    add("--position", default=PretrainSettings.position, choices=get_args(Position))
    add("--global-view", dest="global_hw", type=parse_input_hw, default=PretrainSettings.global_hw, metavar="HxW")
    add("--local-view", dest="local_hw", type=parse_input_hw, default=PretrainSettings.local_hw, metavar="HxW")
    add("--local-views", type=int, default=PretrainSettings.local_views, help="published: 8; the paper: 0")
    add("--steps", type=int, default=None, help="so many optimiser steps instead of whole epochs")
    add("--precision", default=PretrainSettings.precision, choices=get_args(Precision))
    add("--sync-norm", action=argparse.BooleanOptionalAction, default=True, help="batch norms over all processes")
    add("--device", default=PretrainSettings.device, help="auto, cpu, cuda or cuda:N")
    add("--probe", type=Path, default=None, metavar="DIR", help="classify these by neighbours; a subfolder a class")
    _add_numbers(parser.add_argument_group("training"), RUN_FLAGS)
    head = parser.add_argument_group("projection head")
    _add_numbers(head, HEAD_FLAGS)
    head.add_argument("--norm-last-layer", action=argparse.BooleanOptionalAction, default=True, help="published: yes")
    views = parser.add_argument_group("augmentation (as published)")
    for field in fields(ViewAugmentation):
        metavar = SEVERAL.get(field.name)
        several: dict[str, Any] = {"nargs": len(metavar), "metavar": metavar} if metavar else {}
        views.add_argument(_flag(field.name), type=float, default=field.default, **several)
    parser.set_defaults(**RECIPES[recipe])
    return parser


def _add_numbers(group: Any, flags: Sequence[tuple[str, str | None]]) -> None:
    for flag, meaning in flags:
        default = getattr(PretrainSettings, flag.removeprefix("--").replace("-", "_"))
        group.add_argument(flag, type=type(default), default=default, help=meaning)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def parse_settings(argv: Sequence[str] | None) -> tuple[PretrainSettings, Path | None]:
    """Settings, and where the views are to be drawn if that is all. Raises ValueError for values that cannot work."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--recipe", default="small", choices=RECIPES)
    parser = build_parser(first.parse_known_args(argv)[0].recipe)
    given = vars(parser.parse_args(argv))
    del given["recipe"]
    sheet = given.pop("show_views")
    if sheet is None and given["run_dir"] is None:
        parser.error("--run-dir is needed (or --show-views)")
    given["run_dir"] = given["run_dir"] or Path()
    as_drawn = {field.name: given.pop(field.name) for field in fields(ViewAugmentation)}
    augmentation = ViewAugmentation(**_with_tuples(as_drawn))
    given["annotations"] = [tuple(pair) for pair in given["annotations"]]
    return PretrainSettings(augmentation=augmentation, **_with_tuples(given)), sheet


def _with_tuples(given: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 2 for settings or files that do not work, 1 if training diverges."""
    return run_command("training.pretrain", lambda: _pretrain(argv))


def _pretrain(argv: Sequence[str] | None) -> None:
    from training.dino_data import find_pictures
    from training.dino_sheet import write_sheet
    from training.dino_trainer import DinoTrainer, picture_views

    settings, sheet = parse_settings(argv)
    if sheet is not None:
        write_sheet(picture_views(settings, find_pictures(settings.images, settings.annotations)), sheet)
        print(f"views of some pictures are in {sheet}")
        return
    keep_freed_memory()
    with joined_world(settings.device) as world:
        DinoTrainer(settings, world).run()
        if world.first:
            backbone = settings.run_dir / "dino.safetensors"
            print(f"the teacher's backbone is {backbone}; start training.train with --init on it")


if __name__ == "__main__":
    sys.exit(main())
