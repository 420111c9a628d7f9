"""When a failed attempt is tried again: per item with jitter, for the whole batch while no server answers."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from typing import NamedTuple

from capacity.errors import UsageError


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how soon.

    Parameters
    ----------
    deadline : float
        Of one attempt [s].
    attempts : int
        Attempts at most per item; throttled ones and those no server answered do not count.
    first_delay, maximum_delay : float
        Backoff doubles between these [s], each with up to half of it taken off at random.
    patience : float
        How long no server may answer before the launch gives up [s]; the items stay to do.
    """

    deadline: float = 10.0
    attempts: int = 10
    first_delay: float = 0.1
    maximum_delay: float = 5.0
    patience: float = 300.0

    def __post_init__(self) -> None:
        if not 0 < self.deadline <= 3600:
            raise UsageError(f"deadline is {self.deadline:g} s", allowed="above 0, up to 3600 s")
        if self.attempts < 1:
            raise UsageError(f"attempts is {self.attempts}", allowed="1 or more")
        if not self.patience >= 0:
            raise UsageError(f"patience is {self.patience:g} s", allowed="0 s or more")

    def delay(self, attempt: int, random_: random.Random) -> float:
        """Return how long to wait after the `attempt`-th failure, counted from 1 [s]."""
        whole = min(self.first_delay * 2.0 ** min(attempt - 1, 30), self.maximum_delay)
        return whole * (1 - random_.random() / 2)


class Pending(NamedTuple):
    """An item that waits for its next attempt; the first field orders them."""

    due: float
    item: int
    body: bytes
    attempt: int
    tries: int
    intended: float


class Waiting:
    """Items that wait for another attempt, soonest first."""

    def __init__(self) -> None:
        self._heap: list[Pending] = []

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, pending: Pending) -> None:
        heapq.heappush(self._heap, pending)

    def due(self) -> float:
        """Return when the soonest is due [s]."""
        return self._heap[0].due

    def pop(self, now: float) -> Pending | None:
        """Return one that is due, if any."""
        return heapq.heappop(self._heap) if self._heap and self._heap[0].due <= now else None


@dataclass
class Outage:
    """Whether a server answers at all: after `threshold` unanswered attempts in a row one probe goes at a time.

    >>> outage = Outage()
    >>> [outage.failed(now=0.0) for _ in range(4)]
    [False, False, True, True]
    >>> outage.succeeded(); outage.active
    False
    """

    threshold: int = 3
    maximum_delay: float = 2.0
    active: bool = False
    since: float = 0.0
    until: float = 0.0
    _failures: int = 0
    _probes: int = 0
    _first: float = field(default=0.0)

    def failed(self, now: float) -> bool:
        """Note an attempt that no server answered; return whether there is an outage."""
        if self._failures == 0:
            self._first = now
        self._failures += 1
        if not self.active and self._failures >= self.threshold:
            self.active, self.since, self._probes, self.until = True, self._first, 0, now
        if self.active and now >= self.until:
            self._probes += 1
            self.until = now + min(0.1 * 2.0 ** (self._probes - 1), self.maximum_delay)
        return self.active

    def succeeded(self) -> None:
        """Note that a server answered."""
        self._failures = 0
        self.active = False
