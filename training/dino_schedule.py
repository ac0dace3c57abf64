"""What changes from step to step in DINO, beside the learning rate: all functions of the step alone.

Published: momentum 0.996 -> 1 and weight decay 0.04 -> 0.4 along a cosine in every step; teacher temperature 0.04, or
0.04 -> 0.07 in a line over 30 epochs. (Published code raises the temperature once an epoch, this one in every step.)
"""

from __future__ import annotations

import math


def cosine(step: int, total_steps: int, *, start: float, end: float) -> float:
    """From `start` at step 0 towards `end` after step `total_steps - 1`, along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * step / max(total_steps, 1))) / 2


def ramp(step: int, steps: int, *, start: float, end: float) -> float:
    """From `start` at step 0 to `end` at step `steps` in a line, and `end` from then on."""
    return end if step >= steps else start + (end - start) * step / steps
