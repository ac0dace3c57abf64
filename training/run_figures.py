"""What a run shows while it trains: TensorBoard, samples, and a summary beside its product.

A trainer calls one object at four places: after a step, after a validation or before the first step with pictures to
keep, and after an epoch's line is in the log. Nothing here changes what is trained. Without TensorBoard, which says so
once, everything else is still drawn.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from model.checkpoint import write_atomically
from model.crop import Pixels
from training.png import encode_png
from training.summary import SAMPLES_NAME, write_summary

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LEAST_REST = 20  # times as long as it took to draw the summary, before it is drawn again
MOST_SHEETS = 50  # of samples that TensorBoard gets in a run; each takes about a megabyte


class RunFigures:
    """For a `with` block around a run.

    Args:
        run_dir: where all is written.
        epochs: that the run has in all.
        every: steps between two points of a curve in TensorBoard.
        writes: whether this process writes; of several that train together only one does, and for the others every
            method does nothing.
    """

    def __init__(self, run_dir: Path, *, epochs: int, every: int, writes: bool = True) -> None:
        self._run_dir = run_dir
        self._epochs = epochs
        self._every = every
        self._writes = writes
        self._writer = _tensorboard(run_dir / "tensorboard") if writes else None
        self._said: set[str] = set()
        self._due_from = -math.inf  # seconds of the monotonic clock
        self._behind = False  # whether the summary lacks an epoch

    def __enter__(self) -> RunFigures:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._behind:
            self._draw_summary()
        if self._writer is not None:
            self._writer.close()

    def after_step(self, step: int, values: Callable[[], Mapping[str, float]]) -> None:
        """Points of curves; `values` is only called where a point is due."""
        if self._writer is not None and step % self._every == 0:
            self._add(values(), step)

    def after_epoch(self, row: Mapping[str, object]) -> None:
        """When the row is in the log: its numbers as curves by epoch, and the summary drawn anew.

        Epochs that take less than some seconds are drawn together, at the latest when the run ends.
        """
        if not self._writes:
            return
        values = {name: value for name, value in row.items() if isinstance(value, int | float) and name != "epoch"}
        self._add({f"epoch/{name}": value for name, value in values.items()}, int(str(row["epoch"])))
        if self._writer is not None:
            self._writer.flush()
        self._behind = True
        if time.monotonic() >= self._due_from:
            self._draw_summary()

    def _draw_summary(self) -> None:
        started = time.monotonic()
        self._spared("the summary", lambda: write_summary(self._run_dir))
        self._behind = False
        ended = time.monotonic()
        self._due_from = ended + LEAST_REST * (ended - started)

    def samples(self, draw: Callable[[], Pixels], epoch: int, *, keep: bool) -> None:
        """A sheet [H, W, 3] uint8 RGB after an epoch, counted from 1 (0: before the first): to TensorBoard, if its
        turn has come, and with `keep` to the file that the summary shows. Drawn only if it goes somewhere.
        """
        shown = self._writer is not None and (epoch == 0 or self._has_turn(epoch))
        if self._writes and (shown or keep):
            self._spared("samples", lambda: self._show(draw(), epoch, shown=shown, keep=keep))

    def _has_turn(self, epoch: int) -> bool:
        most = min(MOST_SHEETS, self._epochs)
        return epoch * most // self._epochs > (epoch - 1) * most // self._epochs

    def _show(self, sheet: Pixels, epoch: int, *, shown: bool, keep: bool) -> None:
        if shown and self._writer is not None:
            self._writer.add_image("samples", torch.from_numpy(sheet.copy()), epoch, dataformats="HWC")
        if keep:
            write_atomically(self._run_dir / SAMPLES_NAME, encode_png(sheet))

    def _add(self, values: Mapping[str, float], step: int) -> None:
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def _spared(self, what: str, draw: Callable[[], object]) -> None:
        """Draw; a picture that fails is said once, and does not end days of training."""
        try:
            draw()
        except Exception as error:
            if what not in self._said:
                tqdm.write(f"WARNING: {what} cannot be drawn: {error!r}")
                self._said.add(what)


def _tensorboard(folder: Path) -> SummaryWriter | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        tqdm.write("TensorBoard is not installed; curves are only in log.jsonl and in the summary")
        return None
    return SummaryWriter(folder)


def device_name(device: torch.device) -> str:
    """As a person would call it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
