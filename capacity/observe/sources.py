"""Where vitals are read: what was named, else the cluster of this machine that the target is."""

from __future__ import annotations

from dataclasses import dataclass, field

from capacity.cluster import processes, state
from capacity.errors import ClusterError
from capacity.observe.pages import Site
from capacity.observe.postgres import PostgresSource, checked_dsn
from capacity.observe.process import dev_server
from capacity.observe.prometheus import PrometheusSource
from capacity.observe.server import ServerSource
from capacity.observe.watcher import Source

_LOOPBACK = {"127.0.0.1", "localhost", "::1", "[::1]"}


@dataclass(frozen=True)
class Places:
    """Where the vitals of a cluster are read.

    Parameters
    ----------
    server_metrics : str, optional
        The server's Prometheus page; None is that of the cluster `capacity cluster up` left at the target's address.
    postgres : str, optional
        Connection string of its PostgreSQL; None likewise. It may hold a password and is shown nowhere.
    prometheus : str, optional
        A Prometheus that knows the CPU of hosts and containers.

    Raises
    ------
    UsageError
        If one of them cannot be read.
    """

    server_metrics: str | None = None
    postgres: str | None = field(default=None, repr=False)
    prometheus: str | None = None

    def __post_init__(self) -> None:
        for option, url in (("--server-metrics", self.server_metrics), ("--prometheus", self.prometheus)):
            if url is not None:
                Site(url, option)
        if self.postgres is not None:
            checked_dsn(self.postgres)

    def named(self) -> list[Source]:
        """Return the sources of what is named."""
        found: list[Source] = []
        if self.server_metrics is not None:
            found.append(ServerSource(self.server_metrics))
        if self.postgres is not None:
            found.append(PostgresSource(self.postgres))
        if self.prometheus is not None:
            found.append(PrometheusSource(self.prometheus))
        return found


def find(address: str, places: Places) -> list[Source]:
    """Return the sources for a target: those named, and for the rest those of a local cluster at its address.

    Parameters
    ----------
    address : str
        The target's frontend, ``host:port``.
    places : Places
        What was named.
    """
    found = places.named()
    have = {source.component for source in found}
    try:
        cluster = state.read()
    except ClusterError:
        cluster = None
    if cluster is None or not cluster.ready or not _same(cluster.address, address):
        return [*found, *(() if "server" in have else _dev_server(address))]
    server = cluster.components[-1]
    known = processes.alive(server.pid, server.created)
    if not known and (others := _dev_server(address)):  # recorded, but gone: another one has its address now
        return [*found, *(() if "server" in have else others)]
    if "server" not in have and cluster.metrics_url:
        found.append(ServerSource(cluster.metrics_url, *((server.pid, server.created) if known else ())))
    if "postgres" not in have and cluster.postgres is not None:
        found.append(PostgresSource(cluster.postgres))
    return found


def _dev_server(address: str) -> list[Source]:
    """Return the source of a dev server that somebody started here."""
    host, _, port = address.rpartition(":")
    running = dev_server(int(port)) if host in _LOOPBACK and port.isdigit() else None
    if running is None or running.metrics_url is None:
        return []
    return [ServerSource(running.metrics_url, running.pid, running.created)]


def _same(one: str, other: str) -> bool:
    """Whether two addresses are one; all names of this machine are the same.

    >>> _same("127.0.0.1:7233", "localhost:7233"), _same("127.0.0.1:7233", "10.0.0.1:7233")
    (True, False)
    """
    (host, _, port), (other_host, _, other_port) = one.rpartition(":"), other.rpartition(":")
    return port == other_port and (host == other_host or {host, other_host} <= _LOOPBACK)
