"""When a failed attempt of an item is tried again, with jitter."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass
from typing import NamedTuple

from capacity.errors import UsageError


def backoff(first: float, failures: int, longest: float) -> float:
    """Return how long to wait after so many failures in a row, counted from 1: twice as long each time [s].

    >>> [backoff(0.5, failures, 2.0) for failures in (1, 2, 3, 4, 100_000)]
    [0.5, 1.0, 2.0, 2.0, 2.0]
    """
    return min(first * 2.0 ** min(failures - 1, 30), longest)


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
        return backoff(self.first_delay, attempt, self.maximum_delay) * (1 - random_.random() / 2)


class Pending(NamedTuple):
    """An item that waits for its next attempt; the first field orders them."""

    due: float
    item: int
    body: bytes
    attempt: int
    tries: int
    intended: float
    unanswered: bool = False


_OVERHEAD = 220  # bytes of a `Pending` beside its body


class Waiting:
    """Items that wait for another attempt, soonest first.

    Attributes
    ----------
    unanswered : int
        Those that had no answer to the last.
    unanswered_bytes : int
        What these take of memory, about.
    """

    def __init__(self) -> None:
        self._heap: list[Pending] = []
        self.unanswered = 0
        self.unanswered_bytes = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, pending: Pending) -> None:
        heapq.heappush(self._heap, pending)
        self._count(pending, 1)

    def due(self) -> float:
        """Return when the soonest is due [s]."""
        return self._heap[0].due

    def pop(self, now: float) -> Pending | None:
        """Return one that is due, if any."""
        if not self._heap or self._heap[0].due > now:
            return None
        found = heapq.heappop(self._heap)
        self._count(found, -1)
        return found

    def _count(self, pending: Pending, sign: int) -> None:
        if pending.unanswered:
            self.unanswered += sign
            self.unanswered_bytes += sign * (len(pending.body) + _OVERHEAD)
