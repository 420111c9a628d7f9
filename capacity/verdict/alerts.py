"""Prometheus rules of the thresholds, for our metrics, a Temporal server's and the exporters' of PostgreSQL and hosts.

Metric names are those served: by `capacity launch --metrics-port`, by Temporal's Prometheus page (no ``_total``,
histograms in seconds), by postgres_exporter and node_exporter. Limits, severities and waiting times are the
thresholds'; what has no live metric has no rule, and the file says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from capacity.observe.prometheus import UNUSED
from capacity.verdict.thresholds import Threshold, quantity

POSTGRES_NODES: Final = "node-postgres"
"""Job under which node_exporter of PostgreSQL's hosts is scraped."""
SCHEDULER: Final = "scheduler"
"""Job under which the original's Go scheduler is scraped."""
RATE_MINUTES: Final = 4
"""Rates are over four scrapes at Prometheus' own interval of a minute: two make a rate, and one may be late or lost."""
RATE: Final = f"{RATE_MINUTES}m"
LONGEST: Final = 1000.0
"""Last bound of the histograms, ours and a Temporal server's [s]: nothing above it can be read from them."""

SERVER: Final = "temporal-server"
LAUNCHER: Final = "capacity-launcher"
POSTGRES: Final = "postgresql"
BLIND: Final = "not-measured"

_SHOW: Final = {
    "starts/s": "{{ $value | humanize }}/s",
    "share": "{{ $value | humanizePercentage }}",
    "s": "{{ $value | humanizeDuration }}",
    "count": "{{ $value | humanize }}",
}


@dataclass(frozen=True)
class Alert:
    """What is watched for one threshold.

    Parameters
    ----------
    name : str
        Of the alert.
    group : str
        Of the rules it stands with.
    threshold : str
        Key of the threshold that gives limit, severity and waiting time.
    figure : str
        PromQL of the figure.
    runbook : str
        What it means, where to look, what to do.
    """

    name: str
    group: str
    threshold: str
    figure: str
    runbook: str


def _p99(histogram: str, by: str = "le") -> str:
    return f"histogram_quantile(0.99, sum by ({by}) (rate({histogram}[{RATE}])))"


def _cpu(modes: str) -> str:
    return f'sum by (instance) (rate(node_cpu_seconds_total{{job="{POSTGRES_NODES}",{modes}}}[{RATE}]))'


_STARTED: Final = (
    f'(sum by (run_id) (rate(capacity_items_total{{outcome="started"}}[{RATE}])) '
    "and sum by (run_id) (capacity_items_planned) > sum by (run_id) (capacity_items_total))"
)
"""Starts per second while items are left: a launch that waits for its workflows to complete has no more to start."""
_REFUSED: Final = 'service_errors_resource_exhausted{service_name="frontend"}'

ALERTS: Final = (
    Alert(
        "CapacityThroughputBelowOriginal",
        LAUNCHER,
        "throughput",
        _STARTED,
        "The original's own alert. No ordinary cluster reaches its 150,000/s: see 'capacity plan --claim'. Set a limit "
        "that yours can reach in a thresholds file, or watch CapacityThroughputBelowPrediction in its place.",
    ),
    Alert(
        "CapacityThroughputBelowPrediction",
        LAUNCHER,
        "throughput_predicted",
        _STARTED,
        "The cluster gives less than the model predicts for it. Look at CPU of server and PostgreSQL, at refused "
        "requests and at shard locks: 'capacity watch', then 'capacity levers'. If nothing is full, sweep it again.",
    ),
    Alert(
        "CapacityStartP99High",
        LAUNCHER,
        "start_p99",
        _p99("capacity_start_latency_seconds_bucket", "le, run_id"),
        "Starts wait. Past the knee more in flight only wait longer: go back with 'capacity rollback --to 2x', or let "
        "--parallelism auto find the knee. If the server's own p99 is low, the launcher or the network is slow.",
    ),
    Alert(
        "CapacityStartP99AboveHoped",
        LAUNCHER,
        "start_p99_expected",
        _p99("capacity_start_latency_seconds_bucket", "le, run_id"),
        "Above what the original hoped for. No harm by itself; compare with the baseline run ('capacity check RUN "
        "--baseline RUN2') before raising parallelism further.",
    ),
    Alert(
        "CapacityItemsFail",
        LAUNCHER,
        "failed",
        'sum by (run_id) (capacity_items_total{outcome="failed"})',
        "Items failed for good and are not retried. See which and why with 'capacity runs show last', export them with "
        "'capacity runs failed last --out again.jsonl' and launch that file again.",
    ),
    Alert(
        "CapacityAttemptsRefused",
        LAUNCHER,
        "throttled",
        f"sum by (run_id) (rate(capacity_throttled_attempts_total[{RATE}])) "
        f"/ sum by (run_id) (rate(capacity_attempts_total[{RATE}]))",
        "The cluster refuses attempts for their rate. The run's summary names cause, scope and the configuration key. "
        "Lower --rate or use --parallelism auto; raise the key only if CPU has room.",
    ),
    Alert(
        "SchedulerGoroutinesHigh",
        LAUNCHER,
        "tasks",
        f'max by (instance) (go_goroutines{{job="{SCHEDULER}"}})',
        "The Go scheduler keeps more goroutines than its pool explains: starts pile up or leak. Compare with its "
        "parallelism; if it grows while throughput does not, go back and take a goroutine profile.",
    ),
    Alert(
        "TemporalStartP99High",
        SERVER,
        "start_p99",
        _p99('service_latency_bucket{operation="StartWorkflowExecution",service_name="frontend"}'),
        "The server itself is slow to start workflows. Look at CPU of server and PostgreSQL, at persistence latency "
        "and at semaphore_latency of ShardInfo (few shards); lower parallelism until it recovers.",
    ),
    Alert(
        "TemporalRefusesRequests",
        SERVER,
        "throttled",
        f"sum by (resource_exhausted_cause) (rate({_REFUSED}[{RATE}])) / ignoring (resource_exhausted_cause) "
        f'group_left () sum (rate(service_requests{{service_name="frontend"}}[{RATE}]))',
        "Requests are refused. RpsLimit: frontend.namespaceRPS, frontend.rps or history.rps. PersistenceLimit: "
        "*.persistenceMaxQPS. SystemOverloaded: history hosts or database are full. 'capacity limits' lists the keys.",
    ),
    Alert(
        "TemporalPersistenceSlow",
        SERVER,
        "create_p99",
        _p99('persistence_latency_bucket{operation="CreateWorkflowExecution"}'),
        "The store takes long to create a workflow. Look at PostgreSQL's CPU, locks and WAL, and at waits for a "
        "connection; 'capacity levers' says which statements take the time.",
    ),
    Alert(
        "TemporalSqlPoolFull",
        SERVER,
        "sql_pool",
        "max by (service_name, db_kind) (persistence_sql_in_use / (persistence_sql_max_open_conn > 0))",
        "Requests wait for a database connection. If PostgreSQL's CPU has room raise maxConns, and its "
        "max_connections with it; if not, more connections only move the queue.",
    ),
    Alert(
        "TemporalGoroutinesHigh",
        SERVER,
        "server_goroutines",
        "max by (instance) (num_goroutines)",
        "Requests or tasks pile up inside the server. Look at task latencies and persistence; if it keeps growing "
        "with no load, it leaks: restart the host and report it.",
    ),
    Alert(
        "PostgresCpuHigh",
        POSTGRES,
        "postgres_cpu",
        _cpu(f'mode!~"{UNUSED}"') + " / " + _cpu('mode!="steal"'),
        "The database is full: more workers buy latency, not throughput. Go back with 'capacity rollback --to 2x', "
        "then see 'capacity levers' (unused visibility indexes first). Do not read connections as CPU: they differ.",
    ),
    Alert(
        "PostgresConnectionsHigh",
        POSTGRES,
        "connections",
        "sum by (instance) (pg_stat_activity_count) / on (instance) max by (instance) (pg_settings_max_connections)",
        "Soon a client is turned away. Count them: hosts x services x (maxConns of both stores). Raise "
        "max_connections, lower maxConns, or pool. This is not CPU.",
    ),
)

_BLIND: Final = (
    (
        "TemporalNotMeasured",
        "service_requests",
        "No Temporal metrics",
        " A server with framework: opentelemetry has these names with withoutUnitSuffix, withoutCounterSuffix and "
        "recordTimerInSeconds: true.",
    ),
    ("PostgresNotMeasured", "pg_settings_max_connections", "No postgres_exporter metrics", ""),
    (
        "PostgresCpuNotMeasured",
        f'node_cpu_seconds_total{{job="{POSTGRES_NODES}",mode="idle"}}',
        "No CPU of PostgreSQL's hosts",
        "",
    ),
)
"""A metric that is missing fires no alert of its own, so its absence has one: name, metric, words, what else to do."""
BLIND_FOR: Final = 300


@dataclass(frozen=True)
class Rule:
    """One alerting rule as Prometheus reads it."""

    name: str
    group: str
    expression: str
    seconds: float
    severity: str
    threshold: str
    summary: str
    description: str

    def lines(self) -> list[str]:
        """Return it as YAML; texts are quoted as JSON, which YAML reads."""
        return [
            f"  - alert: {self.name}",
            f"    expr: {json.dumps(self.expression)}",
            f"    for: {self.seconds:.0f}s",
            "    labels:",
            f"      severity: {self.severity}",
            f"      threshold: {self.threshold}",
            "    annotations:",
            f"      summary: {json.dumps(self.summary)}",
            f"      description: {json.dumps(self.description)}",
        ]


def rules(limits: Sequence[Threshold], predicted: float | None = None) -> tuple[Rule, ...]:
    """Return the rules of the thresholds.

    The rate of a launch that has just begun is taken over more time than there was, so it is too low: what may not
    fall below a limit waits at least as long as rates are over.

    Parameters
    ----------
    limits : sequence of Threshold
    predicted : float, optional
        What the model predicts [starts/s]; without it there is no rule for a share of the prediction.
    """
    by_key = {threshold.key: threshold for threshold in limits}
    found = []
    for alert in ALERTS:
        threshold = by_key[alert.threshold]
        limit, unit = threshold.limit, threshold.unit
        if threshold.relative_to == "prediction":
            if predicted is None:
                continue
            limit, unit = limit * predicted, "starts/s"
        sign, word = ("<", "below") if threshold.bound == "at least" else (">", "above")
        words = f"{word} {quantity(limit, unit)}"
        seconds = threshold.alert_for
        if threshold.bound == "at least":
            seconds = max(seconds, 60.0 * RATE_MINUTES)
        found.append(
            Rule(
                alert.name,
                alert.group,
                f"{alert.figure} {sign} {limit:.10g}",
                seconds,
                threshold.severity,
                threshold.key,
                f"{_literal(threshold.title[0].upper() + threshold.title[1:])}: {_SHOW[unit]}, {words}",
                f"{alert.runbook} Limit set by {_literal(threshold.source)}.",
            )
        )
    for name, series, what, more in _BLIND:
        description = f"{what} for {BLIND_FOR} s: the alerts on them cannot fire. "
        description += f"Look at the scrape job and its target.{more}"
        found.append(Rule(name, BLIND, f"absent({series})", BLIND_FOR, "warning", "none", what, description))
    return tuple(found)


def _literal(text: str) -> str:
    """Return a text in which Prometheus sees no template of its own."""
    return text.replace("{{", '{{"{{"}}')


def prometheus(limits: Sequence[Threshold], predicted: float | None = None) -> str:
    """Return the rules as a file for Prometheus' ``rule_files``."""
    found = rules(limits, predicted)
    without = [threshold for threshold in limits if threshold.key not in {rule.threshold for rule in found}]
    foretold = [threshold.key for threshold in without if threshold.relative_to == "prediction" and predicted is None]
    unseen = [threshold.key for threshold in without if threshold.key not in foretold]
    endless = {threshold.key for threshold in limits if threshold.limit >= LONGEST}
    mute = [alert.name for alert in ALERTS if alert.threshold in endless and "histogram_quantile" in alert.figure]
    lines = [
        "# Alerting rules by 'capacity alerts'; check them with 'promtool check rules FILE'.",
        f"# Scrape all at least once a minute: rates are over {RATE}, and one of their scrapes may be lost.",
        f"# Scrape node_exporter of PostgreSQL's hosts as job {POSTGRES_NODES}, a Go scheduler as job {SCHEDULER}.",
        f"# No rule, since no live metric has it ('capacity check' reads it from a run): {', '.join(unseen)}.",
        *(f"# No rule without a prediction, for which --cluster names the cluster: {key}." for key in foretold),
        *(f"# Never fires, as no histogram tells more than {LONGEST:,.0f} s: {name}." for name in mute),
        "groups:",
    ]
    for group in dict.fromkeys(rule.group for rule in found):
        lines += [f"- name: {group}", "  rules:"]
        for rule in found:
            if rule.group == group:
                lines += rule.lines()
    return "\n".join(lines) + "\n"
