"""Records of runs that never were: a healthy one, and edits of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from capacity.launcher.latency import Latencies
from capacity.observe.run import Run


def vitals(at: float, **parts: Any) -> dict[str, Any]:
    """One second of a machine with room to spare; a part is edited by a dict, taken away by None."""
    healthy: dict[str, dict[str, Any]] = {
        "launcher": {
            "rss_bytes": 100_000_000,
            "cpus_used": 0.1,
            "threads": 14,
            "tasks": 20,
            "descriptors": 20,
            "machine_cpus_used": 0.8,
            "machine_cpus": 2,
        },
        "server": {
            "starts_per_second": 300.0,
            "host_rps_limit": 2400.0,
            "goroutines": 3300,
            "create_p99": 0.004,
            "cpus_used": 0.6,
            "cpus_allowed": 2,
            "sql_pools": {"history main": {"max_open": 20, "open": 20, "in_use": 9, "idle": 11}},
        },
        "postgres": {
            "connections": {"idle": 86, "active": 9},
            "connections_used": 95,
            "connections_max": 300,
            "connections_reserved": 3,
            "waits": {},
            "database_bytes": {},
            "started_at": 1e9,
            "cpus_used": 0.64,
            "cpus_allowed": 2,
        },
    }
    changed = {
        name: None if parts.get(name, ()) is None else {**values, **(parts.get(name) or {})}
        for name, values in healthy.items()
    }
    return {"at": at, **changed, "missing": parts.get("missing", {})}


def recorded(seconds: int = 30, rate: float = 300, p99: float = 0.008, **changes: Any) -> Run:
    """A healthy run of so many seconds at a constant rate; the last sample of its series is partial."""
    count = round(seconds * rate)
    latencies = Latencies()
    latencies.add(np.full(1000, p99))
    fields: dict[str, Any] = {
        "run_id": "20261125-040000-abcdef",
        "started_at": "2026-11-25T04:00:00.000+00:00",
        "address": "127.0.0.1:7233",
        "namespace": "default",
        "server_version": "1.32.0",
        "batch": {"kind": "heights", "chain_id": "mainnet"},
        "count": count,
        "scheduled": count,
        "session_scheduled": count,
        "already_running": 0,
        "already_finished": 0,
        "failed": 0,
        "not_attempted": 0,
        "verified": count,
        "duration_seconds": float(seconds),
        "starts_per_second": float(rate),
        "sustained_starts_per_second": float(rate) if seconds >= 5 else None,
        "latency_seconds": {"mean": p99, "p50": p99, "p90": p99, "p99": p99, "max": p99},
        "latency_histogram": latencies.encode(),
        "parallelism": 128,
        "controller": {
            "asked": "128 in flight: parallelism 128",
            "limit": 128,
            "pace": None,
            "reason": "fixed",
            "ramp_seconds": 0.0,
        },
        "attempts": count,
        "throttled_attempts": 0,
        "throttle_cause": None,
        "throttle_scope": None,
        "retries": {},
        "errors": {},
        "cpu_seconds": 0.1 * seconds,
        "rss_bytes_max": 100_000_000,
        "journal": None,
        "series": [sample(second + 1, rate) for second in range(seconds)],
        "vitals": [vitals(second + 1) for second in range(seconds)],
    }
    return Run.model_validate(fields | changes)


def sample(at: int, rate: float) -> dict[str, Any]:
    """One second of a run's series."""
    flight = {"in_flight": 128, "limit": 128, "throttled": 0}
    return {"at": float(at), "seconds": 1.0, "starts": round(rate), "p50": 0.005, "p99": 0.008, **flight}
