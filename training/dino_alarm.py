"""Says when pre-training collapses: the teacher then tells pictures apart no longer, and nothing more is learned.

There are two ways (Caron et al. 2021, section 5.3): the same answer for every prototype, where the loss lies flat at
ln(out_dim), and one prototype for every picture, where the entropy goes to zero.
"""

from __future__ import annotations

import math
from collections import deque

from training.dino_loss import Signals

WINDOW = 50  # steps whose average is judged
FLAT = 0.99  # of ln(out_dim): a loss above it has learned nothing
CERTAIN = 0.02  # of ln(out_dim): the average distribution of a batch below it is a single prototype
ALIKE = 0.001  # spread of the features below which pictures are the same to the backbone

ADVICE = "lower the teacher's temperature, the learning rate or the momentum, or enlarge the batch"


class CollapseAlarm:
    """Watches the average of the last steps. A flat loss counts from step `flat_from` on: every run begins with one."""

    def __init__(self, out_dim: int, *, flat_from: int, window: int = WINDOW) -> None:
        self.highest = math.log(out_dim)
        self.flat_from = flat_from
        self.seen: deque[Signals] = deque(maxlen=window)

    def see(self, step: int, signals: Signals) -> str | None:
        """Take the signals of a step. What is wrong, in words, or None."""
        self.seen.append(signals)
        if len(self.seen) < (self.seen.maxlen or 0):
            return None
        mean = Signals(*(sum(values) / len(self.seen) for values in zip(*self.seen, strict=True)))
        if step >= self.flat_from and min(mean.loss, mean.entropy) > FLAT * self.highest:
            return f"the loss is flat at ln(out_dim) = {self.highest:.3f} ({mean.loss:.3f}); {ADVICE}"
        if mean.marginal_entropy < CERTAIN * self.highest:
            return (
                f"the teacher gives one prototype to every picture (entropy {mean.marginal_entropy:.4f}); "
                "raise the teacher's temperature, or lower the momentum of the centre"
            )
        if mean.spread < ALIKE:
            return f"the features of all pictures are alike (spread {mean.spread:.5f}); {ADVICE}"
        return None
