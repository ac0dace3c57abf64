"""How long to wait before something that failed is tried again, and how often."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

FIRST_S, MOST_S = 0.5, 30.0


@dataclass
class BackOff:
    """Waits that double from the first to the longest, each shortened by chance so that clients do not come at once.

    tries: failures in a row after which it is given up; 0: never.
    failures: in a row so far.
    """

    tries: int
    first_s: float = field(default_factory=lambda: FIRST_S)
    most_s: float = MOST_S
    failures: int = 0
    chance: random.Random = field(default_factory=random.Random, repr=False)

    def wait_s(self) -> float | None:
        """How long to wait after one more failure; None: it is given up."""
        self.failures += 1
        if 0 < self.tries <= self.failures:
            return None
        doublings = min(self.failures - 1, 30)
        return min(self.most_s, self.first_s * 2.0**doublings) * self.chance.uniform(0.5, 1.0)

    def succeeded(self) -> None:
        """The next failure is the first again."""
        self.failures = 0
