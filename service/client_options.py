"""How a stream of frames is to be answered, as a client asks for it. Plain values, checked; knows no protocol."""

from __future__ import annotations

import math
from dataclasses import dataclass

from service.errors import InvalidParameter
from service.streaming import PACES, Pace

MAX_DETECT_EVERY = 2**32 - 1  # that the wire has room for


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """A One-Euro filter for each joint (Casiez et al. 2012): smooth when still, quick when fast. None: the server's.

    min_cutoff_hz: cutoff frequency at rest; lower is steadier.
    beta: how much the cutoff rises with speed, in hertz for one person size (the root of the box's area) a second;
        higher lags less.
    derivative_cutoff_hz: cutoff frequency of the speed itself.

    Raises InvalidParameter.
    """

    min_cutoff_hz: float | None = None
    beta: float | None = None
    derivative_cutoff_hz: float | None = None

    def __post_init__(self) -> None:
        for name in ("min_cutoff_hz", "derivative_cutoff_hz"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InvalidParameter(f"{name} is {value}; allowed: hertz above 0")
        if self.beta is not None and not 0 <= self.beta < math.inf:
            raise InvalidParameter(f"beta is {self.beta}; allowed: 0 or more")


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """How a stream is to be answered.

    plain: each frame by itself, as a single picture is answered: nobody is followed.
    pace: `every_frame`: each frame is answered, and who sends too fast is held back. `live`: the newest frame is sent
        and answered; those that came too fast are dropped, and told.
    smoothing: of the joints of followed persons; None: none.
    detect_every: the detector looks at every n-th frame at least; None: as the server is set.

    Raises InvalidParameter.
    """

    plain: bool = False
    pace: Pace = "every_frame"
    smoothing: Smoothing | None = None
    detect_every: int | None = None

    def __post_init__(self) -> None:
        if self.pace not in PACES:
            raise InvalidParameter(f"pace is {self.pace!r}; allowed: {', '.join(PACES)}")
        if self.detect_every is not None and not 1 <= self.detect_every <= MAX_DETECT_EVERY:
            raise InvalidParameter(f"detect_every is {self.detect_every}; allowed: 1 to {MAX_DETECT_EVERY}, or None")
        if self.plain and (self.smoothing is not None or self.detect_every is not None):
            raise InvalidParameter(
                "plain is True; allowed with smoothing and detect_every: False, for they follow persons"
            )

    @property
    def is_live(self) -> bool:
        """Whether frames may be dropped."""
        return self.pace == "live"
