"""A table in small: which trainings it takes, and the ordinary commands of each.

Every arm gets as many views of persons, and every pre-training as many pictures, whatever the row: budgets are counts,
not minutes, so that they are equal and can be had again on a busy machine. Where a row is there with and without
pre-training there is a third arm, which starts at random too but gets as many more views as the pre-training would have
paid for (`training.tables_compute`): pre-training is not free, and this is what else it could have bought.

The network that is measured is that of the last step; nothing is chosen on the persons that it is measured on.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.variants import variant
from training import pretrain, train
from training.coco import read_persons
from training.dino_data import find_pictures
from training.dino_settings import MIN_VIEW, VIEW_MULTIPLE
from training.tables_compute import picture_flops, view_flops
from training.tables_paper import SAME_COMPUTE, PaperRow
from training.tables_protocol import Protocol

# Of all steps. Published: pre-training 10 of 300 epochs to warm up and 1 of frozen prototypes; our defaults 10 and 1
# of 100. Training poses has no warm-up in the paper; runs this short want a little.
WARMUP, PRETRAIN_WARMUP, PRETRAIN_FROZEN = 0.05, 0.1, 0.01
NEVER = 1_000_000  # epochs; the last one is validated anyway

Cost = tuple[int, int]  # operations for a view in training, and for a picture in pre-training


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train, with any seed. `steps` of training; `flops` of all that it computes, pre-training included."""

    name: str
    row: PaperRow
    same_compute: bool
    steps: int
    pictures: int
    flops: int


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One command: `python -m MODULE ARGUMENTS`, and the folder that it is recorded in."""

    name: str
    module: str
    arguments: tuple[str, ...]
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def record(self) -> Path:
        return self.folder / f"{self.name}.json"


@dataclass(frozen=True)
class Sizes:
    """How many steps an epoch has: what the commands' warm-ups, which are in epochs, are computed from."""

    train_epoch: int
    pretrain_epoch: int


def read_sizes(protocol: Protocol) -> Sizes:
    """Count persons and pictures. Raises ValueError if there are fewer than a batch, or none that can be read."""
    persons = sum(len(read_persons(Path(json), Path(images)).persons) for json, images in protocol.train)
    boxes = [] if protocol.pretrain_images else [(Path(json), Path(images)) for json, images in protocol.train]
    pictures = len(find_pictures([Path(folder) for folder in protocol.pretrain_images], boxes))
    for name, count, batch in (
        ("batch_size", persons, protocol.batch_size),
        ("pretrain_batch_size", pictures, protocol.pretrain_batch_size),
    ):
        if count < batch:
            raise ValueError(f"{name} is {batch}; allowed: at most the number of examples, {count}")
    return Sizes(persons // protocol.batch_size, pictures // protocol.pretrain_batch_size)


def plan_arms(
    protocol: Protocol, rows: Sequence[PaperRow], costs: Mapping[str, Cost], *, same_compute: bool
) -> list[Arm]:
    """The arms of some rows, in order; those of the same compute follow the row that they extend.

    `costs`: of the rows' variants, as `count_costs` has them.
    """
    arms = []
    pretrained = {row.variant for row in rows if row.dino}
    pictures = protocol.pretrain_steps * protocol.pretrain_batch_size
    for row in rows:
        view, picture = costs[row.variant]
        spent = pictures * picture
        batch = view * protocol.batch_size
        own = spent if row.dino else 0
        arms.append(
            Arm(
                name=row.key,
                row=row,
                same_compute=False,
                steps=protocol.steps,
                pictures=pictures if row.dino else 0,
                flops=own + protocol.steps * batch,
            )
        )
        if same_compute and not row.dino and row.variant in pretrained:
            steps = protocol.steps + max(1, round(spent / batch))
            name = f"{row.key}-{SAME_COMPUTE}"
            arms.append(Arm(name=name, row=row, same_compute=True, steps=steps, pictures=0, flops=steps * batch))
    return arms


def count_costs(protocol: Protocol, keys: Collection[str]) -> dict[str, Cost]:
    """What views and pictures cost each of some variants. Takes seconds. Raises ValueError for impossible settings."""
    costs = {}
    for key in keys:
        config = variant(key, position=protocol.position, input_hw=protocol.input_hw)
        arguments = pretrain_arguments(protocol, key, seed=0, epoch_steps=1, workers=0, run_dir=Path("unused"))
        costs[key] = view_flops(config), picture_flops(pretrain.parse_settings(arguments)[0])
    return costs


def plan_stages(arm: Arm, seed: int, protocol: Protocol, sizes: Sizes, runs_dir: Path, *, workers: int) -> list[Stage]:
    """The commands of an arm, in order. Pre-training is shared by all arms of a variant and seed."""
    own = arm_folder(runs_dir, arm.name, seed)
    found = []
    init = None
    if arm.row.dino:
        folder = arm_folder(runs_dir, f"pretrain-{arm.row.variant}", seed)
        arguments = pretrain_arguments(
            protocol,
            arm.row.variant,
            seed=seed,
            epoch_steps=sizes.pretrain_epoch,
            workers=workers,
            run_dir=folder / "run",
        )
        found.append(Stage(name="pretrain", module="training.pretrain", arguments=arguments, folder=folder))
        init = folder / "run" / "dino.safetensors"
    arguments = train_arguments(
        protocol, arm, seed=seed, epoch_steps=sizes.train_epoch, workers=workers, run_dir=own / "run", init=init
    )
    found.append(Stage(name="train", module="training.train", arguments=arguments, folder=own))
    found.append(
        Stage(name="evaluate", module="training.evaluate", arguments=evaluate_arguments(protocol, own), folder=own)
    )
    return found


def arm_folder(runs_dir: Path, name: str, seed: int) -> Path:
    """Where everything of an arm and seed lies."""
    return runs_dir / name / f"seed-{seed}"


def pretrain_arguments(
    protocol: Protocol, key: str, *, seed: int, epoch_steps: int, workers: int, run_dir: Path
) -> tuple[str, ...]:
    """What `training.pretrain` is given. The local views are half as large as the global ones."""
    local = tuple(max(MIN_VIEW, size // 2 // VIEW_MULTIPLE * VIEW_MULTIPLE) for size in protocol.input_hw)
    epochs = protocol.pretrain_steps / epoch_steps
    images = ["--images", *protocol.pretrain_images]
    if not protocol.pretrain_images:
        images = [word for json, folder in protocol.train for word in ("--annotations", json, folder)]
    given = {
        "--run-dir": run_dir,
        "--variant": key,
        "--position": protocol.position,
        "--global-view": _by(protocol.input_hw),
        "--local-view": _by(local),
        "--steps": protocol.pretrain_steps,
        "--batch-size": protocol.pretrain_batch_size,
        "--warmup-epochs": f"{PRETRAIN_WARMUP * epochs:.6g}",
        "--frozen-epochs": f"{PRETRAIN_FROZEN * epochs:.6g}",
        "--seed": seed,
        "--workers": workers,
        "--device": protocol.device,
    }
    return (*images, *_words(given), *shlex.split(protocol.pretrain_options))


def train_arguments(
    protocol: Protocol,
    arm: Arm,
    *,
    seed: int,
    epoch_steps: int,
    workers: int,
    run_dir: Path,
    init: Path | None,
) -> tuple[str, ...]:
    """What `training.train` is given."""
    sets = [word for json, folder in protocol.train for word in ("--train", json, folder)]
    given = {
        "--run-dir": run_dir,
        "--variant": arm.row.variant,
        "--position": protocol.position,
        "--input": _by(protocol.input_hw),
        "--sigma": protocol.sigma,
        "--loss": arm.row.loss,
        "--steps": arm.steps,
        "--batch-size": protocol.batch_size,
        "--learning-rate": protocol.learning_rate,
        "--warmup-epochs": f"{WARMUP * arm.steps / epoch_steps:.6g}",
        "--val-every": NEVER,
        "--seed": seed,
        "--workers": workers,
        "--device": protocol.device,
    }
    start = ("--init", str(init)) if init else ()
    return (*sets, "--val", *protocol.val, *_words(given), *start, *shlex.split(protocol.train_options))


def evaluate_arguments(protocol: Protocol, folder: Path) -> tuple[str, ...]:
    """What `training.evaluate` is given: ground-truth boxes, flip test, single precision by torch."""
    given = {
        "--checkpoint": folder / "run" / "best.safetensors",
        "--annotations": protocol.val[0],
        "--images": protocol.val[1],
        "--runtime": "torch",
        "--precision": "fp32",
        "--device": protocol.device,
        "--out": folder / "figures.json",
    }
    return (*_words(given), "--flip-test", "--baselines", "--calibration")


def check_arguments(protocol: Protocol, arms: Sequence[Arm]) -> None:
    """Read the commands as they will be read, before anything runs. Raises ValueError for what cannot work."""
    for arm in arms:
        arguments = train_arguments(protocol, arm, seed=0, epoch_steps=1, workers=0, run_dir=Path("run"), init=None)
        train.parse_settings(arguments)


def _words(given: dict[str, Any]) -> list[str]:
    return [str(word) for pair in given.items() for word in pair]


def _by(size_hw: tuple[int, ...]) -> str:
    return "x".join(map(str, size_hw))
