"""What an alert watches for each threshold: our metrics, a Temporal server's, the exporters' of PostgreSQL and hosts.

Metric names are those served: by `capacity launch --metrics-port`, by Temporal's Prometheus page (no ``_total``,
histograms in seconds), by postgres_exporter and node_exporter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from capacity.observe.prometheus import UNUSED

POSTGRES_NODES: Final = "node-postgres"
"""Job under which node_exporter of PostgreSQL's hosts is scraped."""
SCHEDULER: Final = "scheduler"
"""Job under which the original's Go scheduler is scraped."""
RATE_MINUTES: Final = 4
"""Rates are over four scrapes at Prometheus' own interval of a minute: two make a rate, and one may be late or lost."""
RATE: Final = f"{RATE_MINUTES}m"

SERVER: Final = "temporal-server"
LAUNCHER: Final = "capacity-launcher"
POSTGRES: Final = "postgresql"


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
