"""One thread for every test: the networks here are tiny, and other work on the machine would stall the rest."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
