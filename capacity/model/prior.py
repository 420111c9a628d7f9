"""What is thought of a start's demands before a sweep is fitted: from what was measured beside throughput, and usage.

Each parameter has a centre and a spread, wide but for what was measured directly (CPU per start, the lock's hold by the
server's own metrics) or is known of the kind of store.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import logit

from capacity.model.measurement import Measurements, Point, usable
from capacity.model.queueing import Floats

CPU_WAITER: Final = 3e-4
"""Share by which each start that waits for a CPU lengthens the work of all, before a sweep says more: the 64-shard
sweep on PostgreSQL 15 has about that, and the dev server's as much for each that waits for its connection."""

TYPICAL_BACKGROUND: Final = 0.25
"""Share of a start's CPU time that follows its answer, before a sweep says more: transfer and visibility tasks."""

LOCK_WAITER_POSTGRES: Final = 0.0055
LOCK_SHARE_POSTGRES: Final = 0.65
"""Share by which each waiter on a shard lengthens the work, and the lock's hold over the CPU time of a start: from a
one-shard sweep on PostgreSQL 15, 1 to 128 in flight, where they are what binds."""

LOCK_SHARE_SQLITE: Final = 0.75
"""The same of SQLite's one connection, which everything a start does to the store holds, also after its answer: 0.77
and 0.73 in two sweeps of the dev server on 2 CPUs, where it is what binds. The server's own metrics do not tell it: the
wait for a single connection is part of the latency they have."""


@dataclass(frozen=True)
class Prior:
    """Centre and standard deviation of each parameter, in the order of `fit.NAMES` and the fit's own scale."""

    centre: Floats
    spread: Floats


def prior(measurements: Measurements) -> Prior:
    """Return what is thought of the parameters before the fit, from what was measured beside throughput."""
    points, conditions = usable(measurements.points), measurements.conditions
    best = max(point.throughput for point in points)
    lone = max(point.mean for point in points if point.parallelism == min(p.parallelism for p in points))
    cpu = measured_cpu(points)
    centre_cpu, spread_cpu = (math.log(cpu), 0.1) if cpu else (math.log(0.8 * conditions.cluster_cpus / best), 0.7)
    hold = measurements.times.shard_hold if measurements.times else None
    on_postgres, on_sqlite = conditions.store == "postgres", conditions.store == "sqlite"
    typical = LOCK_SHARE_SQLITE if on_sqlite else LOCK_SHARE_POSTGRES
    centre_lock, spread_lock = centre_cpu + math.log(typical), 0.3 if on_postgres or on_sqlite else 1.0
    if hold and measurements.times and measurements.times.mean and not on_sqlite:
        # Held for this share of an answer's time; as contention stretches both alike, the share of its CPU time is it.
        share = min(hold / measurements.times.mean, 1.5)
        centre_lock, spread_lock = centre_cpu + math.log(share * (1 - TYPICAL_BACKGROUND)), 0.3
    cpu_waiter, lock_waiter = math.sqrt(CPU_WAITER), math.sqrt(LOCK_WAITER_POSTGRES if on_postgres else CPU_WAITER)
    centres = [centre_cpu, logit(TYPICAL_BACKGROUND), centre_lock, math.log(0.03 * lone), cpu_waiter, lock_waiter]
    spread_waiter = 0.35 * lock_waiter if on_postgres else lock_waiter  # in the root: half the spread of the share
    return Prior(np.array(centres), np.array([spread_cpu, 1.2, spread_lock, 1.0, cpu_waiter, spread_waiter]))


def measured_cpu(points: Sequence[Point]) -> float | None:
    """Return the CPU of server and database per start of a busy cluster [s]; None where it was not measured."""
    busy = sorted(points, key=lambda point: -point.throughput)[: max(3, len(points) // 2)]
    totals = [p.cpu for p in busy if p.cpu]
    return float(np.median(totals)) if totals else None
