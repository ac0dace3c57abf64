"""Freed memory is kept: the kernel does not have to bring the same pages again."""

import platform
import subprocess
import sys

import pytest

from training.kept_memory import keep_freed_memory

FAULTS_OF_TEN_BLOCKS = """
import resource, sys
import numpy as np
from training.kept_memory import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(1 << 23)
before = faults()
for _ in range(10):
    np.ones(1 << 23)
print(faults() - before)
"""


def faults(how):
    done = subprocess.run([sys.executable, "-c", FAULTS_OF_TEN_BLOCKS, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can keep freed memory")
def test_blocks_that_are_freed_and_asked_for_again_need_no_new_pages():
    assert faults("kept") < faults("as ever") / 5


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
