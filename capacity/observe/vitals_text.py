"""Vitals in words: one line for a running launch, rows for a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from capacity.model.words import milliseconds
from capacity.observe.vitals import (
    COMPONENTS,
    PROMETHEUS_MINUTES,
    LauncherVitals,
    PostgresVitals,
    PrometheusVitals,
    ServerVitals,
    SqlPool,
    VitalsSample,
)

NAMES: Final = {"launcher": "launcher", "server": "server", "postgres": "PostgreSQL", "prometheus": "Prometheus"}
NOT_MEASURED: Final = "not measured"
_OLD: Final = " (up to a minute old)"


def line(sample: VitalsSample, *, launcher: bool = False) -> str:
    """Return server and PostgreSQL, with `launcher` also that, in one line; empty when neither is watched."""
    parts = [_launcher_line(sample.launcher)] if launcher and sample.launcher else []
    for component, words in (("server", _server_line), ("postgres", _postgres_line)):
        vitals = getattr(sample, component)
        if vitals is not None:
            parts.append(words(vitals))
        elif component in sample.missing:
            parts.append(f"{NAMES[component]} {NOT_MEASURED}: {sample.missing[component]}")
    if sample.prometheus is not None:
        over = f"(Prometheus, over {PROMETHEUS_MINUTES} min)"
        parts += [f"{name} {value:.1f} CPUs {over}" for name, value in sample.prometheus.cpus.items()]
    return " · ".join(parts)


def rows(sample: VitalsSample) -> Iterator[tuple[str, str, str]]:
    """Yield (component, what, value) of everything that is watched; what is missing says why."""
    for component in COMPONENTS:
        vitals = getattr(sample, component)
        name = NAMES[component]
        if vitals is None:
            if component in sample.missing:
                yield name, "", f"{NOT_MEASURED}: {sample.missing[component]}"
            continue
        missing = {key.partition(".")[2]: why for key, why in sample.missing.items() if key.startswith(f"{component}.")}
        for what, value, field in _ROWS[component](vitals):
            why = missing.get(field, missing.get(field.partition("_")[0]))
            yield name, what, value if value is not None else f"{NOT_MEASURED}: {why}" if why else NOT_MEASURED
        if isinstance(vitals, PrometheusVitals):
            yield from ((name, what, f"{NOT_MEASURED}: {why}") for what, why in missing.items())


_Rows = Iterator[tuple[str, str | None, str]]


def _launcher_rows(vitals: LauncherVitals) -> _Rows:
    yield "CPU", _number(vitals.cpus_used, "{:.2f} CPUs"), "cpus_used"
    yield "memory", mebibytes(vitals.rss_bytes), "rss_bytes"
    tasks = f", {vitals.tasks:,} tasks" if vitals.tasks is not None else ""
    files = f", {vitals.descriptors:,} descriptors" if vitals.descriptors is not None else ""
    yield "threads", f"{vitals.threads:,}{tasks}{files}", "threads"
    machine = _number(vitals.machine_cpus_used, f"{{:.2f}} of {vitals.machine_cpus} CPUs")
    yield "machine", machine, "cpus_used"


def _server_rows(vitals: ServerVitals) -> _Rows:
    yield "CPU", _cpu(vitals, "threads"), "cpus_used"
    yield "memory", _optional(mebibytes, vitals.rss_bytes), "cpus_used"
    yield "requests", _number(vitals.requests_per_second, "{:,.0f}/s"), "requests_per_second"
    yield "starts", _number(vitals.starts_per_second, "{:,.0f}/s"), "starts_per_second"
    yield "start latency", _latency(vitals.start_mean, vitals.start_p50, vitals.start_p99), "start"
    yield (
        "shard lock wait",
        _latency(vitals.shard_wait_mean, vitals.shard_wait_p50, vitals.shard_wait_p99),
        "shard_wait",
    )
    yield "store's create", _latency(vitals.create_mean, None, vitals.create_p99), "create"
    exhausted = vitals.resource_exhausted_per_second
    refused = (
        None if exhausted is None else ", ".join(f"{n:,.0f}/s {cause}" for cause, n in exhausted.items()) or "none"
    )
    yield "refused", refused, "resource_exhausted_per_second"
    limits = [("host", vitals.host_rps_limit), ("namespace", vitals.namespace_rps_limit)]
    known = ", ".join(f"{name} {value:,.0f}/s" for name, value in limits if value is not None)
    yield "limits", known or None, "host_rps_limit"
    pools = vitals.sql_pools
    yield "SQL pools", None if pools is None else pools_in_words(pools) + _OLD, "sql_pools"
    yield "goroutines", _number(vitals.goroutines, "{:,}" + _OLD), "goroutines"
    memory = vitals.memory_bytes
    yield "Go memory", None if memory is None else mebibytes(memory) + _OLD, "memory_bytes"


def _postgres_rows(vitals: PostgresVitals) -> _Rows:
    yield "CPU", _cpu(vitals, "processes"), "cpus_used"
    states = ", ".join(f"{n} {state}" for state, n in sorted(vitals.connections.items()))
    yield "connections", f"{vitals.connections_used} of {vitals.connections_max} ({states})", "connections"
    yield "commits", _number(vitals.commits_per_second, "{:,.0f}/s"), "commits_per_second"
    wal = vitals.wal_bytes_per_second
    yield "WAL", None if wal is None else f"{mebibytes(wal, 2)}/s", "wal_bytes_per_second"
    waits = sorted(vitals.waits.items(), key=lambda pair: -pair[1])[:3]
    yield "active wait for", ", ".join(f"{n} {wait}" for wait, n in waits) or "nothing", "waits"
    sizes = sorted((vitals.database_bytes or {}).items(), key=lambda pair: -pair[1])[:3]
    yield "databases", ", ".join(f"{name} {mebibytes(size)}" for name, size in sizes) or None, "database_bytes"
    if vitals.statements is None:
        yield "statements", None, "statements"
    for statement in (vitals.statements or ())[:3]:
        each = statement.seconds / statement.calls * 1e3 if statement.calls else 0.0
        yield "statement", f"{statement.seconds:.2f} s, {each:.2f} ms each: {statement.query[:60]}", "statements"


def _prometheus_rows(vitals: PrometheusVitals) -> _Rows:
    over = f"over {PROMETHEUS_MINUTES} min"
    yield from ((name, f"{value:.2f} CPUs {over}", name) for name, value in vitals.cpus.items())


_ROWS: Final[dict[str, Any]] = {
    "launcher": _launcher_rows,
    "server": _server_rows,
    "postgres": _postgres_rows,
    "prometheus": _prometheus_rows,
}


def _launcher_line(vitals: LauncherVitals) -> str:
    cpu = f"{vitals.cpus_used:.1f} CPUs, " if vitals.cpus_used is not None else ""
    return f"launcher {cpu}{mebibytes(vitals.rss_bytes)}"


def _server_line(vitals: ServerVitals) -> str:
    go = None if vitals.memory_bytes is None else f"Go memory {mebibytes(vitals.memory_bytes)}{_OLD}"
    wait = vitals.shard_wait_p99
    parts = [
        _number(vitals.cpus_used, "{:.1f} CPUs"),
        go if vitals.rss_bytes is None else mebibytes(vitals.rss_bytes),
        _number(vitals.requests_per_second, "{:,.0f} req/s"),
        None if wait is None else f"shard wait p99 {milliseconds(wait)}",
    ]
    parts += [f"{n:,.0f}/s {cause}" for cause, n in (vitals.resource_exhausted_per_second or {}).items()]
    return "server " + (", ".join(part for part in parts if part) or NOT_MEASURED)


def _postgres_line(vitals: PostgresVitals) -> str:
    parts = [
        _number(vitals.cpus_used, "{:.1f} CPUs"),
        f"{vitals.connections_used} of {vitals.connections_max} connections",
        _number(vitals.commits_per_second, "{:,.0f} commits/s"),
    ]
    return "PostgreSQL " + ", ".join(part for part in parts if part)


def _cpu(vitals: ServerVitals | PostgresVitals, what: str) -> str | None:
    if vitals.cpus_used is None:
        return None
    allowed = f" of {vitals.cpus_allowed:g}" if vitals.cpus_allowed is not None else ""
    waiting = f", {vitals.cpus_waiting:.1f} {what} waited for one" if vitals.cpus_waiting is not None else ""
    return f"{vitals.cpus_used:.2f}{allowed} CPUs{waiting}"


def _latency(mean: float | None, p50: float | None, p99: float | None) -> str | None:
    if mean is None:
        return None
    parts = [("mean", mean), ("p50", p50), ("p99", p99)]
    return ", ".join(f"{name} {milliseconds(value)}" for name, value in parts if value is not None)


def _number(value: float | None, form: str) -> str | None:
    return None if value is None else form.format(value)


def _optional(words: Any, value: float | None) -> str | None:
    return None if value is None else str(words(value))


def pools_in_words(pools: Mapping[str, SqlPool]) -> str:
    """Return the pools of the history service, else the fullest one, and all that are exhausted."""
    fullest = max(pools, key=lambda name: pools[name].in_use / max(pools[name].max_open, 1))
    wanted = [name for name in pools if name.startswith("history")] or [fullest]
    return "; ".join(
        f"{name} {pool.in_use} in use, {pool.open} open of {pool.max_open}"
        for name, pool in pools.items()
        if name in wanted or pool.in_use >= pool.max_open > 0
    )


def mebibytes(size: float, digits: int = 0) -> str:
    """Return a size for people.

    >>> mebibytes(641728512)
    '612 MiB'
    """
    return f"{size / 2**20:,.{digits}f} MiB"
