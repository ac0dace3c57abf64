"""The operator's guide says what there is: each setting, metric and field of the log, and links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fakes import make_engine, make_network, make_service
from service.access_log import request_fields
from service.metrics import Metrics
from service.record import METHODS, STAGES, Caller, RequestRecord
from settings_table import PAGE, ROOT, table, written

LINKED_BY_ALERTS = {
    "not-ready",
    "queue-is-full",
    "latency",
    "errors",
    "engine-fails",
    "lanes-rest",
    "reload-failed",
    "memory",
    "restarts",
}


def section(title: str) -> str:
    return re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:][titles().index(title)]


def titles() -> list[str]:
    return re.findall(r"^## (.+)$", PAGE.read_text(), re.MULTILINE)


def names_in_table(title: str) -> set[str]:
    rows = re.findall(r"^\| (`.+?) \|", section(title), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_settings_are_those_of_the_service():
    assert written() == table(), "write it anew: python tests/settings_table.py"


def test_the_metrics_are_those_of_the_service():
    metrics, service = Metrics(), make_service(engine=make_engine())
    metrics.describe(make_network().info, version="1")
    metrics.watch(
        engine=service._engine, requests=lambda: service.admission.requests, dependencies=int, is_open=lambda: True
    )
    service.close(5.0)
    there = {
        family.name.removeprefix("btranspose_") + {"counter": "_total", "info": "_info"}.get(family.type, "")
        for family in metrics.registry.collect()
        if family.name.startswith("btranspose_")
    }
    assert names_in_table("Metrics") == there
    asked = set(re.findall(r"btranspose_(\w+)", PAGE.read_text())) - {""}
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in asked} <= there


def test_the_fields_of_the_log_are_those_that_are_written():
    record = RequestRecord(caller=Caller(protocol="http", method=METHODS[0]), network="0" * 12)
    record.stages.update(dict.fromkeys(STAGES, (0.0, 1.0)))
    assert names_in_table("Log") == set(request_fields(record))


def test_alerts_find_what_they_link_to():
    assert anchors(PAGE) >= LINKED_BY_ALERTS


@pytest.mark.parametrize("page", ["operations.md", "kubernetes.md"])
def test_links_lead_somewhere(page):
    path = ROOT / "docs" / page
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text())
    assert links
    for link in links:
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
