"""What the scheduler has counted: outcomes, latencies and the series of seconds, brought up to date at ticks."""

from __future__ import annotations

import math
import time
from collections import Counter

import numpy as np

from capacity.launcher import outcome
from capacity.launcher.journal import Journal
from capacity.launcher.latency import Latencies
from capacity.launcher.progress import Counts, Sample, Series


class Tally:
    """Notes outcomes in the journal and counts them.

    The hot path appends to `indices`, `latencies` and `others`; `note` empties them. The three stay the same lists.
    """

    def __init__(self, journal: Journal, count: int) -> None:
        self._journal = journal
        self.counts = Counts(count, Counter({c: n for c, n in journal.tally().items() if c != outcome.TO_DO}))
        self.started = 0
        self.indices: list[int] = []
        self.latencies: list[float] = []
        self.others: list[tuple[int, int]] = []
        self.histogram = Latencies()
        self.series = Series()
        self.first_start: tuple[int, float] | None = None
        self.last_second: tuple[float, float, float] = (0.0, math.nan, math.nan)
        self._began = self._second_began = 0.0
        self._second = Latencies()
        self._second_starts = 0
        self._second_throttled = 0

    def begin(self, now: float) -> None:
        """Start the clock of the series."""
        self._began = self._second_began = now

    def note(self) -> int:
        """Write down what was answered since the last call; return how many items that are."""
        answered = len(self.indices) + len(self.others)
        if self.indices:
            indices, latencies = np.array(self.indices, np.int64), np.array(self.latencies)
            self.indices.clear()
            self.latencies.clear()
            self._journal.note(indices, outcome.STARTED)
            self.histogram.add(latencies)
            self._second.add(latencies)
            self.counts.codes[outcome.STARTED] += indices.size
            self.started += indices.size
            self._second_starts += indices.size
            if self.first_start is None:
                self.first_start = (int(indices[0]), time.time())
        if self.others:
            for code, count in Counter(code for _, code in self.others).items():
                noted = [index for index, other in self.others if other == code]
                self._journal.note(np.array(noted, np.int64), code)
                self.counts.codes[code] += count
            self.others.clear()
        return answered

    def throttled(self, attempts: int) -> None:
        """Count attempts refused for their rate into the second under way."""
        self._second_throttled += attempts

    def second_lasted(self, now: float) -> float:
        """Return how long the second under way has lasted [s]."""
        return now - self._second_began

    def close_second(self, now: float, in_flight: int, limit: int) -> None:
        """End the second under way: its sample joins the series."""
        seconds = max(self.second_lasted(now), 1e-9)
        starts, throttled = self._second_starts, self._second_throttled
        p50, p99 = self._second.quantile(0.5), self._second.quantile(0.99)
        self.series.add(Sample(now - self._began, seconds, starts, throttled, in_flight, limit, p50, p99))
        self.last_second = (starts / seconds, p50, p99)
        self._second = Latencies()
        self._second_starts = self._second_throttled = 0
        self._second_began = now
