"""Mends pytriton 0.7.0 in an environment of its own: `.venv-triton/bin/python bench/patch_triton.py`, once.

Triton's stub carries an older Python 3.11 of its own, but reads the standard library of the one that is installed. That
library's `multiprocessing.resource_tracker` asks its lock for `_recursion_count`, which the older interpreter does not
have, and the model does not load. This puts a lock that has it where pytriton is loaded in the stub.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

BEFORE = "LOGGER = logging.getLogger(__name__)\n"
MARK = "class _CountingLock:"
PATCH = '''
class _CountingLock:
    """A reentrant lock that says it was entered once, for interpreters whose own cannot count."""

    def __init__(self):
        self._lock = threading.RLock()

    def __enter__(self):
        return self._lock.__enter__()

    def __exit__(self, *error):
        return self._lock.__exit__(*error)

    def _recursion_count(self):
        return 1


if not hasattr(threading.RLock(), "_recursion_count"):
    import multiprocessing.resource_tracker

    multiprocessing.resource_tracker._resource_tracker._lock = _CountingLock()

'''


def patched(source: str) -> str:
    """The module with the lock; as it is, if it has it. Raises ValueError if there is no place for it."""
    if MARK in source:
        return source
    if source.count(BEFORE) != 1:
        raise ValueError("proxy/data.py is not that of pytriton 0.7.0; allowed: nvidia-pytriton==0.7.0")
    return source.replace(BEFORE, PATCH + BEFORE)


def main() -> None:
    """Patch the installed module in place."""
    spec = find_spec("pytriton")
    if spec is None or spec.origin is None:
        sys.exit("pytriton is not installed for this Python; try: make rivals-setup")
    path = Path(spec.origin).parent / "proxy" / "data.py"
    path.write_text(patched(path.read_text()))
    print(f"{path} is mended")


if __name__ == "__main__":
    main()
