"""What a run leaves in its folder, and what it says while it runs: the same for poses and for pre-training.

Only the first process of a run writes and talks. Knows nothing of networks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from model.checkpoint import write_atomically
from training.world import World


class RunFolder:
    """`settings.json`, `log.jsonl` (a line per epoch) and TensorBoard events in `path`, for a `with` block.

    `last_path` is where the state lies that the run resumes from.
    """

    def __init__(self, path: Path, world: World) -> None:
        self.path = path
        self.world = world
        self.last_path = path / "last.safetensors"
        self.writer: SummaryWriter | None = None
        self._saved = time.monotonic()

    def open(self, settings: dict[str, Any]) -> RunFolder:
        """Write the settings and begin to write events."""
        if self.world.first:
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path / "settings.json", (json.dumps(settings, indent=2) + "\n").encode())
            self.writer = SummaryWriter(self.path / "tensorboard")
        return self

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.writer:
            self.writer.close()

    def say(self, text: str) -> None:
        """A line that does not disturb a progress bar."""
        if self.world.first:
            tqdm.write(text)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Points of TensorBoard's curves."""
        if self.writer:
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)

    def log(self, row: Mapping[str, Any]) -> None:
        """A line of the log, also said."""
        if self.world.first:
            with (self.path / "log.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            tqdm.write(" ".join(f"{key} {short(value)}" for key, value in row.items()))

    def save(self, write: Callable[[Path], None]) -> None:
        """Have the state written to `last_path`."""
        if self.world.first:
            self.path.mkdir(parents=True, exist_ok=True)
            write(self.last_path)
        self._saved = time.monotonic()

    def save_is_due(self, minutes: float) -> bool:
        """Whether the last state is older than that."""
        return time.monotonic() - self._saved > 60 * minutes


def epoch_bar(
    examples: Iterable[Any], *, epoch: int, epochs: int, steps: int, first_step: int, batch_size: int, shown: bool
) -> Any:
    """An epoch's batches under a bar that counts images: `steps` of `batch_size`, of which `first_step` are done."""
    return tqdm(
        examples,
        desc=f"epoch {epoch + 1}/{epochs}",
        unit_scale=batch_size,
        unit="image",
        total=steps,
        initial=first_step,
        dynamic_ncols=True,
        mininterval=1.0,
        disable=not shown,
    )


def short(value: Any) -> str:
    """A number in at most four digits; anything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def check_agreement(world: World, facts: Mapping[str, Any], *, run_dir: Path) -> None:
    """Raises ValueError unless every process of a run begins alike: at the same step, of the same data and settings.

    They do not where machines see different folders, and would then wait for each other for ever.
    """
    seen = world.gather(dict(facts))
    for rank, found in enumerate(seen):
        if different := [name for name in facts if found.get(name) != seen[0].get(name)]:
            told = "; ".join(
                f"{name}: {seen[0].get(name)} in process 0, {found.get(name)} in {rank}" for name in different
            )
            raise ValueError(f"the processes of {run_dir} disagree: {told}; allowed: one folder that all of them see")
