"""The words by which attention is asked for. Clients share them, so nothing heavy is imported here."""

from __future__ import annotations

from typing import Literal, get_args

Level = Literal["mhsa", "encoder"]  # where there is attention: in the middle of the network, and at its top
LEVELS: tuple[Level, ...] = get_args(Level)

Mode = Literal["dependency", "affect"]  # what a token looked at, or what looked at it
MODES: tuple[Mode, ...] = get_args(Mode)

# The first is the default: dark to bright evenly for the eye, also in print and for the colour-blind. nipy_spectral is
# the one of the paper's figures; its bands show values apart that are nearly the same.
COLORMAPS = ("inferno", "magma", "viridis", "cividis", "turbo", "nipy_spectral")
