"""Checkpoints: weights as safetensors, and beside them a JSON card that a person can read.

`NAME.safetensors` holds the weights, `NAME.json` the architecture, the SHA-256 of the weights, and where they come from
(training data by name and count, epochs, metrics with their protocol). Nothing is ever unpickled. Both files are
needed; what does not fit together is refused with one `CheckpointError`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as dump_safetensors
from torch import Tensor, nn

from model.btranspose import BTranspose
from model.positions import resample_state
from model.variants import PoseConfig

FORMAT = "btranspose-checkpoint-1"
BACKBONE_FORMAT = "btranspose-pretrained-backbone-1"  # without a head: what training.pretrain writes


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or of another shape. The message says which file and what is wrong."""


@dataclass(frozen=True, kw_only=True)
class CheckpointCard:
    """What is known about a set of weights.

    `training` says how they came about, `metrics` is a list of measurements, each with its protocol. Both are plain
    JSON for people; only `config` and `sha256` decide whether the weights load.
    """

    config: PoseConfig
    sha256: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(
    path: Path, net: BTranspose, *, training: dict[str, Any], dtype: torch.dtype = torch.float16
) -> CheckpointCard:
    """Write `path` (NAME.safetensors) and its card NAME.json.

    Floating-point weights are stored as `dtype`. Raises CheckpointError, writing nothing, if a weight is not finite in
    that type.
    """
    card = CheckpointCard(config=net.config, sha256=write_weights(path, net, dtype), training=training)
    write_card(path, card)
    return card


def write_weights(path: Path, net: nn.Module, dtype: torch.dtype = torch.float16) -> str:
    """Write the weights of any network to `path`, floating-point ones as `dtype`. Returns their SHA-256.

    Raises CheckpointError, writing nothing, if a weight is not finite in that type.
    """
    weights = {
        name: (weight.to(dtype) if weight.is_floating_point() else weight).detach().cpu().contiguous()
        for name, weight in net.state_dict().items()
    }
    for name, weight in weights.items():
        if not torch.isfinite(weight).all():
            raise CheckpointError(f"not saved to {path}: {name} has values that are not finite in {dtype}")
    content = dump_safetensors(weights)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def write_card(path: Path, card: CheckpointCard) -> None:
    """Write the card that belongs to the weights at `path`."""
    write_card_fields(
        path,
        FORMAT,
        {
            "config": card.config.to_json(),
            "sha256": card.sha256,
            "training": card.training,
            "metrics": card.metrics,
        },
    )


def write_card_fields(path: Path, card_format: str, fields: dict[str, Any]) -> None:
    """Write a card of any format beside the weights at `path`."""
    text = json.dumps({"format": card_format, **fields}, indent=2)
    write_atomically(path.with_suffix(".json"), (text + "\n").encode())


def read_card(path: Path) -> CheckpointCard:
    """The card of the weights at `path`, without reading the weights. Raises CheckpointError."""
    hint = "a backbone has no head: start training.train from it with --init"
    stored = read_card_fields(path, FORMAT, hints={BACKBONE_FORMAT: hint})
    card_path = path.with_suffix(".json")
    try:
        return CheckpointCard(
            config=PoseConfig.from_json(stored["config"]),
            sha256=str(stored["sha256"]),
            training=dict(stored.get("training", {})),
            metrics=list(stored.get("metrics", [])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{card_path} is not a card of this format: {error!r}") from error


def read_card_fields(path: Path, card_format: str, *, hints: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The card of the weights at `path` as it is stored, if it is of this format. Raises CheckpointError.

    `hints` has what to say of a card of some other format.
    """
    card_path = path.with_suffix(".json")
    try:
        stored = json.loads(card_path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"cannot read {card_path}, the card that belongs to {path}: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{card_path} is not JSON: {error}") from error
    if not isinstance(stored, dict) or stored.get("format") != card_format:
        found = stored.get("format") if isinstance(stored, dict) else type(stored).__name__
        hint = (hints or {}).get(str(found))
        raise CheckpointError(
            f"{card_path} has format {found!r}; allowed: {card_format!r}" + (f"; {hint}" if hint else "")
        )
    return stored


def load_checkpoint(path: Path, *, input_hw: tuple[int, int] | None = None) -> tuple[BTranspose, CheckpointCard]:
    """The network of a checkpoint, in evaluation mode, float32 on the CPU, and its card.

    Args:
        input_hw: another crop size than the stored one; the learned positions are then resampled.

    Raises CheckpointError if a file is missing or damaged, or if any weight is missing, left over or misshapen.
    """
    content = read_content(path)
    card = read_card(path)
    weights = unpack_weights(content, card.sha256, source=path)
    config = card.config if input_hw is None else replace(card.config, input_hw=input_hw)
    net = BTranspose(config)
    weights = fit_weights(weights, net, card.config)
    load_strictly(net, weights, source=str(path))
    return net.eval(), card


def read_content(path: Path) -> bytes:
    """The bytes of a file of weights. Raises CheckpointError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error


def unpack_weights(content: bytes, sha256: str, *, source: Path) -> dict[str, Tensor]:
    """The weights in a file's content, as they are stored. Raises CheckpointError unless it has this SHA-256."""
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise CheckpointError(
            f"{source} is damaged or not the file of its card: its SHA-256 is {digest}, the card says {sha256}"
        )
    try:
        return load_safetensors(content)
    except SafetensorError as error:
        raise CheckpointError(f"{source} is not a safetensors file: {error}") from error


def fit_weights(weights: dict[str, Tensor], net: BTranspose, stored_config: PoseConfig) -> dict[str, Tensor]:
    """Weights of `stored_config` as float32, with learned positions resampled to the crop size of `net`."""
    shapes = {name: weight.shape for name, weight in net.state_dict().items()}
    floats = {name: weight.float() if weight.is_floating_point() else weight for name, weight in weights.items()}
    if stored_config.input_hw == net.config.input_hw:
        return floats
    return resample_state(floats, shapes, stored_config.tokens_hw, net.config.tokens_hw)


def load_strictly(net: nn.Module, weights: dict[str, Tensor], *, source: str) -> None:
    """Load weights into a module; every name and shape must agree. Raises CheckpointError naming those that do not."""
    wanted = {name: weight.shape for name, weight in net.state_dict().items()}
    problems = [f"{name} is missing" for name in wanted.keys() - weights.keys()]
    problems += [f"{name} is unknown" for name in weights.keys() - wanted.keys()]
    problems += [
        f"{name} is {list(weights[name].shape)}, not {list(shape)}"
        for name, shape in wanted.items()
        if name in weights and weights[name].shape != shape
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise CheckpointError(f"{source} does not fit the network: {shown}")
    net.load_state_dict(weights)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file by new content, or leave it as it was: never a half-written file."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
