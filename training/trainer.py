"""One training run: epochs of steps, validation, checkpoints, exact resume.

Knows nothing of the command line. Every random draw is a function of the seed and of the step, so a run that is cut off
and resumed takes exactly the steps that it would have taken.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from itertools import islice
from typing import Any

import torch

from model.btranspose import BTranspose
from model.checkpoint import save_checkpoint
from model.device import pick_device, pick_dtype
from model.estimator import PoseEstimator
from model.skeleton import Skeleton
from model.variants import variant
from training.coco import Person, read_sets
from training.dataset import EpochBatches, Example, PersonViews, read_image
from training.keypoint_sets import KeypointChoice, check_resumed, told_of
from training.loading import EpochLoader
from training.oks import ScorerMissing, score_results
from training.photograph_cache import GIB, PhotographCache
from training.plan import run_plan
from training.pose_learner import PoseLearner
from training.predict import BoxedPerson, predict
from training.provenance import describe_run
from training.run_figures import RunFigures, device_name
from training.run_folder import RunFolder, check_agreement, epoch_bar
from training.run_state import load_run, save_run
from training.samples import Samples
from training.settings import TrainSettings
from training.transfer import initialise
from training.world import World

LOG_EVERY = 50  # steps between two points in TensorBoard

# A step, and the best figure so far, mean something else with these.
FIXED = {"train_sets", "val_set", "batch_size", "seed", "optimizer"}


class Trainer:
    """Trains one network as `settings` say, together with the other processes of `world`.

    Files in `settings.run_dir`: `settings.json`; `last.safetensors`, the state to resume from; `best.safetensors` and
    `best.json`, the checkpoint with the best AP on the validation set; `log.jsonl`, a line per epoch; `best.png` and
    `samples.png`, what `training.summary` draws of it; TensorBoard events.

    Raises ValueError, AnnotationError or CheckpointError before the first step if anything does not fit.
    """

    def __init__(self, settings: TrainSettings, world: World | None = None) -> None:
        self.settings = settings
        self.world = world or World(device=pick_device(settings.device))
        self.dtype = pick_dtype(settings.precision, self.world.device)
        choice = KeypointChoice(settings.keypoints, settings.category)
        self.train_data, self.val_data = read_sets(settings.train_sets, settings.val_set, choice)
        self.skeleton = self.train_data[0].keypoints.skeleton
        self.persons = [person for data in self.train_data for person in data.persons]
        if not self.val_data.persons:
            raise ValueError(f"{self.val_data.annotations_path} has no persons; allowed: at least one, to validate on")
        self.folder = RunFolder(settings.run_dir, self.world)
        self.can_score = self.world.share(self._can_score())
        self.plan = run_plan(epochs=settings.epochs, steps=settings.steps, steps_per_epoch=len(self._batches(0, 0)))
        self.initialised_from: dict[str, Any] | None = None
        self.learner = PoseLearner(self._new_net(), settings, self.world, self.dtype, plan=self.plan)
        self.loader = EpochLoader(
            person_views(settings, self.persons, self.skeleton),
            self._batches,
            epochs=self.plan.epochs,
            workers=settings.workers,
            device=self.world.device,
        )
        self.best_ap = -1.0  # what pycocotools says when there is nothing to measure

    @cached_property
    def samples(self) -> Samples:
        """Persons of the validation set that are looked at after each validation."""
        return Samples(self.val_data.persons, self.learner.config)

    def _new_net(self) -> BTranspose:
        settings = self.settings
        config = variant(
            settings.variant,
            position=settings.position,
            input_hw=settings.input_hw,
            heatmap_sigma=settings.heatmap_sigma,
            dropout=settings.dropout,
            skeleton=self.skeleton,
        )
        torch.manual_seed(settings.seed)
        net = BTranspose(config)
        if settings.init is not None and not self.folder.last_path.exists():
            self.initialised_from = initialise(net, settings.init)
        return net

    def run(self) -> float:
        """Train to the end, from the run's last state if there is one. Returns the best AP on the validation set."""
        settings, learner = self.settings, self.learner
        if self.folder.last_path.exists():
            self._resume()
        check_agreement(
            self.world,
            {"step": learner.step, "persons": len(self.persons), "settings": settings.to_json()},
            run_dir=settings.run_dir,
        )
        self.folder.begin(settings.to_json())
        self._describe()
        with RunFigures(settings.run_dir, epochs=self.plan.epochs, every=LOG_EVERY, writes=self.world.first) as figures:
            for epoch in self.plan.epochs_left(learner.step):
                row = {"epoch": epoch + 1, **self._train_epoch(epoch, figures)}
                if (epoch + 1) % settings.val_every == 0 or epoch + 1 == self.plan.epochs:
                    row |= self._validate(epoch, figures)
                self.save()
                self.folder.log(row)
                figures.after_epoch(row)
        return self.best_ap

    def _train_epoch(self, epoch: int, figures: RunFigures) -> dict[str, Any]:
        """One epoch, or the rest of it after a resume. Returns what is logged of it."""
        settings, learner = self.settings, self.learner
        first_batch = learner.step - epoch * self.plan.steps_per_epoch
        losses: list[float] = []
        norms: list[float] = []
        waited, started = 0.0, time.monotonic()
        asked = started
        bar = epoch_bar(
            self._loader(epoch, first_batch),
            epoch=epoch,
            epochs=self.plan.epochs,
            steps=self.plan.steps_of(epoch),
            first_step=first_batch,
            batch_size=settings.batch_size,
            shown=self.world.first,
        )
        for example in islice(bar, self.plan.total_steps - learner.step):
            waited += time.monotonic() - asked
            losses.append(self.train_step(example))
            norms.append(learner.gradient_norm)
            bar.set_postfix(loss=f"{losses[-1]:.5f}", refresh=False)
            figures.after_step(learner.step, self._signals)
            if self.plan.is_within_an_epoch(learner.step) and self.folder.save_is_due(settings.minutes_between_saves):
                self.save()
            asked = time.monotonic()
        seconds = max(time.monotonic() - started, 1e-9)
        return {
            "loss": sum(losses) / max(len(losses), 1),
            "gradient_norm": sum(norms) / max(len(norms), 1),
            "learning_rate": learner.last_learning_rate,
            "images_per_s": round(len(losses) * settings.batch_size / seconds, 2),
            "loader_share": round(waited / seconds, 4),
            "device": device_name(self.world.device),
        }

    def _signals(self) -> dict[str, float]:
        """Of the last step, for TensorBoard."""
        learner = self.learner
        return {
            "train/loss": learner.loss,
            "train/gradient_norm": learner.gradient_norm,
            "train/learning_rate": learner.last_learning_rate,
        }

    def train_step(self, example: Example) -> float:
        """One optimiser step on this process's share of a batch. The loss of the whole batch."""
        return self.learner.train_step(example)

    def _batches(self, epoch: int, first_batch: int) -> EpochBatches:
        return EpochBatches(
            len(self.persons),
            self.settings.batch_size,
            seed=self.settings.seed,
            epoch=epoch,
            first_batch=first_batch,
            rank=self.world.rank,
            size=self.world.size,
        )

    def _loader(self, epoch: int, first_batch: int) -> Iterator[Example]:
        return self.loader.epoch(epoch, first_batch)

    def _validate(self, epoch: int, figures: RunFigures) -> dict[str, float]:
        """AP on the validation set, boxes gt, no flip test; the best network is kept as a checkpoint.

        Where nothing can be scored the latest network is kept, to be evaluated elsewhere. Each process looks at its
        share of the persons, and the first one scores them all.
        """
        self.learner.agree_on_statistics()
        estimator = PoseEstimator(self.learner.best_net, self.world.device, self.dtype)
        metrics: dict[str, float] = {}
        if self.can_score:
            persons = [BoxedPerson(p.image_id, p.image_path, p.box_xywh) for p in self.val_data.persons]
            keypoints = self.val_data.keypoints
            results = predict(
                estimator, persons, flip_test=False, category_id=keypoints.result_category_id, world=self.world
            )
            if self.world.first:
                metrics = score_results(results, self.val_data.annotations_path, keypoints)
            metrics = self.world.share(metrics)
        improved = not metrics or metrics["AP"] > self.best_ap
        if improved:
            self.best_ap = metrics.get("AP", self.best_ap)
            self._keep(epoch)
        figures.samples(partial(self.samples.look, estimator), epoch + 1, keep=improved)
        return {f"val_{name}": metrics[name] for name in ("AP", "AP50", "AP75", "AR") if metrics}

    def _keep(self, epoch: int) -> None:
        """Write the network as the run's checkpoint."""
        if self.world.first:
            training = describe_run(
                self.settings,
                train_data=self.train_data,
                val_data=self.val_data,
                epochs=epoch + 1,
                dtype=self.dtype,
                initialised_from=self.initialised_from,
            )
            save_checkpoint(self.settings.run_dir / "best.safetensors", self.learner.best_net, training=training)

    def save(self) -> None:
        """Write the state that the run resumes from."""
        learner = self.learner
        facts = {
            "step": learner.step,
            "best_ap": self.best_ap,
            "initialised_from": self.initialised_from,
            "settings": self.settings.to_json(),
            "skeleton": self.skeleton.to_json(),
        }
        self.folder.save(
            partial(save_run, net=learner.net, optimizer=learner.optimizer, facts=facts, average=learner.averaged_net)
        )

    def _resume(self) -> None:
        learner = self.learner
        facts = load_run(self.folder.last_path, learner.net, learner.optimizer, learner.averaged_net)
        check_resumed(facts.get("skeleton"), self.skeleton, self.settings.run_dir)
        learner.step, self.best_ap = int(facts["step"]), float(facts["best_ap"])
        self.initialised_from = facts.get("initialised_from")
        before = facts.get("settings", {})
        before.setdefault("optimizer", "adam")  # what runs had that do not say
        changed = {
            name: f"{name}: {before.get(name)} -> {value}"
            for name, value in self.settings.to_json().items()
            if name != "run_dir" and name in before and before[name] != value
        }
        if fixed := changed.keys() & FIXED:
            raise ValueError(
                f"{self.settings.run_dir} was started with other settings: "
                + "; ".join(changed[name] for name in sorted(fixed))
                + "; allowed: the same ones, or another --run-dir"
            )
        if changed:
            self.folder.say("resumed with other settings than before: " + "; ".join(changed.values()))

    def _describe(self) -> None:
        settings, config, step = self.settings, self.learner.config, self.learner.step
        processes = f", {self.world.size} processes" if self.world.size > 1 else ""
        self.folder.say(
            f"{config.label} ({config.position} positions), {config.input_hw[0]}x{config.input_hw[1]}, "
            f"{self.world.device} {str(self.dtype).removeprefix('torch.')}{processes}: "
            f"{len(self.persons)} persons, {self.plan.describe(settings.batch_size)}"
            + (f"; resumed at step {step}" if step else "")
        )
        for line in told_of(self.train_data[0].keypoints):
            self.folder.say(line)

    def _can_score(self) -> bool:
        """Whether AP can be measured here; said at once, not after an epoch. Raises AnnotationError for bad data."""
        try:
            score_results([], self.val_data.annotations_path, self.val_data.keypoints)
        except ScorerMissing as error:
            self.folder.say(f"{error}. Training without validation: best.safetensors will be the latest network")
            return False
        return True


def person_views(settings: TrainSettings, persons: Sequence[Person], skeleton: Skeleton) -> PersonViews:
    """The views that a run of these settings sees."""
    read = read_image
    if settings.photograph_cache is not None:
        read = PhotographCache(settings.photograph_cache, round(settings.cache_gib * GIB), read_image).read
    return PersonViews(
        persons, settings.input_hw, settings.augmentation, seed=settings.seed, skeleton=skeleton, read=read
    )
