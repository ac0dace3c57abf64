"""Grafana's dashboard as code: `python -m deploy.dashboard` writes deploy/grafana/dashboards/btranspose.json.

A panel is a title, a unit and its queries; where it stands, its number and its colours follow. Grafana reads the JSON,
so that is committed too, and a test says when the two differ. Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).resolve().parent / "grafana" / "dashboards" / "btranspose.json"
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
COLUMNS = 24  # of Grafana's grid
HEIGHT = 8
ONE = '{instance=~"$instance"}'
PROCESS = '{job="btranspose", instance=~"$instance"}'  # Prometheus tells the same of itself


@dataclass(frozen=True)
class Panel:
    """What is drawn: queries by what the legend calls them; `width` of the 24 columns."""

    title: str
    unit: str
    queries: dict[str, str]
    about: str = ""
    kind: str = "timeseries"
    width: int = 8
    stacked: bool = False
    bad_from: float | None = None  # red from here on


def rate(metric: str, by: str, more: str = "") -> str:
    """A second's increase of a counter, summed by a label; `by` may be empty."""
    total = f"sum by ({by}) " if by else "sum"
    return f'{total}(rate({metric}{{instance=~"$instance"{more}}}[$__rate_interval]))'


def quantile(share: float, histogram: str, by: str = "", more: str = "") -> str:
    """A quantile of a histogram, over all instances or by a label."""
    return f"histogram_quantile({share:g}, {rate(f'{histogram}_bucket', f'{by}, le' if by else 'le', more)})"


def mean(histogram: str, by: str = "") -> str:
    """The mean of what a histogram observed; no data where nothing was."""
    return f"{rate(f'{histogram}_sum', by)} / {rate(f'{histogram}_count', by)}"


REQUESTS, REQUEST_S = "btranspose_requests_total", "btranspose_request_duration_seconds"
STAGE_S, BATCH, BATCH_S = (
    "btranspose_stage_duration_seconds",
    "btranspose_batch_persons",
    "btranspose_batch_duration_seconds",
)
FRAME_AGE_S = "btranspose_stream_frame_age_seconds"
NOT_OK = ', outcome=~"internal|engine_failed"'
UNARY = ', method="pose"'

ROWS: dict[str, list[Panel]] = {
    "Now": [
        Panel("Open", "none", {"": f"min(btranspose_open{ONE})"}, "1 while requests are admitted", "stat", 3),
        Panel("Alerts firing", "none", {"": 'count(ALERTS{alertstate="firing"}) or vector(0)'}, kind="stat", width=3,
              bad_from=1),
        Panel("Requests a second", "reqps", {"": rate(REQUESTS, "")}, kind="stat", width=3),
        Panel("Persons a second", "none", {"": rate("btranspose_persons_total", "")}, kind="stat", width=3),
        Panel("p95 of a picture", "s", {"": quantile(0.95, REQUEST_S, more=UNARY)}, kind="stat", width=3, bad_from=2.5),
        Panel("Its own errors", "reqps", {"": rate(REQUESTS, "", NOT_OK)}, kind="stat", width=3, bad_from=0.01),
        Panel("Waiting persons", "none", {"": f"sum(btranspose_queue_persons{ONE})"}, kind="stat", width=3),
        Panel("Model", "none", {"{{variant}} {{runtime}} {{device}} {{precision}}": f"btranspose_model_info{ONE}"},
              kind="stat", width=3),
    ],
    "Traffic": [
        Panel("Requests by outcome", "reqps", {"{{outcome}}": rate(REQUESTS, "outcome") + " > 0"}, stacked=True),
        Panel("Requests by protocol and method", "reqps",
              {"{{protocol}} {{method}}": rate(REQUESTS, "protocol, method") + " > 0"}, stacked=True),
        Panel("Answered with an error, by reason", "reqps",
              {"{{reason}}": rate("btranspose_rejections_total", "reason") + " > 0 or vector(0)"},
              "overloaded, unavailable and late: the service's state; the others: what was asked", stacked=True),
    ],
    "Latency": [
        Panel("A picture, from head to answer", "s", {
            **{f"p{100 * share:g}": quantile(share, REQUEST_S, more=UNARY) for share in (0.5, 0.95, 0.99)},
        }, "quantiles within the histogram's buckets"),
        Panel("Mean of each stage", "s", {"{{stage}}": mean(STAGE_S, "stage")},
              "queue grows under load; engine with the batches; decode with the pictures", stacked=True),
        Panel("p95 of each stage", "s", {"{{stage}}": quantile(0.95, STAGE_S, "stage")}),
    ],
    "Engine": [
        Panel("Persons in a batch", "none", {"mean": mean(BATCH), "p95": quantile(0.95, BATCH)},
              "1 when idle; more when requests share the network"),
        Panel("One run of the network", "s", {"mean": mean(BATCH_S), "p95": quantile(0.95, BATCH_S)}),
        Panel("Lanes", "none", {"all": f"sum(btranspose_lanes{ONE})", "resting": f"sum(btranspose_resting_lanes{ONE})",
                                "busy, on average": rate(f"{BATCH_S}_sum", "")},
              "busy as many as there are: the network is the limit"),
        Panel("Persons waiting and in flight", "none", {
            "ready, not running": f"sum(btranspose_queue_persons{ONE})",
            "admitted": f"sum(btranspose_in_flight_persons{ONE})",
        }),
        Panel("Requests in flight", "none", {
            "all": f"sum(btranspose_in_flight_requests{ONE})",
            "dependency maps": f"sum(btranspose_in_flight_dependencies{ONE})",
        }),
        Panel("Persons dropped, and batches that failed", "none", {
            "dropped: {{reason}}": rate("btranspose_dropped_persons_total", "reason"),
            "failed batches": rate("btranspose_engine_failures_total", ""),
        }, "a second", bad_from=0.01),
    ],
    "Video": [
        Panel("Age of a frame at its answer", "s", {
            "p50 {{pace}}": quantile(0.5, FRAME_AGE_S, "pace"),
            "p95 {{pace}}": quantile(0.95, FRAME_AGE_S, "pace"),
        }, "from its arrival; live: of the newest frame"),
        Panel("Frames", "none", {
            "answered: {{pace}}": rate(f"{FRAME_AGE_S}_count", "pace"),
            "dropped: {{pace}}": rate("btranspose_stream_frames_dropped_total", "pace"),
        }, "a second; of live streams older frames are dropped for newer ones"),
        Panel("Detector", "none", {
            "pictures a second": rate("btranspose_detector_pictures_total", ""),
            "persons found in one": f"{rate('btranspose_detector_persons_total', '')} / "
                                    f"{rate('btranspose_detector_pictures_total', '')}",
            "busy, 0 to 1": rate("btranspose_detector_duration_seconds_sum", ""),
            "failures a second": rate("btranspose_detector_failures_total", ""),
        }),
    ],
    "Process": [
        Panel("Memory", "bytes", {"resident {{instance}}": f"process_resident_memory_bytes{PROCESS}"}),
        Panel("Processors", "none", {"{{instance}}": f'rate(process_cpu_seconds_total{PROCESS}[$__rate_interval])'},
              "1 is one core in full use"),
        Panel("File descriptors", "none", {"open": f"process_open_fds{PROCESS}"}),
    ],
    "Checkpoints": [
        Panel("Asked to serve another", "none", {
            "{{outcome}}": f'sum by (outcome) (increase(btranspose_reloads_total{ONE}[$__rate_interval]))',
        }, "failed: the one before goes on; the log says why", width=12, stacked=True),
        Panel("What serves, since", "dateTimeFromNow",
              {"{{instance}}": f"btranspose_serving_since_timestamp_seconds{ONE} * 1000"}, kind="stat", width=6),
        Panel("The last one failed", "none", {"{{instance}}": f"btranspose_last_reload_failed{ONE}"}, kind="stat",
              width=6, bad_from=1),
    ],
    "GPU (profile dcgm)": [
        Panel("In use", "percent", {"GPU {{gpu}}": "DCGM_FI_DEV_GPU_UTIL"}, width=6),
        Panel("Memory of the GPU", "mbytes",
              {"used {{gpu}}": "DCGM_FI_DEV_FB_USED", "free {{gpu}}": "DCGM_FI_DEV_FB_FREE"}, width=6),
        Panel("Power", "watt", {"GPU {{gpu}}": "DCGM_FI_DEV_POWER_USAGE"}, width=6),
        Panel("Temperature", "celsius", {"GPU {{gpu}}": "DCGM_FI_DEV_GPU_TEMP"}, width=6, bad_from=85),
    ],
}  # fmt: skip


def queries() -> dict[str, list[str]]:
    """The queries of each panel, by "row: title"."""
    return {f"{row}: {panel.title}": list(panel.queries.values()) for row, panels in ROWS.items() for panel in panels}


def dashboard() -> dict[str, Any]:
    """What Grafana reads."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row, members in ROWS.items():
        panels.append({"type": "row", "title": row, "collapsed": False, "panels": [], "gridPos": _at(0, y, COLUMNS, 1)})
        y, x = y + 1, 0
        height = 4 if members[0].kind == "stat" else HEIGHT
        for panel in members:
            if x + panel.width > COLUMNS:
                x, y = 0, y + height
            panels.append(_drawn(panel, _at(x, y, panel.width, height)))
            x += panel.width
        y += height
    return {
        "uid": "btranspose",
        "title": "BTranspose",
        "tags": ["btranspose"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "graphTooltip": 1,  # one crosshair for all
        "annotations": {"list": [_alerts()]},
        "templating": {"list": [_instances()]},
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, 1)],
    }


def _at(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _drawn(panel: Panel, position: dict[str, int]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.bad_from is not None:
        steps.append({"color": "red", "value": panel.bad_from})
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    options: dict[str, Any]
    if panel.kind == "stat":
        named = any(panel.queries)
        options = {
            "reduceOptions": {"calcs": ["lastNotNull"], "values": False},
            "graphMode": "none" if named else "area",
            "textMode": "name" if named else "value",
        }
    else:
        options = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
        stacking = {"mode": "normal" if panel.stacked else "none"}
        custom = {"stacking": stacking, "fillOpacity": 30 if panel.stacked else 5, "showPoints": "never"}
        if panel.bad_from is not None:
            custom["thresholdsStyle"] = {"mode": "dashed"}
        defaults["custom"] = custom
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "gridPos": position,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": DATASOURCE,
                "expr": query,
                "legendFormat": legend or "__auto",
            }
            for number, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def _alerts() -> dict[str, Any]:
    """Marks where alerts fired."""
    return {
        "name": "Alerts",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertstate="firing", alertname=~"BTranspose.*"}',
        "titleFormat": "{{alertname}}",
        "step": "30s",
    }


def _instances() -> dict[str, Any]:
    """The choice of instances at the top."""
    query = "label_values(btranspose_open, instance)"
    return {
        "name": "instance",
        "label": "Instance",
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": "instances"},
        "definition": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def text() -> str:
    """The file's content."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    argparse.ArgumentParser(description=str(__doc__).partition("\n")[0]).parse_args()
    DASHBOARD.write_text(text(), encoding="utf-8")
    print(f"{DASHBOARD}: {sum(len(panels) for panels in ROWS.values())} panels")
