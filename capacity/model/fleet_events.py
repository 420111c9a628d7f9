"""The events of a fleet's batch: ranges handed out, taken, completed, lost and taken up again.

Invariants: every range is completed exactly once; the shares of those that take part add up to the parallelism, but for
what one process may have in flight; nothing changes a rate between two events.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from capacity.errors import UsageError
from capacity.model.fleet_records import Machinery, Simulated, range_bytes

MOST_LOSSES: Final = 100_000
"""Losses after which a simulation gives up: a fleet that loses processes faster than they work never ends."""

_ORDER_BYTES: Final = 1_500
"""Bytes of history that a range makes when it is handed out."""

_OUTCOME_BYTES: Final = 250
"""Bytes that a completed range adds to what a run continued as new begins with."""

_SMALL: Final = 1e-3
"""Starts that are none: what rounding leaves of a range."""


@dataclass(eq=False)
class Process:
    """A launcher process and the range it holds."""

    number: int
    items: int = 0
    left: float = 0.0
    began: float = 0.0
    share: int = 0
    rate: float = 0.0
    busy: bool = False
    """Whether it runs a range or hands over."""
    told: bool = False
    """Whether it has its share."""
    asking: bool = False
    """Whether it waits for one."""
    idle_since: float | None = None


Range = tuple[int, float]
"""Starts of a range, and those of it still to do."""


@dataclass
class Fleet:
    """The state of a batch and what happens to it."""

    at: Callable[[int], float]
    count: int
    processes: int
    parallelism: int
    fastest: float
    rate: float
    size: int
    machinery: Machinery
    lose_every: float | None
    lose_at: Sequence[float]
    chance: random.Random | None
    losing: random.Random | None
    """Of losses alone: with them and without, all else has the same chances."""

    now: float = 0.0
    settled: float = 0.0
    """Up to when `left` of each process and the sums are true."""
    changed: bool = True
    """Whether who runs, or with which share, has changed since `_rates`."""
    soonest: float = math.inf
    """When the next range will be done."""
    timers: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    ticket: itertools.count[int] = field(default_factory=itertools.count)
    queue: deque[Range] = field(default_factory=deque)
    free: deque[Process] = field(default_factory=deque)
    members: list[Process] = field(default_factory=list)
    """Who has a share, in the order of sharing out: between two ranges too, and if idle or lost until that is seen."""
    running: list[Process] = field(default_factory=list)
    back: deque[Range] = field(default_factory=deque)
    """Ranges that were called back."""
    recalling: bool = False
    continuing: bool = False
    given: int = 0
    """Starts in ranges handed out so far."""
    out: int = 0
    """Ranges handed out, neither completed nor called back."""
    finished: int = 0
    completed: int = 0
    between_now: int = 0
    history: list[int] = field(default_factory=list)
    history_bytes: list[float] = field(default_factory=list)
    numbers: int = 0
    sent: float = 0.0
    resent: float = 0.0
    losses: int = 0
    at_work: int = 0
    working: float = 0.0
    between: float = 0.0
    without: float = 0.0

    @functools.cached_property
    def bytes(self) -> float:
        """Bytes of history of a range."""
        given = self.machinery.bytes_per_range
        return range_bytes(min(self.size, self.count)) if given is None else given

    def run(self) -> Simulated:
        self._begin()
        events = 0
        while self.finished < self.count:
            events += 1
            if self.changed:
                self._settle()
                self._rates()
            timer = self.timers[0][0] if self.timers else math.inf
            self.now = min(self.soonest, timer)
            if self.soonest <= timer:
                self._settle()
                for process in [p for p in self.running if p.left <= _SMALL]:
                    self._complete(process)
                if self._long() and self.finished < self.count:
                    self._recall()
            while self.timers and self.timers[0][0] <= self.now:
                heapq.heappop(self.timers)[2]()
            self._continue_when_all_are_back()
        return Simulated(
            seconds=self.now,
            count=self.count,
            ranges=-(-self.count // self.size),
            sent=self.sent,
            resent=self.resent,
            losses=self.losses,
            at_work=self.at_work,
            working=self.working,
            between=self.between,
            without=self.without,
            history=tuple(self.history),
            history_bytes=tuple(round(each) for each in self.history_bytes),
            events=events,
        )

    def _begin(self) -> None:
        self._hand_out_anew()
        spread = self.machinery.joined_within
        first = min(self.processes, self.machinery.handed_out)
        joins = [self.chance.uniform(0, spread) if self.chance else 0.0 for _ in range(first)]
        begin = min(joins)
        for moment in joins:
            self._after(moment - begin, self._join)
        if self.processes > first:  # they find nothing to do until one is lost
            self._after(spread, functools.partial(self._stand_by, self.processes - first))
        for moment in self.lose_at:
            self._after(moment, self._lose_once)
        if self.lose_every:
            self._after(_about(self.lose_every, self.losing), self._lose_again)

    def _after(self, seconds: float, then: Callable[[], None]) -> None:
        heapq.heappush(self.timers, (self.now + seconds, next(self.ticket), then))

    def _soon(self, seconds: float, then: Callable[[], None]) -> None:
        """Do it now, where no time is between."""
        if seconds:
            self._after(seconds, then)
        else:
            then()

    def _hand_over(self) -> float:
        return _about(self.machinery.hand_over, self.chance)

    def _settle(self) -> None:
        """Bring what was done up to now."""
        if self.now == self.settled:
            return
        seconds, sent, working = self.now - self.settled, 0.0, 0
        for process in self.running:
            if process.rate:
                done = process.rate * seconds
                process.left -= done
                sent += done
                working += 1
        self.sent += sent
        self.working += working * seconds
        self.without += (len(self.running) - working) * seconds
        self.between += self.between_now * seconds
        self.settled = self.now

    def _rates(self) -> None:
        """Share the cluster out to the starts in flight, and see which range will be done first."""
        self.changed, self.soonest = False, math.inf
        in_flight = sum([process.share for process in self.running])
        if not in_flight:
            return
        each = self.at(in_flight) / in_flight
        due = self.rate / max(sum([process.share for process in self.members]), 1)
        at_work, first = 0, math.inf
        for process in self.running:
            share = process.share
            if share:
                process.rate = rate = min(min(each, due) * share, self.fastest)
                at_work += 1
                first = min(first, process.left / rate)
            else:
                process.rate = 0.0
        self.soonest = self.now + max(first, 0.0)
        self.at_work = max(self.at_work, at_work)

    def _share_out(self) -> None:
        if self.members:
            each, more = divmod(self.parallelism, len(self.members))
            self.members.sort(key=lambda process: process.number)
            self.changed = True
            for i, process in enumerate(self.members):
                process.share = min(each + (i < more), self.machinery.most_in_flight)

    # What the batch workflow does.

    def _hand_out_anew(self) -> None:
        self.recalling = self.continuing = False
        self.history.append(self.machinery.events_at_start)
        self.history_bytes.append(self.bytes if self.completed else 0.0)
        self.history_bytes[-1] += _OUTCOME_BYTES * self.completed
        while self.out < self.machinery.handed_out and (new := self._next()):
            self.queue.append(new)
        self._match()

    def _next(self) -> Range | None:
        if self.recalling or (self.given == self.count and not self.back):
            return None
        self.out += 1
        self.history[-1] += 1
        self.history_bytes[-1] += min(_ORDER_BYTES, self.bytes)
        if self.back:
            return self.back.popleft()
        items = min(self.size, self.count - self.given)
        self.given += items
        return items, float(items)

    def _recorded(self, result: bool = True) -> None:
        """Note in the history what became of a range: all its events but that of its schedule."""
        self.out -= 1
        self.history[-1] += self.machinery.events_per_range - 1
        self.history_bytes[-1] += max(self.bytes - _ORDER_BYTES, 0.0) if result else 0.0

    def _long(self) -> bool:
        machinery = self.machinery
        long = self.history[-1] > machinery.continue_at or self.history_bytes[-1] > machinery.continue_at_bytes
        return long and not self.recalling

    def _recall(self) -> None:
        """Call all ranges back: each process drains and hands its rest over."""
        self.recalling = self.changed = True
        for process in self.running:
            self._came_back((process.items, process.left))
            self._between(process, None)
        self.running.clear()
        while self.queue:
            self._came_back(self.queue.popleft())

    def _came_back(self, rest: Range) -> None:
        self.back.append(rest)
        self.history[-1] += 1  # that it was called back
        self._recorded(result=rest[1] < rest[0])

    def _continue_when_all_are_back(self) -> None:
        if self.recalling and not self.out and not self.continuing:
            self.continuing = True
            self._after(self._hand_over(), self._hand_out_anew)

    # What happens to processes.

    def _join(self) -> None:
        self._stand_by(1)

    def _stand_by(self, many: int) -> None:
        for _ in range(many):
            self.free.appendleft(Process(self.numbers))
            self.numbers += 1
        self._match()

    def _match(self) -> None:
        """Give waiting ranges to free processes: first the one that was at work last."""
        while self.queue and self.free:
            process = self.free.pop()
            process.items, process.left = self.queue.popleft()
            process.began, process.busy, process.idle_since = self.now, True, None
            self._settle()  # what the others did, before one more is among them
            self.running.append(process)
            self.changed = True
            if not process.told and not process.asking:
                process.asking = True
                self._soon(self.machinery.told_after, functools.partial(self._told, process))

    def _told(self, process: Process) -> None:
        process.told, process.asking = process.busy, False
        if process.told:
            self.members.append(process)
            self._share_out()

    def _complete(self, process: Process) -> None:
        self.running.remove(process)
        self.changed = True
        self.sent += process.left
        self.finished += process.items
        self.completed += 1
        self._recorded()
        follows = None if self._long() else self._next()
        if follows is not None or self.queue or self.back or self.recalling:
            self._between(process, follows)
        else:
            self._leave(process)

    def _between(self, process: Process, follows: Range | None) -> None:
        self._settle()
        self.between_now += 1
        self._after(self._hand_over(), functools.partial(self._ready, process, follows))

    def _ready(self, process: Process, follows: Range | None) -> None:
        self._settle()
        self.between_now -= 1
        if follows is not None and self.recalling:
            self._came_back(follows)
        elif follows is not None:
            self.queue.append(follows)
        self._leave(process)
        self._match()

    def _leave(self, process: Process) -> None:
        """Be free; the share goes to others if nothing follows soon."""
        process.busy, process.rate, process.idle_since = False, 0.0, self.now
        self.free.append(process)
        self._soon(self.machinery.gone_after, functools.partial(self._gone, process, self.now))

    def _gone(self, process: Process, since: float) -> None:
        if process.idle_since == since and process.told:
            process.told, process.share = False, 0
            self.members.remove(process)
            self._share_out()

    def _lose_again(self) -> None:
        assert self.lose_every is not None
        if self.now / self.lose_every > MOST_LOSSES:
            raise UsageError(
                f"lose-every is {self.lose_every:g}: with {MOST_LOSSES:,} losses the batch has not ended",
                next_step="lose a process less often",
            )
        self._after(_about(self.lose_every, self.losing), self._lose_again)
        self._lose()

    def _lose_once(self) -> None:
        if any(process.rate for process in self.running):
            self._lose()
        else:  # all of them are between two ranges
            self._after(self.machinery.hand_over or 0.01, self._lose_once)

    def _lose(self) -> None:
        at_work = [process for process in self.running if process.rate]
        if not at_work:
            return
        self._settle()
        self.changed = True
        lost = self.losing.choice(at_work) if self.losing else min(at_work, key=lambda process: process.number)
        self.running.remove(lost)
        self.losses += 1
        age = (self.now - lost.began) % self.machinery.beat(len(self.running))
        left = min(math.ceil(lost.left + lost.rate * age - _SMALL), lost.items)
        self.resent += left - lost.left
        self._after(self.machinery.heartbeat_timeout - age, functools.partial(self._noticed, lost, (lost.items, left)))
        self._after(self.machinery.replaced_after, self._join)

    def _noticed(self, lost: Process, rest: Range) -> None:
        lost.busy, lost.idle_since = False, self.now
        self._soon(self.machinery.gone_after, functools.partial(self._gone, lost, self.now))
        self._after(self.machinery.retry_after, functools.partial(self._retry, rest))

    def _retry(self, rest: Range) -> None:
        if self.recalling:
            self._came_back(rest)
        else:
            self.queue.append(rest)
            self._match()


def _about(seconds: float, chance: random.Random | None) -> float:
    return seconds * chance.uniform(0.5, 1.5) if chance else seconds
