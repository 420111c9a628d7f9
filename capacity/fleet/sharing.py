"""One setting for many launchers: who may have how many starts in flight, and how fast.

Invariants: the shares of a limit add up to it, those of a schedule and a pace too; two shares of a limit differ by at
most one, and how fast goes by how many: who has half as many in flight cannot start as many. A launcher whose starts
are refused slows down by itself at once, and keeps to that for `TOLD_WITHIN` seconds: by then the whole batch's
controller has seen the refusals and sent it a pace. It is not left to itself for longer: the few starts that it sees
are no measure of what the cluster admits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from capacity.launcher.controller import Pace, Setting, Window

TOLD_WITHIN = 4.0
"""Seconds in which refusals reach the whole batch's controller, and what it makes of them its launchers."""


@dataclass(frozen=True)
class Share:
    """A launcher's part of a setting: attempts in flight at most, starts due and attempts allowed per second [1/s]."""

    limit: int
    schedule: float | None = None
    pace: float | None = None


def shares(setting: Setting, launchers: int) -> list[Share]:
    """Share a setting out.

    >>> [share.limit for share in shares(Setting(10), 4)]
    [3, 3, 2, 2]
    >>> shares(Setting(512, schedule=300.0), 2)[0]
    Share(limit=256, schedule=150.0, pace=None)
    >>> [share.schedule for share in shares(Setting(3, schedule=90.0), 4)]
    [30.0, 30.0, 30.0, 0.0]
    """
    each, more = divmod(setting.limit, launchers) if launchers else (0, 0)
    limits = [each + (i < more) for i in range(launchers)]
    parts = [limit / max(setting.limit, 1) for limit in limits]
    schedules = [None if setting.schedule is None else setting.schedule * part for part in parts]
    paces = [None if setting.pace is None or not part else setting.pace * part for part in parts]
    return [Share(*share) for share in zip(limits, schedules, paces, strict=True)]


@dataclass
class Told:
    """The controller of a launcher that gets its share from elsewhere; refusals it meets slow it down at once."""

    maximum: int = 512
    share: Share = Share(0)
    pace: Pace = field(default_factory=Pace)
    _refused: float = -math.inf

    def step(self, window: Window | None, now: float) -> Setting:
        if window and window.throttled:
            self._refused = now
        if now - self._refused > TOLD_WITHIN:
            self.pace.rate = self.share.pace
        own = self.pace.step(window, now) if window else None
        pace = min((one for one in (own, self.share.pace) if one is not None), default=None)
        schedule = self.share.schedule or None
        return Setting(self.share.limit, pace, schedule, reason="as told by the whole batch's controller")


def together(windows: Sequence[Window], seconds: float) -> Window:
    """Return what several launchers saw in the same time as one window."""
    return Window(
        seconds,
        sum(window.answered for window in windows),
        sum(window.in_flight for window in windows),
        sum(window.throttled for window in windows),
        any(window.away for window in windows),
    )
