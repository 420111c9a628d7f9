"""What the scheduler has counted: outcomes, latencies and the series of seconds, brought up to date at ticks."""

from __future__ import annotations

import math
import time
from collections import Counter

import numpy as np
import numpy.typing as npt

from capacity.launcher import outcome
from capacity.launcher.journal import Notes
from capacity.launcher.latency import Latencies
from capacity.launcher.progress import Counts, Sample, Series


class Seconds:
    """A run second by second: the series, and the last second for whoever looks on."""

    def __init__(self) -> None:
        self.series = Series()
        self.last: tuple[float, float, float] = (math.nan, math.nan, math.nan)
        """Starts [1/s], p50 and p99 [s] of the last whole second; nan before there was one."""
        self._began = self._second_began = 0.0
        self._latencies = Latencies()
        self._starts = self._throttled = 0

    def begin(self, now: float) -> None:
        """Start the clock."""
        self._began = self._second_began = now

    def add(self, starts: int, latencies: Latencies | npt.NDArray[np.float64]) -> None:
        """Count starts and their latencies [s] into the second under way."""
        self._starts += starts
        if isinstance(latencies, Latencies):
            self._latencies.merge(latencies)
        else:
            self._latencies.add(latencies)

    def throttled(self, attempts: int) -> None:
        """Count attempts refused for their rate into the second under way."""
        self._throttled += attempts

    def lasted(self, now: float) -> float:
        """Return how long the second under way has lasted [s]."""
        return now - self._second_began

    def close(self, now: float, in_flight: int, limit: int) -> None:
        """End the second under way: its sample joins the series."""
        seconds = max(self.lasted(now), 1e-9)
        p50, p99 = self._latencies.quantile(0.5), self._latencies.quantile(0.99)
        # A fleet's sum falls by what a lost launcher had told last: what is below zero is taken off the next second.
        starts, throttled = max(self._starts, 0), max(self._throttled, 0)
        self.series.add(Sample(now - self._began, seconds, starts, throttled, in_flight, limit, p50, p99))
        self.last = (starts / seconds, p50, p99)
        self._latencies = Latencies()
        self._starts -= starts
        self._throttled -= throttled
        self._second_began = now


class Tally:
    """Notes outcomes in the journal and counts them.

    The hot path appends to `indices`, `latencies` and `others`; `note` empties them. The three stay the same lists.
    """

    def __init__(self, journal: Notes, count: int) -> None:
        self._journal = journal
        self.counts = Counts(count, Counter({c: n for c, n in journal.tally().items() if c != outcome.TO_DO}))
        self.done_before = self.counts.done
        self.started = 0
        self.indices: list[int] = []
        self.latencies: list[float] = []
        self.others: list[tuple[int, int]] = []
        self.histogram = Latencies()
        self.seconds = Seconds()
        self.first_start: tuple[int, float] | None = None

    def note(self) -> int:
        """Write down what was answered since the last call; return how many items that are."""
        answered = len(self.indices) + len(self.others)
        if self.indices:
            indices, latencies = np.array(self.indices, np.int64), np.array(self.latencies)
            self.indices.clear()
            self.latencies.clear()
            self._journal.note(indices, outcome.STARTED)
            self.histogram.add(latencies)
            self.seconds.add(indices.size, latencies)
            self.counts.codes[outcome.STARTED] += indices.size
            self.started += indices.size
            if self.first_start is None:
                self.first_start = (int(indices[0]), time.time())
        if self.others:
            for code, count in Counter(code for _, code in self.others).items():
                noted = [index for index, other in self.others if other == code]
                self._journal.note(np.array(noted, np.int64), code)
                self.counts.codes[code] += count
            self.others.clear()
        return answered
