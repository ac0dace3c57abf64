"""One pre-training run: epochs of steps, signals of collapse, the teacher's backbone, exact resume.

Knows nothing of the command line. Every random draw is a function of the seed, the epoch and the picture, or of the
seed and the step, so a run that is cut off and resumed takes exactly the steps that it would have taken.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

from tqdm import tqdm

from model.checkpoint import CheckpointError
from model.device import pick_device, pick_dtype
from model.variants import variant
from training.dataset import EpochBatches
from training.dino_alarm import WINDOW, CollapseAlarm
from training.dino_checkpoint import save_backbone
from training.dino_data import Example, Pictures, PictureViews, find_pictures
from training.dino_learner import DinoLearner
from training.dino_loss import Signals
from training.dino_probe import find_labelled, probe
from training.dino_provenance import changed_settings, describe_pretraining
from training.dino_settings import PretrainSettings
from training.dino_sheet import contact_sheet
from training.loading import EpochLoader
from training.plan import run_plan
from training.run_figures import RunFigures, device_name
from training.run_folder import RunFolder, check_agreement, epoch_bar, short
from training.run_state import load_run, save_run
from training.world import World

LOG_EVERY = 10  # steps between two points in TensorBoard
SHOWN = 3  # pictures whose views the summary shows


class DinoTrainer:
    """Pre-trains one backbone as `settings` say, together with the other processes of `world`.

    Files in `settings.run_dir`: `settings.json`; `last.safetensors`, the state to resume from; `dino.safetensors` and
    `dino.json`, the teacher's backbone after the last whole epoch; `log.jsonl`, a line per epoch; `dino.png` and
    `samples.png`, what `training.summary` draws of it; TensorBoard events.

    Raises ValueError or AnnotationError before the first step if anything does not fit.
    """

    def __init__(self, settings: PretrainSettings, world: World | None = None) -> None:
        self.settings = settings
        self.world = world or World(device=pick_device(settings.device))
        self.dtype = pick_dtype(settings.precision, self.world.device)
        self.config = variant(
            settings.variant, position=settings.position, input_hw=settings.global_hw, dropout=settings.dropout
        )
        self.pictures = find_pictures(settings.images, settings.annotations)
        if len(self.pictures) < settings.batch_size:
            raise ValueError(
                f"batch_size is {settings.batch_size}; allowed: at most the number of pictures, {len(self.pictures)}"
            )
        self.labelled = find_labelled(settings.probe) if settings.probe else None
        steps_per_epoch = len(self.pictures) // settings.batch_size
        self.plan = run_plan(epochs=settings.epochs, steps=settings.steps, steps_per_epoch=steps_per_epoch)
        self.learner = DinoLearner(settings, self.config, self.world, self.dtype, plan=self.plan)
        self.loader = EpochLoader(
            picture_views(settings, self.pictures),
            self._batches,
            epochs=self.plan.epochs,
            workers=settings.workers,
            device=self.world.device,
        )
        self.folder = RunFolder(settings.run_dir, self.world)
        flat_from = round(settings.warmup_epochs * self.plan.steps_per_epoch) + 2 * WINDOW
        self.alarm = CollapseAlarm(settings.out_dim, flat_from=flat_from)
        self.unread: set[int] = set()

    def run(self) -> None:
        """Train to the end, from the run's last state if there is one."""
        settings, learner = self.settings, self.learner
        if self.folder.last_path.exists():
            self._resume()
        check_agreement(
            self.world,
            {"step": learner.step, "pictures": self.pictures.digest(), "settings": settings.to_json()},
            run_dir=settings.run_dir,
        )
        self.folder.begin(settings.to_json())
        self._describe()
        with RunFigures(settings.run_dir, epochs=self.plan.epochs, every=LOG_EVERY, writes=self.world.first) as figures:
            figures.samples(lambda: contact_sheet(picture_views(settings, self.pictures), rows=SHOWN), 0, keep=True)
            for epoch in self.plan.epochs_left(learner.step):
                row = {"epoch": epoch + 1, **self._train_epoch(epoch, figures)}
                if (epoch + 1) % settings.probe_every == 0 or epoch + 1 == self.plan.epochs:
                    row |= self._probe()
                self._save_teacher(epoch + 1)
                self.save()
                self.folder.log(row)
                figures.after_epoch(row)

    def _train_epoch(self, epoch: int, figures: RunFigures) -> dict[str, Any]:
        """One epoch, or the rest of it after a resume. Returns what is logged of it."""
        learner, settings = self.learner, self.settings
        seen: list[Signals] = []
        norms: list[float] = []
        alarm: str | None = None
        waited, started = 0.0, time.monotonic()
        asked = started
        bar = self._bar(epoch)
        for example in islice(bar, self.plan.total_steps - learner.step):
            waited += time.monotonic() - asked
            self._report_unread(example)
            seen.append(learner.train_step(example))
            norms.append(learner.gradient_norm)
            bar.set_postfix({name: short(value) for name, value in seen[-1]._asdict().items()}, refresh=False)
            found = self.alarm.see(learner.step, seen[-1])
            if found and not alarm:  # once an epoch
                self.folder.say(f"WARNING at step {learner.step}, this looks like a collapse: {found}")
            alarm = found or alarm
            figures.after_step(learner.step, partial(self._signals, seen[-1]))
            if self.plan.is_within_an_epoch(learner.step) and self.folder.save_is_due(settings.minutes_between_saves):
                self.save()
            asked = time.monotonic()
        seconds = max(time.monotonic() - started, 1e-9)
        means = (sum(values) / len(seen) for values in zip(*seen, strict=True))
        row: dict[str, Any] = {name: round(mean, 6) for name, mean in zip(Signals._fields, means, strict=True)}
        row["images_per_s"] = round(len(seen) * settings.batch_size / seconds, 2)
        row["loader_share"] = round(waited / seconds, 4)
        row["gradient_norm"] = round(sum(norms) / len(norms), 6)
        row["learning_rate"] = float(learner.optimizer.param_groups[0]["lr"])
        row["device"] = device_name(self.world.device)
        return row | ({"collapse": alarm} if alarm else {})

    def _probe(self) -> dict[str, float]:
        """Accuracy of nearest neighbours on the labelled pictures, if there are any; in the first process."""
        if not self.labelled or not self.world.first:
            return {}
        teacher = self.learner.nets.teacher.backbone
        accuracy = round(probe(teacher, self.labelled, self.settings.global_hw, self.dtype), 4)
        return {"knn": accuracy}

    def _bar(self, epoch: int) -> Any:
        """The examples of an epoch, from the current step on, under a progress bar."""
        first_batch = self.learner.step - epoch * self.plan.steps_per_epoch
        return epoch_bar(
            self._loader(epoch, first_batch),
            epoch=epoch,
            epochs=self.plan.epochs,
            steps=self.plan.steps_of(epoch),
            first_step=first_batch,
            batch_size=self.settings.batch_size,
            shown=self.world.first,
        )

    def _loader(self, epoch: int, first_batch: int) -> Iterator[Example]:
        return self.loader.epoch(epoch, first_batch)

    def _batches(self, epoch: int, first_batch: int) -> EpochBatches:
        settings = self.settings
        return EpochBatches(
            len(self.pictures),
            settings.batch_size,
            seed=settings.seed,
            epoch=epoch,
            first_batch=first_batch,
            rank=self.world.rank,
            size=self.world.size,
        )

    def _report_unread(self, example: Example) -> None:
        """Name each picture that could not be read, the first time that it is met."""
        numbers = example[3]
        for number in sorted(set(numbers[numbers >= 0].tolist()) - self.unread):
            tqdm.write(f"skipped from now on, it cannot be read: {self.pictures.path(number)}")
            self.unread.add(number)

    def _signals(self, signals: Signals) -> dict[str, float]:
        """Of the last step, for TensorBoard; schedules are those of the coming one."""
        learner = self.learner
        names = ("learning_rate", "weight_decay", "momentum", "teacher_temperature", "gradient_norm")
        values = signals._asdict() | {name: getattr(learner, name) for name in names}
        return {f"dino/{name}": value for name, value in values.items()}

    def _save_teacher(self, epochs: int) -> None:
        """The product of the run: what pose training starts from."""
        if self.world.first:
            training = describe_pretraining(self.settings, self.pictures, epochs=epochs, dtype=self.dtype)
            path = self.settings.run_dir / "dino.safetensors"
            save_backbone(path, self.learner.nets.teacher.backbone, self.config, training=training)

    def save(self) -> None:
        """Write the state that the run resumes from."""
        learner = self.learner
        facts = {"step": learner.step, "pictures": self.pictures.digest(), "settings": self.settings.to_json()}
        self.folder.save(partial(save_run, net=learner.nets, optimizer=learner.optimizer, facts=facts))

    def _resume(self) -> None:
        facts = load_run(self.folder.last_path, self.learner.nets, self.learner.optimizer)
        if "pictures" not in facts:
            raise CheckpointError(f"{self.folder.last_path} is not the state of a pre-training run")
        if facts["pictures"] != self.pictures.digest():
            raise ValueError(
                f"{self.settings.run_dir} was started with other pictures than are there now; "
                "allowed: the same ones, or another --run-dir"
            )
        if changed := changed_settings(facts["settings"], self.settings):
            self.folder.say(f"resumed with other settings than before: {changed}")
        self.learner.step = int(facts["step"])

    def _describe(self) -> None:
        settings, step = self.settings, self.learner.step
        processes = f", {self.world.size} processes" if self.world.size > 1 else ""
        views = f"2 views of {settings.global_hw[0]}x{settings.global_hw[1]}"
        if settings.local_views:
            views += f" and {settings.local_views} of {settings.local_hw[0]}x{settings.local_hw[1]}"
        self.folder.say(
            f"{self.config.label} ({self.config.position} positions), {views}, {self.world.device} "
            f"{str(self.dtype).removeprefix('torch.')}{processes}: {len(self.pictures)} pictures, "
            f"{self.plan.describe(settings.batch_size)}; "
            f"ln(out_dim) is {self.alarm.highest:.3f}" + (f"; resumed at step {step}" if step else "")
        )


def picture_views(settings: PretrainSettings, pictures: Pictures) -> PictureViews:
    """The views that a run of these settings sees."""
    return PictureViews(
        pictures,
        settings.global_hw,
        settings.local_hw,
        settings.local_views,
        settings.augmentation,
        context=settings.context,
        seed=settings.seed,
    )
