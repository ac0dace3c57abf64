"""What serves: the network of one checkpoint, ready to run in every lane of the engine.

A request holds on to the network that it began on, so that another can take over meanwhile: its crops are cut for that
one, run in it, and are read with its configuration. Knows nothing of files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.checkpoint import CheckpointCard
from model.crop import Pixels
from model.variants import PoseConfig
from service.poses import ModelInfo
from service.work import Estimator, Work

SHORT = 12  # digits of a SHA-256 that tell checkpoints apart where a line is short


@dataclass(frozen=True, kw_only=True, eq=False)  # the same only as itself: two of one file do not share a batch either
class Network:
    """One checkpoint, loaded and checked.

    card: what is known about the weights.
    info: what `GET /model` tells.
    estimators: one for each lane of the engine, in their order.
    source: what an operator calls it; a path. Not for clients.
    """

    card: CheckpointCard
    info: ModelInfo
    estimators: tuple[Estimator, ...]
    source: str = ""

    @property
    def config(self) -> PoseConfig:
        """Of the crops, and of what comes out."""
        return self.card.config

    @property
    def short_sha256(self) -> str:
        """Enough of the checkpoint's SHA-256 to know it again."""
        return self.info.checkpoint_sha256[:SHORT]

    def blank(self) -> Pixels:
        """A crop with nothing on it, [H, W, 3] uint8, to try the network with."""
        return np.zeros((*self.config.input_hw, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Group:
    """What persons that run together have in common."""

    network: Network
    work: Work
