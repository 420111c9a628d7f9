"""The rules: accepted by promtool, each fires once and stays quiet once."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from capacity.observe.metrics import BUCKETS
from capacity.verdict.alert_rules import BLIND_FOR, LONGEST, prometheus, rules
from capacity.verdict.alerts import ALERTS, POSTGRES_NODES
from capacity.verdict.thresholds import thresholds

PREDICTED = 400.0
EVERY = 15
"""Seconds between two scrapes of the recorded series."""
SELDOM = 60
"""Seconds between two scrapes where nothing else is configured: Prometheus' own default."""

Series = dict[str, str]


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
                        "summary": "PostgreSQL connections: 80.33%, above 80%",
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


def test_every_alerts_threshold_is_there() -> None:
    """No alert names a threshold that is not shipped."""
    assert {alert.threshold for alert in ALERTS} <= {threshold.key for threshold in thresholds()}
