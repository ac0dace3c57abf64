r"""Average the weights of checkpoints that were trained on from the same one.

    python -m training.average runs/a/best.safetensors runs/b/best.safetensors --out average.safetensors

Runs that begin with the same weights and end at a small learning rate often end in the same basin, where the mean of
their weights is better than each (Wortsman et al. 2022, "Model soups"); runs that began apart have nothing to average.
So measure it: `python -m training.evaluate`. The statistics of batch norms are averaged too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from model.checkpoint import CheckpointCard, load_checkpoint, save_checkpoint
from training.command import run_command

TASK = "average of weights"


def average_checkpoints(paths: Sequence[Path], out: Path) -> CheckpointCard:
    """Write the mean of the checkpoints' weights to `out`, with a card that has those of all of them.

    Raises CheckpointError if one cannot be read, and ValueError if they are fewer than two, or of different networks.
    """
    if len(paths) < 2:
        raise ValueError(f"{len(paths)} checkpoint; allowed: at least two")
    loaded = [load_checkpoint(path) for path in paths]
    net, first = loaded[0]
    for path, (_, card) in zip(paths, loaded, strict=True):
        if card.config != first.config:
            raise ValueError(f"{path} is a {card.config.label} with other settings than {paths[0]}; allowed: the same")
    states = [one.state_dict() for one, _ in loaded]
    net.load_state_dict({name: _mean([state[name] for state in states]) for name in states[0]})
    members = [{**card.training, "sha256": card.sha256} for _, card in loaded]
    return save_checkpoint(out, net, training={"task": TASK, "of": members})


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    """Of floats; of whole numbers (how many batches a norm has seen) the largest."""
    stacked = torch.stack(list(tensors))
    return stacked.mean(dim=0) if stacked.is_floating_point() else stacked.amax(dim=0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 2 for files that do not work or do not fit together."""
    parser = argparse.ArgumentParser(
        prog="python -m training.average", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoints", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    given = parser.parse_args(argv)
    return run_command("training.average", lambda: _average(given.checkpoints, given.out))


def _average(paths: Sequence[Path], out: Path) -> None:
    card = average_checkpoints(paths, out)
    print(f"{out}: the mean of {len(paths)} checkpoints, {card.config.label}")


if __name__ == "__main__":
    sys.exit(main())
