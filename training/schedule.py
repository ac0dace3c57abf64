"""Learning rate as a function of progress.

The paper trains 230 epochs "1e-4 to 1e-5" (Table 6); the released recipe is a cosine between the two. Table 6 also
names steps at epochs 100, 150, 200 and 220 with a factor of 0.25; `steps` offers them. Both are stretched over however
many optimiser steps a run has.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

Schedule = Literal["cosine", "steps"]

PAPER_EPOCHS = 230
PAPER_STEP_EPOCHS = (100, 150, 200, 220)
PAPER_STEP_FACTOR = 0.25


def learning_rate(
    step: int, total_steps: int, *, peak: float, end: float, warmup_steps: int, schedule: Schedule
) -> float:
    """The learning rate of optimiser step `step` (from 0) of `total_steps`.

    Rises linearly to `peak` over `warmup_steps`; then falls to `end` along a cosine, or by `PAPER_STEP_FACTOR` at the
    paper's milestones (never below `end`).
    """
    if schedule not in get_args(Schedule):
        raise ValueError(f"schedule is {schedule!r}; allowed: {', '.join(get_args(Schedule))}")
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if schedule == "steps":
        epoch = PAPER_EPOCHS * step / total_steps
        passed = sum(epoch >= milestone for milestone in PAPER_STEP_EPOCHS)
        return max(peak * PAPER_STEP_FACTOR**passed, end)
    progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return end + (peak - end) * (1 + math.cos(math.pi * progress)) / 2
