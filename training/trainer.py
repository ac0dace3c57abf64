"""One training run: epochs of steps, validation, checkpoints, exact resume.

Knows nothing of the command line. Every random draw is a function of the seed and of the step, so a run that is cut off
and resumed takes exactly the steps that it would have taken.
"""

from __future__ import annotations

import json
import math
import time
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from model.btranspose import BTranspose
from model.checkpoint import save_checkpoint, write_atomically
from model.crop import normalise
from model.device import pick_device, pick_dtype
from model.estimator import PoseEstimator
from model.heatmap import encode_heatmaps, target_weights
from model.variants import variant
from training.coco import KeypointData, read_sets
from training.dataset import EpochBatches, Example, PersonViews
from training.keypoint_sets import KeypointChoice, check_resumed, told_of
from training.loss import heatmap_loss
from training.oks import ScorerMissing, score_results
from training.predict import BoxedPerson, predict
from training.provenance import describe_run
from training.run_state import load_run, save_run
from training.schedule import learning_rate
from training.settings import TrainSettings
from training.transfer import initialise


class TrainingDiverged(RuntimeError):
    """The loss is no longer a finite number; the last good state is on disk."""


class Trainer:
    """Trains one network as `settings` say.

    Files in `settings.run_dir`: `settings.json`; `last.safetensors`, the state to resume from; `best.safetensors` and
    `best.json`, the checkpoint with the best AP on the validation set; `log.jsonl`, a line per epoch; TensorBoard
    events.

    Raises ValueError, AnnotationError or CheckpointError before the first step if anything does not fit.
    """

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings
        self.device = pick_device(settings.device)
        self.dtype = pick_dtype(settings.precision, self.device)
        choice = KeypointChoice(settings.keypoints, settings.category)
        self.train_data, self.val_data = read_sets(settings.train_sets, settings.val_set, choice)
        self.persons = [person for data in self.train_data for person in data.persons]
        self.config = variant(
            settings.variant,
            position=settings.position,
            input_hw=settings.input_hw,
            heatmap_sigma=settings.heatmap_sigma,
            dropout=settings.dropout,
            skeleton=self.train_data[0].keypoints.skeleton,
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
        self.step = 0
        self.best_ap = -1.0  # what pycocotools says when there is nothing to measure

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
        with SummaryWriter(settings.run_dir / "tensorboard") as writer:
            for epoch in range(self.step // self.steps_per_epoch, settings.epochs):
                loss, images_per_s = self._train_epoch(epoch, writer)
                row: dict[str, Any] = {"epoch": epoch + 1, "loss": loss, "images_per_s": round(images_per_s, 2)}
                if (epoch + 1) % settings.val_every == 0 or epoch + 1 == settings.epochs:
                    row |= self._validate(epoch, writer)
                self.save()
                with (settings.run_dir / "log.jsonl").open("a") as log:
                    log.write(json.dumps(row) + "\n")
                tqdm.write(" ".join(f"{key} {value:.4g}" for key, value in row.items()))
        return self.best_ap

    def _train_epoch(self, epoch: int, writer: SummaryWriter) -> tuple[float, float]:
        """One epoch, or the rest of it after a resume. Returns the mean loss and images per second."""
        settings = self.settings
        first_batch = self.step - epoch * self.steps_per_epoch
        loader = self._loader(epoch, first_batch)
        losses: list[float] = []
        started = saved = time.monotonic()
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
            losses.append(self.train_step(example))
            bar.set_postfix(loss=f"{losses[-1]:.5f}", refresh=False)
            if self.step % 50 == 0:
                writer.add_scalar("train/loss", losses[-1], self.step)
                writer.add_scalar("train/learning_rate", self.optimizer.param_groups[0]["lr"], self.step)
            if self.step % self.steps_per_epoch and time.monotonic() - saved > 60 * settings.minutes_between_saves:
                self.save()
                saved = time.monotonic()
        seconds = time.monotonic() - started
        return sum(losses) / max(len(losses), 1), len(losses) * settings.batch_size / max(seconds, 1e-9)

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
        return value

    def _loader(self, epoch: int, first_batch: int) -> DataLoader[Example]:
        settings = self.settings
        return DataLoader(
            PersonViews(
                self.persons,
                self.config.input_hw,
                settings.augmentation,
                seed=settings.seed,
                skeleton=self.config.skeleton,
            ),
            batch_sampler=EpochBatches(
                len(self.persons), settings.batch_size, seed=settings.seed, epoch=epoch, first_batch=first_batch
            ),
            num_workers=settings.workers,
            pin_memory=self.device.type == "cuda",
        )

    def _validate(self, epoch: int, writer: SummaryWriter) -> dict[str, float]:
        """AP on the validation set, boxes gt, no flip test; the best network is kept as a checkpoint.

        Where nothing can be scored the latest network is kept, to be evaluated elsewhere.
        """
        checkpoint = self.settings.run_dir / "best.safetensors"
        if not self.can_score:
            save_checkpoint(checkpoint, self.net, training=self._provenance(epoch + 1))
            return {}
        persons = [BoxedPerson(p.image_id, p.image_path, p.box_xywh) for p in self.val_data.persons]
        estimator = PoseEstimator(self.net, self.device, self.dtype)
        keypoints = self.val_data.keypoints
        results = predict(estimator, persons, flip_test=False, category_id=keypoints.result_category_id)
        metrics = score_results(results, self.val_data.annotations_path, keypoints)
        for name in ("AP", "AP50", "AR"):
            writer.add_scalar(f"val/{name}", metrics[name], self.step)
        if metrics["AP"] > self.best_ap:
            self.best_ap = metrics["AP"]
            save_checkpoint(checkpoint, self.net, training=self._provenance(epoch + 1))
        return {f"val_{name}": metrics[name] for name in ("AP", "AP50", "AP75", "AR")}

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
            "skeleton": self.config.skeleton.to_json(),
        }
        save_run(self.last_path, self.net, self.optimizer, facts)

    def _resume(self) -> None:
        facts = load_run(self.last_path, self.net, self.optimizer)
        check_resumed(facts.get("skeleton"), self.config.skeleton, self.settings.run_dir)
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
        for line in told_of(self.train_data[0].keypoints):
            tqdm.write(line)


def _can_score(data: KeypointData) -> bool:
    """Whether AP can be measured here; said at once, not after the first epoch. Raises AnnotationError for bad data."""
    try:
        score_results([], data.annotations_path, data.keypoints)
    except ScorerMissing as error:
        tqdm.write(f"{error}. Training without validation: best.safetensors will be the latest network")
        return False
    return True
