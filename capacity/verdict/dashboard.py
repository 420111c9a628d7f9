"""A Grafana dashboard with the panels of the launch notebook, for any Prometheus data source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from capacity.observe.prometheus import UNUSED
from capacity.verdict.alerts import ALERTS, POSTGRES_NODES, RATE
from capacity.verdict.thresholds import Threshold

SCHEMA_VERSION: Final = 39
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_RUN: Final = 'run_id=~"$run_id"'
_HEIGHT, _WIDTH = 8, 12

Query = tuple[str, str]
"""PromQL and legend."""


def _cpu(job: str) -> str:
    return f'sum (rate(node_cpu_seconds_total{{job=~"${job}",mode!~"{UNUSED}"}}[{RATE}]))'


def _of_alert(threshold: str) -> str:
    """Return what an alert compares with its limit: a panel that shows its limit shows just that."""
    (found,) = (alert.figure for alert in ALERTS if alert.threshold == threshold)
    return found


def _quantile(q: float) -> str:
    return (
        f"histogram_quantile({q}, sum by (le, run_id) (rate(capacity_start_latency_seconds_bucket{{{_RUN}}}[{RATE}])))"
    )


_PANELS: Final[tuple[tuple[str, str, str, tuple[Query, ...], str], ...]] = (
    (
        "Throughput",
        "Starts that created a run, a second. Duplicates and failures do not count.",
        "ops",
        ((f'sum by (run_id) (rate(capacity_items_total{{outcome="started",{_RUN}}}[{RATE}]))', "{{run_id}}"),),
        "",
    ),
    (
        "Latency of a start",
        "From the intended moment of a start to its answer, retries included.",
        "s",
        ((_quantile(0.5), "p50 {{run_id}}"), (_quantile(0.99), "p99 {{run_id}}")),
        "start_p99",
    ),
    (
        "In flight and limit",
        "Past the knee a higher limit only makes starts wait longer.",
        "short",
        (
            (f"sum by (run_id) (capacity_in_flight{{{_RUN}}})", "in flight {{run_id}}"),
            (f"sum by (run_id) (capacity_limit{{{_RUN}}})", "limit {{run_id}}"),
        ),
        "",
    ),
    (
        "Outcomes",
        "Items by outcome; with what is not attempted they add up to the batch.",
        "short",
        (
            (f"sum by (outcome) (capacity_items_total{{{_RUN}}})", "{{outcome}}"),
            (f"sum (capacity_items_planned{{{_RUN}}})", "planned"),
        ),
        "",
    ),
    (
        "Retries by kind",
        "Attempts to be repeated a second, by status or throttling cause.",
        "ops",
        ((f"sum by (kind) (rate(capacity_retries_total{{{_RUN}}}[{RATE}]))", "{{kind}}"),),
        "",
    ),
    (
        "CPU of launcher, server and PostgreSQL",
        "CPUs in use on their hosts, by node_exporter. What is not scraped is not drawn.",
        "short",
        (
            (_cpu("launcher_nodes"), "launcher"),
            (_cpu("server_nodes"), "server"),
            (_cpu("postgres_nodes"), "PostgreSQL"),
        ),
        "",
    ),
    (
        "PostgreSQL CPU",
        "Share of the CPU time its hosts could use. What other guests of their machine took is left out.",
        "percentunit",
        ((_of_alert("postgres_cpu").replace(f'job="{POSTGRES_NODES}"', 'job=~"$postgres_nodes"'), "{{instance}}"),),
        "postgres_cpu",
    ),
    (
        "PostgreSQL connections",
        "Share of max_connections in use. This is not CPU.",
        "percentunit",
        ((_of_alert("connections"), "{{instance}}"),),
        "connections",
    ),
)


def grafana(limits: Sequence[Threshold]) -> dict[str, Any]:
    """Return the dashboard as Grafana's import takes it.

    Parameters
    ----------
    limits : sequence of Threshold
        Where a panel has a limit it is drawn as a line.
    """
    by_key = {threshold.key: threshold for threshold in limits}
    panels = [
        _panel(i, title, text, unit, queries, by_key.get(key))
        for i, (title, text, unit, queries, key) in enumerate(_PANELS)
    ]
    return {
        "title": "Batch scheduler on Temporal",
        "uid": "capacity-launch",
        "tags": ["capacity", "temporal"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "templating": {"list": _variables()},
        "panels": panels,
    }


def _variables() -> list[dict[str, Any]]:
    runs = "label_values(capacity_items_planned, run_id)"
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}}
    run = {
        "name": "run_id",
        "label": "Run",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": runs, "refId": "runs"},
        "definition": runs,
        "refresh": 2,
        "sort": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }
    jobs = (("launcher", "node-launcher"), ("server", "node-temporal"), ("postgres", POSTGRES_NODES))
    boxes = [
        {
            "name": f"{name}_nodes",
            "label": f"node_exporter job: {name}",
            "type": "textbox",
            "query": job,
            "current": {"text": job, "value": job},
        }
        for name, job in jobs
    ]
    return [source, run, *boxes]


def _panel(
    index: int, title: str, text: str, unit: str, queries: Sequence[Query], threshold: Threshold | None
) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if threshold is not None:
        steps.append({"color": "red", "value": threshold.limit})
        text = f"{text} Line: the limit set by {threshold.source}."
    style = {"mode": "line+area" if threshold else "off"}
    return {
        "id": index + 1,
        "type": "timeseries",
        "title": title,
        "description": text,
        "datasource": SOURCE,
        "gridPos": {"h": _HEIGHT, "w": _WIDTH, "x": index % 2 * _WIDTH, "y": index // 2 * _HEIGHT},
        "targets": [
            {"refId": chr(ord("A") + i), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for i, (query, legend) in enumerate(queries)
        ],
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "min": 0,
                "custom": {"lineWidth": 2, "fillOpacity": 0, "spanNulls": False, "thresholdsStyle": style},
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["mean", "max", "last"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }
