"""Where a virtual camera looks: a slow pan and zoom, and the shake of the hand that holds it.

Everything is a sum of sines, so a path is smooth, bounded, known at any moment and not only at those of frames, and a
function of its seed. Knows nothing of pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from model.geometry import Array, region_to_affine

SHAKE_LINES = 16  # sines of each axis
PAN_LINES = 2
ROOM = 1.1  # around what is looked at


@dataclass(frozen=True, kw_only=True)
class PathSettings:
    """How a camera moves.

    frame_hw: rows and columns of a frame.
    view: width of what the camera sees at its widest, as a part of the widest upright window of the frame's shape that
        fits into the picture; wider, where that is not ROOM times what is looked at.
    pan: how far it turns away to the sides, and up and down, at most: 0 stays on what is looked at, at 1 this has just
        left the widest view.
    zoom: the narrowest view is so many times narrower than the widest.
    roll_degrees: the horizon tilts by up to this angle.
    pan_period_s: least and most seconds of the sines of pan, zoom and roll.
    shake_px: root mean square of the shake along each axis, in pixels of the frame.
    shake_hz: least and most frequency of the shake.

    The shake has one line in each of SHAKE_LINES equal parts of the logarithm of its frequencies, at random in its
    part, all with amplitudes that fall as 1 / f: each moves the picture equally fast. Power density falls as 1 / f^3.

    Raises ValueError naming the value and what is allowed.
    """

    frame_hw: tuple[int, int] = (480, 640)
    view: float = 0.65
    pan: tuple[float, float] = (1.0, 0.2)
    zoom: float = 1.3
    roll_degrees: float = 0.0
    pan_period_s: tuple[float, float] = (8.0, 24.0)
    shake_px: float = 2.0
    shake_hz: tuple[float, float] = (0.5, 10.0)

    def __post_init__(self) -> None:
        for name, allowed, is_fit in (
            ("frame_hw", "two even numbers from 16", all(n >= 16 and n % 2 == 0 for n in self.frame_hw)),
            ("view", "above 0, up to 1", 0 < self.view <= 1),
            ("pan", "two numbers, 0 to 2", all(0 <= part <= 2 for part in self.pan)),
            ("zoom", "1 to 10", 1 <= self.zoom <= 10),
            ("roll_degrees", "0 to 45", 0 <= self.roll_degrees <= 45),
            ("pan_period_s", "above 0, the lower first", 0 < self.pan_period_s[0] <= self.pan_period_s[1] < math.inf),
            ("shake_px", "0 to 100", 0 <= self.shake_px <= 100),
            ("shake_hz", "above 0, the lower first", 0 < self.shake_hz[0] <= self.shake_hz[1] < math.inf),
        ):
            if not is_fit:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: {allowed}")


class Waves:
    """A sum of sines of random phase, one in each of equal parts of the logarithm of a band of frequencies.

    Args:
        lines: how many.
        band_hz: least and most frequency.
        slope: amplitudes fall as frequency to this power.
        rng: draws frequencies and phases.
    """

    def __init__(self, lines: int, band_hz: tuple[float, float], slope: float, rng: np.random.Generator) -> None:
        parts = (np.arange(lines) + rng.random(lines)) / lines
        self._frequencies_hz = band_hz[0] * (band_hz[1] / band_hz[0]) ** parts
        self._phases = rng.uniform(0, 2 * math.pi, lines)
        self._amplitudes = self._frequencies_hz**-slope

    def scaled(self, factor: float) -> Waves:
        """Itself, after its amplitudes were multiplied."""
        self._amplitudes *= factor
        return self

    @property
    def rms(self) -> float:
        """Root mean square over all time."""
        return math.sqrt(float((self._amplitudes**2).sum()) / 2)

    @property
    def bound(self) -> float:
        """It never goes beyond this, either way."""
        return float(self._amplitudes.sum())

    def __call__(self, time_s: float) -> float:
        angles = 2 * math.pi * self._frequencies_hz * time_s + self._phases
        return float(self._amplitudes @ np.sin(angles))


class CameraPath:
    """The map picture -> frame at any moment.

    Args:
        picture_hw: rows and columns of the picture.
        aim_xywh: [4], the part of it that is looked at: all persons.
        settings: how.
        rng: draws the path.
    """

    def __init__(
        self, picture_hw: tuple[int, int], aim_xywh: Array, settings: PathSettings, rng: np.random.Generator
    ) -> None:
        self._picture_wh = np.array(picture_hw[::-1], dtype=np.float64)
        self._aim_wh = aim_xywh[2:]
        self._middle = aim_xywh[:2] + (aim_xywh[2:] - 1) / 2
        self._settings = settings
        aspect = settings.frame_hw[1] / settings.frame_hw[0]
        fits = min(self._picture_wh[0], self._picture_wh[1] * aspect)
        self._widest = max(settings.view * fits, ROOM * max(self._aim_wh[0], self._aim_wh[1] * aspect))
        slowest, fastest = 1 / settings.pan_period_s[1], 1 / settings.pan_period_s[0]
        slow = [Waves(PAN_LINES, (slowest, fastest), 0.0, rng) for _ in range(4)]
        self._pan_x, self._pan_y, self._zoom, self._roll = (each.scaled(1 / each.bound) for each in slow)
        shakes = [Waves(SHAKE_LINES, settings.shake_hz, 1.0, rng) for _ in range(2)]
        self._shakes = [each.scaled(settings.shake_px / each.rms) for each in shakes]

    def affine(self, time_s: float) -> Array:
        """[2, 3], pixels of the picture -> pixels of the frame."""
        settings = self._settings
        width = self._widest * settings.zoom ** (-(1 + self._zoom(time_s)) / 2)
        roll = settings.roll_degrees * self._roll(time_s)
        center = self._middle + self._reach() * (self._pan_x(time_s), self._pan_y(time_s))
        affine = region_to_affine(center, width, settings.frame_hw, rotation_degrees=roll)
        affine[:, 2] += [shake(time_s) for shake in self._shakes]
        return affine

    def margin(self) -> int:
        """Pixels beyond each side of the picture that the camera may see, rounded up."""
        pixel = self._widest / self._settings.frame_hw[1]  # of the frame, in pixels of the picture
        shake = max(each.bound for each in self._shakes) * pixel
        seen = self._reach() + self._seen_wh() / 2 + shake
        beyond = np.maximum(seen - self._middle, seen - (self._picture_wh - 1 - self._middle))
        return max(0, math.ceil(float(beyond.max())) + 1)

    def _reach(self) -> Array:
        """Pixels of the picture from the middle to where the centre of the view is farthest away, each way."""
        aspect = self._settings.frame_hw[0] / self._settings.frame_hw[1]
        return np.asarray((self._widest * np.array([1.0, aspect]) + self._aim_wh) / 2 * self._settings.pan)

    def _seen_wh(self) -> Array:
        """Width and height of the upright rectangle around the widest view at its strongest tilt."""
        height = self._widest * self._settings.frame_hw[0] / self._settings.frame_hw[1]
        angle = math.radians(self._settings.roll_degrees)
        cosine, sine = math.cos(angle), math.sin(angle)
        return np.array([self._widest * cosine + height * sine, self._widest * sine + height * cosine])
