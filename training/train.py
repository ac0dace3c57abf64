r"""Train the pose network on COCO keypoints.

The paper's run (230 epochs at 256x192; days on one GPU):

    python -m training.train --train person_keypoints_train2017.json train2017 \
        --val person_keypoints_val2017.json val2017 --run-dir runs/c3a1-4

A small run that a laptop finishes:

    python -m training.train --train train.json train --val dev.json dev --run-dir runs/small \
        --input 128x96 --sigma 1.5 --epochs 10 --learning-rate 5e-4 --warmup-epochs 0.5

On all GPUs of a machine (docs/clusters.md has several machines):

    torchrun --nproc-per-node gpu --max-restarts 3 -m training.train ...

The same command again continues a run that was cut off, exactly where it was.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import get_args

import torch

from model.variants import VARIANTS, Position
from training.augment import Augmentation
from training.command import run_command
from training.kept_memory import keep_freed_memory
from training.keypoint_sets import add_keypoint_options
from training.loss import Loss
from training.pose_optimizer import Optimizer
from training.schedule import Schedule
from training.settings import Precision, TrainSettings
from training.world import joined_world


def parse_input_hw(text: str) -> tuple[int, int]:
    """`256x192` -> (256, 192): rows, then columns."""
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: ROWSxCOLUMNS, such as 256x192")
    return int(rows), int(columns)


def build_parser() -> argparse.ArgumentParser:
    """The command line. Defaults are those of `TrainSettings`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _add_data(parser.add_argument_group("data"))
    _add_network(parser.add_argument_group("network"))
    _add_learning(parser.add_argument_group("learning"))
    _add_running(parser.add_argument_group("running"))
    _add_views(parser.add_argument_group("augmentation (0 turns one off)"))
    return parser


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--train",
        nargs=2,
        type=Path,
        action="append",
        required=True,
        metavar=("JSON", "DIR"),
        help="annotations and images; may be repeated",
    )
    group.add_argument(
        "--val", nargs=2, type=Path, required=True, metavar=("JSON", "DIR"), help="chooses the best checkpoint"
    )
    add_keypoint_options(group)


def _add_network(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--variant", default=TrainSettings.variant, choices=VARIANTS)
    add("--position", default=TrainSettings.position, choices=get_args(Position))
    add("--input", dest="input_hw", type=parse_input_hw, default=TrainSettings.input_hw, metavar="HxW")
    add("--sigma", dest="heatmap_sigma", type=float, default=TrainSettings.heatmap_sigma, help="heatmap pixels")
    add("--dropout", type=float, default=TrainSettings.dropout, help="of the encoder")
    add(
        "--init",
        type=Path,
        default=None,
        metavar="FILE",
        help="start from a checkpoint, from a backbone of training.pretrain, or (c3a1-4-large) from a ResNet-50",
    )


def _add_learning(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--loss", default=TrainSettings.loss, choices=get_args(Loss), help="sinkhorn: mse and a divergence together")
    add("--sinkhorn-weight", type=float, default=TrainSettings.sinkhorn_weight, help="of the divergence beside mse")
    add("--person-balance", type=float, default=TrainSettings.person_balance, help="0: joints count alike, 1: persons")
    add(
        "--optimizer",
        default=TrainSettings.optimizer,
        choices=get_args(Optimizer),
        help="adam as in the paper, or muon",
    )
    add("--weight-decay", type=float, default=TrainSettings.weight_decay, help="of muon's matrices, such as 0.1")
    add("--epochs", type=int, default=TrainSettings.epochs)
    add("--steps", type=int, default=None, help="so many optimiser steps instead of whole epochs")
    add("--batch-size", type=int, default=TrainSettings.batch_size, help="images of a step, over all processes")
    add("--accumulate", type=int, default=TrainSettings.accumulate, metavar="N", help="pieces that a batch is taken in")
    add("--sync-norm", action=argparse.BooleanOptionalAction, default=True, help="batch norms over all processes")
    add("--ema-decay", type=float, default=TrainSettings.ema_decay, help="of averaged weights, such as 0.999; 0: none")
    add("--learning-rate", type=float, default=TrainSettings.learning_rate, help="peak")
    add("--learning-rate-end", type=float, default=TrainSettings.learning_rate_end)
    add("--warmup-epochs", type=float, default=TrainSettings.warmup_epochs)
    add("--schedule", default=TrainSettings.schedule, choices=get_args(Schedule))
    add("--clip-norm", type=float, default=TrainSettings.clip_norm, help="0: no gradient clipping")
    add("--seed", type=int, default=TrainSettings.seed)


def _add_running(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--run-dir", type=Path, required=True, help="where states, checkpoints and logs go; resumed if it has a state")
    add("--precision", default=TrainSettings.precision, choices=get_args(Precision))
    add("--device", default=TrainSettings.device, help="auto, cpu, cuda or cuda:N")
    add(
        "--compile",
        action="store_true",
        help="the network to machine code first (torch.compile): a minute, then faster",
    )
    add("--workers", type=int, default=TrainSettings.workers, help="loader processes")
    add("--photograph-cache", type=Path, default=None, metavar="DIR", help="keep decoded photographs here, for speed")
    add("--cache-gib", type=float, default=TrainSettings.cache_gib, help="of decoded photographs at most")
    add("--val-every", type=int, default=TrainSettings.val_every, metavar="EPOCHS")
    add("--minutes-between-saves", type=float, default=TrainSettings.minutes_between_saves)


def _add_views(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--half-body", type=float, default=Augmentation.half_body, help="probability")
    add("--scale", type=float, default=Augmentation.scale, help="standard deviation and limit")
    add("--rotation-degrees", type=float, default=Augmentation.rotation_degrees)
    add("--rotation-probability", type=float, default=Augmentation.rotation_probability)
    add("--flip", type=float, default=Augmentation.flip, help="probability")
    add("--cut", type=float, default=Augmentation.cut, help="probability that the picture ends in a person")
    add("--shift", type=float, default=Augmentation.shift, help="at most, as a part of each side")
    add("--stretch", type=float, default=Augmentation.stretch, help="of the height against the width")
    for name in ("brightness", "contrast", "saturation"):
        add(f"--{name}", type=float, default=getattr(Augmentation, name), help="half-width of the factor")
    add("--grey", type=float, default=Augmentation.grey, help="probability of a view without colours")
    add("--cover", type=float, default=Augmentation.cover, help="probability of a covered rectangle")


def parse_settings(argv: Sequence[str] | None) -> TrainSettings:
    """What a command line asks for. Raises ValueError for values that cannot work."""
    given = vars(build_parser().parse_args(argv))
    strengths = {field.name: given.pop(field.name) for field in fields(Augmentation) if field.name in given}
    augmentation = Augmentation(**strengths)
    train_sets = tuple((annotations, images) for annotations, images in given.pop("train"))
    return TrainSettings(train_sets=train_sets, val_set=tuple(given.pop("val")), augmentation=augmentation, **given)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 2 for settings or files that do not work, 1 if training diverges."""
    return run_command("training.train", lambda: _train(argv))


def _train(argv: Sequence[str] | None) -> None:
    from training.trainer import Trainer

    settings = parse_settings(argv)
    keep_freed_memory()
    torch.backends.cudnn.benchmark = True  # crops have one size, so the fastest convolutions are looked for once
    with joined_world(settings.device) as world:
        trainer = Trainer(settings, world)
        best = trainer.run()
        if world.first:
            print(f"best AP on {trainer.val_data.annotations_path.name} (boxes gt, no flip test): {best:.4f}")


if __name__ == "__main__":
    sys.exit(main())
