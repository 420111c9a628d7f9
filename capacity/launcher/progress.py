"""What a batch looks like while it runs and after: counts by outcome, a line a second, the final result."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from capacity.errors import CapacityError
from capacity.launcher import outcome
from capacity.launcher.latency import Latencies

SERIES_LENGTH = 3600
"""Samples kept at most; a longer run halves its resolution instead of growing."""


AWAY = "waiting for the server"
"""`Progress.state` while no server answers."""
STOPPED, STOPPED_AT_ONCE = "stopped by the user", "stopped at once by the user"
"""`Result.stopped` after the first and the second interrupt."""


def reason_to_stop(given: str, why: str) -> str:
    """Return why a launch ends: the first reason given, but a second interrupt takes the place of the first.

    >>> reason_to_stop("", STOPPED), reason_to_stop(STOPPED, STOPPED_AT_ONCE), reason_to_stop(STOPPED, "a full disk")
    ('stopped by the user', 'stopped at once by the user', 'stopped by the user')
    """
    return why if not given or (given, why) == (STOPPED, STOPPED_AT_ONCE) else given


@dataclass
class Counts:
    """Items by outcome; they add up to `count`, always."""

    count: int
    codes: Counter[int] = field(default_factory=Counter)

    @property
    def started(self) -> int:
        return self.codes[outcome.STARTED]

    @property
    def already_running(self) -> int:
        return self.codes[outcome.ALREADY_RUNNING]

    @property
    def already_finished(self) -> int:
        return self.codes[outcome.ALREADY_FINISHED]

    @property
    def failed(self) -> int:
        return sum(n for code, n in self.codes.items() if outcome.is_failure(code))

    @property
    def done(self) -> int:
        return sum(self.codes.values())

    @property
    def not_attempted(self) -> int:
        return self.count - self.done

    @property
    def errors(self) -> dict[str, int]:
        """Failed items by kind."""
        return {outcome.kind(code): n for code, n in sorted(self.codes.items()) if outcome.is_failure(code)}


@dataclass(frozen=True)
class Progress:
    """A running batch, as shown ten times a second.

    Rates are per second over the last whole second, nan before there was one; latencies are of that second's starts
    [s], nan when there were none. `done_before` counts items that earlier sessions had done.
    """

    state: str
    count: int
    started: int
    already_running: int
    already_finished: int
    failed: int
    in_flight: int
    limit: int
    starts_per_second: float
    p50: float
    p99: float
    elapsed: float
    throttled: int
    attempts: int = 0
    retries: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    reason: str = ""
    done_before: int = 0

    @property
    def done(self) -> int:
        return self.started + self.already_running + self.already_finished + self.failed

    @property
    def not_attempted(self) -> int:
        return self.count - self.done

    @property
    def seconds_left(self) -> float | None:
        """Time for the rest at this session's rate so far [s]; None while there is no rate, or it does not run."""
        done = self.done - self.done_before
        known = self.state == "running" and self.not_attempted and done > 0
        return self.not_attempted * self.elapsed / done if known else None


@dataclass(frozen=True)
class ProcessUse:
    """What launcher processes cost, besides the one that shows their progress.

    Parameters
    ----------
    processes : int
        How many work at a time.
    cpu_seconds : float
        CPU time of all of them [s].
    rss_bytes_max : tuple of int
        Highest resident set of each that there was [bytes].
    lost : int
        How many died.
    """

    processes: int = 1
    cpu_seconds: float = 0.0
    rss_bytes_max: tuple[int, ...] = ()
    lost: int = 0


@dataclass(frozen=True)
class Sample:
    """One line of a run's time series.

    Parameters
    ----------
    at : float
        End of the sample, from the start of the run [s].
    seconds : float
        Its length [s].
    starts, throttled : int
        Starts, and attempts the cluster refused for their rate.
    in_flight, limit : int
        At its end.
    p50, p99 : float
        Latency of its starts [s]; nan when there were none.
    """

    at: float
    seconds: float
    starts: int
    throttled: int
    in_flight: int
    limit: int
    p50: float
    p99: float

    def joined(self, later: Sample) -> Sample:
        return Sample(
            later.at,
            self.seconds + later.seconds,
            self.starts + later.starts,
            self.throttled + later.throttled,
            later.in_flight,
            later.limit,
            later.p50 if later.starts else self.p50,
            max((p for p in (self.p99, later.p99) if p == p), default=float("nan")),
        )


class Series:
    """A run's time series: a sample a second, or every 2, 4, ... s once the run has lasted an hour."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self._each = 1
        self._parts = 1  # joined into the last sample so far

    def add(self, sample: Sample) -> None:
        if self._parts < self._each:
            self.samples[-1] = self.samples[-1].joined(sample)
            self._parts += 1
        else:
            self.samples.append(sample)
            self._parts = 1
        if len(self.samples) >= SERIES_LENGTH and self._parts == self._each:
            pairs = zip(self.samples[::2], self.samples[1::2], strict=True)
            self.samples = [first.joined(second) for first, second in pairs]
            self._each *= 2
            self._parts = self._each

    def sustained(self, ramp: float) -> float | None:
        """Return the starts per second without ramp, token-bucket burst and the last, partial sample [1/s].

        The burst ends with the first refused attempt; one more second is left out for the pace to be found. None
        when fewer than three seconds are left: too short to tell.
        """
        begin = max(1.0, ramp)
        burst = next((sample.at for sample in self.samples if sample.throttled), None)
        if burst is not None:
            begin = max(begin, burst + 1.0)
        steady = [s for s in self.samples[:-1] if s.at - s.seconds >= begin - 0.05]
        seconds = sum(s.seconds for s in steady)
        return sum(s.starts for s in steady) / seconds if seconds >= 2.9 else None


@dataclass(frozen=True)
class Result:
    """What became of a batch in one session of the scheduler.

    Parameters
    ----------
    counts : Counts
        All items, those of earlier sessions of the same journal included.
    session_started : int
        Starts of this session alone.
    seconds : float
        From the first attempt to the last answer [s].
    attempts, throttled : int
        RPCs sent, and those refused for their rate.
    retries : dict
        Attempts that had to be repeated, by kind.
    throttles : dict
        Attempts refused for their rate, by cause and scope.
    latencies : Latencies
        Of this session's starts.
    ramp_seconds : float
        How long the controller looked for its limit [s].
    stopped : str
        Empty when all items were attempted, else why not.
    error : CapacityError, optional
        What ended it early, unless the user did.
    first_start : tuple of int and float, optional
        The first item started in this session: its index and the Unix time of its answer [s].
    warnings : tuple of str
        What the user must know of it.
    """

    counts: Counts
    session_started: int
    seconds: float
    attempts: int
    throttled: int
    retries: dict[str, int]
    throttles: dict[tuple[str, str], int]
    latencies: Latencies
    series: Series
    limit: int
    pace: float | None
    ramp_seconds: float
    reason: str
    stopped: str = ""
    error: CapacityError | None = None
    first_start: tuple[int, float] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def throttle_cause(self) -> str | None:
        """Of the most frequent refusal."""
        return self._most_frequent()[0]

    @property
    def throttle_scope(self) -> str | None:
        """Of the most frequent refusal."""
        return self._most_frequent()[1]

    def _most_frequent(self) -> tuple[str | None, str | None]:
        return max(self.throttles, key=self.throttles.__getitem__) if self.throttles else (None, None)
