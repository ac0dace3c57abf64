"""The state of an unfinished training run as one safetensors file, replaced atomically.

Weights (and their moving average, if one is kept), Adam's moments, and a little JSON (step, best figure, settings) in
the file's own metadata. Together with the rule that every random draw is a function of the seed and the step, this is
all that an exact resume needs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as dump_safetensors

from model.checkpoint import CheckpointError, load_strictly, write_atomically


def save_run(
    path: Path,
    net: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    facts: dict[str, Any],
    average: torch.nn.Module | None = None,
) -> None:
    """Write weights, optimiser moments, `facts` (plain JSON) and the network of averaged weights to `path`."""
    tensors = {f"net.{name}": weight for name, weight in net.state_dict().items()}
    if average is not None:
        tensors |= {f"average.{name}": weight for name, weight in average.state_dict().items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": torch.as_tensor(moment) for name, moment in moments.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, dump_safetensors(tensors, metadata={"facts": json.dumps(facts)}))


def load_run(
    path: Path, net: torch.nn.Module, optimizer: torch.optim.Optimizer, average: torch.nn.Module | None = None
) -> dict[str, Any]:
    """Restore what `save_run` wrote and return its facts.

    An average that was not kept before begins at the weights. Raises CheckpointError if the file does not fit.
    """
    try:
        with safe_open(path, framework="pt") as stored:
            facts: dict[str, Any] = json.loads(stored.metadata()["facts"])
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is not the state of a training run: {error}") from error
    weights = _under("net.", tensors)
    load_strictly(net, weights, source=str(path))
    if average is not None:
        load_strictly(average, _under("average.", tensors) or weights, source=str(path))
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, number, moment = name.split(".", 2)
            moments.setdefault(int(number), {})[moment] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return facts


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
