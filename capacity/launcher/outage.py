"""Whether a server answers at all; while none does, one probe goes at a time, ever more rarely."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from capacity.launcher.pacing import TICK
from capacity.launcher.retries import backoff

_CHOOSING = -1


@dataclass
class Outage:
    """After `threshold` unanswered attempts in a row one item goes alone until a server answers.

    >>> outage = Outage()
    >>> [outage.failed(item, now=0.0) for item in range(4)]
    [False, False, True, True]
    >>> outage.sent(4); outage.probing
    True
    >>> outage.succeeded(); outage.active
    True
    False
    """

    threshold: int = 3
    maximum_delay: float = 2.0
    active: bool = False
    since: float = 0.0
    until: float = 0.0
    _failures: int = 0
    _probes: int = 0
    _first: float = 0.0
    _probe: int | None = None  # the item that goes alone; _CHOOSING before there is one

    @property
    def probing(self) -> bool:
        """Whether a probe is on its way, or waited for: all else is to wait for its answer."""
        return self.active and self._probe is not None

    def quiet(self, now: float) -> bool:
        """Whether nothing goes to a server yet, not even a probe."""
        return self.active and now < self.until

    @property
    def asks_fresh(self) -> bool:
        """Whether the next probe is an item that was not tried before; every other one is.

        Those that were may have no answer though all others would, as where one shard of many is away.
        """
        return self.active and self._probes % 2 == 1

    def sent(self, item: int) -> None:
        """Note that an item goes to the server: in an outage it is the probe."""
        if self.active:
            self._probe = item

    def failed(self, item: int, now: float) -> bool:
        """Note that no server answered the attempt of an item; return whether there is an outage."""
        if self._failures == 0:
            self._first = now
        self._failures += 1
        if not self.active and self._failures >= self.threshold:
            self.active, self.since, self._probes, self.until = True, self._first, 0, now
        if self.active and now >= self.until:
            self._probes += 1
            self.until = now + backoff(0.1, self._probes, self.maximum_delay)
        if self._probe == item:
            self._probe = None
        return self.active

    def succeeded(self) -> bool:
        """Note that a server answered; return whether that ends an outage, in which others may have waited."""
        ends = self.active
        self._failures, self.active, self._probe = 0, False, None
        return ends

    async def pause(self, now: float) -> None:
        """Wait for the moment of the next probe, for a tick at most."""
        self._probe = _CHOOSING
        await asyncio.sleep(min(self.until - now, TICK))
        if self._probe == _CHOOSING:
            self._probe = None
