"""What a run of the person finder begins with: weights of a checkpoint, and the optimizer that moves them on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from model.checkpoint import load_checkpoint
from model.finder_checkpoint import is_finder, load_finder
from model.person_finder import PersonFinder
from training.finder_settings import FinderSettings
from training.muon import muon_of


def finder_optimizer(net: PersonFinder, settings: FinderSettings) -> torch.optim.Optimizer:
    """What moves the weights that learn."""
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "muon":
        return muon_of(net, last=net.head, learning_rate=rate, weight_decay=decay)
    learning = [weight for weight in net.parameters() if weight.requires_grad]
    return torch.optim.AdamW(learning, lr=rate, weight_decay=decay)


def begin_from(net: PersonFinder, checkpoint: Path) -> dict[str, Any]:
    """Start from another finder of the same shape as a whole, or from the trunk of a pose checkpoint.

    Returns where the weights come from, for the card. Raises CheckpointError or ValueError if neither fits.
    """
    if not is_finder(checkpoint):
        return begin_from_poses(net, checkpoint)
    before, card = load_finder(checkpoint)
    if card.config != net.config:
        raise ValueError(f"{checkpoint} is {card.config}; allowed: {net.config}, as this network is")
    net.load_state_dict(before.state_dict())
    return {"checkpoint": checkpoint.stem, "sha256": card.sha256, "training": card.training}


def begin_from_poses(net: PersonFinder, checkpoint: Path) -> dict[str, Any]:
    """Start stem and groups from a pose checkpoint, where names and shapes agree; the rest stays as it is.

    Returns where the weights come from, for the card. Raises CheckpointError as `load_checkpoint`, ValueError if
    nothing agrees.
    """
    poses, card = load_checkpoint(checkpoint)
    names = {"stem.": "trunk.stem.", "conv_groups.0.": "trunk.group4.", "conv_groups.1.": "trunk.group8."}
    weights = {
        name.replace(theirs, mine, 1): weight
        for name, weight in poses.backbone.state_dict().items()
        for theirs, mine in names.items()
        if name.startswith(theirs)
    }
    mine = net.state_dict()
    agreeing = {name: weight for name, weight in weights.items() if name in mine and mine[name].shape == weight.shape}
    if not any(name.startswith("trunk.stem.") for name in agreeing):
        raise ValueError(f"{checkpoint} has no stem of this network's shape; allowed: a pose checkpoint that has")
    net.load_state_dict(mine | agreeing)
    parameters = sum(weight.numel() for name, weight in agreeing.items() if weight.is_floating_point())
    return {"checkpoint": card.config.key, "sha256": card.sha256, "tensors": len(agreeing), "parameters": parameters}
