"""Ceilings of a cluster in starts per second, from its configuration and a few demands: which limit is hit first.

Invariants: ceilings that cap starts come first, lowest first; then those that only delay what follows a start; then
those that are no limit or not known, which have no number. Nothing here needs a measurement, and a figure that rests
on somebody else's says so.

Sources: limits, their scope and burst: server 1.32, service/*/fx.go, service/*/configs/quotas.go, common/quotas. A
token bucket lets ``burst`` through at once, then its rate. A start is 1 request of the first priority to a frontend,
1 to a history host, and afterwards 1 to matching; requests of a lower priority take nothing from it. An asymptotic
bound of a station with m servers and demand D is m / D: Lazowska et al., Quantitative System Performance (1984), ch. 5.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from capacity.model.ceiling import NO_LIMIT, NOT_KNOWN, Ceiling, Raised
from capacity.model.cluster import Cluster
from capacity.model.demands import CONNECTION_OVER_LOCK, Demands, typical
from capacity.model.network import SQLITE_LOCK
from capacity.model.words import each_of, many, milliseconds, number

__all__ = [
    "NOT_KNOWN",
    "NO_LIMIT",
    "Ceiling",
    "Demands",
    "Raised",
    "binding",
    "ceilings",
    "typical",
    "verdict",
]

INCOMING_BURST: Final = 2
"""Seconds of its rate that a request limit lets through at once (common/quotas/dynamic_rate_limiter_impl.go)."""
STORE_BURST: Final = 1
"""The same of a limit on database requests (``system.persistenceQPSBurstRatio``)."""
SHARDS: Final = "shards"
"""Key of what is fixed when a cluster is made (``numHistoryShards``)."""
ONE_WRITER: Final = "store"
"""Key of SQLite's one connection, which no number raises."""


def ceilings(cluster: Cluster, demands: Demands | None = None) -> tuple[Ceiling, ...]:
    """Every ceiling of a cluster, in the order of this module's invariants, each with what raising it buys.

    Parameters
    ----------
    cluster : Cluster
        Its configuration.
    demands : Demands, optional
        What a start needs there; by default what is `typical` of its store.

    Returns
    -------
    tuple of Ceiling
        The binding one first; see `binding`.

    Examples
    --------
    >>> found = ceilings(Cluster(name="mine", server_cores=64, database_cores=64, shards=512, max_conns=80))
    >>> [(ceiling.key, ceiling.starts_per_second) for ceiling in found[:3]]
    [('frontend.rps', 2400), ('frontend.namespaceRPS', 2400), ('history.rps', 3000)]
    """
    needs = typical(cluster.store) if demands is None else demands
    found = list(_cloud(cluster) if cluster.store == "cloud" else _own(cluster, needs))
    found.append(_launcher(cluster, needs))
    found.sort(key=lambda ceiling: (not ceiling.known, not ceiling.caps_starts, ceiling.rate))
    capping = [ceiling for ceiling in found if ceiling.known and ceiling.caps_starts]
    raised = [Raised(high.rate, high.key, _needed(low, high.rate)) for low, high in pairwise(capping)]
    return (*(replace(low, raised=to) for low, to in zip(capping, raised, strict=False)), *found[len(raised) :])


def binding(found: Sequence[Ceiling]) -> Ceiling | None:
    """The ceiling that binds first; None when no number is known.

    Parameters
    ----------
    found : sequence of Ceiling
        As `ceilings` orders them.

    Examples
    --------
    >>> first = binding(ceilings(Cluster(name="mine", server_cores=64, database_cores=64, shards=512, max_conns=80)))
    >>> first.key, first.starts_per_second
    ('frontend.rps', 2400)
    """
    return found[0] if found and found[0].known and found[0].caps_starts else None


def verdict(found: Sequence[Ceiling]) -> str:
    """Which ceiling binds, from when on, and how far raising it would lead, in plain sentences."""
    first = binding(found)
    if first is None:
        return f"Which limit binds is {NOT_KNOWN}: run capacity sweep."
    level = [ceiling for ceiling in found if ceiling.caps_starts and ceiling.rate <= first.rate]
    together, last = " and ".join(f"{ceiling.name} ({ceiling.key})" for ceiling in level), level[-1]
    words = [f"The limit is {number(first.rate)} starts/s, set by {together}: {first.reason}."]
    if first.source:
        words.append(f"That cost is {first.source}.")
    bursts = [ceiling.burst for ceiling in level if ceiling.burst is not None]
    if len(bursts) == len(level):  # a resource that ties with a rate saves nothing up
        passed = number(min(bursts))
        words.append(f"A burst of {passed} starts passes before it bites: a batch of up to {passed} never feels it.")
    if last.raised is None:
        words.append(f"What binds after it is {NOT_KNOWN}.")
    else:
        to = last.raised.starts_per_second
        takes = " and ".join(_more(ceiling, to) for ceiling in level)
        verb = "It takes" if {SHARDS, ONE_WRITER} & {ceiling.key for ceiling in level} else "Raise"
        words.append(
            f"{verb} {takes} ({number(to / first.rate)} times) to reach {number(to)} starts/s, "
            f"where {last.raised.binds} is next."
        )
    return " ".join(words)


def _more(ceiling: Ceiling, rate: float) -> str:
    """What of a ceiling lets a rate through, in words."""
    needed = _needed(ceiling, rate)
    if ceiling.key == SHARDS:  # numHistoryShards is fixed when a cluster is made
        return f"a new cluster with {2 ** math.ceil(math.log2(needed)):,} shards"
    if ceiling.key == ONE_WRITER:
        pool = math.ceil(rate / ceiling.rate * CONNECTION_OVER_LOCK)
        return f"a store other than SQLite, with {2 ** math.ceil(math.log2(needed)):,} shards and {pool:,} connections"
    return f"{ceiling.key} from {number(ceiling.value)} to {number(needed)}"


def _needed(ceiling: Ceiling, rate: float) -> float:
    """The value that lets a rate through: every ceiling is proportional to what sets it."""
    return math.ceil(ceiling.value * (rate / ceiling.rate) * (1 - 1e-12))


def _cloud(cluster: Cluster) -> Iterator[Ceiling]:
    for name, key, unit in (
        ("Cloud actions", "actions_per_second", "action"),
        ("Cloud requests", "requests_per_second", "request"),
    ):
        rate = getattr(cluster, key)
        yield Ceiling(name, rate, key, rate, "namespace", None, f"a start is one {unit}")


def _own(cluster: Cluster, needs: Demands) -> Iterator[Ceiling]:
    yield from _requests(cluster)
    yield from _store_requests(cluster, needs)
    yield from _cpus(cluster, needs)
    yield from _waits(cluster, needs)


def _requests(cluster: Cluster) -> Iterator[Ceiling]:
    ratio = cluster.limits["frontend.namespaceBurstRatio"]
    for name, key, cluster_key, burst in (
        ("frontend requests", "frontend.rps", "frontend.globalRPS", INCOMING_BURST),
        ("namespace limit", "frontend.namespaceRPS", "frontend.globalNamespaceRPS", ratio),
    ):
        if cluster.limits[cluster_key]:  # takes the place of the other key
            rate = cluster.limits[cluster_key]
            reason = f"{number(rate)} requests a second over all frontends; {key} is not in force"
            yield Ceiling(name, rate, cluster_key, rate, "cluster", rate * burst, reason)
        else:
            yield _per_host(cluster, name, key, "frontend", cluster.frontends, burst)
    yield _per_host(cluster, "history requests", "history.rps", "history host", cluster.history_hosts, INCOMING_BURST)
    first_task = _per_host(
        cluster, "first tasks", "matching.rps", "matching host", cluster.matching_hosts, INCOMING_BURST
    )
    yield replace(first_task, caps_starts=False, reason=f"{first_task.reason}; it delays the first task, not the start")


def _per_host(cluster: Cluster, name: str, key: str, host: str, hosts: int, burst: float) -> Ceiling:
    limit = cluster.limits[key]
    reason = f"{number(limit)} requests a second on {each_of(host, hosts)}, a start is one"
    if host == "frontend" and hosts > 1:
        reason += "; the launcher needs connections to all of them"
    return Ceiling(name, limit * hosts, key, limit, f"each {host}", limit * hosts * burst, reason, hosts=hosts)


def _store_requests(cluster: Cluster, needs: Demands) -> Iterator[Ceiling]:
    before, later = needs.persistence_requests, needs.later_requests.get("history")
    first_task = "; it delays the first task, not the start"
    yield _to_store(cluster, "frontend", "frontend to store", before.get("frontend"))
    yield _to_store(cluster, "history", "history to store", before.get("history"))
    matching = _to_store(cluster, "matching", "matching to store", before.get("matching"))
    yield replace(matching, caps_starts=False, reason=f"{matching.reason}{first_task}")
    if later is not None and "history" in before:
        total = _to_store(cluster, "history", "later work", before["history"] + later)
        reason = f"{total.reason} with the work after its answer; it delays that work, not the start"
        yield replace(total, caps_starts=False, reason=reason)


def _to_store(cluster: Cluster, service: str, name: str, requests: float | None) -> Ceiling:
    hosts = {"frontend": cluster.frontends, "history": cluster.history_hosts, "matching": cluster.matching_hosts}[
        service
    ]
    key = f"{service}.persistenceMaxQPS"
    limit = cluster.limits[key]
    rate, reason = None, NOT_KNOWN
    if not limit:
        rate, reason = math.inf, "0 switches it off"
    elif requests == 0:
        rate, reason = math.inf, f"a start asks the database nothing in a {service} host"
    elif requests is not None:
        rate = limit * hosts / requests
        of = f"{limit:,} database requests a second on {each_of(f'{service} host', hosts)}"
        reason = f"{of}, a start takes {number(requests, 2)}"
    burst = rate * STORE_BURST if rate is not None and math.isfinite(rate) else None
    return Ceiling(name, rate, key, limit, f"each {service} host", burst, reason, hosts=hosts)


def _cpus(cluster: Cluster, needs: Demands) -> Iterator[Ceiling]:
    if cluster.cores is not None:
        who, cost = "server and database", needs.cluster_cpu
        if cluster.launcher_shares_cores:
            who = "server, database and launcher"
            own = needs.launcher_cpu if needs.shared_launcher_cpu is None else needs.shared_launcher_cpu
            cost = None if cost is None else cost + (own or 0.0)
        yield _station("CPU", "cores", cluster.cores, 1, cost, f"CPU of {who}", "core", needs)
        return
    for part, cost in (("server", needs.server_cpu), ("database", needs.database_cpu)):
        cores = getattr(cluster, f"{part}_cores")
        yield _station(f"{part} CPU", f"{part}_cores", cores, 1, cost, "CPU", "core", needs)


def _waits(cluster: Cluster, needs: Demands) -> Iterator[Ceiling]:
    hosts, each = cluster.history_hosts, cluster.shard_io_concurrency
    of = f" x {hosts} history hosts" if hosts > 1 else ""
    if cluster.store == "sqlite":  # has one connection, whatever is configured, and each start waits for it
        yield _station(SQLITE_LOCK, ONE_WRITER, 1, 1, needs.shard_hold, "hold", "connection", needs)
    else:
        at_once = f" x {each} at once" if each > 1 else ""
        yield _station("shards", SHARDS, cluster.shards, each, needs.shard_hold, "hold", "shard", needs, at_once)
        pool, use = cluster.max_conns, needs.connection_hold
        own = replace(needs, source=needs.connection_source or needs.source)
        yield _station("connections", "max_conns", pool, hosts, use, "use", "connection", own, of)
    pool, use = cluster.visibility_max_conns, needs.visibility_hold
    shown = _station("visibility writes", "visibility_max_conns", pool, hosts, use, "use", "connection", needs, of)
    yield replace(shown, caps_starts=False, reason=f"{shown.reason}; it delays the record, not the start")


def _launcher(cluster: Cluster, needs: Demands) -> Ceiling:
    count = cluster.launcher_processes
    return _station("launcher", "launcher_processes", count, 1, needs.launcher_cpu, "CPU", "process", needs)


def _station(
    name: str,
    key: str,
    value: int,
    each: int,
    demand: float | None,
    of: str,
    server: str,
    needs: Demands,
    more: str = "",
) -> Ceiling:
    """The bound of a station with value x each servers: servers / demand."""
    if demand is None:
        return Ceiling(name, None, key, value, "cluster", None, NOT_KNOWN)
    rate = value * each / demand if demand else math.inf
    reason = (
        f"{many(value, server)}{more}, a start {_taken(of, milliseconds(demand), value * each)}"
        if demand
        else f"a start takes no {of}"
    )
    return Ceiling(name, rate, key, value, "cluster", None, reason, source=needs.source if demand else "")


def _taken(of: str, time: str, servers: int) -> str:
    """Return what a start does with a station: it holds or uses one of them for a time, or takes so much CPU."""
    return f"{of}s {'it' if servers == 1 else 'one'} for {time}" if of in ("hold", "use") else f"takes {time} of {of}"
