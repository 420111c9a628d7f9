"""One setting for many launchers: who may have how many starts in flight, and how fast.

Invariants: the shares of a limit add up to it, those of a schedule too; two shares of a limit differ by at most one.
What a cluster refuses is not shared out: each launcher paces itself by the refusals it gets, and of a token bucket
that all of them draw from each then keeps to the part it was admitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from capacity.launcher.controller import Pace, Setting, Window


@dataclass(frozen=True)
class Share:
    """A launcher's part of a setting: attempts in flight at most, and starts due per second where they are due."""

    limit: int
    schedule: float | None = None


def shares(setting: Setting, launchers: int) -> list[Share]:
    """Share a setting out.

    >>> [share.limit for share in shares(Setting(10), 4)]
    [3, 3, 2, 2]
    >>> shares(Setting(512, schedule=300.0), 2)[0]
    Share(limit=256, schedule=150.0)
    >>> [share.schedule for share in shares(Setting(1, schedule=90.0), 2)]
    [90.0, 0.0]
    """
    each, more = divmod(setting.limit, launchers) if launchers else (0, 0)
    limits = [each + (i < more) for i in range(launchers)]
    if setting.schedule is None:
        return [Share(limit) for limit in limits]
    busy = sum(limit > 0 for limit in limits)
    return [Share(limit, setting.schedule / busy if limit else 0.0) for limit in limits]


@dataclass
class Told:
    """The controller of a launcher that gets its share from elsewhere; only refusals it meets itself slow it down."""

    maximum: int = 512
    share: Share = Share(0)
    pace: Pace = field(default_factory=Pace)

    def step(self, window: Window | None, now: float) -> Setting:
        pace = self.pace.step(window, now) if window else None
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
