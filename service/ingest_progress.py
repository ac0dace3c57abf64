"""How an ingest goes, for whoever looks at the terminal, or at a log: a bar or a line now and then, and an end."""

from __future__ import annotations

import sys
import time
from collections import deque

import numpy as np
from tqdm import tqdm

from service.ingest_stream import Answered

LINE_PERIOD_S = 30.0  # where it is no terminal
AGES = 10_000  # of the last frames that the summary is about


class Progress:
    """Frames a second, people, age of the answers and dropped frames, on stderr.

    Args:
        name: of the source.
        total: frames that will be answered; None: it is not known.
    """

    def __init__(self, name: str, total: int | None) -> None:
        self._name = name
        self._is_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total, desc=name, unit=" frames", dynamic_ncols=True, mininterval=0.2, disable=not self._is_terminal
        )
        self._began_s = self._shown_s = time.monotonic()
        self._ages_s: deque[float] = deque(maxlen=AGES)
        self.answered = self.dropped = self.failed = self.most_people = 0
        self.last_failure = ""

    def tell(self, line: str) -> None:
        """A line of its own."""
        tqdm.write(f"{self._name}: {line}", file=sys.stderr)
        sys.stderr.flush()

    def count(self, answered: Answered) -> None:
        """One more frame."""
        self.answered += 1
        self.dropped += answered.dropped
        if answered.error is not None:
            self.failed += 1
            self.last_failure = f"{answered.error.reason}: {answered.error}"
        people = len(answered.poses)
        self.most_people = max(self.most_people, people)
        self._ages_s.append(answered.age_s)
        state = f"{_of(people, 'person', 'people')}, age {1000 * answered.age_s:.0f} ms, {self.dropped} dropped"
        if self.failed:
            state += f", {self.failed} failed"
        self._bar.set_postfix_str(state, refresh=False)
        self._bar.update(1)
        now_s = time.monotonic()
        if not self._is_terminal and now_s - self._shown_s >= LINE_PERIOD_S:
            self._shown_s = now_s
            self.tell(f"{_of(self.answered, 'frame')}, {self._rate():.1f} a second, {state}")

    def close(self) -> None:
        """End the bar."""
        self._bar.close()

    def summary(self, *, broken: int, connections: int) -> str:
        """What there was, in a line or two.

        Args:
            broken: packets of the source that could not be decoded.
            connections: that were made to the service.
        """
        parts = [
            f"{_of(self.answered, 'frame')} answered, {self._rate():.1f} a second",
            f"{self.dropped} dropped",
            f"at most {_of(self.most_people, 'person', 'people')} in a frame",
        ]
        if self._ages_s:
            middle, most = 1000 * np.quantile(list(self._ages_s), (0.5, 0.95))
            parts.append(f"age of the answers {middle:.0f} ms, of 95 % at most {most:.0f} ms")
        if self.failed:
            parts.append(f"{self.failed} without poses (the last: {self.last_failure})")
        if connections > 1:
            parts.append(_of(connections - 1, "reconnection"))
        if broken:
            parts.append(f"{_of(broken, 'broken packet')} left out")
        return "; ".join(parts)

    def _rate(self) -> float:
        return self.answered / max(1e-9, time.monotonic() - self._began_s)


def _of(count: int, one: str, more: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else more or one + 's'}"
