"""How a fleet works, and what became of a batch it ran: what goes into its simulation and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from capacity.model.network import MAXIMUM_PARALLELISM


@dataclass(frozen=True)
class Machinery:
    """How the fleet hands out its work: what the simulation takes as given.

    Parameters
    ----------
    hand_over : float
        From a process' last answer of a range to its first start of the next [s]: drain, completion, a workflow task,
        dispatch. Assumed, not measured.
    handed_out : int
        Ranges handed out at once, and so processes at work at most.
    heartbeat, heartbeat_timeout, retry_after : float
        Between two notes of what is done in a small fleet (see `beat`), after which silence a range is taken from its
        process, and how long after that another may have it [s].
    told_after, gone_after : float
        Seconds from a process' first range until the controller gives it a share (none in flight before): 0.3 to 0.7
        at the begin of a batch, by ``benchmarks/fleet.py scale``. And without a range after which its share goes to the
        others.
    replaced_after : float
        From the loss of a process to another that asks for work in its place [s].
    joined_within : float
        Over which processes join, at random, the first at 0 [s]; all at once in a simulation without a seed.
    events_per_range, events_at_start : int
        Of the batch workflow's history: three of an activity, three of the workflow task that takes its result.
    bytes_per_range : float, optional
        Of a range's order and result, and of a heartbeat; by default `range_bytes`.
    continue_at, continue_at_bytes : int
        Events or bytes from which on the workflow calls its ranges back and continues as new.
    most_in_flight : int
        Starts that one process has in flight at most.
    """

    hand_over: float = 0.05
    handed_out: int = 128
    heartbeat: float = 1.0
    heartbeat_timeout: float = 5.0
    retry_after: float = 0.2
    told_after: float = 0.5
    gone_after: float = 1.5
    replaced_after: float = 10.0
    joined_within: float = 1.0
    events_per_range: int = 6
    events_at_start: int = 10
    bytes_per_range: float | None = None
    continue_at: int = 8_000
    continue_at_bytes: int = 8_000_000
    most_in_flight: int = MAXIMUM_PARALLELISM

    def beat(self, processes: int) -> float:
        """Return the time between two heartbeats of a process [s]: longer in a large fleet.

        20 a second in all up to 50 processes; from there on one each 2.5 s, and more in all.

        >>> Machinery().beat(4), Machinery().beat(40), Machinery().beat(1000)
        (1.0, 2.0, 2.5)
        """
        return min(max(self.heartbeat, processes / 20), 2.5 * self.heartbeat)


STANDARD: Final = Machinery()


@dataclass(frozen=True)
class Simulated:
    """What became of one batch.

    Parameters
    ----------
    seconds : float
        From the first process on to the last answer [s].
    count, ranges : int
        Starts of the batch, and the ranges they were cut into.
    sent : float
        Starts sent, those that a loss made necessary again included.
    resent : float
        Starts sent again: the same request ids give the same runs.
    losses : int
        Processes lost.
    at_work : int
        Processes that had starts in flight at once, at most.
    working, between, without : float
        Process seconds spent starting, between two ranges, and with a range but no share of the starts in flight [s].
    history, history_bytes : tuple of int
        Events and bytes of each run of the batch workflow, the last one last.
    events : int
        Events simulated.
    """

    seconds: float
    count: int
    ranges: int
    sent: float
    resent: float
    losses: int
    at_work: int
    working: float
    between: float
    without: float
    history: tuple[int, ...]
    history_bytes: tuple[int, ...]
    events: int

    @property
    def starts_per_second(self) -> float:
        """Starts of the batch over its whole duration [1/s]."""
        return self.count / self.seconds

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        lists = {"history": list(self.history), "history_bytes": list(self.history_bytes)}
        return {**vars(self), **lists, "starts_per_second": self.starts_per_second}


def range_bytes(size: int) -> float:
    """Return the bytes of history that a range of so many starts makes.

    Its order and what does not grow are 1.5 kB; each filled bucket of its latency histogram is 1.2 bytes, compressed.
    Counted on the fleet's own messages: reports of 500, 10,000 and 100,000 starts of lognormal latencies, which fill
    460, 3,400 and 5,200 buckets, are 1.0, 4.3 and 7.8 kB.

    >>> range_bytes(500), range_bytes(100_000)
    (2100.0, 9300.0)
    """
    return 1_500.0 + 1.2 * min(size, 6_500)
