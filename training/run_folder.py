"""What a run leaves in its folder, and what it says while it runs: the same for poses and for pre-training.

Only the first process of a run writes and talks. Knows nothing of networks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from model.checkpoint import write_atomically
from training.world import World


class RunFolder:
    """`settings.json` and `log.jsonl` (a line per epoch) in `path`; `last_path` is the state to resume from."""

    def __init__(self, path: Path, world: World) -> None:
        self.path = path
        self.world = world
        self.last_path = path / "last.safetensors"
        self._saved = time.monotonic()

    def begin(self, settings: dict[str, Any]) -> None:
        """Write the settings."""
        if self.world.first:
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path / "settings.json", (json.dumps(settings, indent=2) + "\n").encode())

    def say(self, text: str) -> None:
        """A line that does not disturb a progress bar."""
        if self.world.first:
            tqdm.write(text)

    def log(self, row: Mapping[str, Any]) -> None:
        """A line of the log, also said."""
        if self.world.first:
            with (self.path / "log.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            tqdm.write(" ".join(f"{key} {short(value)}" for key, value in row.items() if key != "device"))

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
