"""Start a network from weights that something else has trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tqdm import tqdm

from model.btranspose import BTranspose
from model.checkpoint import fit_weights, load_checkpoint, load_strictly


def initialise(net: BTranspose, path: Path) -> dict[str, Any]:
    """Load the weights of a checkpoint of the same variant, at any crop size, and say so.

    Returns how those weights came about, for the card of what is trained from them. Raises CheckpointError if any
    weight is missing, left over or misshapen.
    """
    stored, card = load_checkpoint(path)
    weights = fit_weights(stored.state_dict(), net, card.config)
    load_strictly(net, weights, source=str(path))
    tqdm.write(f"initialised from {path} ({card.config.label}, {len(weights)} tensors)")
    return {**card.training, "sha256": card.sha256, "input_hw": list(card.config.input_hw)}
