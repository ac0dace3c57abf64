"""How a person moves between frames: at a constant velocity that fades.

The whole person moves, not each joint: limbs swing back and forth, so that a velocity of their own would carry a wrist
past its turning point, and one joint that is found on a neighbour would fly away. It is the median displacement of the
joints that both frames show, so one wrong joint, or one that is lost, does not move the person. It fades because of
somebody who is hidden nothing is known: people stop and turn. A Kalman filter would come to the same gain once it has
settled, from noise that would have to be guessed for every camera and network.
"""

from __future__ import annotations

import math

import numpy as np

from model.geometry import Array

SETTLING_S = 0.1  # time constant of the velocity's estimate
FADING_S = 1.0  # time constant of the velocity while nothing is seen: nobody is carried further than this takes
MAX_SPEED = 10.0  # person sizes a second; beyond it is a jump, not a motion (a sprinter: about 10)


class Motion:
    """The velocity of one person, [2] pixels a second."""

    def __init__(self) -> None:
        self.velocity: Array = np.zeros(2)
        self._observed = 0

    def travel(self, elapsed_s: float) -> Array:
        """Displacement [2] to expect after so long without being seen, in pixels."""
        return self.velocity * FADING_S * -math.expm1(-elapsed_s / FADING_S)

    def observe(self, displacement: Array, elapsed_s: float, size: float) -> None:
        """Take a displacement [2] in, in pixels, over a time above 0; `size` of the person in pixels."""
        self._observed += 1
        gain = max(-math.expm1(-elapsed_s / SETTLING_S), 1 / (self._observed + 1))
        velocity = self.velocity + gain * (displacement / elapsed_s - self.velocity)
        speed, limit = float(np.hypot(*velocity)), MAX_SPEED * size
        self.velocity = velocity if speed <= limit else velocity * (limit / speed)
