"""When the next attempt may be made: where starts are due by a schedule, or paced to what a cluster admits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from capacity.launcher.controller import Setting

TICK = 0.1
"""Seconds between ticks: the longest that a changed setting goes unseen."""


class Place(NamedTuple):
    """When an attempt was due [s], and whether that is a place of the schedule."""

    due: float
    scheduled: bool


class Pacing:
    """Hands out places, one after the other; those of a schedule do not wait for whoever is late.

    Parameters
    ----------
    over : callable
        Whether nothing is left to wait for.
    retrying : callable
        Whether a retry is due: it is paced, and takes no place in the schedule.
    """

    def __init__(self, over: Callable[[], bool], retrying: Callable[[], bool]) -> None:
        self._over, self._retrying = over, retrying
        self._setting = Setting(0)
        self._turn = asyncio.Lock()
        self._paced = self._due = 0.0

    @property
    def binds(self) -> bool:
        """Whether attempts need a place at all."""
        return self._setting.pace is not None or self._setting.schedule is not None

    def apply(self, setting: Setting) -> None:
        """Go by another setting from now on."""
        if setting.schedule is not None and self._setting.schedule is None:
            self._due = time.perf_counter()  # due from the moment it has a schedule, not from before
        self._setting = setting

    def give_back(self, place: Place) -> None:
        """Leave a place that cannot be used to whoever comes next; before anything else is awaited."""
        if place.scheduled and self._setting.schedule is not None:
            self._due -= 1 / self._setting.schedule
        if self._setting.pace is not None:
            self._paced -= 1 / self._setting.pace

    async def place(self) -> Place | None:
        """Wait for the next place and return it, at once where attempts need none; None when nothing is left.

        One worker waits for the place, the others for their turn: a changed setting is seen at once by all.
        """
        if not self.binds:
            return Place(time.perf_counter(), scheduled=False)
        async with self._turn:
            while not self._over():
                now = intended = at = time.perf_counter()
                schedule, pace = self._setting.schedule, self._setting.pace
                scheduled = schedule is not None and not self._retrying()
                if scheduled:
                    at = intended = self._due
                if pace is not None:
                    at = max(at, self._paced)
                if at <= now:
                    if schedule is not None and scheduled:
                        self._due += 1 / schedule
                    if pace is not None:
                        self._paced = max(self._paced, now - TICK) + 1 / pace  # a late timer may catch up
                    return Place(intended, scheduled)
                await asyncio.sleep(min(at - now, TICK))
        return None
