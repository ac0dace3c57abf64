"""One step of self-distillation: views in, student and teacher changed, signals out.

Knows nothing of files, epochs' ends or the command line. Every process of a run takes the same steps, each on its share
of the batch; what each has learned is the same after each.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from model.variants import PoseConfig
from training.dino_data import Example
from training.dino_loss import Signals, dino_loss, moved_center, read_signals, teacher_distributions
from training.dino_network import SelfDistillation
from training.dino_optimizer import adamw, clip_each, set_rates
from training.dino_schedule import cosine, ramp
from training.dino_settings import PretrainSettings
from training.divergence import check_finite
from training.draws import seed_draws
from training.plan import RunPlan
from training.recolour import recolour, standardised
from training.schedule import learning_rate
from training.sync_norm import in_parallel, with_synced_norms
from training.views import GLOBAL_VIEWS
from training.world import World


class DinoLearner:
    """Student, teacher, centre and optimiser, and the number of steps that they have taken.

    The weights follow from `settings.seed`. Raises ValueError if the batch cannot be shared evenly.
    """

    def __init__(
        self,
        settings: PretrainSettings,
        config: PoseConfig,
        world: World,
        dtype: torch.dtype,
        *,
        plan: RunPlan,
    ) -> None:
        self.settings = settings
        self.world = world
        self.device = world.device
        self.dtype = dtype
        self.plan = plan
        torch.manual_seed(settings.seed)
        nets = SelfDistillation(
            config,
            head_layers=settings.head_layers,
            hidden_dim=settings.hidden_dim,
            bottleneck_dim=settings.bottleneck_dim,
            out_dim=settings.out_dim,
            norm_last_layer=settings.norm_last_layer,
        )
        self.nets = nets.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if world.size > 1 and settings.sync_norm:
            self.nets = with_synced_norms(self.nets, self.device)
        self.student: torch.nn.Module = self.nets.student
        if world.size > 1:
            self.student = in_parallel(self.nets.student, norms_synced=settings.sync_norm)
        self.optimizer = adamw(self.nets.student)
        self.step = 0
        self.gradient_norm = math.nan  # of the last step, before clipping

    def train_step(self, example: Example) -> Signals:
        """One step on a batch of `PictureViews`. Raises TrainingDiverged before any parameter changes.

        `example` is this process's share.
        """
        settings, pictures = self.settings, len(example[0])
        seed_draws(settings.seed, self.step, part=self.world.rank)  # of dropout
        views = self._views(example)
        self.nets.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            with torch.no_grad():
                teacher_logits, features = self.nets.teacher(views[:1])
            logits, _ = self.student(views)
        teacher = teacher_distributions(teacher_logits, self.nets.center, self.teacher_temperature)
        teacher = teacher.reshape(GLOBAL_VIEWS, pictures, -1)  # [2B, P] -> [2, B, P]
        loss = dino_loss(
            logits.reshape(-1, pictures, settings.out_dim), teacher, student_temperature=settings.student_temperature
        )
        signals = read_signals(loss.detach(), teacher, features, self.world.average)
        self._check(signals.loss, "loss")
        self._descend(loss)
        center = moved_center(self.nets.center, teacher_logits, settings.center_momentum, self.world.average)
        self.nets.center.copy_(center)
        self.nets.update_teacher(self.momentum)
        self.step += 1
        return signals

    def _views(self, example: Example) -> list[Tensor]:
        """[B, V, H, W, 3] pixels of each size -> [V*B, 3, H, W], first views first, in their colours."""
        colours = example[2]
        sizes = [(example[0], colours[:, :GLOBAL_VIEWS])]
        if example[1].shape[1]:
            sizes.append((example[1], colours[:, GLOBAL_VIEWS:]))
        views = []
        for pixels, rows in sizes:
            batch = pixels.to(self.device, non_blocking=True).transpose(0, 1).flatten(0, 1)
            views.append(standardised(recolour(batch, rows.transpose(0, 1).flatten(0, 1))))
        return views

    def _descend(self, loss: Tensor) -> None:
        """Gradients, clipped one by one, and a step of the optimiser with the rates of this step."""
        settings = self.settings
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.step < settings.frozen_epochs * self.plan.steps_per_epoch:
            for parameter in self.nets.student.head.prototypes.parameters():
                parameter.grad = None
        norms = clip_each(self.nets.student.parameters(), settings.clip_norm)
        gradient_norm = float(norms.norm())
        self._check(gradient_norm, "gradient")
        self.gradient_norm = gradient_norm
        set_rates(self.optimizer, self.learning_rate, self.weight_decay)
        self.optimizer.step()

    def _check(self, value: float, name: str) -> None:
        check_finite(value, name, step=self.step, learning_rate=self.learning_rate)

    @property
    def learning_rate(self) -> float:
        """Of the coming step, as the properties below."""
        return learning_rate(
            self.step,
            self.plan.total_steps,
            peak=self.settings.peak_learning_rate,
            end=self.settings.learning_rate_end,
            warmup_steps=round(self.settings.warmup_epochs * self.plan.steps_per_epoch),
            schedule="cosine",
        )

    @property
    def weight_decay(self) -> float:
        return cosine(
            self.step, self.plan.total_steps, start=self.settings.weight_decay, end=self.settings.weight_decay_end
        )

    @property
    def momentum(self) -> float:
        return cosine(self.step, self.plan.total_steps, start=self.settings.momentum, end=1.0)

    @property
    def teacher_temperature(self) -> float:
        return ramp(
            self.step,
            round(self.settings.teacher_temperature_epochs * self.plan.steps_per_epoch),
            start=self.settings.teacher_temperature,
            end=self.settings.teacher_temperature_end,
        )
