"""How far a job is, how fast it goes, and how long it will take: for whoever looks at the terminal, or at a log."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

from deploy.annotate_pool import Finished, Progress, Ready, Told

LINE_PERIOD_S, TERMINAL_PERIOD_S = 30.0, 1.0


@dataclass
class Bar:
    """Pictures, rate and time left, on stderr: one line that changes, or one now and then where it is no terminal."""

    total: int
    before: int
    failed: int
    done: int = 0
    ahead: int = 0  # of them, in shards that are not done yet
    started_s: float = field(default_factory=time.monotonic)
    shown_s: float = 0.0

    def hear(self, told: Told) -> None:
        """Count what is told, and show it if it is time."""
        match told:
            case Ready() if not self.done:
                self.started_s = time.monotonic()  # what loading takes is not the rate
            case Progress(pictures):
                self.ahead += pictures
                self.done += pictures
            case Finished(manifest):
                rest = manifest["pictures"] - min(self.ahead, manifest["pictures"])
                self.ahead -= manifest["pictures"] - rest
                self.done += rest
                self.failed += sum(manifest["failed"].values())
        self.show()

    def show(self, *, now: bool = False) -> None:
        is_terminal = sys.stderr.isatty()
        now_s = time.monotonic()
        if not now and now_s - self.shown_s < (TERMINAL_PERIOD_S if is_terminal else LINE_PERIOD_S):
            return
        self.shown_s = now_s
        over = min(self.total, self.before + self.done)
        rate = self.done / max(1e-9, now_s - self.started_s)
        left = f"{_span((self.total - over) / rate)} left" if rate > 0 and over < self.total else "0 s left"
        line = (
            f"{over:,} of {self.total:,} pictures ({100 * over / self.total:.1f} %), {rate:.1f} a second, "
            f"{left if self.done else 'starting'}, {self.failed:,} failed"
        )
        print(f"\r{line}\x1b[K" if is_terminal else line, end="" if is_terminal else "\n", file=sys.stderr, flush=True)


def _span(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 100 else f"{hours:.1f} h"
