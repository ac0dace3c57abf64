"""Start a network from weights that something else has trained.

Three kinds of file, told apart by what is in and beside them: a pose checkpoint, loaded as a whole (of another keypoint
set: all but the last layer's rows for keypoints that it does not name); a backbone from
`training.pretrain`, under a fresh head; and a ResNet-50 as torchvision or timm names it (`training.resnet_weights`),
for the stem and the convolutional groups. Every weight that a kind promises must be there and fit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from model.btranspose import BTranspose
from model.checkpoint import CheckpointError, fit_weights, load_checkpoint, load_strictly
from model.positions import resample_state
from model.skeleton import Skeleton
from training.dino_checkpoint import is_backbone, load_backbone
from training.provenance import short_name
from training.resnet_weights import conv_weights, load_conv_parts, read_resnet

RESNET_TASK = "ResNet of unknown training"
LAST_LAYER = ("head.heatmaps.weight", "head.heatmaps.bias")  # a row for each keypoint


def initialise(net: BTranspose, path: Path) -> dict[str, Any]:
    """Load the weights at `path`, made for any crop size, and say what was loaded and what starts fresh.

    Returns how those weights came about, for the card of what is trained from them. Raises CheckpointError, leaving
    the network as it was, if any weight is missing, left over or misshapen.
    """
    if is_backbone(path):
        return _from_backbone(net, path)
    if (found := read_resnet(path)) is not None:
        return _from_resnet(net, path, *found)
    stored, card = load_checkpoint(path)
    weights = fit_weights(stored.state_dict(), net, card.config)
    said = f"{len(weights)} tensors"
    if card.config.skeleton.names != net.config.skeleton.names:
        weights, same = _with_keypoints_of(net, weights, card.config.skeleton)
        said = (
            f"{len(weights) - len(LAST_LAYER)} tensors; the last layer starts fresh, but for "
            f"{len(same)} of {len(net.config.skeleton)} keypoints that have the same name there"
            + (f": {', '.join(same)}" if same else "")
        )
    load_strictly(net, weights, source=str(path))
    tqdm.write(f"initialised from {path} ({card.config.label}): {said}")
    return {**card.training, "sha256": card.sha256, "input_hw": list(card.config.input_hw)}


def _with_keypoints_of(
    net: BTranspose, weights: dict[str, Tensor], skeleton: Skeleton
) -> tuple[dict[str, Tensor], list[str]]:
    """Weights of another keypoint set, with a last layer that fits the network: rows of the same names, others fresh.

    Returns the weights, and the names that both sets have.
    """
    fresh = net.state_dict()
    names = net.config.skeleton.names
    same = [name for name in names if name in skeleton.names]
    here, there = [names.index(name) for name in same], [skeleton.names.index(name) for name in same]
    fitted = dict(weights)
    for name in LAST_LAYER:
        fitted[name] = fresh[name].clone()
        fitted[name][here] = weights[name][there].to(fitted[name])
    return fitted, same


def _from_backbone(net: BTranspose, path: Path) -> dict[str, Any]:
    weights, card = load_backbone(path)
    shapes = {name: weight.shape for name, weight in net.backbone.state_dict().items()}
    weights = resample_state(weights, shapes, card.config.tokens_hw, net.config.tokens_hw)
    try:
        load_strictly(net.backbone, weights, source=str(path))
    except CheckpointError as error:
        raise CheckpointError(f"{error} (a backbone of {card.config.label}, not of {net.config.label})") from error
    tqdm.write(
        f"initialised from {path} ({card.config.label}, {card.training.get('task', 'pre-trained')}): "
        f"{len(weights)} tensors of the backbone; the {len(net.head.state_dict())} of the head start fresh"
    )
    return {**card.training, "sha256": card.sha256, "input_hw": list(card.config.input_hw)}


def _from_resnet(net: BTranspose, path: Path, state: dict[str, Any], sha256: str) -> dict[str, Any]:
    weights = conv_weights(state)
    load_conv_parts(net.backbone, weights, source=str(path), label=net.config.label)
    fresh = len(net.state_dict()) - len(weights)
    tqdm.write(
        f"initialised from {path} (a ResNet): {len(weights)} tensors of the stem and the convolutional groups; "
        f"the other {fresh} start fresh: MHSA groups, encoder and head"
    )
    return {"task": RESNET_TASK, "file": short_name(path), "sha256": sha256}
