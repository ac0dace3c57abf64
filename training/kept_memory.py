"""Memory that a training process frees stays its own, instead of going back to the kernel after every operation.

A step frees and asks for the same hundreds of megabytes again and again. The C library gives large blocks back at once,
and the kernel then has to clear each page anew: attention's products alone took twice as long. Memory on a GPU is kept
by torch itself. Knows nothing of torch.
"""

from __future__ import annotations

import ctypes
import platform

# Names and numbers of glibc's mallopt(3).
TRIM_THRESHOLD = -1
MMAP_MAX = -4
NEVER = -1


def keep_freed_memory() -> bool:
    """From now on, freed memory is kept for the next allocation. Returns whether this C library can (glibc can).

    The process then holds its largest demand until it ends, which is what a training run wants, and a server does not.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    return bool(mallopt(MMAP_MAX, 0)) and bool(mallopt(TRIM_THRESHOLD, NEVER))
