"""The convolutional part of a ResNet as torchvision and timm store it, by the names of ours.

Their `conv1`, `bn1` are our stem, `layer1` to `layer3` our convolutional groups, and a bottleneck's `downsample` our
shortcut. Only `c3a1-4-large` has ResNet-50's shapes. (Its third group keeps the size of the map, theirs halves it; that
changes no weight.)
"""

from __future__ import annotations

import hashlib
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from model.btranspose import Backbone
from model.checkpoint import CheckpointError, load_strictly

PICKLED = (".pth", ".pt", ".bin")  # read with `weights_only`: tensors and plain containers, no code
WRAPPERS = ("state_dict", "model")  # under which some training code keeps the weights
KNOWN_BY = ("conv1.weight", "layer1.0.conv1.weight")  # no network of ours has these names

COUNTER = "num_batches_tracked"  # of batch norm; older files lack it, and only a momentum of None would need it


def read_resnet(path: Path) -> tuple[dict[str, Tensor], str] | None:
    """The weights of a ResNet and the file's SHA-256; None for a safetensors file that is none.

    Raises CheckpointError for a file that cannot be read, and for a pickled one without a ResNet's weights.
    """
    pickled = path.suffix in PICKLED
    try:
        content = path.read_bytes()
        state: Any = torch.load(path, map_location="cpu", weights_only=True) if pickled else load_safetensors(content)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError) as error:
        # What torch says here is how to run the code in the file.
        raise CheckpointError(f"{path} is not a file of weights and nothing else") from error
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if isinstance(state, dict) and all(isinstance(state.get(name), Tensor) for name in KNOWN_BY):
        return state, hashlib.sha256(content).hexdigest()
    if pickled:
        raise CheckpointError(f"{path} has no {' and '.join(KNOWN_BY)}; allowed: a ResNet of torchvision or timm")
    return None


def conv_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Stem and first three layers of a ResNet's state, by the names of our backbone, float32; the rest is left out."""
    weights = {}
    for name, weight in state.items():
        ours = _our_name(name)
        if ours is not None:
            weights[ours] = weight.float() if weight.is_floating_point() else weight
    return weights


def _our_name(name: str) -> str | None:
    """`layer2.0.bn3.weight` -> `conv_groups.1.0.norm3.weight`; None for what we have no place for."""
    if found := re.fullmatch(r"(conv|bn)1\.(\w+)", name):
        return f"stem.{'conv' if found[1] == 'conv' else 'norm'}.{found[2]}"
    if not (found := re.fullmatch(r"layer([123])\.(\d+)\.(.+)", name)):
        return None
    part = re.sub(r"^bn(\d)", r"norm\1", found[3])
    part = part.replace("downsample.0", "shortcut.conv").replace("downsample.1", "shortcut.norm")
    return f"conv_groups.{int(found[1]) - 1}.{found[2]}.{part}"


def load_conv_parts(backbone: Backbone, weights: dict[str, Tensor], *, source: str, label: str) -> None:
    """Load weights by our names into stem and convolutional groups, strictly; the rest of the backbone stays.

    Raises CheckpointError, with what does not fit, for another number of groups or blocks or another width.
    """
    own = backbone.state_dict()
    parts = {name for name in own if name.startswith(("stem.", "conv_groups."))}
    counters = {name: own[name] for name in parts if name.endswith(COUNTER)}
    try:
        # What is not convolutional is given back to itself, so that the check is that of a whole load.
        rest = {name: weight for name, weight in own.items() if name not in parts}
        load_strictly(backbone, {**rest, **counters, **weights}, source=source)
    except CheckpointError as error:
        raise CheckpointError(f"{error} ({label}; a ResNet-50 fits c3a1-4-large)") from error
