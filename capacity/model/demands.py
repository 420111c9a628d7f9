"""What one start needs of each part of a cluster, and what it needed where this project measured it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from capacity.model.network import Parameters


@dataclass(frozen=True)
class Demands:
    """What one start needs, for the ceilings; None is not known.

    `capacity.model.network.Parameters` is what a sweep's fit makes of it, for predictions.

    Parameters
    ----------
    cpu : float, optional
        CPU of server and database together [s]; None is the sum of the two, if both are known.
    server_cpu, database_cpu : float, optional
        CPU of each [s].
    launcher_cpu : float, optional
        CPU of a launcher that has as much to do as it can [s]: one that mostly waits costs several times as much.
    shared_launcher_cpu : float, optional
        What it takes of CPUs that it shares with the cluster, where it mostly waits [s]; None is `launcher_cpu`.
    shard_hold : float, optional
        How long a shard's I/O semaphore, or SQLite's one connection, is held [s].
    connection_hold, visibility_hold : float, optional
        How long a connection to the main store and to visibility's is in use, before and after the answer [s].
    persistence_requests : mapping of float
        Requests to the main store by service: of ``frontend`` and ``history`` those before the answer, of ``matching``
        those for the first workflow task.
    later_requests : mapping of float
        Requests after the answer, by service: of a lower priority, so that they wait and a start does not.
    source : str
        Where the figures come from; empty when they are this cluster's own.
    connection_source : str
        Where `connection_hold` comes from, if from elsewhere than the rest.

    Examples
    --------
    >>> Demands(server_cpu=0.002, database_cpu=0.003).cluster_cpu
    0.005
    """

    cpu: float | None = None
    server_cpu: float | None = None
    database_cpu: float | None = None
    launcher_cpu: float | None = None
    shard_hold: float | None = None
    connection_hold: float | None = None
    visibility_hold: float | None = None
    persistence_requests: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    later_requests: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    source: str = ""
    shared_launcher_cpu: float | None = None
    connection_source: str = ""

    @property
    def cluster_cpu(self) -> float | None:
        """CPU of server and database together [s]."""
        if self.cpu is not None or self.server_cpu is None or self.database_cpu is None:
            return self.cpu
        return self.server_cpu + self.database_cpu


LAUNCHER_CPU: Final = 26e-6
"""CPU of this package's launcher, saturated, against a stub [s per start]; benchmarks/RESULTS.md has 8-37 µs."""
REQUESTS: Final = MappingProxyType({"frontend": 0.0, "history": 1.0, "matching": 1.0})
"""Counted on the metrics page of server 1.32 with PostgreSQL (`persistence_requests`) over 2,000 starts at 16 in
flight and 1,000 at one: history CreateWorkflowExecution 1.000; frontend none; matching CreateTasks 0.74 (it takes
several at once) and 1.00. That only CreateWorkflowExecution comes before the answer was seen with
history.persistenceMaxQPS = 30: 29 starts/s went on while the others were refused."""
LATER: Final = MappingProxyType({"history": 3.2})
"""The same page: GetTransferTasks, GetVisibilityTasks and GetWorkflowExecution 1.00 each, queue upkeep 0.16."""
CONNECTION_OVER_LOCK: Final = 2.05
"""How many times as long as its shard a start holds a connection, where a sweep did not measure it: as shipped for
PostgreSQL. CreateWorkflowExecution is under the shard's lock; the later requests above are as long again."""
TYPICAL: Final[Mapping[str, Demands]] = MappingProxyType(
    {
        # data/measurements: CPU at 64 in flight on PostgreSQL 15, 64 shards, 2 shared cores; a single
        # shard made 222 starts/s at most there.
        "postgres": Demands(
            server_cpu=2.525e-3,
            database_cpu=3.237e-3,
            launcher_cpu=LAUNCHER_CPU,
            shard_hold=1 / 222,
            connection_hold=CONNECTION_OVER_LOCK / 222,
            persistence_requests=REQUESTS,
            later_requests=LATER,
            source="typical, measured on a 2-core PostgreSQL stack, not on yours",
        ),
        # data/measurements: server CPU 3.2-4.2 ms with SQLite in it. The dev server reads namespace and
        # search attributes anew for each start: frontend GetNamespace and GetCurrentClusterMetadata 1.00 each;
        # after the answer GetWorkflowExecution 1.00, GetTransferTasks and GetVisibilityTasks 0.31 each.
        "sqlite": Demands(
            server_cpu=3.7e-3,
            database_cpu=0.0,
            launcher_cpu=LAUNCHER_CPU,
            persistence_requests=MappingProxyType({**REQUESTS, "frontend": 2.0}),
            later_requests=MappingProxyType({"history": 1.6}),
            source="typical, measured on a 2-core dev server, not on yours",
        ),
    }
)


def typical(store: str) -> Demands:
    """Demands measured on a small machine of this project, by store; of other stores only what any store needs.

    Parameters
    ----------
    store : str
        ``sqlite``, ``postgres``, ``mysql``, ``cassandra`` or ``cloud``.

    Returns
    -------
    Demands
        CPU and holds [s per start].

    Examples
    --------
    >>> typical("cassandra").cluster_cpu is None
    True
    """
    other = Demands(
        launcher_cpu=LAUNCHER_CPU,
        persistence_requests=REQUESTS,
        later_requests=LATER,
        source="typical, measured on 2 cores, not on yours",
    )
    return TYPICAL.get(store, other)


def fitted(demands: Parameters, store: str, source: str, *, connection_measured: bool = True) -> Demands:
    """Return what a sweep's fit says a start needs; what no sweep tells is that of any server.

    Parameters
    ----------
    demands : Parameters
        The fit's.
    store : str
        The cluster's.
    source : str
        Which sweep it was.
    connection_measured : bool
        Whether it measured how long a connection is in use; else that is `CONNECTION_OVER_LOCK`.

    Examples
    --------
    >>> fitted(Parameters(cpu=0.008, background=0.2, lock=0.005, database=0.5), "postgres", "mine").server_cpu
    0.004
    """
    told_apart, usual = bool(demands.database) or store == "sqlite", typical(store)
    return replace(
        usual,
        cpu=demands.cpu,
        server_cpu=demands.cpu * (1 - demands.database) if told_apart else None,
        database_cpu=demands.cpu * demands.database if told_apart else None,
        launcher_cpu=demands.launcher,
        shared_launcher_cpu=demands.launcher_idle,
        shard_hold=demands.lock or None,
        connection_hold=None if store == "sqlite" else demands.connection or None,
        source=source,
        connection_source="" if connection_measured else usual.source,
    )
