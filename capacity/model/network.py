"""A scheduler and its cluster as a queueing network: which stations a start visits, and what it demands of each.

    launcher (loops) -> network (delay) -> cluster: shard or store lock -> CPUs

Lock, connection and CPUs are held at once, so the cluster is one flow-equivalent station (Lazowska et al.,
"Quantitative System Performance", 1984, ch. 8 and 9): who has a lock needs a connection for as long, and shares the
connections with what earlier starts still ask of the store after their answer. That leaves `active(n)` of n starts at
work, and those share the CPUs with the work that earlier starts still owe. Invariant: a `Structure` says what a cluster
has, `Parameters` what a start takes; another cluster is another structure with the same demands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from capacity.model.queueing import Closed, Floats, closed, multi_server, separate_queues, shadowed

MAXIMUM_PARALLELISM = 512
"""The rules' cap, and how far predictions go."""
WITHOUT_LIMIT: Final = 1_000_000
"""So many locks or launchers that they cannot bind."""

SQLITE_LOCK: Final = "SQLite's connection"


@dataclass(frozen=True)
class Parameters:
    """What one start takes of the network's stations [s]: all of it known, fitted to a sweep.

    `capacity.model.demands.Demands` is what is known without one, for the ceilings, with None for what is not.

    Parameters
    ----------
    cpu : float
        CPU of server and database together.
    background : float
        Share of `cpu` spent after the answer (transfer and visibility tasks), 0 to 1.
    database : float
        Share of `cpu` that is the database's, 0 to 1. 0 on a store other than SQLite is not told apart: CPUs of both
        are then one pool.
    lock : float
        How long a start holds the one lock it needs (its shard's, or SQLite's connection), without contention. On a
        store with a pool of connections it has one of them meanwhile.
    other : float
        Time that is neither CPU of the cluster nor the network: disk, scheduling.
    launcher : float
        CPU of the launcher's loop when it is busy.
    launcher_idle : float
        CPU of the launcher at low rates, where each start wakes it anew: what it takes from a shared machine.
    cpu_waiter, lock_waiter : float
        Each start that waits for a CPU, or for the same lock, makes all work take this share longer.
    later_connection : float
        How long a connection to the main store is in use after the answer, without contention.
    """

    cpu: float
    background: float
    lock: float
    database: float = 0.0
    other: float = 0.0
    launcher: float = 26e-6
    launcher_idle: float = 300e-6
    cpu_waiter: float = 0.0
    lock_waiter: float = 0.0
    later_connection: float = 0.0

    @property
    def connection(self) -> float:
        """How long a connection to the main store is in use for a start, before and after its answer [s]."""
        return self.lock + self.later_connection


@dataclass(frozen=True)
class Structure:
    """What a cluster and its launcher have.

    Parameters
    ----------
    cpus : float
        CPUs that server and database share; with `database_cpus` the server's alone.
    database_cpus : float, optional
        CPUs of a database on machines of its own.
    locks : int
        Locks of which a start needs one, any alike: shards x shardIOConcurrency; 1 for SQLite's connection.
    lock_name : str
        What they are, in words.
    connections : float
        Connections to the main store; infinite where they cannot bind.
    launchers : int
        Launcher processes, one loop each.
    shares_cpus : bool
        Whether the launcher runs on the cluster's CPUs.
    network_delay : float
        Round trip between launcher and frontend [s].
    """

    cpus: float
    locks: int
    database_cpus: float | None = None
    connections: float = float("inf")
    launchers: int = 1
    shares_cpus: bool = False
    network_delay: float = 0.0
    lock_name: str = "shard locks"

    @classmethod
    def of(cls, store: str, *, cpus: float, locks: int, connections: float, **others: Any) -> Structure:
        """Return the stations with a store: SQLite has one connection, which is its lock, whatever is configured."""
        if store == "sqlite":
            return cls(cpus, 1, connections=float("inf"), lock_name=SQLITE_LOCK, **others)
        return cls(cpus, locks, connections=connections, **others)

    @property
    def all_cpus(self) -> float:
        """CPUs of server and database."""
        return self.cpus + (self.database_cpus or 0.0)


@dataclass(frozen=True)
class Solution:
    """The network solved for populations 1..N.

    Parameters
    ----------
    structure, demands
        What was solved.
    network : Closed
        Stations: the cluster, then the launcher.
    active : array of float, shape (N,)
        Starts in the cluster that have their lock and its connection, for n of them in it.
    """

    structure: Structure
    demands: Parameters
    network: Closed
    active: Floats

    @property
    def throughput(self) -> Floats:
        """Starts per second, for 1..N in flight."""
        return self.network.throughput

    def utilization(self) -> dict[str, Floats]:
        """Return the utilization of each resource, 0 to 1, for 1..N in flight."""
        rate, demands, structure = self.throughput, self.demands, self.structure
        slowed = 1 + (self._inside(_slowing(demands, structure, self.active)) if _slows(demands) else 0.0)
        used = {pool.name: rate * (pool.work + pool.own) * slowed / pool.cpus for pool in _pools(demands, structure)}
        stretched = rate * slowed * self._stretch()
        used[structure.lock_name] = stretched * demands.lock / structure.locks
        if np.isfinite(structure.connections):
            used["connections"] = stretched * demands.connection / structure.connections
        used["launcher"] = rate * demands.launcher / structure.launchers
        return {name: np.minimum(share, 1.0) for name, share in used.items()}

    def _inside(self, of_cluster: Floats) -> Floats:
        """Return a quantity given by the number in the cluster, at the mean number there for each population."""
        size = self.throughput.size
        outside = self.throughput * (self.structure.network_delay + self.demands.other + self.demands.launcher)
        within = np.clip(np.arange(1, size + 1) - outside, 1, size)
        return np.interp(within, np.arange(1, size + 1), of_cluster)

    def _stretch(self) -> Floats:
        """Return how many times longer the work on a start takes than with a CPU of its own."""
        foreground = self.demands.cpu * (1 - self.demands.background)
        return np.maximum(self._inside(self.active) / self.throughput / max(foreground, 1e-9), 1.0)


def solve(structure: Structure, demands: Parameters, population: int = MAXIMUM_PARALLELISM) -> Solution:
    """Predict throughput for 1..`population` starts in flight."""
    active = active_starts(structure, demands, population)
    rates = _cluster_rates(structure, demands, active)
    launcher = multi_server(demands.launcher, structure.launchers, population)
    network = closed((rates, launcher), structure.network_delay + demands.other)
    return Solution(structure, demands, network, active)


def bounds(structure: Structure, demands: Parameters) -> dict[str, float]:
    """Return by resource the starts per second that no number in flight exceeds.

    Source: asymptotic bounds, m servers over the demand of a start (Lazowska et al. 1984, ch. 5).
    """
    found = {pool.name: pool.cpus / (pool.work + pool.own) for pool in _pools(demands, structure)}
    if demands.lock:
        found[structure.lock_name] = structure.locks / demands.lock
        if np.isfinite(structure.connections):
            found["connections"] = structure.connections / demands.connection
    return found | {"launcher": structure.launchers / demands.launcher}


def active_starts(structure: Structure, demands: Parameters, population: int) -> Floats:
    """Return how many of n starts in the cluster are at work on their answer, for n = 1..N: none waits for its lock.

    Nor for a connection. From the closed network of these alone: how the CPUs slow all work down does not change the
    shares.
    """
    n = np.arange(1, population + 1, dtype=float)
    if not demands.lock:
        return n
    work = demands.cpu * (1 - demands.background)
    unlocked = max(work - demands.lock, 0.0)
    network = closed((_lock_rates(structure, demands, population),), unlocked)
    return np.asarray(np.minimum(network.throughput * work, n), dtype=float)


def _lock_rates(structure: Structure, demands: Parameters, population: int) -> Floats:
    """Return the rates at which starts leave their lock, for n = 1..N of them that have or want one."""
    rates = separate_queues(demands.lock, structure.locks, population)
    if np.isinf(structure.connections):
        return rates
    return shadowed(demands.lock, demands.later_connection, structure.connections, rates * demands.lock)


@dataclass(frozen=True)
class _Pool:
    """CPUs, what a start's work takes of them, and what its launcher takes besides [s]."""

    name: str
    cpus: float
    work: float
    own: float = 0.0


def _pools(demands: Parameters, structure: Structure) -> list[_Pool]:
    own = demands.launcher_idle if structure.shares_cpus else 0.0
    told_apart = demands.database > 0 or structure.lock_name == SQLITE_LOCK
    if structure.database_cpus is None or not told_apart:
        return [_Pool("CPUs", structure.all_cpus, demands.cpu, own)]
    pools = [
        _Pool("server CPUs", structure.cpus, demands.cpu * (1 - demands.database), own),
        _Pool("database CPUs", structure.database_cpus, demands.cpu * demands.database),
    ]
    return [pool for pool in pools if pool.work > 0]  # a database inside the server has no CPUs of its own


def _slows(demands: Parameters) -> bool:
    return bool(demands.cpu_waiter or demands.lock_waiter)


def _slowing(demands: Parameters, structure: Structure, active: Floats) -> Floats:
    """Return by which share waiters lengthen the work, for n = 1..N starts in the cluster."""
    n = np.arange(1, active.size + 1)
    waiting = np.maximum(active - structure.all_cpus, 0)
    slower = demands.cpu_waiter * waiting + demands.lock_waiter * (n - active) / structure.locks
    return np.asarray(slower, dtype=float)


def _cluster_rates(structure: Structure, demands: Parameters, active: Floats) -> Floats:
    slowed = 1 + _slowing(demands, structure, active)
    stations = []
    for pool in _pools(demands, structure):
        foreground = pool.work * (1 - demands.background)
        stations.append((foreground, pool.work - foreground + pool.own, pool.cpus))
    if len(stations) == 1:
        return shadowed(*stations[0], active) / slowed
    n = np.arange(active.size + 1, dtype=float)  # from 0: where a lock outlasts the work fewer than one are at it
    inner = closed([shadowed(*station, n[1:]) for station in stations]).throughput
    return np.asarray(np.interp(active, n, np.concatenate([[0.0], inner])) / slowed, dtype=float)
