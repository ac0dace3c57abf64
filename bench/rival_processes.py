"""A server's processes: started, held, measured and stopped as one, whatever they start themselves. Linux only.

Servers that are not measured are held (SIGSTOP): some poll when they are idle, and would take from the one that is.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

STOP_TIMEOUT_S = 15.0
ORPHANS_END_S = 2.0
MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ (\S+) (\S+) (\d+) *(.*)")  # offset, device, inode, path
NOT_FILES = ("/dev/shm/", "/memfd:", "/SYSV", "/dev/zero")  # they have a path, but are memory


class Processes:
    """A running command and all that descends from it. What it prints goes to `log`."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> None:
        self._log = log
        self.started = time.perf_counter()
        with log.open("wb") as out:
            # A session of its own: Ctrl-C is for the benchmark, which then stops its servers in order.
            self._process = subprocess.Popen(
                command, env=dict(env), cwd=cwd, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.pid = self._process.pid

    def alive(self) -> bool:
        """Whether the command itself still runs."""
        return self._process.poll() is None

    def last_words(self) -> str:
        """The last line that it printed."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "it printed nothing"

    def hold(self) -> None:
        """Stop all its processes in their tracks, also those that start meanwhile."""
        held: set[int] = set()
        while new := set(tree(self.pid)) - held:
            _tell(new, signal.SIGSTOP)
            held |= new

    def go_on(self) -> None:
        """Let all its processes run again."""
        _tell(tree(self.pid), signal.SIGCONT)

    def memory_bytes(self) -> int:
        """Of all its processes, see `memory_bytes`."""
        return memory_bytes(tree(self.pid))

    def stop(self) -> None:
        """End all its processes: in order, and those that stay behind by force."""
        self.go_on()
        pids = tree(self.pid)  # now: those whose parent has ended are found no more
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT_S)
        left = _left(pids, within_s=ORPHANS_END_S)
        _tell(left, signal.SIGKILL)
        self._process.wait()
        _left(left, within_s=STOP_TIMEOUT_S)


def tree(root: int) -> list[int]:
    """A process and its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        if fields := _stat(int(folder.name)):
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    found = [root]
    for pid in found:  # grows while it is walked through
        found += children.get(pid, [])
    return found


def memory_bytes(pids: Sequence[int]) -> int:
    """Memory of processes, counting what they share once.

    The sum of their PSS, had they the machine to themselves: PSS divides the pages of a library among all who use it,
    and so would make each server look smaller the more of them run at a time.
    """
    kib = 0
    files: dict[tuple[str, ...], int] = {}
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            kib += sum(int(found) for found in re.findall(r"^Pss_(?:Anon|Shmem): *(\d+)", rollup, re.MULTILINE))
            for mapping, pages_kib in _file_pages(Path(f"/proc/{pid}/smaps").read_text()).items():
                files[mapping] = max(files.get(mapping, 0), pages_kib)
    return 1024 * (kib + sum(files.values()))


def _file_pages(smaps: str) -> dict[tuple[str, ...], int]:
    """KiB of each part of a file that is in memory, without what the process made of it for itself."""
    pages: dict[tuple[str, ...], int] = {}
    mapping: tuple[str, ...] | None = None
    for line in smaps.splitlines():
        name, _, value = line.partition(":")
        if found := MAPPING.fullmatch(line):
            offset, device, inode, path = found.groups()
            mapping = None if inode == "0" or path.startswith(NOT_FILES) else (device, inode, offset)
        elif mapping and name in ("Rss", "Anonymous"):
            pages[mapping] = pages.get(mapping, 0) + int(value.split()[0]) * (1 if name == "Rss" else -1)
    return pages


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; none if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _left(pids: Sequence[int], *, within_s: float) -> list[int]:
    """Those of them that have not ended within some time."""
    deadline = time.monotonic() + within_s
    while (left := [pid for pid in pids if _stat(pid)[:1] not in ([], ["Z"])]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _tell(pids: Sequence[int] | set[int], what: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, what)
