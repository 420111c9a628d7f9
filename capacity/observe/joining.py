"""Several samples as one, which can still be held to a limit: the figures that have limits, and how samples are joined.

Invariants: a joined sample has of each such figure the lowest value, so that beyond a limit is only what was so for all
of it, and in how many of its samples it was measured, so that a gap stays one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from capacity.observe.vitals import Lowest, Vitals, VitalsSample

_MOMENTS: Final = ("at", "started_at", "watch_cpu_seconds")
_LISTED: Final = ("resource_exhausted_per_second",)
"""Rates by cause: one that is not listed did not occur in that second, which unlike a None is a measured zero."""
_COUNTED: Final = ("samples", "lowest")
_Model = TypeVar("_Model", bound=Vitals)


def lowest(sample: VitalsSample, figure: str) -> Lowest | None:
    """Return the lowest value of a figure in a sample, be it joined or not; None where it was not measured."""
    if sample.samples > 1:
        return sample.lowest.get(figure)
    value = FIGURES[figure](sample)
    return None if value is None else Lowest(value=value, samples=1)


def joined(samples: Sequence[_Model]) -> _Model:
    """Return several records as one: of floats the mean, of counts the highest, of the rest the last.

    What only some of them measured comes from those alone.
    """
    values: dict[str, Any] = {}
    for name in type(samples[0]).model_fields:
        if name not in _COUNTED:
            all_values = [getattr(sample, name) for sample in samples]
            values[name] = all_values[-1] if name in _MOMENTS else _joined_values(all_values, name in _LISTED)
    if whole := [sample for sample in samples if isinstance(sample, VitalsSample)]:
        values["samples"] = sum(sample.samples for sample in whole)
        found = {figure: [each for sample in whole if (each := lowest(sample, figure))] for figure in FIGURES}
        values["lowest"] = {figure: _lowest_of(parts) for figure, parts in found.items() if parts}
    return type(samples[0]).model_construct(**values)


def _lowest_of(parts: Sequence[Lowest]) -> Lowest:
    return Lowest(value=min(part.value for part in parts), samples=sum(part.samples for part in parts))


def _joined_values(values: list[Any], listed: bool = False) -> Any:
    there = [value for value in values if value is not None]
    if not there:
        return None
    last = there[-1]
    if isinstance(last, Vitals):
        return joined(there)
    if isinstance(last, dict):
        keys = dict.fromkeys(key for value in there for key in value)
        absent = 0.0 if listed else None
        return {key: _joined_values([value.get(key, absent) for value in there]) for key in keys}
    if isinstance(last, float):
        return sum(there) / len(there)
    return max(there) if isinstance(last, int) else last


def _postgres_cpu(sample: VitalsSample) -> float | None:
    found = sample.postgres
    used, allowed = (found.cpus_used, found.cpus_allowed) if found else (None, None)
    return used / allowed if used is not None and allowed else None


def _connections(sample: VitalsSample) -> float | None:
    found = sample.postgres
    return found.connections_used / found.connections_max if found and found.connections_max else None


def _tasks(sample: VitalsSample) -> float | None:
    found = sample.launcher
    return float(found.tasks + found.threads) if found and found.tasks is not None else None


def _launcher_cpu(sample: VitalsSample) -> float | None:
    return sample.launcher.cpus_used if sample.launcher else None


def _sql_pool(sample: VitalsSample) -> float | None:
    pools = (sample.server.sql_pools or {}) if sample.server else {}
    return max((pool.in_use / pool.max_open for pool in pools.values() if pool.max_open), default=None)


def _create_p99(sample: VitalsSample) -> float | None:
    return sample.server.create_p99 if sample.server else None


def _server_goroutines(sample: VitalsSample) -> float | None:
    count = sample.server.goroutines if sample.server else None
    return None if count is None else float(count)


FIGURES: Final[dict[str, Callable[[VitalsSample], float | None]]] = {
    "postgres_cpu": _postgres_cpu,
    "connections": _connections,
    "tasks": _tasks,
    "launcher_cpu": _launcher_cpu,
    "sql_pool": _sql_pool,
    "create_p99": _create_p99,
    "server_goroutines": _server_goroutines,
}
"""What a sample says of each figure that has a limit, which it must not exceed; None where it was not measured."""
