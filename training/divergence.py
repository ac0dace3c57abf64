"""The end of a run whose numbers are no longer numbers."""

from __future__ import annotations

import math


class TrainingDiverged(RuntimeError):
    """Loss or gradient is no longer a finite number; the last good state is on disk."""


def check_finite(value: float, name: str, *, step: int, learning_rate: float) -> None:
    """Raises TrainingDiverged for a loss or gradient, before it reaches any weight."""
    if not math.isfinite(value):
        raise TrainingDiverged(
            f"the {name} is {value} at step {step} (learning rate {learning_rate:g}); "
            "try a lower learning rate, or fp32"
        )
