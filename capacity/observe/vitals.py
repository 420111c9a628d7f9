"""Vital signs of everything a launch depends on: one record a second.

Invariants: what was not read is None and `VitalsSample.missing` says why, it is never 0; a rate is the difference of
two readings of one counter, so a first reading, a restart or a gap gives none.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from capacity.errors import ClusterError

NO_ANSWER: Final = "no answer"
"""How the reason begins when a component is away, rather than unreadable for another reason."""

LATE: Final = f"{NO_ANSWER} within"
"""How it begins when there was no answer in time: it may be away, or only slow."""

PROMETHEUS_MINUTES: Final = 2
"""Rates by a Prometheus are over so many minutes: two scrapes at the usual interval of a minute or less."""

FIRST_READING: Final = "a rate needs two readings"


class NotMeasuredError(ClusterError):
    """A source could not be read; its text is the reason shown."""


def connections_full(reason: str) -> bool:
    """Whether a reason says that no connection is left; over the wire an early refusal carries no code.

    >>> connections_full("sorry, too many clients already"), connections_full("connection refused")
    (True, False)
    """
    return "too many c" in reason or "remaining connection slots" in reason


class Vitals(BaseModel):
    """A record of the watch, or a part of one."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LauncherVitals(Vitals):
    """The processes that launch, and the machine they run on.

    Attributes
    ----------
    rss_bytes : int
        Resident set of all of them [bytes].
    cpus_used : float, optional
        CPU seconds of all of them per second [CPUs].
    processes : int
        How many make starts: this process alone, or those it started, which it then only steers.
    threads : int
        Threads of this process.
    tasks : int, optional
        asyncio tasks on its loop at the last tick.
    descriptors : int, optional
        Its open file descriptors.
    machine_cpus_used : float, optional
        CPU seconds of the whole machine per second [CPUs].
    machine_cpus : int
        CPUs of the machine.
    """

    rss_bytes: int
    cpus_used: float | None = None
    processes: int = 1
    threads: int
    tasks: int | None = None
    descriptors: int | None = None
    machine_cpus_used: float | None = None
    machine_cpus: int


class SqlPool(Vitals):
    """Connections one service's pool may hold, holds, uses and keeps idle; the server renews them once a minute."""

    max_open: int
    open: int
    in_use: int
    idle: int


class ServerVitals(Vitals):
    """A Temporal server by its metrics page.

    Rates [1/s] and latencies [s] are over the time since the reading before. Quantiles are interpolated inside the
    page's buckets (1, 2, 5, 10, ... ms), as Prometheus does.

    Attributes
    ----------
    starts_per_second, requests_per_second : float, optional
        StartWorkflowExecution alone and all requests, at the frontend.
    start_mean, start_p50, start_p99 : float, optional
        Latency of StartWorkflowExecution at the frontend.
    resource_exhausted_per_second : dict, optional
        Refused requests by cause.
    host_rps_limit, namespace_rps_limit : float, optional
        Limits of the frontend host, as the page gives them; the second only where the server reports it.
    sql_pools : dict of SqlPool, optional
        By service and kind of store, such as ``history main``; up to a minute old, but measured during the watch.
    shard_wait_mean, shard_wait_p50, shard_wait_p99 : float, optional
        Wait for a shard's I/O semaphore.
    create_mean, create_p99 : float, optional
        Latency of the store's CreateWorkflowExecution.
    goroutines, memory_bytes : int, optional
        Of the process; a page of several services in one process counts it once. As old as `sql_pools`.
    rss_bytes : int, optional
        Resident set, of a local process.
    cpus_used, cpus_waiting, cpus_allowed : float, optional
        Of a local process: CPU seconds per second, threads that waited for a CPU on average, CPUs it may use:
        those it may run on, or its cgroup's quota.
    """

    starts_per_second: float | None = None
    requests_per_second: float | None = None
    start_mean: float | None = None
    start_p50: float | None = None
    start_p99: float | None = None
    resource_exhausted_per_second: dict[str, float] | None = None
    host_rps_limit: float | None = None
    namespace_rps_limit: float | None = None
    sql_pools: dict[str, SqlPool] | None = None
    shard_wait_mean: float | None = None
    shard_wait_p50: float | None = None
    shard_wait_p99: float | None = None
    create_mean: float | None = None
    create_p99: float | None = None
    goroutines: int | None = None
    memory_bytes: int | None = None
    rss_bytes: int | None = None
    cpus_used: float | None = None
    cpus_waiting: float | None = None
    cpus_allowed: float | None = None


class Statement(Vitals):
    """What one kind of statement took since the watch began: calls and seconds of execution."""

    query: str
    calls: int
    seconds: float


class PostgresVitals(Vitals):
    """A PostgreSQL, by SQL and, when local, by its processes.

    Attributes
    ----------
    connections : dict of int
        Client connections by state, the watcher's own included.
    connections_used, connections_max, connections_reserved : int
        All client connections, ``max_connections``, and how many of these ordinary roles cannot have.
    waits : dict of int
        Active backends by what they wait for.
    commits_per_second, rollbacks_per_second, wal_bytes_per_second : float, optional
        Of all databases; PostgreSQL itself counts commits up to a second late.
    database_bytes : dict of int, optional
        Sizes; where it takes long to read them up to ten seconds old.
    started_at : float
        When this PostgreSQL was started [Unix time, s].
    statements : tuple of Statement, optional
        The longest since the watch began; None without pg_stat_statements. In a record only the last sample has them.
    cpus_used, cpus_waiting, cpus_allowed : float, optional
        Of all its processes: CPU seconds per second, processes that waited for a CPU on average, CPUs they
        may use: those they may run on, or their cgroup's quota.
    """

    connections: dict[str, int]
    connections_used: int
    connections_max: int
    connections_reserved: int
    waits: dict[str, int]
    commits_per_second: float | None = None
    rollbacks_per_second: float | None = None
    wal_bytes_per_second: float | None = None
    database_bytes: dict[str, int] | None = None
    started_at: float
    statements: tuple[Statement, ...] | None = None
    cpus_used: float | None = None
    cpus_waiting: float | None = None
    cpus_allowed: float | None = None

    @property
    def connections_usable(self) -> int:
        """Connections that ordinary roles can have."""
        return self.connections_max - self.connections_reserved


class PrometheusVitals(Vitals):
    """CPU of hosts and containers by a Prometheus: CPU seconds per second by stored query, over minutes [CPUs]."""

    cpus: dict[str, float]


Samples = Annotated[int, Field(ge=1, le=1_000_000_000)]


class Lowest(Vitals):
    """The lowest value of a figure in several samples, and in how many of them it was measured."""

    value: float
    samples: Samples


class VitalsSample(Vitals):
    """One line of the watch; in a long watch several are joined into one.

    Parameters
    ----------
    at : float
        When it was taken, the last of it if it was joined, since the watch began [s].
    launcher, server, postgres, prometheus : optional
        None: not measured, or not asked for.
    missing : dict of str
        Why something asked for is None, by component (``server``) or field (``server.sql_pools``).
    watch_cpu_seconds : float
        CPU time the watch itself has taken so far [s].
    samples : int
        How many it was joined from.
    lowest : dict of Lowest
        Of a joined one each figure that has a limit, by name.
    """

    at: float
    launcher: LauncherVitals | None = None
    server: ServerVitals | None = None
    postgres: PostgresVitals | None = None
    prometheus: PrometheusVitals | None = None
    missing: dict[str, str] = {}
    watch_cpu_seconds: float = 0.0
    samples: Samples = 1
    lowest: dict[str, Lowest] = {}


COMPONENTS: Final = ("launcher", "server", "postgres", "prometheus")
