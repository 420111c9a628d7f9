"""A run's time series while it runs, as the live figure shows it.

Invariant: never more than `MOST` points; a longer run halves its resolution instead of growing.
"""

from __future__ import annotations

import math
from typing import Final

from capacity.launcher.progress import Progress

MOST: Final = 240
"""Points kept at most: each is sent to the browser with every repaint."""
EACH: Final = 0.25
"""Seconds between points at first [s]."""
LOST: Final = "waiting for the server"
"""State of a batch that no server answers."""


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

    def note(self, progress: Progress) -> bool:
        """Take a point if one is due; return whether it did."""
        before, started = self._last
        seconds = progress.elapsed - before
        if seconds < self._each - 0.01:
            return False
        self._last = (progress.elapsed, progress.started)
        row = {
            "at": progress.elapsed,
            "rate": (progress.started - started) / seconds,
            "p50": _milliseconds(progress.p50),
            "p99": _milliseconds(progress.p99),
            "in_flight": progress.in_flight,
            "limit": progress.limit,
            "lost": 0.0 if progress.state == LOST else None,
        }
        for name, value in row.items():
            self.columns[name].append(value)
        if len(self.columns["at"]) > MOST:
            self._each *= 2
            self._halve()
        return True

    def _halve(self) -> None:
        pairs = range(0, len(self.columns["at"]) - 1, 2)
        for name, column in self.columns.items():
            if name == "rate":
                column[:] = [((column[i] or 0.0) + (column[i + 1] or 0.0)) / 2 for i in pairs]
            elif name == "lost":
                column[:] = [0.0 if 0.0 in (column[i], column[i + 1]) else None for i in pairs]
            else:
                column[:] = [column[i + 1] for i in pairs]


def _milliseconds(seconds: float) -> float | None:
    return None if math.isnan(seconds) else round(seconds * 1e3, 3)
