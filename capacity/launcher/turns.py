"""What is tried next: an item that waits for another attempt, or the next of the batch.

Invariants: what waits is bounded, by number or by memory: then no further item is begun but to probe an outage. Items
that nobody answers have neither all turns nor all places in flight, however soon they are due again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from capacity.launcher import outcome
from capacity.launcher.outage import Outage
from capacity.launcher.retries import Pending, Waiting

MOST_UNANSWERED = 1 << 26
"""Memory for items that nobody answers [bytes], 200,000 small ones; with more of them others are but probes."""
FRESH_TURNS = 3
"""After an attempt that had no answer once more so many turns are for items not tried before; so are, of the places in
flight, so many in four."""


class Turns:
    """Hands out items; while none waits for another attempt, who starts them may draw from the iterator itself.

    Parameters
    ----------
    bodies : iterator
        The items not tried yet, as `Batch.bodies` yields them.
    others : list
        Gets those that are no items, with their outcome.
    outage : Outage
        In one every other item is one not tried before.

    Attributes
    ----------
    limit : int
        Attempts in flight at most, now; for whoever starts them to say.
    exhausted : bool
        Whether no item is left that was not tried; for whoever finds the iterator at its end to say.
    again_in_flight : int
        Attempts in flight of items that nobody answered before; for whoever ends one to count down.
    """

    def __init__(
        self, bodies: Iterator[tuple[int, bytes | None]], others: list[tuple[int, int]], outage: Outage
    ) -> None:
        self._bodies, self._others, self._outage = bodies, others, outage
        self._waiting = Waiting()
        self._fresh_turns = 0
        self.limit = 0
        self.exhausted = False
        self.again_in_flight = 0

    @property
    def empty(self) -> bool:
        """Whether nothing is left to try."""
        return self.exhausted and not self._waiting

    @property
    def some_wait(self) -> bool:
        """Whether there are items that wait for another attempt."""
        return bool(self._waiting)

    def due(self, now: float) -> bool:
        """Whether the next turn is that of an item that waits."""
        return self._until_due(now) <= 0 and not self._fresh_first

    def pause(self, now: float) -> float:
        """Return how long there is nothing to take [s]; 0 where there never will be."""
        return 0.0 if self._may_begin or not self._waiting else max(0.0, self._until_due(now))

    def take(self, intended: float, now: float) -> Pending | None:
        """Return an item that waits and is due, else the next of the batch; None: look again later."""
        pending = None if self._fresh_first else self._waiting.pop(now)
        if pending is not None:
            self.again_in_flight += pending.unanswered
            return pending
        if not self._may_begin:
            return None
        for _ in range(1000):  # a file of bad lines must not keep the loop to itself
            try:
                index, body = next(self._bodies)
            except StopIteration:
                self.exhausted = True
                return None
            if body is not None:
                self._fresh_turns = max(self._fresh_turns - 1, 0)
                return Pending(now, index, body, 0, 0, intended)
            self._others.append((index, outcome.BAD_ITEM))
        return None

    def put_back(self, pending: Pending) -> None:
        """Let an item wait for another attempt, until it is due."""
        self._waiting.push(pending)

    def unanswered_again(self) -> None:
        """Note that an item that nobody had answered was not answered once more: others come first."""
        self._fresh_turns = FRESH_TURNS

    def _until_due(self, now: float) -> float:
        return self._waiting.due() - now if self._waiting else math.inf

    @property
    def _many_wait(self) -> bool:
        """Whether so many wait that no further items are begun."""
        waiting, most = self._waiting, max(self.limit, 16)
        return len(waiting) - waiting.unanswered >= most or waiting.unanswered_bytes >= MOST_UNANSWERED

    @property
    def _may_begin(self) -> bool:
        """Whether an item not tried before may be."""
        return self._fresh_first or not (self.exhausted or self._many_wait)

    @property
    def _fresh_first(self) -> bool:
        """Whether the next attempt is of an item not tried before, whatever is due.

        Items that nobody answers can fall due faster than attempts can be made, and take longer than those that are
        answered: they would leave no turn, and no place, for others.
        """
        if self._outage.active:
            return self._outage.asks_fresh and not self.exhausted
        enough = self._fresh_turns > 0 or self.again_in_flight >= max(1, self.limit // (FRESH_TURNS + 1))
        return enough and not self._many_wait and not self.exhausted
