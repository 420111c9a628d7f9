"""How many starts in flight, and how fast: decided from what the last windows showed, without clock or network.

A controller is told a `Window` of statistics and the time, and answers with a `Setting`. Invariants: the limit
stays within [1, maximum]; the pace is None (unlimited) or at least 1/s; the same windows give the same settings.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Window:
    """What happened since the last one.

    Parameters
    ----------
    seconds : float
        Its length [s], above 0.
    answered : int
        Items that got their outcome.
    in_flight : float
        Mean number of attempts in flight.
    throttled : int
        Attempts the cluster refused for their rate.
    away : bool
        Whether no server answers at all: the window then says nothing of the cluster's capacity.
    """

    seconds: float
    answered: int
    in_flight: float
    throttled: int = 0
    away: bool = False


@dataclass(frozen=True)
class Setting:
    """What the scheduler shall do until the next one.

    Parameters
    ----------
    limit : int
        Attempts in flight at most.
    pace : float, optional
        Attempts per second at most [1/s]; None: as fast as the answers come.
    schedule : float, optional
        Starts are due at this rate whatever the answers [1/s] (open loop); None: closed loop.
    reason : str
        Why, in words for the user.
    """

    limit: int
    pace: float | None = None
    schedule: float | None = None
    reason: str = ""


class Controller(Protocol):
    """Decides settings from windows."""

    @property
    def maximum(self) -> int:
        """The highest limit it will ever set."""

    def step(self, window: Window | None, now: float) -> Setting:
        """Return the setting from `now` [s] on; the first call has no window."""


@dataclass
class Pace:
    """Keeps attempts just below the rate the cluster admits, once the cluster has said that there is a limit.

    While attempts are refused for their rate the token bucket is empty, so what is admitted *is* the limit: the pace
    is set a little under it. Then it rises slowly, so that a raised limit is found; each refusal sets it anew.

    Parameters
    ----------
    margin : float
        Share of the admitted rate left unused when the pace is set.
    """

    margin: float = 0.02
    rate: float | None = None
    _since: float | None = None
    _admitted: int = 0
    _refused: int = 0
    _seconds: float = 0.0
    _calm: float = 0.0
    _slack: float = 0.0

    def step(self, window: Window, now: float) -> float | None:
        """Return the pace from `now` on [1/s]; None where no limit was seen or it no longer binds."""
        if window.throttled or self._since is not None:
            self._measure(window, now)
        elif self.rate is not None:
            self._recover(window)
        return self.rate

    def _measure(self, window: Window, now: float) -> None:
        if self._since is None:
            self._since, self._admitted, self._refused, self._seconds = now, 0, 0, 0.0
            if self.rate is None:
                return  # the window in which the burst ran out says nothing of the limit
        self._admitted += window.answered
        self._refused += window.throttled
        self._seconds += window.seconds
        self._calm = self._slack = 0.0
        few = (self._admitted < 100 and self._seconds < 2) or (self._admitted < 10 and self._seconds < 5)
        if self._seconds < 0.5 or few:
            return
        if self.rate is None or self._refused > 0.2 * (self._admitted + self._refused):
            self.rate = max(1.0, self._admitted / self._seconds * (1 - self.margin))
        else:  # just above the limit: a short count is less exact than the pace itself
            self.rate = max(1.0, self.rate * (1 - self.margin))
        self._since = None

    def _recover(self, window: Window) -> None:
        assert self.rate is not None
        self._calm += window.seconds
        growth = 0.004 * 2 ** max(0.0, (self._calm - 10) / 5)  # per second: gentle at first, then ever bolder
        self.rate *= 1 + min(growth, 0.25) * window.seconds
        binding = window.answered >= 0.7 * self.rate * window.seconds
        self._slack = 0.0 if binding else self._slack + window.seconds
        if self._slack >= 3:
            self.rate, self._slack, self._calm = None, 0.0, 0.0


@dataclass
class Fixed:
    """So many in flight, whatever happens; only throttling slows it down."""

    limit: int
    pace: Pace = field(default_factory=Pace)

    @property
    def maximum(self) -> int:
        return self.limit

    def step(self, window: Window | None, now: float) -> Setting:
        pace = self.pace.step(window, now) if window else None
        return Setting(self.limit, pace, reason="fixed" if pace is None else "fixed, paced to what the cluster admits")


@dataclass
class OpenLoop:
    """Starts are due at a rate, whether or not the answers keep up; `maximum` bounds what may be in flight."""

    rate: float
    maximum: int = 512
    pace: Pace = field(default_factory=Pace)

    def step(self, window: Window | None, now: float) -> Setting:
        pace = self.pace.step(window, now) if window else None
        return Setting(self.maximum, pace, self.rate, reason=f"{self.rate:g} starts/s are due")


@dataclass
class _Level:
    """Throughput seen at one limit: window rates, newest last."""

    rates: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=60))

    def add(self, window: Window) -> None:
        self.rates.append((window.answered / window.seconds, window.seconds))

    def split(self, last: int) -> tuple[_Level, _Level]:
        """Return the windows before the last few, and those."""
        rates = list(self.rates)
        return _Level(deque(rates[:-last])), _Level(deque(rates[-last:]))

    def differs_from(self, other: _Level) -> bool:
        """Tell whether two means differ by much, and by more than the spread of the windows explains."""
        if not other.rates or other.mean <= 0:
            return False
        spread = max(other.error() * math.sqrt(len(other.rates) / len(self.rates)), 0.02)
        spread = 0.0 if math.isinf(spread) else spread
        return abs(self.mean / other.mean - 1) > max(0.25, 3 * spread)

    @property
    def seconds(self) -> float:
        return sum(seconds for _, seconds in self.rates)

    @property
    def mean(self) -> float:
        return sum(rate * seconds for rate, seconds in self.rates) / max(self.seconds, 1e-9)

    def error(self) -> float:
        """Return the relative standard error of the mean; infinite below two windows."""
        count, mean = len(self.rates), self.mean
        if count < 2 or mean <= 0:
            return math.inf
        variance = sum((rate - mean) ** 2 for rate, _ in self.rates) / (count - 1)
        return math.sqrt(variance / count) / mean


KNEE_SHARE = 0.95
"""The knee: the smallest parallelism that reaches this share of the best throughput."""

SPARED_SHARE = 0.975
"""A lower limit is taken up when it keeps this share: above the knee's, for a few starts too many in flight cost a
little latency, one too few costs throughput on every start, and what tells them apart is a noisy measurement."""


@dataclass
class Auto:
    """Finds the knee of whatever it talks to, and follows it.

    First a ramp 1, 2, 4, ... With `R` the response time at one in flight and `X` the best throughput so far, a
    throughput curve of the form ``((P/R)^-2 + X^-2)^(-1/2)`` reaches 0.95 X at ``P = 3 R X``: the ramp ends there, or
    halfway there once a doubling has gained nothing; the limit is then read off between its steps. From then on short
    probes above and below, rarely and pooled: a higher limit is taken up when it gains clearly more than the knee
    allows, a lower one when it loses clearly less; a sudden change of the throughput starts the probes at once.

    Parameters
    ----------
    maximum : int
        The highest limit.
    dwell : float
        Least time at a level before it is judged [s].
    interval : float
        Time between probes while nothing changes [s].
    """

    maximum: int = 512
    dwell: float = 0.3
    interval: float = 2.0
    pace: Pace = field(default_factory=Pace)
    limit: int = 1
    _base: int = 1
    _phase: str = "ramp"
    _settle_until: float = 0.0
    _ramp_steps: list[tuple[int, float]] = field(default_factory=list)
    _visit: _Level = field(default_factory=_Level)
    _here: _Level = field(default_factory=_Level)
    _up: _Level = field(default_factory=_Level)
    _down: _Level = field(default_factory=_Level)
    _next_probe: float = 0.0
    _turn: int = 0

    def step(self, window: Window | None, now: float) -> Setting:
        if window is None:
            self._settle_until = now + 0.1  # a fresh connection and cold caches are no measure
            return self._setting(None)
        pace = self.pace.step(window, now)
        if self._phase == "ramp" and pace is not None:
            self._hold(now)
        unlimited = pace is None and not window.throttled and window.in_flight >= 0.6 * self.limit
        if unlimited and not window.away and now > self._settle_until:
            getattr(self, f"_{self._phase}")(window, now)
        return self._setting(pace)

    def _setting(self, pace: float | None) -> Setting:
        reason = {"ramp": "finding the knee", "steady": "at the knee", "probe": "probing beside the knee"}[self._phase]
        return Setting(self.limit, pace, reason=reason if pace is None else "paced to what the cluster admits")

    def _move(self, limit: int, now: float, latency: float) -> None:
        self.limit = max(1, min(limit, self.maximum))
        self._visit = _Level()
        self._settle_until = now + min(latency, 1.0)  # answers of the old limit are still under way

    def _judged(self) -> bool:
        answers = self._visit.mean * self._visit.seconds
        return answers >= 300 or (self._visit.seconds >= self.dwell and (answers >= 30 or self._visit.seconds >= 3))

    def _ramp(self, window: Window, now: float) -> None:
        self._visit.add(window)
        if not self._judged():
            return
        throughput = self._visit.mean
        before = self._ramp_steps[-1][1] if self._ramp_steps else 0.0
        self._ramp_steps.append((self.limit, throughput))
        latency = self.limit / max(throughput, 1e-9)
        best = max(rate for _, rate in self._ramp_steps)
        bandwidth_delay = best / max(self._ramp_steps[0][1], 1e-9)  # R X, with R = 1 / throughput at one in flight
        flat = throughput < 1.05 * before and self.limit >= 1.5 * bandwidth_delay
        if flat or self.limit >= 3 * bandwidth_delay or self.limit >= self.maximum:
            knee = self._knee_of_ramp(KNEE_SHARE * best)
            self._base = min(knee + round(0.25 * knee + 0.01), self.maximum)  # 1, 3, 4, 5, ... 10 for a knee of 8
            self._steady_from(now, latency)
        else:
            self._move(min(2 * self.limit, self.maximum), now, latency)

    def _knee_of_ramp(self, wanted: float) -> int:
        """Return the smallest limit that gives the wanted throughput, between the steps of the ramp."""
        low, low_rate = 1, 0.0
        for limit, rate in self._ramp_steps:
            if rate >= wanted:
                share = (wanted - low_rate) / max(rate - low_rate, 1e-9) if low_rate else 1.0
                return math.ceil(low + (limit - low) * share - 0.25)
            low, low_rate = limit, rate
        return low

    def _hold(self, now: float) -> None:
        """End a ramp that throttling cut short: more in flight cannot help."""
        self._base = self.limit
        self._steady_from(now, 0.0)

    def _steady_from(self, now: float, latency: float, *, soon: bool = False, upward: bool = True) -> None:
        self._phase = "steady"
        self._turn = 0 if upward else 2
        self._here, self._up, self._down = _Level(), _Level(), _Level()
        self._next_probe = now + (self.dwell if soon else self.interval)
        self._move(self._base, now, latency)

    def _steady(self, window: Window, now: float) -> None:
        self._here.add(window)
        if self._shifted():
            self._steady_from(now, 0.0, soon=True)
        elif now >= self._next_probe and self._here.seconds >= self.dwell:
            self._phase = "probe"
            self._turn += 1
            upward = self._base < self.maximum and (self._base == 1 or self._turn % 3 != 0)
            self._move(self._above() if upward else self._below(), now, self._base / max(self._here.mean, 1e-9))

    def _above(self) -> int:
        return min(max(self._base + 1, round(1.5 * self._base)), self.maximum)

    def _below(self) -> int:
        return max(1, min(self._base - 1, round(self._base / 1.5)))

    def _shifted(self) -> bool:
        """Tell whether the last windows are of another kind than those before them."""
        older, recent = self._here.split(5)
        return len(older.rates) >= 5 and len(recent.rates) == 5 and recent.differs_from(older)

    def _probe(self, window: Window, now: float) -> None:
        self._visit.add(window)
        upward = self.limit > self._base
        pooled = self._up if upward else self._down
        answers = self._visit.mean * self._visit.seconds
        if self._visit.seconds < 0.15 or (answers < 10 and self._visit.seconds < 2):
            return
        if self._visit.differs_from(pooled):
            pooled.rates.clear()  # the earlier probes met another cluster
        pooled.rates.extend(self._visit.rates)
        ratio = pooled.mean / max(self._here.mean, 1e-9)
        doubt = ratio * math.hypot(pooled.error(), self._here.error())
        latency = self.limit / max(self._visit.mean, 1e-9)
        gained = upward and ratio - 1.5 * doubt > 1 + (1 / KNEE_SHARE - 1) * 0.8
        spared = not upward and ratio - 1.5 * doubt > SPARED_SHARE
        if gained or spared:
            self._base = min(2 * self._base, self.maximum) if gained and ratio > 1.3 else self.limit
            self._steady_from(now, latency, soon=True, upward=gained)
        else:
            self._phase = "steady"
            self._next_probe = now + self.interval
            self._move(self._base, now, latency)
