"""The rules: accepted by promtool, each fires once and stays quiet once, and each metric is one that is served."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from capacity.cluster.devserver import DevServer
from capacity.cluster.target import Target
from capacity.launcher.batch import HeightRange
from capacity.launcher.latency import Latencies
from capacity.launcher.progress import Progress
from capacity.observe.metrics import BUCKETS, LaunchMetrics
from capacity.observe.prometheus import QUERIES, UNUSED
from capacity.verdict.alerts import ALERTS, BLIND_FOR, LONGEST, POSTGRES_NODES, prometheus, rules
from capacity.verdict.dashboard import grafana
from capacity.verdict.thresholds import thresholds
from tests.conftest import Require

PREDICTED = 400.0
EVERY = 15
"""Seconds between two scrapes of the recorded series."""
SELDOM = 60
"""Seconds between two scrapes where nothing else is configured: Prometheus' own default."""

Series = dict[str, str]


@pytest.fixture
def promtool(require: Require) -> str:
    found = shutil.which("promtool")
    require(found is not None, "promtool (Debian's package prometheus)")
    return str(found)


def counter(per_second: float) -> str:
    """A counter in promtool's notation."""
    return f"0+{per_second * EVERY:.15g}x80"


def gauge(value: float) -> str:
    return f"{value:.15g}+0x80"


def seldom(series: Series) -> Series:
    """The same a second, scraped once a minute, the fifth scrape lost."""
    found = {}
    for name, values in series.items():
        begin, each = map(float, values.removesuffix("x80").split("+"))
        each *= SELDOM / EVERY
        found[name] = f"{begin:.15g}+{each:.15g}x3 _ {begin + 5 * each:.15g}+{each:.15g}x75"
    return found


def histogram(name: str, labels: str, seconds: float) -> Series:
    """A histogram whose 100 observations a second all take so long."""
    bounds = (*(f"{bound:g}" for bound in BUCKETS), "+Inf")
    return {f'{name}{{{labels},le="{bound}"}}': counter(100 if seconds <= float(bound) else 0) for bound in bounds}


START = 'operation="StartWorkflowExecution",service_name="frontend"'
STARTED = 'capacity_items_total{run_id="r",outcome="started"}'
PLANNED = 'capacity_items_planned{run_id="r"}'
REFUSED = f'service_errors_resource_exhausted{{{START},resource_exhausted_cause="RpsLimit"}}'
MODES = {
    mode: f'node_cpu_seconds_total{{job="{POSTGRES_NODES}",instance="db",mode="{mode}",cpu="0"}}'
    for mode in ("user", "system", "iowait", "steal", "idle")
}
OURS, SERVED, STORE = "capacity_start_latency_seconds_bucket", "service_latency_bucket", "persistence_latency_bucket"
CREATE = 'operation="CreateWorkflowExecution",service_name="history"'
IN_USE = 'persistence_sql_in_use{service_name="history",db_kind="main"}'
MAX_OPEN = 'persistence_sql_max_open_conn{service_name="history",db_kind="main"}'
USED, MOST = 'pg_stat_activity_count{instance="db",state="active"}', 'pg_settings_max_connections{instance="db"}'
GOROUTINES = 'go_goroutines{job="scheduler",instance="s"}'
SERVER_GOROUTINES = 'num_goroutines{service_name="frontend",instance="t"}'
FAILED = 'capacity_items_total{run_id="r",outcome="failed"}'
ATTEMPTS, THROTTLED = 'capacity_attempts_total{run_id="r"}', 'capacity_throttled_attempts_total{run_id="r"}'
REQUESTS = f"service_requests{{{START}}}"


def launched(per_second: float) -> Series:
    """A launch of a batch that is far from its end."""
    return {STARTED: counter(per_second), PLANNED: gauge(1e9)}


def host(*seconds: float) -> Series:
    """CPU seconds a second of a host of PostgreSQL's, by mode."""
    return {series: counter(each) for series, each in zip(MODES.values(), seconds, strict=True)}


RECORDED: dict[str, tuple[Series, Series]] = {
    "CapacityThroughputBelowOriginal": (launched(149_000), launched(151_000)),
    "CapacityThroughputBelowPrediction": (launched(319), launched(321)),
    "CapacityStartP99High": (histogram(OURS, 'run_id="r"', 0.1), histogram(OURS, 'run_id="r"', 0.05)),
    "CapacityStartP99AboveHoped": (histogram(OURS, 'run_id="r"', 0.025), histogram(OURS, 'run_id="r"', 0.01)),
    "CapacityItemsFail": ({FAILED: gauge(1)}, {FAILED: gauge(0)}),
    "CapacityAttemptsRefused": (
        {ATTEMPTS: counter(100), THROTTLED: counter(2)},
        {ATTEMPTS: counter(100), THROTTLED: counter(0.5)},
    ),
    "SchedulerGoroutinesHigh": ({GOROUTINES: gauge(1001)}, {GOROUTINES: gauge(1000)}),
    "TemporalStartP99High": (histogram(SERVED, START, 0.1), histogram(SERVED, START, 0.05)),
    "TemporalRefusesRequests": (
        {REFUSED: counter(2), REQUESTS: counter(100)},
        {REFUSED: counter(0.5), REQUESTS: counter(100)},
    ),
    "TemporalPersistenceSlow": (histogram(STORE, CREATE, 0.1), histogram(STORE, CREATE, 0.05)),
    "TemporalSqlPoolFull": (
        {IN_USE: gauge(19), MAX_OPEN: gauge(20)},
        {IN_USE: gauge(18), MAX_OPEN: gauge(20)},
    ),
    "TemporalGoroutinesHigh": ({SERVER_GOROUTINES: gauge(20_001)}, {SERVER_GOROUTINES: gauge(20_000)}),
    "PostgresCpuHigh": (host(0.66, 0.2, 0, 0, 0.14), host(0.64, 0.2, 0, 0, 0.16)),
    "PostgresConnectionsHigh": ({USED: gauge(241), MOST: gauge(300)}, {USED: gauge(239), MOST: gauge(300)}),
    "TemporalNotMeasured": ({}, {REQUESTS: counter(1)}),
    "PostgresNotMeasured": ({}, {MOST: gauge(300)}),
    "PostgresCpuNotMeasured": ({}, {MODES["idle"]: counter(0.5)}),
}
"""For each alert series a little beyond its limit, and a little inside."""


def one_test(alert: str, series: Series, fires: bool, minutes: int = 7, every: int = EVERY) -> dict[str, Any]:
    """Ask, after so many minutes, whether the alert is firing."""
    sample = {"labels": "{}", "value": 1}
    return {
        "interval": f"{every}s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
                "eval_time": f"{minutes}m",
                "exp_samples": [sample] if fires else [],
            }
        ],
    }


def promtool_test(
    promtool: str, folder: Path, tests: list[dict[str, Any]], text: str
) -> subprocess.CompletedProcess[str]:
    (folder / "rules.yml").write_text(text)
    suite = {"rule_files": ["rules.yml"], "evaluation_interval": f"{EVERY}s", "tests": tests}
    (folder / "tests.yml").write_text(yaml.safe_dump(suite))
    return subprocess.run(
        [promtool, "test", "rules", "tests.yml"], cwd=folder, capture_output=True, text=True, timeout=120
    )


def test_refusals_at_the_begin_do_not_stand_against_the_whole_launch(promtool: str, tmp_path: Path) -> None:
    """The share of refused attempts is that of the last minutes: a burst that is over lets the alert go."""
    burst = {ATTEMPTS: counter(100), THROTTLED: "0+1500x4 6000+0x76"}
    tests = [one_test("CapacityAttemptsRefused", burst, False, minutes=15)]
    done = promtool_test(promtool, tmp_path, tests, prometheus(thresholds(), PREDICTED))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["CapacityThroughputBelowPrediction", "CapacityThroughputBelowOriginal"])
@pytest.mark.parametrize(("failed", "fires"), [(6, False), (5, True)])
def test_a_launch_that_has_started_all_is_not_slow(
    promtool: str, tmp_path: Path, name: str, failed: int, fires: bool
) -> None:
    """Its metrics are served while it waits for its workflows: none a second is slow only while an item is left."""
    series = {STARTED: "0+6000x20 120000+0x60", FAILED: gauge(failed), PLANNED: gauge(120_006)}
    done = promtool_test(promtool, tmp_path, [one_test(name, series, fires, 15)], prometheus(thresholds(), PREDICTED))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_pool_without_a_limit_is_never_full(promtool: str, tmp_path: Path) -> None:
    """A server without maxConns serves 0 as the most connections, which is Go's word for no limit."""
    series = {IN_USE: gauge(500), MAX_OPEN: gauge(0)}
    done = promtool_test(
        promtool, tmp_path, [one_test("TemporalSqlPoolFull", series, False)], prometheus(thresholds(), PREDICTED)
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("seconds", "fires"),
    [((0.05, 0, 0.9, 0, 0.05), False), ((0.18, 0, 0, 0.8, 0.02), True), ((0.1, 0, 0, 0.8, 0.1), False)],
)
def test_a_host_that_waits_for_its_disk_is_not_full(
    promtool: str, tmp_path: Path, seconds: tuple[float, ...], fires: bool
) -> None:
    """A CPU that waits for a disk is free; one of which other guests take 80 % is full once it uses its 20 %."""
    test = one_test("PostgresCpuHigh", host(*seconds), fires)
    done = promtool_test(promtool, tmp_path, [test], prometheus(thresholds(), PREDICTED))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_has_its_recorded_series() -> None:
    """No rule is without a series that crosses its limit and one that does not."""
    assert list(RECORDED) == [rule.name for rule in rules(thresholds(), PREDICTED)]


def test_promtool_accepts_the_rules(promtool: str, tmp_path: Path) -> None:
    """`promtool check rules` finds as many rules as there are, and no fault."""
    file = tmp_path / "rules.yml"
    file.write_text(prometheus(thresholds(), PREDICTED))
    done = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(RECORDED)} rules found" in done.stdout


def test_each_alert_fires_once_and_stays_quiet_once(promtool: str, tmp_path: Path) -> None:
    """On series a little beyond its limit each alert fires, on series a little inside it does not."""
    tests = [one_test(name, series, i == 0) for name, pair in RECORDED.items() for i, series in enumerate(pair)]
    done = promtool_test(promtool, tmp_path, tests, prometheus(thresholds(), PREDICTED))
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_are_as_good_at_a_scrape_a_minute(promtool: str, tmp_path: Path) -> None:
    """At Prometheus' own interval, and with a scrape lost, each alert fires and stays quiet on the same figures."""
    tests = [
        one_test(name, seldom(series), i == 0, every=SELDOM)
        for name, pair in RECORDED.items()
        for i, series in enumerate(pair)
    ]
    done = promtool_test(promtool, tmp_path, tests, prometheus(thresholds(), PREDICTED))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["CapacityStartP99High", "PostgresCpuHigh"])
def test_the_test_of_the_alerts_can_fail(promtool: str, tmp_path: Path, name: str) -> None:
    """Were an alert's expectation wrong, promtool would say so: each of the two inverted is a failure."""
    for i, series in enumerate(RECORDED[name]):
        wrong = one_test(name, series, i == 1)
        assert promtool_test(promtool, tmp_path, [wrong], prometheus(thresholds(), PREDICTED)).returncode == 1


@pytest.mark.parametrize("rule", rules(thresholds(), PREDICTED), ids=lambda rule: rule.name)
def test_an_alert_waits_for_its_window(promtool: str, tmp_path: Path, rule: Any) -> None:
    """What is beyond its limit for a shorter time than the alert waits is pending, not firing."""
    if rule.seconds < 60:
        assert rule.name == "CapacityItemsFail"  # a failed item is final at once
        return
    test = one_test(rule.name, RECORDED[rule.name][0], False, minutes=int(rule.seconds / 60) - 1)
    done = promtool_test(promtool, tmp_path, [test], prometheus(thresholds(), PREDICTED))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("minutes", [1, 2, 3, 4, 5])
def test_a_launch_that_has_just_begun_is_not_slow(promtool: str, tmp_path: Path, minutes: int) -> None:
    """Whatever a user's waiting time, the first minutes of a launch as fast as predicted raise no alert."""
    file = tmp_path / "mine.toml"
    file.write_text("[throughput_predicted]\nalert_for = 30\n")
    test = one_test("CapacityThroughputBelowPrediction", launched(PREDICTED), False, minutes)
    done = promtool_test(promtool, tmp_path, [test], prometheus(thresholds(file), PREDICTED))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("limit", [9.0, 10.0, 60.0, 600.0, 999.0])
def test_an_alert_on_latency_fires_whatever_its_limit(promtool: str, tmp_path: Path, limit: float) -> None:
    """A start that takes longer than a limit of many seconds is seen: the histogram does not end before it."""
    file = tmp_path / "mine.toml"
    file.write_text(f"[start_p99]\nlimit = {limit}\n")
    text = prometheus(thresholds(file))
    test = one_test("CapacityStartP99High", histogram(OURS, 'run_id="r"', limit * 1.5), True)
    done = promtool_test(promtool, tmp_path, [test], text)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Never fires" not in text


def test_an_alert_that_can_never_fire_is_named(tmp_path: Path) -> None:
    """Above its last bound a histogram tells nothing: the file says which alerts have their limit there."""
    file = tmp_path / "mine.toml"
    file.write_text("[start_p99]\nlimit = 1000.0\n")
    named = re.findall(r"^# Never fires, .*1,000 s: (\w+)\.$", prometheus(thresholds(file)), re.MULTILINE)
    assert named == ["CapacityStartP99High", "TemporalStartP99High"]
    assert BUCKETS[-1] == LONGEST


def test_what_a_person_reads_has_value_and_limit(promtool: str, tmp_path: Path) -> None:
    """The summary that Prometheus renders holds the value and the limit in words."""
    rule = next(r for r in rules(thresholds()) if r.name == "PostgresConnectionsHigh")
    test = one_test(rule.name, RECORDED[rule.name][0], True)
    test["alert_rule_test"] = [
        {
            "eval_time": "7m",
            "alertname": rule.name,
            "exp_alerts": [
                {
                    "exp_labels": {"severity": "warning", "threshold": "connections", "instance": "db"},
                    "exp_annotations": {
                        "summary": "PostgreSQL connections: 80.33%, above 80 %",
                        "description": rule.description,
                    },
                }
            ],
        }
    ]
    done = promtool_test(promtool, tmp_path, [test], prometheus(thresholds()))
    assert done.returncode == 0, done.stdout + done.stderr


def test_limits_severities_and_windows_are_the_thresholds(tmp_path: Path) -> None:
    """A user's limit, severity and waiting time stand in the rule."""
    file = tmp_path / "mine.toml"
    file.write_text('[start_p99]\nlimit = 0.2\nseverity = "info"\nalert_for = 45\n')
    text = yaml.safe_load(prometheus(thresholds(file)))
    [rule] = [r for g in text["groups"] for r in g["rules"] if r["alert"] == "CapacityStartP99High"]
    assert rule["expr"].endswith("> 0.2")
    assert (rule["labels"]["severity"], rule["for"]) == ("info", "45s")


def test_a_users_words_cannot_break_a_rule(promtool: str, tmp_path: Path) -> None:
    """Quotes, colons, newlines and braces in a user's texts leave the rules acceptable."""
    file = tmp_path / "mine.toml"
    file.write_text('[start_p99]\ntitle = \'{{ "p99": }}\'\nsource = """us: {{ .X }}\n# \'so\'"""\n')
    written = tmp_path / "rules.yml"
    written.write_text(prometheus(thresholds(file)))
    done = subprocess.run([promtool, "check", "rules", str(written)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_tells_what_to_do() -> None:
    """Each rule has severity, waiting time, summary and a description of some sentences."""
    text = yaml.safe_load(prometheus(thresholds(), PREDICTED))
    for group in text["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("critical", "warning", "info")
            assert rule["annotations"]["description"].count(". ") >= 1
            assert rule["annotations"]["summary"]
            assert re.fullmatch(r"\d+s", rule["for"])


def test_without_a_prediction_there_is_no_rule_for_its_share() -> None:
    """A share of an unknown rate is no rule, and the file names it among those without one."""
    text = prometheus(thresholds())
    assert "alert: CapacityThroughputBelowPrediction" not in text
    assert re.search("# No rule.*throughput_predicted", text)
    assert BLIND_FOR >= 60


# -- the metrics are those served --------------------------------------------------------------------------------------


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


def test_every_alerts_threshold_is_there() -> None:
    """No alert names a threshold that is not shipped."""
    assert {alert.threshold for alert in ALERTS} <= {threshold.key for threshold in thresholds()}
