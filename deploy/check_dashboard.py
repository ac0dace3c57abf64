"""Ask a running Prometheus every query of the dashboard and every alert: `python -m deploy.check_dashboard`.

A query must give data, except those of the GPUs where nothing exports them; an alert must be loaded as it stands here,
and be evaluated without an error. Some panels show only what happens, so let the service answer a few requests over
both protocols within the minute before. Exits with 1 if something is missing. `--start` brings its own service,
Prometheus (Debian's package) and requests, on free ports of the loopback interface.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpx

from deploy.dashboard import queries
from deploy.own_prometheus import RULES, monitored_service

WINDOW = "1m"  # what Grafana would put for $__rate_interval
OPTIONAL = ("DCGM_",)
RULES_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Finding:
    """What one query gave: how many series, or the error."""

    where: str
    query: str
    series: int
    error: str = ""

    @property
    def wrong(self) -> bool:
        """Whether it should have been otherwise."""
        return bool(self.error) or not (self.series or any(name in self.query for name in OPTIONAL))


def ask_prometheus(client: httpx.Client, path: str, **parameters: str) -> Any:
    """The data of an answer of Prometheus' API. Raises RuntimeError with what it complains about."""
    answer = client.get(f"/api/v1/{path}", params=parameters).json()
    if answer["status"] != "success":
        raise RuntimeError(answer["error"])
    return answer["data"]


def filled(query: str) -> str:
    """A query of the dashboard as Grafana sends it, with all instances chosen."""
    return query.replace("$__rate_interval", WINDOW).replace("$instance", ".*")


def with_data(series: Iterable[dict[str, Any]]) -> int:
    """How many series have a number."""
    return sum(one["value"][1] != "NaN" for one in series)


def check_queries(client: httpx.Client) -> list[Finding]:
    """Every query of every panel."""
    findings = []
    for where, asked in queries().items():
        for query in asked:
            try:
                found = with_data(ask_prometheus(client, "query", query=filled(query))["result"])
                findings.append(Finding(where, query, found))
            except RuntimeError as error:
                findings.append(Finding(where, query, 0, str(error)))
    return findings


def check_alerts(client: httpx.Client, names: set[str]) -> dict[str, str]:
    """The state of every alert ("inactive", "pending", "firing"), or what is wrong with it, once all were evaluated."""
    deadline = time.monotonic() + RULES_TIMEOUT_S
    while True:
        groups = ask_prometheus(client, "rules", type="alert")["groups"]
        rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
        if time.monotonic() > deadline or all(rule["health"] != "unknown" for rule in rules.values()):
            break
        time.sleep(1)
    states = dict.fromkeys(names, "not loaded")
    for name, rule in rules.items():
        states[name] = rule["state"] if rule["health"] == "ok" else f"{rule['health']}: {rule.get('lastError', '')}"
    return states


def report(client: httpx.Client) -> int:
    """Print what there is, and return how much is wrong."""
    findings = check_queries(client)
    for finding in findings:
        what = finding.error or (f"{finding.series} series" if finding.series else "no data")
        print(f"{'WRONG' if finding.wrong else 'ok':5}  {what:12}  {finding.where:48}  {finding.query[:90]}")
    states = check_alerts(client, alert_names())
    wrong = {name for name, state in states.items() if state not in ("inactive", "pending", "firing")}
    for name, state in states.items():
        print(f"{'WRONG' if name in wrong else 'ok':5}  {state:12}  {name}")
    bad = sum(finding.wrong for finding in findings) + len(wrong)
    print(f"{len(findings)} queries, {len(states)} alerts, {bad} wrong")
    return bad


def alert_names() -> set[str]:
    """The alerts of the rule file."""
    lines = RULES.read_text(encoding="utf-8").splitlines()
    return {line.partition("- alert: ")[2] for line in lines if "- alert: " in line}


def main() -> int:
    """Exit code: 0 if everything has data and is evaluated."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", metavar="URL", help="%(default)s")
    parser.add_argument("--start", action="store_true", help="with a service and a Prometheus of its own")
    parser.add_argument("--seconds", type=float, default=25.0, help="of requests, with --start (%(default)g)")
    given = parser.parse_args()
    if not given.start:
        with httpx.Client(base_url=given.prometheus) as client:
            return 1 if report(client) else 0
    with monitored_service(seconds=given.seconds) as url, httpx.Client(base_url=url) as client:
        return 1 if report(client) else 0


if __name__ == "__main__":
    sys.exit(main())
