"""One step of supervised training: pixels and points in, weights changed, loss out.

Knows nothing of files, epochs' ends or the command line. Every process of a run takes the same steps, each on its share
of the batch; their weights are the same after each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from model.btranspose import BTranspose
from model.heatmap import encode_heatmaps, target_weights
from training.dataset import Example
from training.divergence import check_finite
from training.draws import seed_draws
from training.loss import balanced, heatmap_loss
from training.plan import RunPlan
from training.pose_optimizer import pose_optimizer
from training.recolour import recolour, standardised
from training.schedule import learning_rate
from training.settings import TrainSettings
from training.sync_norm import in_parallel, with_synced_norms
from training.weight_average import WeightAverage
from training.world import World


class PoseLearner:
    """Network, optimiser, the average of the weights if one is kept, and the number of steps that they have taken.

    Raises ValueError if the batch cannot be shared evenly.
    """

    def __init__(
        self, net: BTranspose, settings: TrainSettings, world: World, dtype: torch.dtype, *, plan: RunPlan
    ) -> None:
        pieces = world.size * settings.accumulate
        if settings.batch_size % pieces:
            raise ValueError(
                f"batch_size is {settings.batch_size}; allowed: a multiple of {pieces} "
                f"({world.size} processes, accumulate {settings.accumulate})"
            )
        self.settings = settings
        self.world = world
        self.config = net.config
        self.dtype = dtype
        self.plan = plan
        self.net = net.to(world.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = WeightAverage(self.net, settings.ema_decay) if settings.ema_decay else None
        if world.size > 1 and settings.sync_norm:
            self.net = with_synced_norms(self.net, world.device)
        self.parallel: nn.Module = self.net
        if world.size > 1:
            self.parallel = in_parallel(self.net, norms_synced=settings.sync_norm)
        self.forward: Callable[[Tensor], Tensor] = torch.compile(self.parallel) if settings.compile else self.parallel
        self.optimizer = pose_optimizer(
            self.net, settings.optimizer, settings.learning_rate, world, weight_decay=settings.weight_decay
        )
        self.loss = self.gradient_norm = math.nan  # of the last step; the norm before clipping
        self.step = 0

    @property
    def best_net(self) -> BTranspose:
        """What is validated and kept: the averaged weights where there are any."""
        return self.averaged_net or self.net

    @property
    def averaged_net(self) -> BTranspose | None:
        """The network of the averaged weights, where they are kept."""
        return self.average.net if self.average else None

    def agree_on_statistics(self) -> None:
        """Where batch norms see only their own process's images, the first one's statistics count for all."""
        if not self.settings.sync_norm:
            self.world.copy_from_first(self.net.buffers())
            self.world.copy_from_first(self.best_net.buffers())

    @property
    def last_learning_rate(self) -> float:
        """Of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def learning_rate(self) -> float:
        """Of the coming step."""
        return learning_rate(
            self.step,
            self.plan.total_steps,
            peak=self.settings.learning_rate,
            end=self.settings.learning_rate_end,
            warmup_steps=round(self.settings.warmup_epochs * self.plan.steps_per_epoch),
            schedule=self.settings.schedule,
        )

    def train_step(self, example: Example) -> float:
        """One optimiser step. Returns the loss of the whole batch.

        Raises TrainingDiverged, in every process and before any weight changes, if it is not finite.

        Args:
            example: this process's share: pixels [B, H, W, 3], colours [B, 8], points_crop [B, K, 2],
                labelled [B, K].
        """
        rate, pieces = self.learning_rate, self.settings.accumulate
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        self.net.train()
        total = torch.zeros((), device=self.world.device)
        for piece, part in enumerate(zip(*(tensor.chunk(pieces) for tensor in example), strict=True)):
            seed_draws(self.settings.seed, self.step, part=self.world.rank * pieces + piece)
            with self._gradients_travel(piece == pieces - 1):
                loss = self._loss(*part) / pieces
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        value = float(self.world.average(total))
        check_finite(value, "loss", step=self.step, learning_rate=rate)
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.settings.clip_norm or math.inf)
        gradient_norm = float(norm)
        check_finite(gradient_norm, "gradient", step=self.step, learning_rate=rate)
        self.optimizer.step()
        if self.average:
            self.average.update(self.net, self.step)
        self.step += 1
        self.loss, self.gradient_norm = value, gradient_norm
        return value

    def _loss(self, pixels: Tensor, colours: Tensor, points: Tensor, labelled: Tensor) -> Tensor:
        device, heatmap_hw, sigma = self.world.device, self.config.heatmap_hw, self.config.heatmap_sigma
        pixels, points, labelled = (one.to(device, non_blocking=True) for one in (pixels, points, labelled))
        target = encode_heatmaps(points, heatmap_hw, sigma)
        weights = balanced(target_weights(points, labelled, heatmap_hw, sigma), self.settings.person_balance)
        crops = standardised(recolour(pixels, colours))
        with torch.autocast(device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            predicted = self.forward(crops)
        return heatmap_loss(
            predicted.float(), target, weights, loss=self.settings.loss, sinkhorn_weight=self.settings.sinkhorn_weight
        )

    def _gradients_travel(self, last: bool) -> AbstractContextManager[None]:
        """Processes exchange gradients once a step, with the last piece."""
        if last or not isinstance(self.parallel, DistributedDataParallel):
            return nullcontext()
        return self.parallel.no_sync()
