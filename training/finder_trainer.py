"""One training run of the person finder: epochs of steps, figures on other photographs, exact resume.

Smaller than the run of poses (`training.trainer`), and of the same parts: one process, one moving average, which is
what is kept at the end. Nothing is chosen by the validation set, which only shows how it goes.
"""

from __future__ import annotations

import math
import time
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from model.crop import normalise
from model.detection import DetectionLimits
from model.device import pick_dtype
from model.finder_checkpoint import save_finder
from model.finder_detector import FinderDetector
from model.person_finder import PersonFinder
from training.coco import KeypointData, read_persons
from training.dataset import EpochBatches, read_image
from training.detection_score import coco_detections, score_boxes
from training.divergence import check_finite
from training.finder_data import FinderExample, PeoplePicture, Windows, by_photograph
from training.finder_features import FeatureExample, TrunkFeatures
from training.finder_loss import BOX_WEIGHT, finder_loss
from training.finder_settings import FinderSettings
from training.finder_start import begin_from, finder_optimizer
from training.loading import EpochLoader
from training.photograph_cache import GIB, PhotographCache
from training.plan import run_plan
from training.provenance import describe_data
from training.recolour import recolour, standardised
from training.run_folder import RunFolder, epoch_bar
from training.run_state import load_run, save_run
from training.schedule import learning_rate
from training.weight_average import WeightAverage
from training.world import World

SCORED_FROM = 0.02  # less likely boxes do not move the figures
# A step means something else with these.
FIXED = {"train_set", "batch_size", "seed", "window_side", "frozen", "optimizer"}
BEFORE = {"optimizer": "adamw"}  # of runs that were begun when there was no choice


class FinderTrainer:
    """Trains one person finder as `settings` say.

    Files in `settings.run_dir`: `settings.json`; `last.safetensors`, the state to resume from; `person-finder` as
    `.safetensors` and `.json`, the averaged network after each epoch; `log.jsonl`, a line per epoch.

    Raises ValueError, AnnotationError or CheckpointError before the first step if anything does not fit.
    """

    def __init__(self, settings: FinderSettings) -> None:
        self.settings = settings
        self.train_data = read_persons(*settings.train_set)
        self.val_data = read_persons(*settings.val_set)
        self.pictures = by_photograph(self.train_data.persons)
        device = torch.device("cpu")
        self.dtype = pick_dtype(settings.precision, device)
        self.folder = RunFolder(settings.run_dir, World(device=device))
        torch.manual_seed(settings.seed)
        self.net = PersonFinder(settings.network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.initialised_from: dict[str, Any] | None = None
        if settings.init is not None and not self.folder.last_path.exists():
            self.initialised_from = begin_from(self.net, settings.init)
        self.net.trunk.requires_grad_(not settings.frozen)
        self.average = WeightAverage(self.net, settings.ema_decay)
        self.optimizer = finder_optimizer(self.net, settings)
        self.step = 0
        steps_per_epoch = len(self._batches(0, 0))
        self.plan = run_plan(epochs=settings.epochs, steps=settings.steps, steps_per_epoch=steps_per_epoch)
        read = read_image
        if settings.photograph_cache is not None:
            read = PhotographCache(settings.photograph_cache, round(settings.cache_gib * GIB), read_image).read
        windows = Windows(
            self.pictures,
            window_side=settings.window_side,
            input_side=settings.network.input_side,
            augmentation=settings.augmentation,
            seed=settings.seed,
            views=settings.views,
            read=read,
        )
        examples: Dataset[Any] = windows
        if settings.feature_cache is not None:
            self._restore_trunk()
            examples = TrunkFeatures(windows, self.net.trunk.eval(), settings.feature_cache)
        self.loader = EpochLoader[FinderExample | FeatureExample](
            examples,
            self._batches,
            epochs=self.plan.epochs,
            workers=settings.workers,
            device=device,
        )

    def run(self) -> dict[str, float]:
        """Train to the end, from the run's last state if there is one. Returns the last figures on validation."""
        settings = self.settings
        if self.folder.last_path.exists():
            self._resume()
        self.folder.begin(settings.to_json())
        parameters = sum(parameter.numel() for parameter in self.net.parameters())
        self.folder.say(
            f"{parameters / 1e6:.2f} M parameters, windows of {settings.window_side}, "
            f"{str(self.dtype).removeprefix('torch.')}: "
            f"{len(self.pictures)} photographs, {len(self.train_data.persons)} persons, "
            f"{self.plan.describe(settings.batch_size)}" + (f"; resumed at step {self.step}" if self.step else "")
        )
        figures: dict[str, float] = {}
        for epoch in self.plan.epochs_left(self.step):
            row: dict[str, Any] = {"epoch": epoch + 1, **self._train_epoch(epoch)}
            if (epoch + 1) % settings.val_every == 0 or epoch + 1 == self.plan.epochs:
                figures = evaluate_finder(self.average.net, self.val_data)
                row |= figures
            self._keep(epoch)
            self._save()
            self.folder.log(row)
        return figures

    def _train_epoch(self, epoch: int) -> dict[str, Any]:
        """One epoch, or the rest of it after a resume. Returns what is logged of it."""
        settings = self.settings
        first_batch = self.step - epoch * self.plan.steps_per_epoch
        losses: list[tuple[float, float]] = []
        started = time.monotonic()
        bar = epoch_bar(
            self.loader.epoch(epoch, first_batch),
            epoch=epoch,
            epochs=self.plan.epochs,
            steps=self.plan.steps_of(epoch),
            first_step=first_batch,
            batch_size=settings.batch_size,
            shown=True,
        )
        for example in islice(bar, self.plan.total_steps - self.step):
            losses.append(self.train_step(example))
            bar.set_postfix(centres=f"{losses[-1][0]:.3f}", boxes=f"{losses[-1][1]:.3f}", refresh=False)
            if self.plan.is_within_an_epoch(self.step) and self.folder.save_is_due(settings.minutes_between_saves):
                self._save()
        seconds = max(time.monotonic() - started, 1e-9)
        count = max(len(losses), 1)
        return {
            "centre_loss": sum(one for one, _ in losses) / count,
            "box_loss": sum(one for _, one in losses) / count,
            "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
            "images_per_s": round(len(losses) * settings.batch_size / seconds, 2),
        }

    def _restore_trunk(self) -> None:
        """The trunk of a run that was begun before, which what is kept belongs to."""
        if self.folder.last_path.exists():
            load_run(self.folder.last_path, self.net, self.optimizer, self.average.net)

    def train_step(self, example: FinderExample | FeatureExample) -> tuple[float, float]:
        """One optimiser step. Returns the losses of centres and of boxes.

        Raises TrainingDiverged, before any weight changes, if loss or gradient is not finite.
        """
        settings = self.settings
        rate = learning_rate(
            self.step,
            self.plan.total_steps,
            peak=settings.learning_rate,
            end=settings.learning_rate_end,
            warmup_steps=settings.warmup_steps,
            schedule="cosine",
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        self.net.train()
        if settings.frozen:
            self.net.trunk.eval()  # its norms, too
        with torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            features, edges = self._seen(example)
            found = self.net.find(features)
        centre_loss, box_loss = finder_loss(found.float(), edges)
        loss = centre_loss + BOX_WEIGHT * box_loss
        check_finite(float(loss.detach()), "loss", step=self.step, learning_rate=rate)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), settings.clip_norm or math.inf).detach()
        check_finite(float(norm), "gradient", step=self.step, learning_rate=rate)
        self.optimizer.step()
        self.average.update(self.net, self.step)
        self.step += 1
        return float(centre_loss.detach()), float(box_loss.detach())

    def _seen(self, example: FinderExample | FeatureExample) -> tuple[Tensor, Tensor]:
        """What the trunk gives for a batch, and the batch's edges."""
        if len(example) == 2:
            return example[0].contiguous(memory_format=torch.channels_last), example[1]
        pixels, edges, colours = example
        with torch.set_grad_enabled(not self.settings.frozen):
            return self.net.trunk(standardised(recolour(pixels, colours))), edges

    def _batches(self, epoch: int, first_batch: int) -> EpochBatches:
        settings = self.settings
        return EpochBatches(
            len(self.pictures), settings.batch_size, seed=settings.seed, epoch=epoch, first_batch=first_batch
        )

    def _keep(self, epoch: int) -> None:
        """Write the averaged network as a checkpoint."""
        settings = self.settings
        training = {
            "task": "persons",
            "data": [describe_data(self.train_data)],
            "epochs": epoch + 1,
            "epochs_planned": settings.epochs if settings.steps is None else None,
            "steps_planned": settings.steps,
            "batch_size": settings.batch_size,
            "window_side": settings.window_side,
            "views": settings.views,
            "frozen": settings.frozen,
            "optimizer": settings.optimizer,
            "weight_decay": settings.weight_decay,
            "learning_rate": [settings.learning_rate, settings.learning_rate_end],
            "schedule": "cosine",
            "precision": str(self.dtype).removeprefix("torch."),
            "seed": settings.seed,
            "initialised_from": self.initialised_from,
        }
        save_finder(settings.run_dir / "person-finder.safetensors", self.average.net, training=training)

    def _save(self) -> None:
        facts = {
            "step": self.step,
            "initialised_from": self.initialised_from,
            "settings": self.settings.to_json(),
        }
        self.folder.save(
            partial(save_run, net=self.net, optimizer=self.optimizer, facts=facts, average=self.average.net)
        )

    def _resume(self) -> None:
        facts = load_run(self.folder.last_path, self.net, self.optimizer, self.average.net)
        self.step = int(facts["step"])
        self.initialised_from = facts.get("initialised_from")
        before, now = BEFORE | facts.get("settings", {}), self.settings.to_json()
        if changed := [name for name in sorted(FIXED) if before.get(name) != now[name]]:
            told = "; ".join(f"{name}: {before.get(name)} -> {now[name]}" for name in changed)
            raise ValueError(
                f"{self.settings.run_dir} was started with other settings: {told}; "
                "allowed: the same ones, or another --run-dir"
            )


def evaluate_finder(net: PersonFinder, data: KeypointData) -> dict[str, float]:
    """Figures of `training.detection_score` over all annotated photographs, by torch as it runs here."""

    @torch.inference_mode()
    def maps(pixels: Any) -> Tensor:
        return net.eval()(normalise(torch.from_numpy(pixels)))

    detector = FinderDetector(maps, net.config, DetectionLimits(min_score=SCORED_FROM))
    pictures: list[PeoplePicture] = by_photograph(data.persons)
    found = [detector.detect([read_image(picture.path)])[0] for picture in pictures]
    numbers = range(1, len(pictures) + 1)
    truth = [(number, picture.boxes_xywh) for number, picture in zip(numbers, pictures, strict=True)]
    return score_boxes(truth, coco_detections(numbers, found))
