"""A run's time series while it runs, as the live figure shows it.

Invariants: never more than `MOST` points, a longer run halves its resolution instead of growing; the worst latency
and an outage are kept however short they were, and so is the newest point.
"""

from __future__ import annotations

import math
from typing import Final

from capacity.launcher.progress import AWAY, Progress

MOST: Final = 240
"""Points kept at most, an even number: each is sent to the browser with every repaint."""
EACH: Final = 0.25
"""Seconds between points at first [s]."""


_WORST: Final = ("p50", "p99", "lost")
"""Columns of which a point has the highest there was since the point before."""


class Curve:
    """Points of one session of a batch.

    Parameters
    ----------
    started : int
        Starts of the sessions before.
    """

    def __init__(self, started: int = 0) -> None:
        self.columns: dict[str, list[float | None]] = {
            name: [] for name in ("at", "rate", "p50", "p99", "in_flight", "limit", "lost")
        }
        self._each = EACH
        self._last = (0.0, started)
        self._worst: dict[str, float | None] = dict.fromkeys(_WORST)

    def note(self, progress: Progress) -> bool:
        """Take a point if one is due; return whether it did."""
        now = {
            "p50": _milliseconds(progress.p50),
            "p99": _milliseconds(progress.p99),
            "lost": 0.0 if progress.state == AWAY else None,
        }
        self._worst = {name: _highest(self._worst[name], now[name]) for name in _WORST}
        before, started = self._last
        seconds = progress.elapsed - before
        if seconds < self._each - 0.01:
            return False
        self._last = (progress.elapsed, progress.started)
        row = {
            "at": progress.elapsed,
            "rate": (progress.started - started) / seconds,
            "in_flight": progress.in_flight,
            "limit": progress.limit,
            **self._worst,
        }
        self._worst = dict.fromkeys(_WORST)
        for name, value in row.items():
            self.columns[name].append(value)
        if len(self.columns["at"]) == MOST:
            self._each *= 2
            self._halve()
        return True

    def _halve(self) -> None:
        pairs = range(0, MOST, 2)
        for name, column in self.columns.items():
            if name == "rate":
                column[:] = [((column[i] or 0.0) + (column[i + 1] or 0.0)) / 2 for i in pairs]
            elif name in _WORST:
                column[:] = [_highest(column[i], column[i + 1]) for i in pairs]
            else:
                column[:] = [column[i + 1] for i in pairs]


def _highest(*values: float | None) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _milliseconds(seconds: float) -> float | None:
    return None if math.isnan(seconds) else round(seconds * 1e3, 3)
