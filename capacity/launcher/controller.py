"""How many starts in flight, and how fast: decided from what the last windows showed, without clock or network.

A controller is told a `Window` of statistics and the time, and answers with a `Setting`. Invariants: the limit
stays within [1, maximum]; the pace is None (unlimited) or at least 1/s; the same windows give the same settings.
"""

from __future__ import annotations

import math
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


AHEAD = 1.25
"""A step of the pace: how far beyond a limit it goes before it stays there for a while, and how much further then."""
BURST = 2.0
"""What a token bucket may hold, in seconds of its limit: as much as Temporal's do."""


@dataclass
class Pace:
    """Keeps attempts just below the rate the cluster admits, once the cluster has said that there is a limit.

    While attempts are refused for their rate the token bucket is empty, so what is admitted *is* the limit: the pace
    is set a little under it. Then it rises slowly, so that a raised limit is found; each refusal sets it anew. What
    stays unused meanwhile fills the bucket again and hides the limit for seconds: the pace stays at `AHEAD` of it
    for as long as a full bucket and a half last if it is used, and without a refusal goes on by as much again.

    Parameters
    ----------
    margin : float
        Share of the admitted rate left unused when the pace is set.
    prompt : bool
        Set the pace anew after each window with refusals, the first included, instead of adding up such windows first:
        for windows as long as a second, in which the launchers have slowed down already: so it falls by a step at
        most. The first pace may be too high for a moment, by what was left of a burst.
    """

    margin: float = 0.02
    prompt: bool = False
    rate: float | None = None
    _limit: float = 0.0
    _ahead: float = AHEAD
    _at_top: float = 0.0
    _since: float | None = None
    _admitted: int = 0
    _refused: int = 0
    _seconds: float = 0.0
    _calm: float = 0.0
    _slack: float = 0.0

    def step(self, window: Window, now: float) -> float | None:
        """Return the pace from `now` on [1/s]; None where no limit was seen or it no longer binds."""
        if window.throttled or (self._since is not None and not self.prompt):
            self._measure(window, now)
        elif self.rate is not None:
            self._recover(window)
        return self.rate

    def _measure(self, window: Window, now: float) -> None:
        if self._since is None:
            self._since, self._admitted, self._refused, self._seconds = now, 0, 0, 0.0
            if self.rate is None and not self.prompt:
                return  # the window in which the burst ran out says nothing of the limit
        self._admitted += window.answered
        self._refused += window.throttled
        self._seconds += window.seconds
        self._calm = self._slack = 0.0
        few = (self._admitted < 100 and self._seconds < 2) or (self._admitted < 10 and self._seconds < 5)
        if not self.prompt and (self._seconds < 0.5 or few):
            return
        if self.rate is None or self._refused > 0.2 * (self._admitted + self._refused):
            least = self.rate / AHEAD if self.prompt and self.rate is not None else 0.0
            self.rate = max(1.0, least, self._admitted / self._seconds * (1 - self.margin))
        else:  # just above the limit: a short count is less exact than the pace itself
            self.rate = max(1.0, self.rate * (1 - self.margin))
        self._limit, self._ahead, self._at_top = self.rate / (1 - self.margin), AHEAD, 0.0
        self._since = None

    def _recover(self, window: Window) -> None:
        assert self.rate is not None
        self._calm += window.seconds
        gentle, doubling = (4, 3) if self.prompt else (10, 5)
        # A second's growth: gentle at first, then ever bolder.
        growth = 0.004 * 2 ** min(max(0.0, (self._calm - gentle) / doubling), 6.0)
        top = self._ahead * self._limit or math.inf  # of a pace that was told no limit is known
        if self.rate < top:
            self.rate = min(self.rate * (1 + min(growth, 0.25) * window.seconds), top)
        else:
            self._at_top += window.seconds
        if self._at_top >= (BURST + 1) / (self._ahead - 1):  # a full bucket is empty by then
            self._ahead, self._at_top = AHEAD * self._ahead, 0.0
        binding = window.answered >= 0.7 * self.rate * window.seconds
        self._slack = 0.0 if binding else self._slack + window.seconds
        if self._slack >= 3 and (not self.prompt or self._calm >= 9):  # launchers that were refused hold back awhile
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
