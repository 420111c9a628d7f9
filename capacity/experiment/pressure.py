"""What takes the time of a start on a live stack: statements, waits, pools, CPU, bytes, and which indexes nobody uses.

Invariants: only reads of the database, but for `drop`, which is for a cluster of our own; what is not measured is None.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from capacity.cluster.guard import starts_left
from capacity.cluster.target import Target
from capacity.cluster.temporal_server import VISIBILITY
from capacity.errors import ClusterError
from capacity.experiment import points, store
from capacity.experiment.local import ClusterCpu, LocalCluster, Quiet
from capacity.model.measurement import Storage
from capacity.observe.joining import joined
from capacity.observe.postgres import PostgresSource
from capacity.observe.server import ServerSource
from capacity.observe.vitals import VitalsSample
from capacity.observe.watcher import Source, Watcher

STOCK_QUERIES: Final = frozenset(
    ("default_idx", "by_execution_time", "by_workflow_id", "by_workflow_type", "by_status")
)
"""Indexes that listing by the server's own interface and by ``temporal workflow list`` needs, used so far or not."""
FEWEST: Final = 100
_INDEXES: Final = """
SELECT s.schemaname, s.indexrelname, pg_relation_size(s.indexrelid), s.idx_scan, i.indisunique
FROM pg_stat_user_indexes s JOIN pg_index i USING (indexrelid)
WHERE s.relname = 'executions_visibility' ORDER BY 3 DESC, 2
"""


@dataclass(frozen=True)
class Index:
    """One index of the visibility table.

    Parameters
    ----------
    schema, name : str
    bytes : int
    per_start : float
        Bytes by which a start makes it longer.
    scans : int
        How often a query has used it since the statistics were reset.
    unique : bool
        Whether it also holds a rule, so that it can never be dropped for not being used.
    """

    schema: str
    name: str
    bytes: int
    per_start: float
    scans: int
    unique: bool

    @property
    def unused(self) -> bool:
        """Whether neither a query has used it nor the server's own lists need it."""
        return not self.scans and not self.unique and self.name not in STOCK_QUERIES

    @property
    def drop(self) -> str:
        """The statement that drops it, without holding up the writers."""
        return f'DROP INDEX CONCURRENTLY IF EXISTS "{self.schema}"."{self.name}";'


@dataclass(frozen=True)
class Pressure:
    """What a load met.

    Parameters
    ----------
    starts : int
    seconds : float
        Of the load [s].
    throughput : float
        Starts per second.
    in_flight : float, optional
        Mean number; None where the load is others' and the server did not say how long their starts take.
    server_cpu, database_cpu, launcher_cpu : float, optional
        CPU seconds per start [s].
    storage : Storage
        Bytes per start and statements.
    indexes : tuple of Index
        Of visibility, largest first.
    shard_wait : float, optional
        What a request waits for its shard [s].
    pools : dict of pair of int
        Connections in use at most and allowed, by service and store.
    waits : dict of float
        Active database processes by what they wait for, on average.
    flag : str
        Why the load says little; empty if it does not.
    """

    starts: int
    seconds: float
    throughput: float
    in_flight: float | None
    server_cpu: float | None
    database_cpu: float | None
    launcher_cpu: float | None
    storage: Storage
    indexes: tuple[Index, ...]
    shard_wait: float | None
    pools: dict[str, tuple[int, int]]
    waits: dict[str, float]
    flag: str = ""

    @property
    def unused(self) -> tuple[Index, ...]:
        """Indexes that nobody uses."""
        return tuple(index for index in self.indexes if index.unused)


def press(
    target: Target,
    cluster: LocalCluster,
    parallelism: int | None,
    seconds: float,
    *,
    allowed: Iterable[str] = (),
    stop: Callable[[], bool] = lambda: False,
    ended_early: Callable[[int, str], None] = lambda started, prefix: None,
) -> tuple[Pressure, str, int]:
    """Return what a short load meets, the prefix of its ids, and how many starts it made.

    Parameters
    ----------
    target : Target
    cluster : LocalCluster
        With a PostgreSQL that may be asked.
    parallelism : int, optional
        In flight; None makes no load and reads the one that runs.
    seconds : float
        How long [s].
    ended_early : callable, optional
        Called with the starts of the load and the prefix of their ids where it was made and nothing is returned.

    Raises
    ------
    ClusterError
        If the database is not known or refuses, or too few starts were made.
    GuardRefusalError
        If ``CAPACITY_MAX_STARTS`` leaves no start, or fewer than the load made.
    KeyboardInterrupt
        If it was stopped.
    """
    dsn = cluster.postgres
    if dsn is None:
        raise ClusterError(
            f"the database of the cluster at {cluster.address} is not known here",
            next_step="levers reads a PostgreSQL stack that 'capacity cluster up --store postgres' started",
        )
    most = starts_left(0) if parallelism is not None else None
    prefix = f"levers-{secrets.token_hex(4)}"
    if parallelism is not None:
        Quiet(ClusterCpu(cluster).read).wait(stop)
    before, sizes = store.read_state(dsn), _sizes(dsn)
    cpu, taken, made = ClusterCpu(cluster), None, points.Starts()
    sources: list[Source] = [PostgresSource(dsn)]
    sources += [ServerSource(cluster.metrics_url, *(cluster.server or ()))] if cluster.metrics_url else []
    watcher = Watcher(sources)
    began = time.monotonic()
    try:
        with watcher:
            if parallelism is None:
                cpu.read()
                while time.monotonic() < began + seconds and not stop():
                    time.sleep(0.1)
            else:
                load = points.measure(
                    target,
                    parallelism,
                    seconds,
                    prefix=prefix,
                    starts=made,
                    cpu=cpu,
                    allowed=tuple(allowed),
                    most=most,
                    rps_limit=store.rps_limit(cluster.metrics_url),
                    stop=stop,
                )
                taken = asyncio.run(load)
            lasted = time.monotonic() - began
            used = cpu.read() if taken is None else (None, None)
        if stop():
            raise KeyboardInterrupt
        if taken is not None and taken.point is None:
            starts_left(taken.started)  # says so if the cap on starts is what ended it
            raise ClusterError(f"the load with {parallelism} in flight ended before it was measured")
        if taken is not None:
            store.wait_for_rows(dsn, before.rows + taken.started)
        after, grown = store.read_state(dsn), _sizes(dsn)
        starts, lasted = (after.rows - before.rows, after.at - before.at) if taken is None else (taken.started, lasted)
        if starts < FEWEST:
            raise ClusterError(
                f"{starts} starts in {lasted:.0f} s are too few to tell what takes their time",
                next_step="read a load of at least 100 starts, or leave --no-load out",
            )
    except BaseException:  # whatever ends it: what it started stays on the cluster
        ended_early(made.made, prefix)
        raise
    vitals = joined(watcher.samples) if watcher.samples else VitalsSample(at=0.0)
    point = taken.point if taken is not None else None
    throughput = point.throughput if point is not None else starts / lasted
    mean = vitals.server.start_mean if vitals.server is not None else None
    others = None if mean is None else max(throughput * mean, 1.0)  # by Little's law
    server_cpu = point.server_cpu if point is not None else points.per_start(used[0], throughput)
    database_cpu = point.database_cpu if point is not None else points.per_start(used[1], throughput)
    pressure = Pressure(
        starts=starts,
        seconds=point.seconds if point is not None else lasted,
        throughput=throughput,
        in_flight=float(point.parallelism) if point is not None else others,
        server_cpu=server_cpu,
        database_cpu=database_cpu,
        launcher_cpu=point.launcher_cpu if point is not None else None,
        storage=store.storage_between(before, after, starts),
        indexes=_indexes(sizes, grown, starts),
        shard_wait=vitals.server.shard_wait_mean if vitals.server is not None else None,
        pools=_pools(vitals),
        waits=_waits(watcher.samples),
        flag=point.flag.value if point is not None and point.flag is not None else "",
    )
    return pressure, prefix, taken.started if taken is not None else 0


def drop_unused(cluster: LocalCluster) -> None:
    """Drop the unused visibility indexes of a cluster of our own."""
    if cluster.postgres is None:
        raise ClusterError("there is no PostgreSQL whose indexes could be dropped")
    with store.connected(cluster.postgres, VISIBILITY) as connection:
        for index in _indexes((), _sizes(cluster.postgres), 1):
            if index.unused:
                connection.execute(index.drop)


_Sizes = tuple[tuple[str, str, int, int, bool], ...]


def _sizes(dsn: str) -> _Sizes:
    with store.connected(dsn, VISIBILITY) as connection:
        return tuple((row[0], row[1], int(row[2]), int(row[3]), bool(row[4])) for row in connection.execute(_INDEXES))


def _indexes(before: _Sizes, after: _Sizes, starts: int) -> tuple[Index, ...]:
    small = {(schema, name): size for schema, name, size, *_ in before}
    return tuple(
        Index(schema, name, size, (size - small.get((schema, name), size)) / starts, scans, unique)
        for schema, name, size, scans, unique in after
    )


def _pools(vitals: VitalsSample) -> dict[str, tuple[int, int]]:
    pools = (vitals.server.sql_pools if vitals.server is not None else None) or {}
    return {name: (pool.in_use, pool.max_open) for name, pool in pools.items()}


def _waits(samples: Iterable[VitalsSample]) -> dict[str, float]:
    read = [sample.postgres.waits for sample in samples if sample.postgres is not None]
    names = sorted({name for waits in read for name in waits})
    return {name: sum(waits.get(name, 0) for waits in read) / len(read) for name in names}
