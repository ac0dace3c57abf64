"""How a stream of frames may be answered, and who is told how that goes. Protocol-free values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Pace = Literal[
    "every_frame", "live"
]  # who sends too fast is held back; or: the newest frame counts, others are dropped
PACES: tuple[Pace, ...] = get_args(Pace)


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """What the client of a stream asks for.

    plain: each frame by itself; nobody is followed. smoothing: None for none; otherwise the numbers of
    `service.tracking.SmoothingSettings` that are not to be the usual ones. detect_every: None as the service is set.
    """

    plain: bool = False
    pace: Pace = "every_frame"
    smoothing: Mapping[str, float] | None = None
    detect_every: int | None = None


class StreamObserver:
    """Is told how the frames of all streams fare. Does nothing itself."""

    def on_frame_answered(self, pace: Pace, age_s: float) -> None:
        """A frame was answered so long after it had arrived, with poses or with an error."""

    def on_frame_dropped(self, pace: Pace) -> None:
        """A frame was dropped for a newer one."""
