"""What a launcher tells whoever it works for: what happened since its last report, to be added up.

Invariants: reports are additive, so that the sum of all reports of all launchers is the batch; nothing in them grows
with the batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

import numpy as np

from capacity import files
from capacity.errors import ClusterError
from capacity.fleet.buckets import pack_buckets, unpack_buckets
from capacity.fleet.notes import SAME_VERSION
from capacity.launcher import outcome
from capacity.launcher.latency import BUCKETS, MOST_COUNT, Latencies
from capacity.launcher.progress import Result
from capacity.launcher.scheduler import Scheduler

K = TypeVar("K")


@dataclass
class Report:
    """What happened in some seconds.

    Parameters
    ----------
    seconds : float
        How long that was [s].
    codes : dict of int to int
        Items that got an outcome, by its code.
    attempts, throttled : int
    retries : dict
        By kind.
    throttles : dict
        Attempts refused for their rate, by ``"cause/scope"``.
    buckets : dict of int to int
        Counts of the latency histogram (`Latencies.counts`), by index; empty ones are left out.
    latency_total, latency_max : float
        Sum of the latencies, and the highest so far [s].
    in_flight, limit : int
        At the end.
    away : bool
        Whether no server answers.
    cpu_seconds : float
        CPU time of the launcher's process [s].
    rss_bytes : int
        Its resident set [bytes].
    first_start : tuple of int and float, optional
        An early start: its index and the Unix time of its answer [s].
    """

    seconds: float = 0.0
    codes: dict[int, int] = field(default_factory=dict)
    attempts: int = 0
    throttled: int = 0
    retries: dict[str, int] = field(default_factory=dict)
    throttles: dict[str, int] = field(default_factory=dict)
    buckets: dict[int, int] = field(default_factory=dict)
    latency_total: float = 0.0
    latency_max: float = 0.0
    in_flight: int = 0
    limit: int = 0
    away: bool = False
    cpu_seconds: float = 0.0
    rss_bytes: int = 0
    first_start: tuple[int, float] | None = None

    @property
    def answered(self) -> int:
        """Items that got their outcome."""
        return sum(self.codes.values())

    @property
    def latencies(self) -> Latencies:
        """The latencies of its starts."""
        latencies = Latencies()
        if self.buckets:
            latencies.counts[np.fromiter(self.buckets, np.int64)] = np.fromiter(self.buckets.values(), np.int64)
        latencies.total, latencies.maximum = self.latency_total, self.latency_max
        return latencies

    def add(self, later: Report) -> None:
        """Add what happened after it; what describes an end is that of the later one."""
        for name in (*_SUMS, "buckets"):
            mine: dict[Any, int] = getattr(self, name)
            for key, n in getattr(later, name).items():
                mine[key] = mine.get(key, 0) + n
        self.seconds += later.seconds
        self.attempts += later.attempts
        self.throttled += later.throttled
        self.latency_total += later.latency_total
        self.latency_max = max(self.latency_max, later.latency_max)
        self.cpu_seconds += later.cpu_seconds
        self.rss_bytes = max(self.rss_bytes, later.rss_bytes)
        self.in_flight, self.limit, self.away = later.in_flight, later.limit, later.away
        self.first_start = self.first_start or later.first_start

    def since(self, before: Report) -> Report:
        """Return what happened after `before`, an earlier state of this sum."""
        grown: dict[str, Any] = {
            name: _grown(getattr(self, name), getattr(before, name)) for name in (*_SUMS, "buckets")
        }
        return replace(
            self,
            **grown,
            seconds=self.seconds - before.seconds,
            attempts=self.attempts - before.attempts,
            throttled=self.throttled - before.throttled,
            latency_total=self.latency_total - before.latency_total,
            cpu_seconds=self.cpu_seconds - before.cpu_seconds,
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as values for JSON, which later changes of it leave alone."""
        sums = {name: getattr(self, name).copy() for name in _SUMS}  # asdict takes 2 ms for a thousand buckets
        return vars(self) | sums | {"buckets": pack_buckets(self.buckets)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Report:
        """Return the report that `to_json` wrote.

        Raises
        ------
        ClusterError
            If it is none.
        """
        try:
            found = files.fields(files.checked(value), {"codes": dict}, _FIELDS)
            for name in _SUMS:
                files.fields(found.get(name, {}), dict.fromkeys(found.get(name, {}), int))
            first = found.get("first_start")
            return cls(
                **found
                | {
                    "codes": {_code(code): n for code, n in found["codes"].items()},
                    "buckets": _buckets(found.get("buckets", "")),
                    "first_start": (int(first[0]), float(first[1])) if first else None,
                }
            )
        except (ValueError, TypeError, IndexError, OverflowError, files.UnreadableError) as error:
            why = f"it {error}" if isinstance(error, files.UnreadableError) else error
            raise ClusterError(f"a launcher's report cannot be read: {why}", next_step=SAME_VERSION) from error


_SUMS: Final = ("codes", "retries", "throttles")
_FIELDS: Final[files.Kinds] = {
    **dict.fromkeys(("seconds", "latency_total", "latency_max", "cpu_seconds"), float),
    **dict.fromkeys(("attempts", "throttled", "in_flight", "limit", "rss_bytes"), int),
    **dict.fromkeys(_SUMS, dict),
    "buckets": str,
    "away": bool | int,  # a sum of reports has a number
    "first_start": list | tuple | None,
}


def _code(text: str | int) -> int:
    code = int(text)
    outcome.kind(code)
    return code


def _buckets(packed: str) -> dict[int, int]:
    buckets = unpack_buckets(packed)
    if max(buckets, default=0) >= BUCKETS or max(buckets.values(), default=0) > MOST_COUNT:
        raise files.UnreadableError("is damaged: its histogram is of another range")
    return buckets


class Reporter:
    """Makes the reports of one scheduler.

    Parameters
    ----------
    counted : dict
        Outcomes its notes counted before it began, by code.
    now : float
        When it begins [s].
    """

    def __init__(self, counted: Mapping[int, int], now: float) -> None:
        self._now = now
        self._codes = Counter({code: n for code, n in counted.items() if code != outcome.TO_DO})
        self._attempts = self._throttled = 0
        self._retries: dict[str, int] = {}
        self._throttles: dict[str, int] = {}
        self._counts = Latencies().counts
        self._total = 0.0

    def report(self, scheduler: Scheduler, now: float) -> Report:
        """Return what the scheduler did since the last report."""
        result: Result = scheduler.result()
        latencies = result.latencies
        throttles = {f"{cause}/{scope}": n for (cause, scope), n in result.throttles.items()}
        grown = latencies.counts - self._counts
        used = np.flatnonzero(grown)
        report = Report(
            seconds=now - self._now,
            codes=_grown(result.counts.codes, self._codes),
            attempts=result.attempts - self._attempts,
            throttled=result.throttled - self._throttled,
            retries=_grown(result.retries, self._retries),
            throttles=_grown(throttles, self._throttles),
            buckets=dict(zip(used.tolist(), grown[used].tolist(), strict=True)),
            latency_total=latencies.total - self._total,
            latency_max=latencies.maximum,
            in_flight=scheduler.in_flight,
            limit=result.limit,
            away=scheduler.away,
            first_start=result.first_start,
        )
        self._now, self._codes = now, Counter(result.counts.codes)
        self._attempts, self._throttled = result.attempts, result.throttled
        self._retries, self._throttles = result.retries, throttles
        self._counts, self._total = latencies.counts.copy(), latencies.total
        return report


def _grown(new: Mapping[K, int], old: Mapping[K, int]) -> dict[K, int]:
    grown = {key: new.get(key, 0) - old.get(key, 0) for key in {**old, **new}}  # less where a sum has shrunk
    return {key: n for key, n in grown.items() if n}
