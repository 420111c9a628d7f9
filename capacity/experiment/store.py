"""What a start does to the store: requests and holds as the server counts them, bytes as PostgreSQL does.

What is taken from the server's page, before and after a run at one in flight (counters are renewed once a second):

- ``persistence_requests`` by service: all requests to the main store, those of the background work of the starts and of
  half a request per second of each service by itself included.
- ``persistence_latency`` sums of the service history. Those of the operations that hold a shard's I/O semaphore are the
  shard's hold (server:service/history/shard/context_impl.go takes it around each of `UNDER_SEMAPHORE`; an idle waiter
  adds nothing, since the wait is ``semaphore_latency`` and not part of it). All together are the connection's hold,
  where the store has more than one: the wait for a connection is part of the latency, which at one in flight is nothing
  beside a pool and most of it beside SQLite's single one. Visibility has a metric of its own and is in neither.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from capacity.cluster import postgres
from capacity.cluster.temporal_server import MAIN, VISIBILITY
from capacity.model.measurement import StatementShare, Storage, StoreTimes
from capacity.observe.pages import Site
from capacity.observe.server_page import in_milliseconds
from capacity.observe.vitals import NotMeasuredError

if TYPE_CHECKING:
    import psycopg

UNDER_SEMAPHORE: Final = frozenset(
    {
        "AddTasks",
        "AssertShardOwnership",
        "ConflictResolveWorkflowExecution",
        "CreateWorkflowExecution",
        "DeleteCurrentWorkflowExecution",
        "DeleteWorkflowExecution",
        "SetWorkflowExecution",
        "UpdateShard",
        "UpdateWorkflowExecution",
    }
)
"""Persistence operations done while a shard's I/O semaphore is held."""
SERVICES: Final = ("frontend", "history", "matching")
TOP: Final = 10
"""Statements kept."""
RENEWED: Final = 1.5
"""Seconds after which the page surely has all that happened before."""
_STATEMENTS: Final = """
SELECT s.dbid, s.queryid, left(regexp_replace(min(s.query), '\\s+', ' ', 'g'), 160), sum(s.calls)::bigint,
       sum(s.total_exec_time) / 1000.0
FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
WHERE d.datname IN (%s, %s) AND s.queryid IS NOT NULL GROUP BY 1, 2
"""

Counters = dict[tuple[str, str, str], float]
"""By metric (``requests`` or ``seconds``), service and operation."""


def counters_of(text: str) -> Counters:
    """Return the persistence counters of a metrics page, namespaces added up; times only where they are in seconds.

    In whole milliseconds (``framework: opentelemetry``), rounded down, most calls of a store would be nothing.

    >>> counters_of('persistence_requests{operation="GetShard",service_name="history"} 3')
    {('requests', 'history', 'GetShard'): 3.0}
    """
    from prometheus_client.parser import text_string_to_metric_families

    lowest = re.search(r'^persistence_latency_bucket\{[^\n]*\ble="(\d+(?:\.\d+)?)"', text, re.MULTILINE)
    wanted: tuple[str, ...] = ("persistence_requests", "persistence_latency_seconds_sum")
    if lowest is None or not in_milliseconds(float(lowest[1])):
        wanted += ("persistence_latency_sum",)
    # The page has a megabyte, of which these lines are a few kilobytes.
    lines = "\n".join(line for line in text.splitlines() if line.startswith(wanted))
    found: Counters = {}
    try:
        for family in text_string_to_metric_families(lines + "\n"):
            for sample in family.samples:
                kind = "requests" if sample.name.startswith("persistence_requests") else "seconds"
                key = kind, sample.labels.get("service_name", ""), sample.labels.get("operation", "")
                found[key] = found.get(key, 0.0) + sample.value
    except (ValueError, IndexError) as error:
        raise NotMeasuredError("the page is not Prometheus text") from error
    return found


def rps_limit_of(text: str) -> float | None:
    """Return the lowest request limit a page reports [1/s]; None where there is none.

    >>> rps_limit_of('host_rps_limit{service_name="frontend"} 2400'), rps_limit_of("")
    (2400.0, None)
    """
    names = ("host_rps_limit{", "namespace_host_rps_limit{")
    words = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(names)]
    limits = [float(word) for word in words if re.fullmatch(r"[0-9]{1,30}(?:\.[0-9]{1,30})?(?:e\+?[0-9]{1,2})?", word)]
    return min(limits, default=None)


def rps_limit(metrics_url: str | None) -> float | None:
    """Return the lowest request limit a server reports [1/s]; None where it cannot be read."""
    if metrics_url is None:
        return None
    try:
        return rps_limit_of(page(metrics_url))
    except NotMeasuredError:
        return None


def page(url: str) -> str:
    """Return a metrics page."""
    site = Site(url, "--server-metrics", timeout=5.0)
    body, size = site.get(site.path)
    return body[:size].decode("utf-8", "replace")


def times_between(before: Counters, after: Counters, starts: int, *, pooled: bool = True) -> StoreTimes:
    """Return what each start cost between two pages.

    Parameters
    ----------
    before, after : dict
        Counters of the two.
    starts : int
        Made between them.
    pooled : bool
        Whether the store has more than one connection; else its hold is not told apart from the wait for it: None.

    Examples
    --------
    >>> page = {("seconds", "history", "CreateWorkflowExecution"): 3.0, ("seconds", "history", "GetTransferTasks"): 1.0}
    >>> times = times_between({}, page, 1000)
    >>> times.shard_hold, times.connection_hold
    (0.003, 0.004)
    """
    grown = {key: value - before.get(key, 0.0) for key, value in after.items()}
    history = {op: n for (kind, service, op), n in grown.items() if kind == "seconds" and service == "history"}
    held = [seconds for operation, seconds in history.items() if operation in UNDER_SEMAPHORE]
    requests: dict[str, float] = {}
    for (kind, service, _), n in grown.items():
        if kind == "requests" and service in SERVICES:
            requests[service] = requests.get(service, 0.0) + n / starts
    return StoreTimes(
        shard_hold=sum(held) / starts if sum(held) > 0 else None,
        connection_hold=sum(history.values()) / starts if pooled and sum(history.values()) > 0 else None,
        persistence_requests=requests,
        starts=starts,
    )


@dataclass(frozen=True)
class StoreState:
    """PostgreSQL's counters at one moment: bytes of both databases and of WAL, rows of visibility, statements."""

    main: int
    visibility: int
    wal: int
    rows: int
    indexes: int
    statements: Mapping[tuple[int, int], tuple[str, int, float]]
    at: float = 0.0
    """When the rows were counted, on the monotonic clock [s]."""


def read_state(dsn: str) -> StoreState:
    """Read the counters after a checkpoint, which writes what is only in memory so far."""
    with connected(dsn, "postgres") as admin, connected(dsn, VISIBILITY) as visibility:
        rows, at = _one(visibility, "SELECT count(*) FROM executions_visibility"), time.monotonic()
        indexes = _one(visibility, "SELECT count(*) FROM pg_indexes WHERE tablename = 'executions_visibility'")
        statements = _statements(admin)
        wal = _one(admin, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
        admin.execute("CHECKPOINT")
        sizes = [_one(admin, f"SELECT pg_database_size('{name}')") for name in (MAIN, VISIBILITY)]
    return StoreState(sizes[0], sizes[1], wal, rows, indexes, statements, at)


def wait_for_rows(dsn: str, rows: int, within: float = 15.0) -> None:
    """Return once visibility, which is written after the answers, holds so many rows, or after `within` seconds."""
    deadline = time.monotonic() + within
    with connected(dsn, VISIBILITY) as connection:
        while _one(connection, "SELECT count(*) FROM executions_visibility") < rows and time.monotonic() < deadline:
            time.sleep(0.25)


def storage_between(before: StoreState, after: StoreState, starts: int) -> Storage:
    """Return what each start left behind between two states.

    The log has the full pages that PostgreSQL writes at the first change of a page after a checkpoint: it is what a
    short batch costs, and the most a long one does.
    """
    spent = []
    for key, (query, calls, seconds) in after.statements.items():
        _, calls_before, seconds_before = before.statements.get(key, ("", 0, 0.0))
        spent.append((query, calls - calls_before, seconds - seconds_before))
    total = sum(seconds for _, _, seconds in spent)
    spent.sort(key=lambda each: -each[2])
    return Storage(
        main=(after.main - before.main) / starts,
        visibility=(after.visibility - before.visibility) / starts,
        wal=(after.wal - before.wal) / starts,
        starts=starts,
        visibility_indexes=after.indexes,
        statements=tuple(
            StatementShare(
                query=query, calls_per_start=calls / starts, seconds_per_start=seconds / starts, share=seconds / total
            )
            for query, calls, seconds in spent[:TOP]
            if calls > 0 and total > 0
        ),
    )


def _statements(admin: psycopg.Connection) -> dict[tuple[int, int], tuple[str, int, float]]:
    import psycopg

    try:
        rows = admin.execute(_STATEMENTS, [MAIN, VISIBILITY]).fetchall()
    except psycopg.Error:  # the extension is not there, or not loaded
        return {}
    return {(dbid, queryid): (query, int(calls), float(seconds)) for dbid, queryid, query, calls, seconds in rows}


def connected(dsn: str, database: str) -> Any:
    """Return a connection to one database of a cluster's PostgreSQL, as a context manager: `postgres.connected`."""
    from psycopg.conninfo import make_conninfo

    return postgres.connected(make_conninfo(dsn, dbname=database))


def _one(connection: psycopg.Connection, query: str) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])
