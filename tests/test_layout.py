"""The packages have common names: what is imported must be ours."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", ["model", "training", "service", "deploy"])
def test_a_package_is_this_repositorys_and_nobody_elses(name):
    package = import_module(name)
    assert Path(str(package.__file__)).resolve().is_relative_to(ROOT)
    assert set(packages_distributions().get(name, ["btranspose"])) == {"btranspose"}
