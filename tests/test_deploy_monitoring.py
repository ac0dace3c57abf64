"""The alerts and the dashboard ask for what the service tells, and what they ask is answered by a real Prometheus."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from fakes import make_engine, make_service
from service.metrics import Metrics

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "btranspose.rules.yml"
# Of NVIDIA's exporter, in its default selection, and of Prometheus itself.
OTHERS = {
    *("DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE"),
    *("DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_XID_ERRORS", "up", "ALERTS"),
}

sys.path.append(str(DEPLOY))  # no package: its scripts import each other by name
dashboard = importlib.import_module("dashboard")

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on the PATH")


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def exported() -> set[str]:
    """The names of all series of a service."""
    metrics = Metrics()
    service = make_service(engine=make_engine(observer=metrics))
    metrics.describe(service.info, version="1.2.3")
    metrics.watch(engine=service._engine, requests=int, dependencies=int, is_open=bool)
    registry: CollectorRegistry = metrics.registry
    names = {sample.name for family in registry.collect() for sample in family.samples}
    service.close(5.0)
    return names


def named(query: str) -> set[str]:
    """The metrics that a query of Prometheus speaks of."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|(by|without|on) ?\([^)]*\)', " ", query)
    functions = {"sum", "rate", "histogram_quantile", "count", "min", "vector", "absent", "changes", "increase"}
    words = set(re.findall(r"[A-Za-z_]\w*", bare)) - functions
    return words - {"or", "and", "min_over_time", "by"}


def alerts() -> list[dict[str, Any]]:
    return [rule for group in read_yaml(RULES)["groups"] for rule in group["rules"]]


def test_the_queries_of_the_dashboard_and_the_alerts_ask_for_what_is_exported():
    asked = {query for panel in dashboard.queries().values() for query in panel} | {rule["expr"] for rule in alerts()}
    names = set.union(*map(named, asked))
    assert len(names) > 20
    assert names - exported() - OTHERS == set()


def test_everything_that_the_service_tells_but_descriptions_is_drawn_or_watched():
    text = dashboard.text() + RULES.read_text(encoding="utf-8")
    families = {re.sub("_(bucket|count|sum|total|created|info)$", "", name) for name in exported()}
    unseen = {name for name in families if name.startswith("btranspose_") and name not in text}
    assert unseen == {"btranspose_build"}


def test_the_dashboard_that_grafana_reads_is_the_one_that_the_script_makes():
    assert dashboard.DASHBOARD.read_text(encoding="utf-8") == dashboard.text()


def test_panels_have_numbers_of_their_own_and_do_not_overlap():
    panels = json.loads(dashboard.text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_the_dashboard_uses_the_data_source_that_is_provisioned():
    sources = read_yaml(DEPLOY / "grafana/provisioning/datasources/prometheus.yml")["datasources"]
    used = {panel["datasource"]["uid"] for panel in json.loads(dashboard.text())["panels"] if "datasource" in panel}
    assert used <= {source["uid"] for source in sources}


def anchors(page: Path) -> set[str]:
    """The sections of a page, as a link names them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_where_its_runbook_is(rule):
    assert rule["labels"]["severity"] in ("warning", "critical")
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert anchor == rule["alert"].lower()
    assert anchor in anchors(ROOT / page)


@pytest.mark.parametrize("name", [rule["alert"] for rule in alerts()])
def test_an_alert_has_a_case_that_fires_and_one_that_does_not(name):
    tests = read_yaml(DEPLOY / "prometheus/btranspose.tests.yml")["tests"]
    cases = [(test, case) for test in tests for case in test["alert_rule_test"] if case["alertname"] == name]
    fires = [case for _, case in cases if case["exp_alerts"]]
    # Silent at some time, or for another instance or GPU than the one that it fires for.
    silent = [case for _, case in cases if not case["exp_alerts"]]
    silent += [case for test, case in cases if case["exp_alerts"] and _subjects(test) > len(case["exp_alerts"])]
    assert fires
    assert silent


def _subjects(test: dict[str, Any]) -> int:
    """How many instances, or GPUs, the series of a test are of."""
    series = " ".join(one["series"] for one in test["input_series"])
    return len(set(re.findall('(?:instance|gpu)="([^"]*)"', series)))


@needs_promtool
@pytest.mark.parametrize(
    "command",
    [
        ("check", "rules", "btranspose.rules.yml"),
        ("check", "config", "--syntax-only", "prometheus.yml"),
        ("test", "rules", "btranspose.tests.yml"),
    ],
    ids=" ".join,
)
def test_promtool_is_content(command):
    run = subprocess.run(("promtool", *command), cwd=DEPLOY / "prometheus", capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not on the PATH")
def test_a_real_prometheus_has_data_for_every_query_and_evaluates_every_alert():
    command = [sys.executable, "-m", "deploy.check_dashboard", "--start", "--seconds", "15"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert f" {len(alerts())} alerts, 0 wrong" in run.stdout
