"""Decoded photographs in a folder, for all processes, epochs and runs on one machine, within a budget of bytes.

Decoding is most of what a training example costs, and every person of a photograph decodes it again, in every epoch.
Here pixels are kept as they are, and mapped into memory, so that a crop reads only the part that it looks at and the
operating system decides what stays in memory. The budget goes to whichever photographs come first and nothing is ever
thrown out: every photograph comes once an epoch, so an eviction by age would always drop what is next.

Knows nothing of training. A photograph that changes is another one: its size and time of change are part of its name.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from model.crop import Pixels

GIB = 2**30

_HEADER = struct.Struct("<4sII")  # mark, rows, columns
_MARK = b"RGB8"
_USED = "used"  # the file that holds how many bytes are kept, and the lock of those who write


class PhotographCache:
    """Reads photographs through a folder.

    Args:
        folder: made if it is not there; may be shared by runs. Emptied by hand.
        max_bytes: of pixels in it, by all who write to it.
        read: the photograph in a file [H, W, 3] uint8; called for what is not kept.
    """

    def __init__(self, folder: Path, max_bytes: int, read: Callable[[Path], Pixels]) -> None:
        if max_bytes <= 0:
            raise ValueError(f"max_bytes is {max_bytes}; allowed: above 0")
        self.folder = folder
        self.max_bytes = max_bytes
        self._read = read
        self._full = False
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, path: Path) -> Pixels:
        """[H, W, 3] uint8, not to be written to; the same pixels as `read` of the constructor, and its errors."""
        try:
            kept = self.folder / _name(path)
        except OSError:
            return self._read(path)  # which says better what is wrong
        pixels = _mapped(kept)
        if pixels is None:
            pixels = self._read(path)
            if not self._full:
                self._keep(kept, pixels)
        return pixels

    def _keep(self, kept: Path, pixels: Pixels) -> None:
        """Write pixels, unless there is no more room for them; a disk that is full is a budget that is used up."""
        content = _HEADER.pack(_MARK, *pixels.shape[:2]) + pixels.tobytes()
        try:
            with self._room(kept) as used:
                if used + len(content) > self.max_bytes:
                    self._full = True
                    return
                unfinished = kept.with_suffix(f".{os.getpid()}")
                unfinished.write_bytes(content)
                unfinished.replace(kept)
                (self.folder / _USED).write_text(str(used + len(content)))
        except OSError:
            self._full = True

    @contextmanager
    def _room(self, kept: Path) -> Iterator[int]:
        """The bytes that are used, a damaged `kept` not counted, while nobody else writes."""
        import fcntl  # where there is none, only this cache does not work

        with (self.folder / _USED).open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            used = int(file.read() or 0)
            yield used - (kept.stat().st_size if kept.exists() else 0)


def _name(path: Path) -> str:
    """Of what is kept of a photograph. Raises OSError if there is none."""
    found = path.stat()
    told = f"{path.absolute()}\0{found.st_size}\0{found.st_mtime_ns}"
    return hashlib.sha256(os.fsencode(told)).hexdigest()[:32] + ".rgb"


def _mapped(kept: Path) -> Pixels | None:
    """The pixels in a file; None if it is not there or not whole."""
    try:
        with kept.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # not there; empty
        return None
    if len(content) < _HEADER.size:
        return None
    mark, rows, columns = _HEADER.unpack_from(content)
    if mark != _MARK or len(content) != _HEADER.size + 3 * rows * columns:
        return None
    return np.frombuffer(content, dtype=np.uint8, offset=_HEADER.size).reshape(rows, columns, 3)
