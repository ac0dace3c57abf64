"""A pre-trained backbone on disk: its weights as safetensors, and beside them a card of its own format.

Like a pose checkpoint (`model.checkpoint`), but without a head, so it is not one: its card names another format, and
whoever serves or evaluates it is told so. `training.train --init` starts from it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as dump_safetensors
from torch import Tensor

from model.btranspose import Backbone
from model.checkpoint import BACKBONE_FORMAT, CheckpointError, write_atomically
from model.variants import PoseConfig


@dataclass(frozen=True, kw_only=True)
class BackboneCard:
    """What is known about a backbone: its configuration, digest, and plain JSON for people on how it came about."""

    config: PoseConfig
    sha256: str
    training: dict[str, Any]


def save_backbone(path: Path, backbone: Backbone, config: PoseConfig, *, training: dict[str, Any]) -> BackboneCard:
    """Write `path` (NAME.safetensors, float32) and its card NAME.json.

    Raises CheckpointError, writing nothing, if a weight is not finite.
    """
    weights = {name: weight.detach().cpu().contiguous() for name, weight in backbone.state_dict().items()}
    for name, weight in weights.items():
        if not torch.isfinite(weight).all():
            raise CheckpointError(f"not saved to {path}: {name} has values that are not finite")
    content = dump_safetensors(weights)
    card = BackboneCard(config=config, sha256=hashlib.sha256(content).hexdigest(), training=training)
    stored = {"format": BACKBONE_FORMAT, "config": config.to_json(), "sha256": card.sha256, "training": training}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    write_atomically(path.with_suffix(".json"), (json.dumps(stored, indent=2) + "\n").encode())
    return card


def is_backbone(path: Path) -> bool:
    """Whether the card beside `path` says that this is a pre-trained backbone."""
    try:
        stored = json.loads(path.with_suffix(".json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(stored, dict) and stored.get("format") == BACKBONE_FORMAT


def load_backbone(path: Path) -> tuple[dict[str, Tensor], BackboneCard]:
    """The weights of a backbone for which `is_backbone` holds, and its card.

    Raises CheckpointError if a file is missing, damaged, or not that of its card.
    """
    card_path = path.with_suffix(".json")
    try:
        content = path.read_bytes()
        stored = json.loads(card_path.read_bytes())
        card = BackboneCard(
            config=PoseConfig.from_json(stored["config"]),
            sha256=str(stored["sha256"]),
            training=dict(stored["training"]),
        )
    except OSError as error:
        raise CheckpointError(f"cannot read {error.filename}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{card_path} is not a card of this format: {error!r}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != card.sha256:
        raise CheckpointError(
            f"{path} is damaged or not the file of its card: its SHA-256 is {digest}, the card says {card.sha256}"
        )
    try:
        return load_safetensors(content), card
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error
