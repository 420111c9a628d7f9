"""The controller that finds the knee of whatever it talks to, and follows it.

Invariants: a limit is judged by what it gave over what the limit in force gave just before and after it, for a shared
machine's throughput wanders by more than any limit is worth; another limit is taken up only when the probes bear it out
beyond their own doubt, so that luck, which comes both ways, does not walk the limit down step by step.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from capacity.launcher.controller import Pace, Setting, Window

KNEE_SHARE = 0.95
"""The knee: the smallest parallelism that reaches this share of the best throughput."""
GAINED = math.log(1 + (1 / KNEE_SHARE - 1) * 0.8)
"""Log of the gain for which a higher limit is taken up."""
SPARED = math.log(0.975)
"""Log of the loss for which a lower limit is taken up: above the knee's, for a few starts too many in flight cost a
little latency, one too few costs throughput on every start."""
CALM = 5.0
"""Seconds without a shift after which one is taken for another cluster, of which what was compared says nothing; more
often it is noise, the same for both sides of a comparison."""
STORES_WAKE_UP = 4
"""Limit below which a doubling without gain is no end of the ramp: PostgreSQL gives 1, 2 and 3 in flight about the same
and half as much again from 4 on, when commits begin to share their flushes."""
DOUBT = 0.05
"""Least standard error of one comparison: windows that agree by chance are not certain."""


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

    @property
    def answers(self) -> float:
        return self.mean * self.seconds

    def error(self) -> float:
        """Return the relative standard error of the mean; infinite below two windows."""
        count, mean = len(self.rates), self.mean
        if count < 2 or mean <= 0:
            return math.inf
        variance = sum((rate - mean) ** 2 for rate, _ in self.rates) / (count - 1)
        return math.sqrt(variance / count) / mean

    def spread(self) -> float:
        """Return the relative standard deviation of the windows; 0 below two."""
        error = self.error()
        return error * math.sqrt(len(self.rates)) if math.isfinite(error) else 0.0

    def doubt(self) -> float:
        """Return the error, or what so few answers allow to say where it is not known."""
        error = self.error()
        return error if math.isfinite(error) else max(0.05, 1 / math.sqrt(max(self.answers, 1.0)))


@dataclass
class _Comparison:
    """What probes of one limit gave over the limit in force: (log of the ratio, its standard error), newest last."""

    logs: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=16))

    def add(self, probed: _Level, beside: _Level, spread: float) -> None:
        """Add a probe and the windows just before and after it; `spread` is that of one window in the long run."""
        log = math.log(probed.mean / beside.mean)
        long_run = spread * math.sqrt(1 / len(probed.rates) + 1 / len(beside.rates))  # a few may agree by chance
        doubt = max(math.hypot(probed.doubt(), beside.doubt()), long_run, DOUBT)
        if self.logs and abs(log - self.mean) > max(0.2, 3 * math.hypot(self.error(), doubt)):
            self.logs.clear()  # the earlier probes met another cluster
        self.logs.append((log, doubt))

    @property
    def mean(self) -> float:
        """The mean, each probe weighted by its certainty."""
        return sum(log / doubt**2 for log, doubt in self.logs) / self._weight

    def error(self) -> float:
        """Return the standard error of the mean: what the probes say of themselves, or how far they lie apart."""
        count, mean = len(self.logs), self.mean
        apart = sum((log - mean) ** 2 / doubt**2 for log, doubt in self.logs) / self._weight
        return max(1 / math.sqrt(self._weight), math.sqrt(apart / max(count - 1, 1)))

    @property
    def _weight(self) -> float:
        return sum(1 / doubt**2 for _, doubt in self.logs)


@dataclass
class Auto:
    """Finds the knee of whatever it talks to, and follows it.

    First a ramp 1, 2, 4, ... With `R` the response time at one in flight and `X` the best throughput so far, a
    throughput curve of the form ``((P/R)^-2 + X^-2)^(-1/2)`` reaches 0.95 X at ``P = 3 R X``: the ramp ends there, or
    halfway there once a doubling has gained nothing; the limit is then read off between its steps. From then on short
    probes above and below, in turns; a sudden change of the throughput starts them at once.

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
    _long: _Level = field(default_factory=_Level)
    _before: _Level = field(default_factory=_Level)
    _since: _Level = field(default_factory=_Level)
    _probed: int | None = None
    _up: _Comparison = field(default_factory=_Comparison)
    _down: _Comparison = field(default_factory=_Comparison)
    _next_probe: float = 0.0
    _shifted: float = 0.0
    _upward: bool = True

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

    # -- the ramp ----------------------------------------------------------------------------------------------

    def _judged(self) -> bool:
        """Whether there is enough to judge a step by: without any answer nothing is known, however long it takes."""
        answers, seconds = self._visit.answers, self._visit.seconds
        return answers >= 300 or (answers > 0 and seconds >= self.dwell and (answers >= 30 or seconds >= 3))

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
        flat = throughput < 1.05 * before and self.limit >= max(1.5 * bandwidth_delay, STORES_WAKE_UP)
        if flat or self.limit >= 3 * bandwidth_delay or self.limit >= self.maximum:
            knee = self._knee_of_ramp(KNEE_SHARE * best)
            above = max(knee + round(0.5 * knee + 0.01), 2)  # 2, 3, 5, 6, ... 12 for a knee of 8
            self._base = min(above, self.maximum)
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

    # -- from then on ------------------------------------------------------------------------------------------

    def _steady_from(self, now: float, latency: float, *, soon: bool = False, upward: bool = True) -> None:
        self._phase, self._upward = "steady", upward
        self._here, self._since, self._probed = _Level(), _Level(), None
        self._up, self._down = _Comparison(), _Comparison()
        self._next_probe = now + (self.dwell if soon else self.interval)
        self._move(self._base, now, latency)

    def _steady(self, window: Window, now: float) -> None:
        self._here.add(window)
        self._long.add(window)
        self._since.add(window)
        older, recent = self._here.split(5)
        if len(older.rates) >= 5 and len(recent.rates) == 5 and recent.differs_from(older):  # of another kind
            self._since = recent
            self._here, self._next_probe = _Level(), min(self._next_probe, now + self.dwell)
            self._upward = recent.mean > older.mean
            if now - self._shifted >= CALM:
                self._up, self._down, self._long = _Comparison(), _Comparison(), _Level()
            self._shifted = now
        if self._probed is not None:
            if self._since.seconds >= 0.25 and (self._since.answers >= 10 or self._since.seconds >= 2):
                self._judge(self._probed, now)
        elif now >= self._next_probe and self._since.seconds >= self.dwell:
            self._phase = "probe"
            self._before = self._since.split(5)[1]
            upward = self._base == 1 or (self._upward and self._base < self.maximum)
            self._upward = not upward
            self._move(self._above() if upward else self._below(), now, self._base / max(self._here.mean, 1e-9))

    def _above(self) -> int:
        return min(max(self._base + 1, round(1.5 * self._base)), self.maximum)

    def _below(self) -> int:
        return max(1, min(self._base - 1, round(self._base / 1.5)))

    def _probe(self, window: Window, now: float) -> None:
        self._visit.add(window)
        if self._visit.seconds < 0.15 or (self._visit.answers < 10 and self._visit.seconds < 2):
            return
        probed, latency = self._visit, self.limit / max(self._visit.mean, 1e-9)
        self._phase, self._probed, self._since = "steady", self.limit, _Level()
        self._move(self._base, now, latency)
        self._visit = probed  # kept until the windows after it are there too

    def _judge(self, limit: int, now: float) -> None:
        """Set a probe against what the limit in force gave just before and after it; take it up if it is better."""
        probed, self._probed = self._visit, None
        self._next_probe = now + self.interval
        beside = _Level(deque([*self._before.rates, *list(self._since.rates)[:5]]))
        if probed.mean <= 0 or beside.mean <= 0:
            return
        upward = limit > self._base
        comparison = self._up if upward else self._down
        comparison.add(probed, beside, self._long.spread())
        gain, doubt, twice = comparison.mean, comparison.error(), len(comparison.logs) >= 2
        # Down counts no more doubt than calm has: in a storm it must stay as easy as up is hard.
        promising = gain - doubt > GAINED if upward else gain - min(doubt, DOUBT) > SPARED
        sure = upward and gain - 3 * doubt > GAINED
        if promising and not (twice or sure):  # what may be luck is tried again at once
            self._upward, self._next_probe = upward, now + self.dwell
            return
        gained, spared = upward and promising, not upward and promising
        if gained or spared:
            self._base = min(2 * self._base, self.maximum) if gained and gain > math.log(1.3) else limit
            self._steady_from(now, limit / probed.mean, soon=True, upward=gained)
