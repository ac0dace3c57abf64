"""One thread for every test: the networks here are tiny, and other work on the machine would stall the rest.

Networks that are converted for these tests are kept in pytest's own folder, not in the user's.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from hypothesis import settings

settings.register_profile("any pace", deadline=None)  # an example may meet a busy machine
settings.load_profile("any pace")
torch.set_num_threads(1)
os.environ["XDG_CACHE_HOME"] = str(Path(__file__).resolve().parents[1] / ".pytest_cache")
