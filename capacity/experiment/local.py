"""What of a cluster is on this machine: its processes and their CPUs, its metrics page, its database.

Invariants: a process is known by pid and start time, so that a later one with the same pid is never measured; what is
not on this machine is None, never 0.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from capacity.cluster import processes, state
from capacity.cluster.devserver import DevServer
from capacity.cluster.guard import split_address
from capacity.cluster.state import ClusterState
from capacity.errors import ClusterError, UsageError
from capacity.observe.process import CpuMeter, LocalDevServer, children, dev_server
from capacity.rules.cpus import cpu_quota

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
IDLE: Final = 0.15
"""CPUs that server and database may use together and still count as idle."""
WINDOW: Final = 0.5
"""Seconds over which their use is judged."""
SETTLE_MOST: Final = 10.0
"""Seconds to wait for them at most."""

Identity = tuple[int, float]
"""Pid and start time [s since boot]."""


@dataclass(frozen=True)
class LocalCluster:
    """A cluster as far as it is on this machine.

    Parameters
    ----------
    address : str
        Frontend, ``host:port``.
    store : str
        ``sqlite``, ``postgres`` or ``unknown``.
    server, database : tuple of int and float, optional
        Their first processes; a dev server's database is in the server's process.
    metrics_url : str, optional
        The server's Prometheus page.
    postgres : str, optional
        Connection string of its database's administrator, without a password.
    shards, max_conns : int, optional
        None: not known.
    dynamic_config : Mapping[str, str]
        What it was started with.
    database_version : str
        Empty where it is not known.
    """

    address: str
    store: str = "unknown"
    server: Identity | None = None
    database: Identity | None = None
    metrics_url: str | None = None
    postgres: str | None = field(default=None, repr=False)
    shards: int | None = None
    max_conns: int | None = None
    dynamic_config: Mapping[str, str] = field(default_factory=dict)
    database_version: str = ""

    @property
    def cpus(self) -> set[int] | None:
        """CPUs that server or database may run on; None where no process of theirs is known here."""
        allowed: set[int] = set()
        for known in (self.server, self.database):
            if known is not None and processes.alive(*known):
                allowed |= affinity(known[0])
        return allowed or None

    @property
    def cpu_count(self) -> int | None:
        """CPUs they can use together: their affinity, cut by the quota of the server's cgroup, rounded up."""
        cpus, first = self.cpus, self.server or self.database
        if cpus is None or first is None:
            return None
        quota = cpu_quota(first[0])
        return len(cpus) if quota is None else min(len(cpus), math.ceil(quota))

    @property
    def launcher_shares_cpus(self) -> bool:
        """Whether this process has no CPU that server and database leave to it."""
        cpus = self.cpus
        return cpus is not None and not affinity(0) - cpus


def of_devserver(server: DevServer) -> LocalCluster:
    """Return a dev server: one history shard, and SQLite over one connection."""
    return _embedded(server.address, (server.pid, server.started_at), server)


def _embedded(address: str, process: tuple[int, float], server: DevServer | LocalDevServer) -> LocalCluster:
    return LocalCluster(
        address,
        "sqlite",
        process,
        metrics_url=server.metrics_url,
        shards=1,
        max_conns=1,
        dynamic_config=server.dynamic_config,
    )


def of_state(cluster: ClusterState) -> LocalCluster:
    """Return a cluster that this package started, of either store."""
    by_name = {component.name: component for component in cluster.components}
    server = by_name.get("temporal-server") or by_name.get("temporal")
    database = by_name.get("postgresql")
    config = cluster.settings.get("dynamic_config")
    settings = {"shards": 1, "max_conns": 1} if cluster.store == "sqlite" else cluster.settings
    shards, max_conns = settings.get("shards"), settings.get("max_conns")
    return LocalCluster(
        cluster.address,
        cluster.store,
        (server.pid, server.created) if server else None,
        (database.pid, database.created) if database else None,
        cluster.metrics_url or None,
        cluster.postgres,
        shards if isinstance(shards, int) else None,
        max_conns if isinstance(max_conns, int) else None,
        dict(config) if isinstance(config, dict) else {},
        database.version if database else "",
    )


def found(address: str) -> LocalCluster:
    """Return what is known of the cluster at an address: what ``cluster up`` recorded, else a local dev server."""
    host, port = split_address(address)
    if host not in LOOPBACK:
        return LocalCluster(address)
    with contextlib.suppress(ClusterError):
        recorded = state.read()
        if recorded is not None and recorded.ready and split_address(recorded.address)[1] == port and recorded.alive:
            return of_state(recorded)
    running = dev_server(port)
    if running is None:
        return LocalCluster(address)
    return _embedded(address, (running.pid, running.created), running)


class ClusterCpu:
    """CPU of a cluster's processes from one reading to the next."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._server, self._database = cluster.server, cluster.database
        self._meters = CpuMeter(), CpuMeter(threads=False)

    def read(self) -> tuple[float | None, float | None]:
        """Return what server and database used since the last reading [CPUs]; None: not here, or nothing before."""
        server = database = None
        if self._server is not None and processes.alive(*self._server):
            pid = self._server[0]
            server = self._meters[0].read([pid, *children(pid)], parent=pid).used
        if self._database is not None and processes.alive(*self._database):
            pid = self._database[0]
            database = self._meters[1].read([pid, *children(pid)], parent=pid).used
        return server, database


class Quiet:
    """Waits between points until the cluster has done what the last one left to do.

    Parameters
    ----------
    read : callable
        Returns the CPUs used by server and database since its last call.
    sleep : callable
        Takes seconds.
    """

    def __init__(
        self,
        read: Callable[[], tuple[float | None, float | None]],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._read = read
        self._sleep = sleep
        self._idle = math.inf

    def wait(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Return once a window is at idle level, after `SETTLE_MOST` seconds or when told to stop.

        Idle is below `IDLE` CPUs, or, on a cluster that others use too, a quarter above what it used before the first
        point. Where no process is known here one window is waited.
        """
        first = math.isinf(self._idle)
        self._read()
        for _ in range(round((3.0 if first else SETTLE_MOST) / WINDOW)):
            if stop():
                return
            self._sleep(WINDOW)
            known = [use for use in self._read() if use is not None]
            if not known:
                return
            use = sum(known)
            level = IDLE if first else max(IDLE, 1.25 * self._idle)
            self._idle = min(self._idle, use)
            if use <= level:
                return


def affinity(pid: int) -> set[int]:
    """Return the CPUs a process may run on; 0 is this one; empty if it is gone."""
    try:
        return set(os.sched_getaffinity(pid))
    except AttributeError:  # this system has no affinity
        return set(range(os.cpu_count() or 1))
    except OSError:
        return set()


@contextlib.contextmanager
def held_to(cpus: frozenset[int] | None) -> Iterator[None]:
    """Hold this thread to some CPUs for the length of a block: what it starts inherits them for life.

    Raises
    ------
    UsageError
        If this process may not run on them, or the system cannot do it.
    """
    if cpus is None:
        yield
        return
    before = affinity(0)
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("cluster-cpus is given, but this system cannot hold processes to CPUs")
    if not cpus or not cpus <= before:
        raise UsageError(f"cluster-cpus is {_listed(cpus)}", allowed=f"one or more of {_listed(before)}")
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _listed(cpus: frozenset[int] | set[int]) -> str:
    return ",".join(map(str, sorted(cpus))) or "empty"
