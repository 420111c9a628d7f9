"""What a sweep measures: points of a closed loop at fixed parallelism, and under which conditions.

Invariants: what was not measured is None, never 0; a point with a flag other than None is left out of the fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


MOST_CPUS: Final = 1_000_000
"""CPUs of a cluster at most."""
MOST_OVER_LOCK: Final = 1_000.0
"""How many times as long as a lock a connection is in use, at most."""

_Positive = Annotated[float, Field(gt=0, le=1e9)]
_Whole = Annotated[int, Field(ge=1, le=1_000_000)]
_Seconds = Annotated[float, Field(ge=0, le=3600)]


class Flag(StrEnum):
    """Why a point says nothing of the cluster's own capacity."""

    LAUNCHER_BOUND = "launcher-bound"
    THROTTLED = "throttled"
    TOO_SHORT = "too short"
    FAILED = "failed starts"
    LITTLE = "in flight, throughput and latency disagree"


class Point(_Record):
    """One run at a fixed parallelism, ramp left out.

    Attributes
    ----------
    parallelism : int
        Starts in flight.
    repeat : int
        Round of the sweep, from 0.
    order : int
        Place in the sweep, from 0: drift follows it.
    seconds : float
        Measured span [s].
    starts : int
        Starts answered in it.
    throughput : float
        Starts per second [1/s].
    mean, p50, p99 : float
        Latency [s].
    in_flight : float
        Mean number in flight, as sampled; throughput x mean by Little's law should equal it.
    launcher_cpu, server_cpu, database_cpu : float, optional
        CPU seconds per start [s].
    open_workflows : int
        Workflows the server already held when the point began, as far as the sweep made them.
    throttled : int
        Attempts refused for their rate.
    throttle_cause, throttle_scope : str, optional
        Of the most frequent refusal.
    flag : Flag, optional
        Why the point is left out of the fit.
    holdout : bool
        Whether it is kept from the fit, to be predicted.
    """

    parallelism: int = Field(ge=1, le=4096)
    repeat: int = 0
    order: int = 0
    seconds: _Positive
    starts: int
    throughput: _Positive
    mean: _Positive
    p50: _Positive
    p99: _Positive
    in_flight: float | None = None
    launcher_cpu: _Seconds | None = None
    server_cpu: _Seconds | None = None
    database_cpu: _Seconds | None = None
    open_workflows: int = 0
    throttled: int = 0
    throttle_cause: str | None = None
    throttle_scope: str | None = None
    flag: Flag | None = None
    holdout: bool = False

    @property
    def cpu(self) -> float | None:
        """CPU of server and database per start [s]; None: not measured."""
        return None if self.server_cpu is None else self.server_cpu + (self.database_cpu or 0.0)


class Conditions(_Record):
    """Where a sweep was made.

    Attributes
    ----------
    store : str
        ``sqlite``, ``postgres`` or ``unknown``.
    cluster_cpus : int
        CPUs server and database could use together.
    launcher_shares_cpus : bool
        Whether the launcher ran on those same CPUs.
    shards, shard_io_concurrency, max_conns, history_hosts, frontends : int, optional
        None: not known.
    network_delay : float
        Round trip between launcher and frontend [s].
    dynamic_config : dict of str
        Limits that were raised.
    server_version, database_version : str
    fresh : str
        What was fresh: ``round`` (a new server for each round), ``point`` or ``no``.
    """

    store: str = "unknown"
    cluster_cpus: int = Field(ge=1, le=MOST_CPUS)
    launcher_shares_cpus: bool
    shards: _Whole | None = None
    shard_io_concurrency: _Whole | None = None
    max_conns: _Whole | None = None
    history_hosts: _Whole | None = 1
    frontends: _Whole | None = 1
    network_delay: float = Field(default=0.0, ge=0, le=60)
    dynamic_config: dict[str, str] = {}
    server_version: str = ""
    database_version: str = ""
    fresh: str = "no"


class StatementShare(_Record):
    """One kind of statement: its share of all statement time, and seconds per start [s]."""

    query: str
    calls_per_start: float
    seconds_per_start: float
    share: float


class Storage(_Record):
    """Bytes a start leaves behind, before any workflow task [bytes], and where the database's time goes.

    Attributes
    ----------
    main, visibility, wal : float
        Bytes per start in the main store, the visibility store (indexes included) and the write-ahead log.
    starts : int
        Starts over which it was measured.
    visibility_indexes : int, optional
        Indexes of the visibility table.
    statements : tuple of StatementShare
        Longest first; empty where pg_stat_statements was not there.
    """

    main: float
    visibility: float
    wal: float | None = None
    starts: int
    visibility_indexes: int | None = None
    statements: tuple[StatementShare, ...] = ()


class LauncherMemory(_Record):
    """Resident set of a launcher process [bytes]: base, more per start in flight, more per item (its journal)."""

    base: float
    per_in_flight: float
    per_item: float


class StoreTimes(_Record):
    """What the server itself measured per start at one in flight [s].

    Attributes
    ----------
    shard_hold : float, optional
        How long a shard's I/O semaphore is held per start.
    connection_hold : float, optional
        How long a connection of the main store is in use per start.
    persistence_requests : dict of float
        Requests to the store per start, by service (``frontend``, ``history``, ``matching``).
    starts : int
        Starts over which they were measured.
    mean : float, optional
        Mean latency of those starts [s]: a machine busy with other work stretches it and the holds alike.
    """

    shard_hold: _Seconds | None = None
    connection_hold: _Seconds | None = None
    persistence_requests: dict[str, float] = {}
    starts: int = 0
    mean: _Seconds | None = None

    @property
    def connection_over_lock(self) -> float | None:
        """How many times as long as its shard a start holds a connection; None: not measured."""
        if not self.shard_hold or not self.connection_hold:
            return None
        return min(max(self.connection_hold / self.shard_hold, 1.0), MOST_OVER_LOCK)


class Measurements(_Record):
    """A sweep: its conditions, its points, and what else it measured.

    Attributes
    ----------
    conditions, points, storage, memory, times
        None: not measured.
    seed : int, optional
        Of the order of the points.
    measured_at : str
        When it began, ISO 8601.
    note : str
        What the user wants to remember of it.
    """

    conditions: Conditions
    points: tuple[Point, ...]
    storage: Storage | None = None
    memory: LauncherMemory | None = None
    times: StoreTimes | None = None
    seed: int | None = None
    measured_at: str = ""
    note: str = ""


def usable(points: Sequence[Point]) -> list[Point]:
    """Return the points that are fitted: those that say something of the cluster and are not kept to be predicted."""
    return [point for point in points if point.flag is None and not point.holdout]
