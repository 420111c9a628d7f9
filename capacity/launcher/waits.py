"""Where workers wait: parked until something changes, or idle while one of them looks for something to take.

Invariants: one looks at a time, however many have nothing to take; who took something wakes the next.
"""

from __future__ import annotations

import asyncio
from collections import deque

from capacity.launcher.pacing import TICK


class Waits:
    """The workers of a scheduler that have nothing to do now."""

    def __init__(self) -> None:
        self._parked: deque[asyncio.Future[None]] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._looking = False

    @property
    def nobody_looks(self) -> bool:
        """Whether some are idle and none looks: it may be parked itself by now."""
        return bool(self._idle) and not self._looking

    async def park(self) -> None:
        """Wait until all are woken."""
        await _waiting(self._parked)

    async def look(self, pause: float) -> None:
        """Wait until there may be something to take, in `pause` seconds; be idle if another does that."""
        if self._looking:
            await _waiting(self._idle)
            return
        self._looking = True
        try:
            await asyncio.sleep(min(pause, TICK))
        finally:
            self._looking = False

    def took(self) -> None:
        """Have one that is idle look next."""
        while self._idle:
            future = self._idle.popleft()
            if not future.done():
                future.set_result(None)
                return

    def wake(self) -> None:
        """Wake all."""
        for future in (*self._parked, *self._idle):
            if not future.done():
                future.set_result(None)
        self._parked.clear()
        self._idle.clear()


async def _waiting(among: deque[asyncio.Future[None]]) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    among.append(future)
    await future
