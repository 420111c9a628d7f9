"""The dashboard is well-formed and shows what the alerts compare; it and the rules read metrics that are served."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import urllib.request
from pathlib import Path

import pytest
import yaml

from capacity.cluster.devserver import DevServer
from capacity.cluster.target import Target
from capacity.launcher.batch import HeightRange
from capacity.launcher.latency import Latencies
from capacity.launcher.progress import Progress
from capacity.observe.metrics import LaunchMetrics
from capacity.observe.prometheus import QUERIES, UNUSED
from capacity.verdict.alert_rules import LONGEST, rules
from capacity.verdict.alerts import ALERTS, POSTGRES_NODES
from capacity.verdict.dashboard import grafana
from capacity.verdict.thresholds import thresholds
from tests.verdict.test_alerts import CREATE, PREDICTED, START


def names_in(text: str) -> set[str]:
    """The metrics that PromQL names: words before a selector, a range or an end, functions and labels left out."""
    bare = re.sub(r'"[^"]*"', "", text)
    return set(re.findall(r"\b((?:capacity|service|persistence|num|pg|node|go)_\w+)\b(?!\s*=)", bare)) - {
        "service_name"
    }


def expressions() -> list[str]:
    panels = [target["expr"] for panel in grafana(thresholds())["panels"] for target in panel["targets"]]
    return [rule.expression for rule in rules(thresholds(), PREDICTED)] + panels


def test_our_metrics_are_those_a_launch_serves() -> None:
    """Every capacity_ name and label in rules and dashboard is one that a launch's metrics have."""
    metrics = LaunchMetrics()
    progress = Progress("running", 10, 1, 0, 0, 0, 1, 1, 1.0, 0.1, 0.1, 1.0, 0, 1, {"UNAVAILABLE": 1})
    metrics.update("r", progress, Latencies())
    served = {sample.name for family in metrics.collect() for sample in family.samples}
    labels = {label for family in metrics.collect() for sample in family.samples for label in sample.labels}
    named = {name for text in expressions() for name in names_in(text) if name.startswith("capacity_")}
    assert len(named) >= 5
    assert named <= served
    assert {"run_id", "outcome", "kind", "le"} <= labels


@pytest.mark.devserver
def test_temporals_metrics_are_those_a_server_serves(devserver: DevServer, state_folder: str) -> None:
    """After a start, a real server's page has every Temporal series that the rules select.

    Not those that a dev server never has: refusals (limits are out of the way) and SQL pools (SQLite has none).
    """
    from capacity.observe.session import launch

    asyncio.run(launch(HeightRange(3, "alerts"), Target(devserver.address), parallelism=1, vitals=False))
    with urllib.request.urlopen(devserver.metrics_url, timeout=10) as answer:
        page = answer.read().decode()
    named = {name for text in expressions() for name in names_in(text) if re.match("service|persistence|num", name)}
    seldom = {"service_errors_resource_exhausted", "persistence_sql_in_use", "persistence_sql_max_open_conn"}
    assert seldom <= named
    for name in named - seldom:
        assert re.search(rf"^{name}[ {{]", page, re.M), name
    for series in (f"service_latency_bucket{{{START}", f"persistence_latency_bucket{{{CREATE}"):
        name, labels = series.split("{")
        wanted = [rf"(?=[^}}]*{re.escape(label)})" for label in labels.split(",")]
        bounds = re.findall(rf"^{name}\{{{''.join(wanted)}[^}}]*le=\"([^\"]*)\"", page, re.M)
        assert max(float(bound) for bound in bounds if bound != "+Inf") == LONGEST, series


# -- the dashboard -----------------------------------------------------------------------------------------------------


def test_the_dashboard_has_the_launch_notebooks_panels() -> None:
    """Throughput, latency, in flight and limit, outcomes, retries, CPU of all three, connections."""
    board = json.loads(json.dumps(grafana(thresholds())))
    titles = [panel["title"] for panel in board["panels"]]
    assert titles == [
        "Throughput",
        "Latency of a start",
        "In flight and limit",
        "Outcomes",
        "Retries by kind",
        "CPU of launcher, server and PostgreSQL",
        "PostgreSQL CPU",
        "PostgreSQL connections",
    ]
    legends = {t["legendFormat"] for p in board["panels"] for t in p["targets"]}
    assert {"p50 {{run_id}}", "p99 {{run_id}}", "launcher", "server", "PostgreSQL", "{{kind}}"} <= legends


def test_the_dashboard_is_well_formed() -> None:
    """Ids are unique, no two panels overlap, every query goes to the chosen data source, every variable exists."""
    board = grafana(thresholds())
    assert {"title", "uid", "schemaVersion", "panels", "templating", "time"} <= set(board)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not taken & cells
        taken |= cells
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
    known = {variable["name"] for variable in board["templating"]["list"]}
    used = {name for text in re.findall(r"\$\{?(\w+)", json.dumps(board)) for name in [text]} - {"__all"}
    assert used == known


def test_a_panel_with_an_alerts_limit_shows_what_the_alert_compares() -> None:
    """A primary and its standby are not added up, in the panel as little as in the alert."""
    panels = {panel["title"]: panel["targets"] for panel in grafana(thresholds())["panels"]}
    figures = {
        alert.threshold: alert.figure.replace(f'job="{POSTGRES_NODES}"', 'job=~"$postgres_nodes"') for alert in ALERTS
    }
    for title, threshold in (("PostgreSQL CPU", "postgres_cpu"), ("PostgreSQL connections", "connections")):
        assert [target["expr"] for target in panels[title]] == [figures[threshold]]
        assert "by (instance)" in figures[threshold]


def test_a_cpu_is_in_use_by_one_meaning() -> None:
    """Alert, panels and the watch's own queries count the same modes of a host's CPUs as use."""
    texts = [
        text
        for text in [*expressions(), *QUERIES.values()]
        if "node_cpu_seconds_total" in text and "absent" not in text
    ]
    assert len(texts) == 7
    assert {mode for text in texts for mode in re.findall('mode!~"([^"]*)"', text)} == {UNUSED}
    assert all(f'mode!~"{UNUSED}"' in text for text in texts)


def test_limits_are_lines_in_the_dashboard(tmp_path: Path) -> None:
    """A user's limit is the line in the panel of its figure."""
    file = tmp_path / "mine.toml"
    file.write_text("[start_p99]\nlimit = 0.2\n")
    panel = next(p for p in grafana(thresholds(file))["panels"] if p["title"] == "Latency of a start")
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["thresholds"]["steps"][-1]["value"] == 0.2
    assert defaults["custom"]["thresholdsStyle"]["mode"] != "off"


def test_promtool_parses_the_dashboards_queries(promtool: str, tmp_path: Path) -> None:
    """Every query of the dashboard is PromQL, once its variables are filled in."""
    queries = [re.sub(r"\$\w+", ".*", t["expr"]) for p in grafana(thresholds())["panels"] for t in p["targets"]]
    recorded = [{"record": f"panel:{i}", "expr": query} for i, query in enumerate(queries)]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    done = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(queries)} rules found" in done.stdout
