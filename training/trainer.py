"""One training run: epochs of steps, validation, checkpoints, exact resume.

Knows nothing of the command line. Every random draw is a function of the seed and of the step, so a run that is cut off
and resumed takes exactly the steps that it would have taken.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from tqdm import tqdm

from model.btranspose import BTranspose
from model.checkpoint import save_checkpoint, write_atomically
from model.crop import normalise
from model.device import pick_device, pick_dtype
from model.estimator import PoseEstimator
from model.heatmap import encode_heatmaps, target_weights
from model.variants import variant
from training.coco import KeypointData, Person, read_persons
from training.dataset import EpochBatches, Example, PersonViews, read_image
from training.loading import EpochLoader
from training.loss import heatmap_loss
from training.oks import ScorerMissing, score_results
from training.photograph_cache import GIB, PhotographCache
from training.predict import BoxedPerson, predict
from training.provenance import describe_run
from training.run_figures import RunFigures, device_name
from training.run_state import load_run, save_run
from training.samples import Samples
from training.schedule import learning_rate
from training.settings import TrainSettings
from training.transfer import initialise


class TrainingDiverged(RuntimeError):
    """The loss is no longer a finite number; the last good state is on disk."""


class Trainer:
    """Trains one network as `settings` say.

    Files in `settings.run_dir`: `settings.json`; `last.safetensors`, the state to resume from; `best.safetensors` and
    `best.json`, the checkpoint with the best AP on the validation set; `log.jsonl`, a line per epoch; `best.png` and
    `samples.png`, what `training.summary` draws of it; TensorBoard events.

    Raises ValueError, AnnotationError or CheckpointError before the first step if anything does not fit.
    """

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings
        self.device = pick_device(settings.device)
        self.dtype = pick_dtype(settings.precision, self.device)
        self.train_data = [read_persons(*paths, name=str(paths[0])) for paths in settings.train_sets]
        self.val_data = read_persons(*settings.val_set, name=str(settings.val_set[0]))
        self.persons = [person for data in self.train_data for person in data.persons]
        self.config = variant(
            settings.variant,
            position=settings.position,
            input_hw=settings.input_hw,
            heatmap_sigma=settings.heatmap_sigma,
            dropout=settings.dropout,
        )
        if not self.val_data.persons:
            raise ValueError(f"{self.val_data.annotations_path} has no persons; allowed: at least one, to validate on")
        self.can_score = _can_score(self.val_data)
        torch.manual_seed(settings.seed)
        net = BTranspose(self.config)
        self.initialised_from: dict[str, Any] | None = None
        self.last_path = settings.run_dir / "last.safetensors"
        if settings.init is not None and not self.last_path.exists():
            self.initialised_from = initialise(net, settings.init)
        self.net = net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=settings.learning_rate)
        self.steps_per_epoch = len(EpochBatches(len(self.persons), settings.batch_size, seed=settings.seed, epoch=0))
        self.loader = EpochLoader(
            person_views(settings, self.persons),
            self._batches,
            epochs=settings.epochs,
            workers=settings.workers,
            device=self.device,
        )
        self.step = 0
        self.loss = self.gradient_norm = math.nan  # of the last step; the norm before clipping
        self.best_ap = -1.0  # what pycocotools says when there is nothing to measure

    @cached_property
    def samples(self) -> Samples:
        """Persons of the validation set that are looked at after each validation."""
        return Samples(self.val_data.persons, self.config)

    @property
    def total_steps(self) -> int:
        return self.settings.epochs * self.steps_per_epoch

    def run(self) -> float:
        """Train to the end, from the run's last state if there is one. Returns the best AP on the validation set."""
        settings = self.settings
        settings.run_dir.mkdir(parents=True, exist_ok=True)
        if self.last_path.exists():
            self._resume()
        write_atomically(settings.run_dir / "settings.json", (json.dumps(settings.to_json(), indent=2) + "\n").encode())
        self._describe()
        with RunFigures(settings.run_dir, epochs=settings.epochs, every=50) as figures:
            for epoch in range(self.step // self.steps_per_epoch, settings.epochs):
                row: dict[str, Any] = {"epoch": epoch + 1, **self._train_epoch(epoch, figures)}
                if (epoch + 1) % settings.val_every == 0 or epoch + 1 == settings.epochs:
                    row |= self._validate(epoch, figures)
                self.save()
                with (settings.run_dir / "log.jsonl").open("a") as log:
                    log.write(json.dumps(row) + "\n")
                tqdm.write(" ".join(f"{key} {value:.4g}" for key, value in row.items() if key != "device"))
                figures.after_epoch(row)
        return self.best_ap

    def _train_epoch(self, epoch: int, figures: RunFigures) -> dict[str, Any]:
        """One epoch, or the rest of it after a resume. Returns what is logged of it."""
        settings = self.settings
        first_batch = self.step - epoch * self.steps_per_epoch
        loader = self._loader(epoch, first_batch)
        losses: list[float] = []
        norms: list[float] = []
        waited, started = 0.0, time.monotonic()
        saved = asked = started
        bar = tqdm(
            loader,
            desc=f"epoch {epoch + 1}/{settings.epochs}",
            unit_scale=settings.batch_size,
            unit="image",
            total=self.steps_per_epoch,
            initial=first_batch,
            dynamic_ncols=True,
            mininterval=1.0,
        )
        for example in bar:
            waited += time.monotonic() - asked
            losses.append(self.train_step(example))
            norms.append(self.gradient_norm)
            bar.set_postfix(loss=f"{losses[-1]:.5f}", refresh=False)
            figures.after_step(self.step, self._signals)
            if self.step % self.steps_per_epoch and time.monotonic() - saved > 60 * settings.minutes_between_saves:
                self.save()
                saved = time.monotonic()
            asked = time.monotonic()
        seconds = max(time.monotonic() - started, 1e-9)
        return {
            "loss": sum(losses) / max(len(losses), 1),
            "gradient_norm": sum(norms) / max(len(norms), 1),
            "learning_rate": self.learning_rate,
            "images_per_s": round(len(losses) * settings.batch_size / seconds, 2),
            "loader_share": round(waited / seconds, 4),
            "device": device_name(self.device),
        }

    def _signals(self) -> dict[str, float]:
        """Of the last step, for TensorBoard."""
        return {
            "train/loss": self.loss,
            "train/gradient_norm": self.gradient_norm,
            "train/learning_rate": self.learning_rate,
        }

    @property
    def learning_rate(self) -> float:
        """Of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def train_step(self, example: Example) -> float:
        """One optimiser step on a batch: pixels [B, H, W, 3], points_crop [B, K, 2], labelled [B, K]. The loss."""
        settings = self.settings
        torch.manual_seed(settings.seed * 1_000_003 + self.step)  # dropout: a function of seed and step
        rate = learning_rate(
            self.step,
            self.total_steps,
            peak=settings.learning_rate,
            end=settings.learning_rate_end,
            warmup_steps=round(settings.warmup_epochs * self.steps_per_epoch),
            schedule=settings.schedule,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        pixels, points, labelled = (tensor.to(self.device, non_blocking=True) for tensor in example)
        heatmap_hw, sigma = self.config.heatmap_hw, self.config.heatmap_sigma
        target = encode_heatmaps(points, heatmap_hw, sigma)
        weights = target_weights(points, labelled, heatmap_hw, sigma)
        self.net.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            predicted = self.net(normalise(pixels))
        loss = heatmap_loss(
            predicted.float(), target, weights, loss=settings.loss, sinkhorn_weight=settings.sinkhorn_weight
        )
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingDiverged(f"the loss is {value} at step {self.step} (learning rate {rate:g})")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), settings.clip_norm or math.inf)
        if not torch.isfinite(norm):
            raise TrainingDiverged(f"the gradient is {float(norm)} at step {self.step} (learning rate {rate:g})")
        self.optimizer.step()
        self.step += 1
        self.loss, self.gradient_norm = value, float(norm)
        return value

    def _loader(self, epoch: int, first_batch: int) -> Iterator[Example]:
        return self.loader.epoch(epoch, first_batch)

    def _batches(self, epoch: int, first_batch: int) -> EpochBatches:
        settings = self.settings
        return EpochBatches(
            len(self.persons), settings.batch_size, seed=settings.seed, epoch=epoch, first_batch=first_batch
        )

    def _validate(self, epoch: int, figures: RunFigures) -> dict[str, float]:
        """AP on the validation set, boxes gt, no flip test; the best network is kept as a checkpoint.

        Where nothing can be scored the latest network is kept, to be evaluated elsewhere.
        """
        estimator = PoseEstimator(self.net, self.device, self.dtype)
        metrics: dict[str, float] = {}
        if self.can_score:
            persons = [BoxedPerson(p.image_id, p.image_path, p.box_xywh) for p in self.val_data.persons]
            metrics = score_results(predict(estimator, persons, flip_test=False), self.val_data.annotations_path)
        improved = not metrics or metrics["AP"] > self.best_ap
        if improved:
            self.best_ap = metrics.get("AP", self.best_ap)
            checkpoint = self.settings.run_dir / "best.safetensors"
            save_checkpoint(checkpoint, self.net, training=self._provenance(epoch + 1))
        figures.samples(partial(self.samples.look, estimator), epoch + 1, keep=improved)
        return {f"val_{name}": metrics[name] for name in ("AP", "AP50", "AP75", "AR") if metrics}

    def _provenance(self, epochs: int) -> dict[str, Any]:
        return describe_run(
            self.settings,
            train_data=self.train_data,
            val_data=self.val_data,
            epochs=epochs,
            dtype=self.dtype,
            initialised_from=self.initialised_from,
        )

    def save(self) -> None:
        """Write the state that the run resumes from."""
        facts = {
            "step": self.step,
            "best_ap": self.best_ap,
            "initialised_from": self.initialised_from,
            "settings": self.settings.to_json(),
        }
        save_run(self.last_path, self.net, self.optimizer, facts)

    def _resume(self) -> None:
        facts = load_run(self.last_path, self.net, self.optimizer)
        self.step, self.best_ap = int(facts["step"]), float(facts["best_ap"])
        self.initialised_from = facts.get("initialised_from")
        before = facts.get("settings", {})
        changed = {
            name: f"{name}: {before.get(name)} -> {value}"
            for name, value in self.settings.to_json().items()
            if name != "run_dir" and before.get(name) != value
        }
        # A step, and the best figure so far, mean something else with these.
        if fixed := changed.keys() & {"train_sets", "val_set", "batch_size", "seed"}:
            raise ValueError(
                f"{self.settings.run_dir} was started with other settings: "
                + "; ".join(changed[name] for name in sorted(fixed))
                + "; allowed: the same ones, or another --run-dir"
            )
        if changed:
            tqdm.write("resumed with other settings than before: " + "; ".join(changed.values()))

    def _describe(self) -> None:
        settings = self.settings
        tqdm.write(
            f"{self.config.label} ({self.config.position} positions), {self.config.input_hw[0]}x"
            f"{self.config.input_hw[1]}, {self.device} {str(self.dtype).removeprefix('torch.')}: "
            f"{len(self.persons)} persons, {self.steps_per_epoch} steps of {settings.batch_size} an epoch, "
            f"{settings.epochs} epochs" + (f"; resumed at step {self.step}" if self.step else "")
        )


def person_views(settings: TrainSettings, persons: Sequence[Person]) -> PersonViews:
    """The views that a run of these settings sees."""
    read = read_image
    if settings.photograph_cache is not None:
        read = PhotographCache(settings.photograph_cache, round(settings.cache_gib * GIB), read_image).read
    return PersonViews(persons, settings.input_hw, settings.augmentation, seed=settings.seed, read=read)


def _can_score(data: KeypointData) -> bool:
    """Whether AP can be measured here; said at once, not after the first epoch. Raises AnnotationError for bad data."""
    try:
        score_results([], data.annotations_path)
    except ScorerMissing as error:
        tqdm.write(f"{error}. Training without validation: best.safetensors will be the latest network")
        return False
    return True
