"""How many steps a run takes, and how they fall into epochs: the same for poses and for pre-training."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """`total_steps`, of which the last epoch may be a part."""

    steps_per_epoch: int
    total_steps: int

    @property
    def epochs(self) -> int:
        """Those that are begun."""
        return math.ceil(self.total_steps / self.steps_per_epoch)

    def describe(self, batch_size: int) -> str:
        """In words, for the first line of a run."""
        epochs = self.total_steps / self.steps_per_epoch
        return f"{self.steps_per_epoch} steps of {batch_size} an epoch, {epochs:.4g} epochs"

    def epochs_left(self, step: int) -> range:
        """The epochs, from 0, that are not over after `step` steps: none if the run is."""
        return range(step // self.steps_per_epoch if step < self.total_steps else self.epochs, self.epochs)

    def steps_of(self, epoch: int) -> int:
        """The steps of an epoch."""
        return min(self.steps_per_epoch, self.total_steps - epoch * self.steps_per_epoch)

    def is_within_an_epoch(self, step: int) -> bool:
        """Whether the next step belongs to the same epoch.

        The state after an epoch's last step is saved only with all that belongs to it.
        """
        return step % self.steps_per_epoch != 0 and step < self.total_steps


def run_plan(*, epochs: int, steps: int | None, steps_per_epoch: int) -> RunPlan:
    """The plan of a run of whole `epochs`, or of `steps` where they are given."""
    return RunPlan(steps_per_epoch=steps_per_epoch, total_steps=steps or epochs * steps_per_epoch)
