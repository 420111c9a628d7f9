"""What the vitals say was in the way: each cause by name, with its value, its limit and when.

A moment is enough for what should not happen at all (a component away, connections exhausted, throttling); one that
does not answer in time may only be slow for once, so it takes two samples in a row; what is merely busy must be so for
`SHARE` of the watch, since every batch is busy somewhere for a second.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict

from capacity.model.words import many
from capacity.observe.vitals import LATE, NO_ANSWER, PostgresVitals, ServerVitals, VitalsSample, connections_full

if TYPE_CHECKING:
    from capacity.observe.run import Run

SHARE: Final = 0.3
"""Share of the samples in which something must be at its limit to be named."""
FULL: Final = 0.9
"""Share of the CPUs it may use at which something is bound by CPU: the rest goes to switching between threads."""
WAITING: Final = 1.0
"""Threads ready to run but without a CPU, on average, at which something is bound by CPU too."""
LOCK_SECONDS: Final = 0.005
LOCK_SHARE: Final = 0.4
"""Mean wait for a shard [s], and its share of the mean start, from which on the lock is named."""


class Finding(BaseModel):
    """One thing that was in the way.

    Attributes
    ----------
    cause : str
        What, as a word for programs, such as ``postgres-away``.
    sentence : str
        What, for people, with value and limit.
    value, limit : float, optional
        The worst value seen, and what it ran into.
    begin, end : float
        First and last sample that showed it [s since the watch began].
    samples : int
        How many showed it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    cause: str
    sentence: str
    value: float | None = None
    limit: float | None = None
    begin: float
    end: float
    samples: int

    def __str__(self) -> str:
        when = f"at {self.begin:.0f} s" if self.samples == 1 else f"from {self.begin:.0f} to {self.end:.0f} s"
        return f"{self.sentence} ({when})"


_Hit = tuple[str, float | None, float | None]  # sentence, value, limit
_Rule = Callable[[VitalsSample], _Hit | None]


def findings(samples: Sequence[VitalsSample], run: Run | None = None) -> list[Finding]:
    """Return what was in the way, what should not happen at all first.

    Parameters
    ----------
    samples : sequence of VitalsSample
        In the order of time.
    run : Run, optional
        What the launcher itself met.
    """
    found = [
        _episode(samples, "server-away", _away("server", "the server"), 1),
        _late(samples, "server", "the server"),
        _episode(samples, "postgres-away", _away("postgres", "PostgreSQL"), 1),
        _late(samples, "postgres", "PostgreSQL"),
        _restarted(samples),
        _episode(samples, "connections-exhausted", _connections_exhausted, 1),
        *_throttled(samples, run),
        _episode(samples, "sql-pool-exhausted", _pool_exhausted, 1),
    ]
    often = max(2, round(SHARE * sum(1 for sample in samples if _has_rates(sample))))
    found += [
        _episode(samples, "postgres-cpu", lambda sample: _cpu(sample, "PostgreSQL", sample.postgres), often),
        _episode(samples, "server-cpu", lambda sample: _cpu(sample, "the server", sample.server), often),
        _episode(samples, "machine-cpu", _machine_cpu, often),
        _episode(samples, "shard-lock", _shard_lock, often),
        _episode(samples, "launcher-cpu", _launcher_cpu, often),
    ]
    return [finding for finding in found if finding is not None]


def _episode(samples: Sequence[VitalsSample], cause: str, rule: _Rule, at_least: int) -> Finding | None:
    hits = [(sample.at, hit) for sample in samples if (hit := rule(sample)) is not None]
    if len(hits) < at_least:
        return None
    sentence, value, limit = max((hit for _, hit in hits), key=lambda hit: hit[1] or 0.0)
    return Finding(
        cause=cause,
        sentence=sentence,
        value=value,
        limit=limit,
        begin=hits[0][0],
        end=hits[-1][0],
        samples=len(hits),
    )


def _has_rates(sample: VitalsSample) -> bool:
    return any(
        getattr(part, "cpus_used", None) is not None for part in (sample.launcher, sample.server, sample.postgres)
    )


def _away(component: str, name: str) -> _Rule:
    def rule(sample: VitalsSample) -> _Hit | None:
        reason = sample.missing.get(component, "")
        away = reason.startswith(NO_ANSWER) and not reason.startswith(LATE)
        return (f"{name} was away: {reason}", None, None) if away else None

    return rule


def _late(samples: Sequence[VitalsSample], component: str, name: str) -> Finding | None:
    none = [
        getattr(sample, component) is None and sample.missing.get(component, "").startswith(LATE) for sample in samples
    ]
    late = [sample.samples if no_answer else 0 for sample, no_answer in zip(samples, none, strict=True)]
    again = [sample for at, sample in enumerate(samples) if late[at] and sum(late[max(at - 1, 0) : at + 2]) > 1]

    def rule(sample: VitalsSample) -> _Hit:
        return f"{name} was away, or too slow for the watch: {sample.missing[component]}", None, None

    return _episode(again, f"{component}-late", rule, 1)


def _restarted(samples: Sequence[VitalsSample]) -> Finding | None:
    seen = [(sample.at, sample.postgres.started_at) for sample in samples if sample.postgres is not None]
    at = [now for (_, before), (now, after) in itertools.pairwise(seen) if after != before]
    if not at:
        return None
    times = f" {len(at)} times" if len(at) > 1 else ""
    return Finding(
        cause="postgres-restarted",
        sentence=f"PostgreSQL was restarted{times}",
        begin=at[0],
        end=at[-1],
        samples=len(at),
    )


def _connections_exhausted(sample: VitalsSample) -> _Hit | None:
    reason = sample.missing.get("postgres", "")
    if connections_full(reason):
        return f"PostgreSQL's connections were exhausted: {reason}", None, None
    vitals = sample.postgres
    if vitals is None or vitals.connections_used < vitals.connections_usable:
        return None
    reserved = f", {vitals.connections_reserved} of them reserved" if vitals.connections_reserved else ""
    return (
        f"PostgreSQL's connections were exhausted: {vitals.connections_used} in use "
        f"of {vitals.connections_max}{reserved}; raise max_connections, or lower the server's maxConns",
        vitals.connections_used,
        vitals.connections_usable,
    )


def _throttled(samples: Sequence[VitalsSample], run: Run | None) -> list[Finding | None]:
    rates = [(sample.server.resource_exhausted_per_second or {}) if sample.server else {} for sample in samples]
    causes = dict.fromkeys(cause for each in rates for cause in each)
    found = [
        _episode(samples, f"throttled-{cause.lower().replace('_', '-')}", _throttling(cause), 1) for cause in causes
    ]
    if run is not None and run.throttled_attempts and run.throttle_cause and run.throttle_cause not in causes:
        found.append(
            Finding(
                cause=f"throttled-{run.throttle_cause.lower().replace('_', '-')}",
                sentence=f"the server refused {run.throttled_attempts:,} attempts for their rate: {run.throttle_cause}",
                value=run.throttled_attempts,
                begin=0.0,
                end=run.duration_seconds,
                samples=0,
            )
        )
    return found


def _throttling(cause: str) -> _Rule:
    def rule(sample: VitalsSample) -> _Hit | None:
        server = sample.server
        rate = ((server.resource_exhausted_per_second or {}) if server else {}).get(cause, 0.0)
        if server is None or not rate:
            return None
        limits = [limit for limit in (server.host_rps_limit, server.namespace_rps_limit) if limit is not None]
        limit = min(limits) if limits and cause == "RPS_LIMIT" else None
        return f"the server refused {rate:,.0f} requests/s: {cause}", rate, limit

    return rule


def _pool_exhausted(sample: VitalsSample) -> _Hit | None:
    for name, pool in ((sample.server.sql_pools or {}) if sample.server else {}).items():
        if pool.in_use >= pool.max_open > 0:
            words = f"the SQL pool '{name}' was exhausted: {pool.in_use} of {pool.max_open} connections in use"
            return f"{words}, by a reading up to a minute old; raise maxConns", pool.in_use, pool.max_open
    return None


def _cpu(sample: VitalsSample, name: str, vitals: ServerVitals | PostgresVitals | None) -> _Hit | None:
    if vitals is None or vitals.cpus_used is None or not vitals.cpus_allowed:
        return None
    machine = sample.launcher.machine_cpus if sample.launcher else vitals.cpus_allowed
    waiting = vitals.cpus_waiting or 0.0
    # On CPUs shared by all, waiting tells only that the machine is full; on CPUs of its own, that they are too few.
    held = vitals.cpus_allowed < machine and waiting >= WAITING
    if vitals.cpus_used < FULL * vitals.cpus_allowed and not held:
        return None
    cpus = many(vitals.cpus_allowed, "CPU", digits=6)
    more = f", {waiting:.1f} more waited for one" if waiting >= WAITING else ""
    return (
        f"{name} was bound by CPU: {vitals.cpus_used:.2f} of the {cpus} it may use{more}",
        vitals.cpus_used,
        float(vitals.cpus_allowed),
    )


def _machine_cpu(sample: VitalsSample) -> _Hit | None:
    launcher = sample.launcher
    if launcher is None or launcher.machine_cpus_used is None:
        return None
    if launcher.machine_cpus_used < FULL * launcher.machine_cpus:
        return None
    parts = {"server": sample.server, "PostgreSQL": sample.postgres, "launcher": launcher}
    used = {name: part.cpus_used for name, part in parts.items() if part is not None and part.cpus_used is not None}
    others = max(0.0, launcher.machine_cpus_used - sum(used.values()))
    shares = ", ".join(f"{name} {value:.1f}" for name, value in [*used.items(), ("all others", others)])
    return (
        f"this machine's CPUs were all in use: {launcher.machine_cpus_used:.1f} of {launcher.machine_cpus} ({shares})",
        launcher.machine_cpus_used,
        float(launcher.machine_cpus),
    )


def _shard_lock(sample: VitalsSample) -> _Hit | None:
    server = sample.server
    if server is None or server.shard_wait_mean is None or not server.start_mean:
        return None
    wait, share = server.shard_wait_mean, server.shard_wait_mean / server.start_mean
    if wait < LOCK_SECONDS or share < LOCK_SHARE:
        return None
    return (
        f"starts waited for their shard's lock: {wait * 1e3:,.0f} ms of {server.start_mean * 1e3:,.0f} ms on average; "
        "more shards, or history.shardIOConcurrency; neither helps on SQLite, whose one connection is behind it",
        wait,
        server.start_mean,
    )


def _launcher_cpu(sample: VitalsSample) -> _Hit | None:
    launcher = sample.launcher
    if launcher is None or launcher.cpus_used is None or launcher.cpus_used < FULL * launcher.processes:
        return None
    used, most = launcher.cpus_used, launcher.processes  # a process can use one CPU
    whose = "1 CPU that one process can use" if most == 1 else f"{most} CPUs that its {most} processes can use"
    return f"the launcher was bound by CPU: {used:.2f} of the {whose}", used, float(most)
