"""The time of a stream, from timestamps that may repeat, jump or go back, to one that always goes on.

Knows no other clock: a frame's time is what its sender says.
"""

from __future__ import annotations

import math

NOMINAL_STEP_S = 1 / 30  # taken to lie between frames whose timestamps do not say
MIN_STEP_S = 1e-4  # seconds; less is a timestamp that repeats
JITTER_S = 0.5  # a timestamp that goes back by no more came out of order; by more, something else is being played


class StreamClock:
    """Seconds since the stream began.

    A timestamp that repeats, or goes back by at most `JITTER_S`, counts as `NOMINAL_STEP_S` after the one before. One
    that goes back further, or forward by more than `max_gap_s`, is a cut: what was before it says nothing about now.
    """

    def __init__(self, max_gap_s: float) -> None:
        self.now_s = 0.0
        self.step_s = NOMINAL_STEP_S  # between the last two frames
        self._max_gap_s = max_gap_s
        self._last_s: float | None = None  # as it was given

    def advance(self, time_s: float) -> bool:
        """Take the timestamp of the next frame; whether it is a cut. Raises ValueError if it is not finite."""
        if not math.isfinite(time_s):
            raise ValueError(f"time_s is {time_s}; allowed: a finite number of seconds")
        if self._last_s is None:
            self._last_s = time_s
            return False
        step_s = time_s - self._last_s
        self._last_s = time_s
        is_cut = not -JITTER_S <= step_s <= self._max_gap_s
        self.step_s = NOMINAL_STEP_S if is_cut or step_s < MIN_STEP_S else step_s
        self.now_s += self.step_s
        return is_cut
