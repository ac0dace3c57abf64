"""A person finder on disk: weights as safetensors and a JSON card beside them, like a pose checkpoint's
(`model.checkpoint`), of a format of its own, so that nobody serves poses from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.checkpoint import (
    FORMAT,
    CheckpointError,
    load_strictly,
    read_card_fields,
    read_content,
    unpack_weights,
    write_card_fields,
    write_weights,
)
from model.person_finder import FinderConfig, PersonFinder

FINDER_FORMAT = "btranspose-person-finder-1"


@dataclass(frozen=True, kw_only=True)
class FinderCard:
    """What is known about a finder's weights, as `model.checkpoint.CheckpointCard` has it for poses."""

    config: FinderConfig
    sha256: str
    training: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)


def save_finder(path: Path, net: PersonFinder, *, training: dict[str, Any]) -> FinderCard:
    """Write `path` (NAME.safetensors, fp16) and its card NAME.json. Errors as `model.checkpoint.write_weights`."""
    card = FinderCard(config=net.config, sha256=write_weights(path, net), training=training)
    write_finder_card(path, card)
    return card


def write_finder_card(path: Path, card: FinderCard) -> None:
    """Write the card that belongs to the weights at `path`."""
    fields = {"config": card.config.to_json(), "sha256": card.sha256}
    write_card_fields(path, FINDER_FORMAT, {**fields, "training": card.training, "metrics": card.metrics})


def is_finder(path: Path) -> bool:
    """Whether the card beside a file says that it is a finder's; not whether it is whole."""
    try:
        read_card_fields(path, FINDER_FORMAT)
    except CheckpointError:
        return False
    return True


def load_finder(path: Path) -> tuple[PersonFinder, FinderCard]:
    """The network of a finder's checkpoint, in evaluation mode, float32 on the CPU, and its card.

    Raises CheckpointError if a file is missing or damaged, or if any weight is missing, left over or misshapen.
    """
    content = read_content(path)
    stored = read_card_fields(path, FINDER_FORMAT, hints={FORMAT: "that one finds keypoints, not people"})
    try:
        card = FinderCard(
            config=FinderConfig.from_json(stored["config"]),
            sha256=str(stored["sha256"]),
            training=dict(stored.get("training", {})),
            metrics=list(stored.get("metrics", [])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path.with_suffix('.json')} is not a card of this format: {error!r}") from error
    net = PersonFinder(card.config)
    weights = unpack_weights(content, card.sha256, source=path)
    floats = {name: weight.float() if weight.is_floating_point() else weight for name, weight in weights.items()}
    load_strictly(net, floats, source=str(path))
    return net.eval(), card
