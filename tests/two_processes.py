"""What two processes of a run do together, started by `torchrun`; what each of them got is written to a folder.

    torchrun --nproc-per-node 2 tests/two_processes.py OUT POSES PICTURES

`tests/test_training_processes.py` compares it with what one process does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import save_file

from drawings import lively_network, tiny_config
from model.estimator import PoseEstimator
from model.variants import VARIANTS
from tiny_runs import tiny_dino_settings, tiny_pose_settings
from training.coco import read_persons
from training.dino_settings import PretrainSettings
from training.dino_trainer import DinoTrainer
from training.divergence import TrainingDiverged
from training.muon import Muon, orthogonal
from training.predict import BoxedPerson, predict
from training.run_folder import check_agreement
from training.settings import TrainSettings
from training.sync_norm import SyncBatchNorm2d
from training.trainer import Trainer
from training.world import World, joined_world

BATCH = 8
PIECES = 2


def pose_settings(poses: Path, run_dir: Path, **changes: Any) -> TrainSettings:
    """One step of 8 persons."""
    fields = {"dropout": 0.0, "epochs": 1, "batch_size": BATCH}
    return tiny_pose_settings((poses / "annotations.json", poses / "images"), run_dir, **(fields | changes))


def dino_settings(pictures: Path, run_dir: Path) -> PretrainSettings:
    """One step of 8 pictures, in which the prototypes learn, too."""
    return tiny_dino_settings(
        pictures, run_dir, dropout=0.0, epochs=1, batch_size=BATCH, warmup_epochs=0.0, frozen_epochs=0.0
    )


def noise(rank: int) -> torch.Tensor:
    """[4, 3, 5, 6], another for each process; far from zero, where the difference of squares would lose digits."""
    return torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(rank)) * (1 + rank) + 30


def norm_under_test(norm: torch.nn.BatchNorm2d) -> torch.nn.BatchNorm2d:
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        norm.bias.copy_(torch.tensor([-1.0, 0.0, 1.0]))
    return norm


def normalised(norm: torch.nn.BatchNorm2d, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Output, gradients (of a weighted sum of squares, whose gradient is not zero) and statistics."""
    x = x.clone().requires_grad_()
    out = norm(x)
    (out.square() * torch.arange(x[0].numel()).reshape(x[0].shape)).sum().backward()
    return {
        "out": out.detach(),
        "input_gradient": x.grad,
        "weight_gradient": norm.weight.grad,
        "bias_gradient": norm.bias.grad,
        "running_mean": norm.running_mean,
        "running_var": norm.running_var,
    }


def learned(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Gradients, weights and statistics of a network after a step."""
    gradients = {f"gradient.{name}": p.grad for name, p in net.named_parameters() if p.grad is not None}
    return gradients | {f"net.{name}": tensor for name, tensor in net.state_dict().items()}


def moved(world: World | None) -> tuple[dict[str, torch.Tensor], int]:
    """Matrices and a vector after two steps of Muon, and how many matrices this process made orthogonal."""
    shapes = [(24, 16, 1), (16, 48, 1), (48, 16, 3), (12, 8, 3, 3, 1), (16, 16, 1)]
    drawn = torch.Generator().manual_seed(5)
    weights = [torch.nn.Parameter(torch.randn(shape, generator=drawn)) for *shape, _ in shapes]
    vector = torch.nn.Parameter(torch.randn(7, generator=drawn))
    counted = [(weight, shape[-1]) for weight, shape in zip(weights, shapes, strict=True)]
    optimizer = Muon(counted, [vector], lr=0.1, world=world)
    with patch("training.muon.orthogonal", wraps=orthogonal) as counter:
        for _ in range(2):
            for weight in (*weights, vector):
                weight.grad = torch.randn(weight.shape, generator=drawn)
            weights[-1].grad = None
            optimizer.step()
    return {str(number): weight.detach() for number, weight in enumerate((*weights, vector))}, counter.call_count


def complaint(work: Any) -> str | None:
    try:
        work()
    except (ValueError, TrainingDiverged) as error:
        return f"{type(error).__name__}: {error}"
    return None


class Work:
    """All that one process does, in order."""

    def __init__(self, world: World, out: Path, poses: Path, pictures: Path) -> None:
        self.world, self.out, self.poses, self.pictures = world, out, poses, pictures
        self.tensors: dict[str, torch.Tensor] = {}
        self.facts: dict[str, Any] = {}

    def keep(self, name: str, tensors: dict[str, torch.Tensor]) -> None:
        self.tensors |= {f"{name}/{key}": tensor.contiguous() for key, tensor in tensors.items()}

    def talk(self) -> None:
        world = self.world
        self.facts["average"] = world.average(torch.tensor([world.rank + 1.0])).tolist()
        self.facts["gather"] = world.gather({"rank": world.rank})
        self.facts["share"] = world.share(f"from {world.rank}")
        self.facts["part"] = list(world.part(range(7)))
        self.facts["first"] = world.first
        self.facts["disagreement"] = complaint(
            lambda: check_agreement(world, {"step": 3, "persons": 4 + world.rank}, run_dir=Path("runs/x"))
        )

    def norms(self) -> None:
        self.keep("norm", normalised(norm_under_test(SyncBatchNorm2d(3)), noise(self.world.rank)))

    def poses_step(self, name: str, **changes: Any) -> None:
        trainer = Trainer(pose_settings(self.poses, self.out / name, **changes), self.world)
        self.facts[f"{name}/loss"] = trainer.train_step(next(iter(trainer._loader(0, 0))))
        self.keep(name, {key: tensor.clone() for key, tensor in learned(trainer.learner.net).items()})
        self.facts[f"{name}/statistics"] = trainer.learner.net.backbone.stem.norm.running_mean.tolist()
        trainer.learner.agree_on_statistics()
        self.facts[f"{name}/agreed"] = trainer.learner.net.backbone.stem.norm.running_mean.tolist()
        if trainer.learner.average:
            self.keep(f"{name}/average", trainer.learner.average.net.state_dict())

    def diverging_step(self) -> None:
        """One process alone has a number that is none."""
        trainer = Trainer(pose_settings(self.poses, self.out / "nan"), self.world)
        pixels, colours, points, labelled = next(iter(trainer._loader(0, 0)))
        before = trainer.learner.net.backbone.reduce.weight.clone()
        if not self.world.first:
            points[:] = float("nan")
        self.facts["diverged"] = complaint(lambda: trainer.train_step((pixels, colours, points, labelled)))
        self.facts["weights_kept"] = torch.equal(before, trainer.learner.net.backbone.reduce.weight)

    def uneven(self) -> None:
        self.facts["uneven"] = complaint(
            lambda: Trainer(pose_settings(self.poses, self.out / "odd", batch_size=6, accumulate=2), self.world)
        )

    def dino_step(self) -> None:
        trainer = DinoTrainer(dino_settings(self.pictures, self.out / "dino"), self.world)
        signals = trainer.learner.train_step(next(iter(trainer._loader(0, 0))))
        self.facts["dino"] = signals._asdict()
        self.keep("dino", learned(trainer.learner.nets))

    def muon(self) -> None:
        weights, self.facts["made"] = moved(self.world)
        self.keep("muon", weights)

    def estimate(self) -> None:
        data = read_persons(self.poses / "annotations.json", self.poses / "images")
        persons = [BoxedPerson(p.image_id, p.image_path, p.box_xywh) for p in data.persons[:7]]
        estimator = PoseEstimator(lively_network(tiny_config()))
        self.facts["poses"] = predict(estimator, persons, flip_test=True, progress=False, world=self.world)

    def run(self) -> None:
        self.talk()
        self.norms()
        self.poses_step("step", ema_decay=0.5)
        self.poses_step("pieces", accumulate=PIECES)
        self.poses_step("apart", sync_norm=False)
        self.diverging_step()
        self.uneven()
        self.dino_step()
        self.muon()
        self.estimate()
        save_file(self.tensors, self.out / f"{self.world.rank}.safetensors")
        (self.out / f"{self.world.rank}.json").write_text(json.dumps(self.facts))


if __name__ == "__main__":
    torch.set_num_threads(1)
    VARIANTS["tiny"] = tiny_config()
    with joined_world("cpu") as joined:
        Work(joined, *(Path(argument) for argument in sys.argv[1:])).run()
