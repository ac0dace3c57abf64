"""What processes of a Ray cluster need in their environment. Knows nothing of Ray."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from deploy.fleet import ROOT


def environment(more: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A `runtime_env`: where the packages are, and the settings of the service. `more`: other variables, which win."""
    ours = {name: value for name, value in os.environ.items() if name.startswith("BTRANSPOSE_")}
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"env_vars": {"PYTHONPATH": paths, **ours, **(more or {})}}
