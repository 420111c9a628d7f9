"""A batch that many launchers work on, added up from their reports."""

from __future__ import annotations

from collections import Counter

from capacity.errors import CapacityError
from capacity.fleet.report import Report
from capacity.launcher import outcome
from capacity.launcher.controller import Setting
from capacity.launcher.latency import Latencies
from capacity.launcher.progress import Counts, Progress, Result
from capacity.launcher.tally import Seconds


class Merged:
    """The sum of all reports so far.

    Parameters
    ----------
    count : int
        Items of the batch.
    before : dict of int to int
        Outcomes noted before this session, by code.
    """

    def __init__(self, count: int, before: dict[int, int]) -> None:
        self.counts = Counts(count, Counter({code: n for code, n in before.items() if code != outcome.TO_DO}))
        self.done_before = self.counts.done
        self.latencies = Latencies()
        self.seconds = Seconds()
        self.started = self.attempts = self.throttled = 0
        self._retries: Counter[str] = Counter()
        self._throttles: Counter[tuple[str, str]] = Counter()
        self._first_start: tuple[int, float] | None = None

    def add(self, report: Report) -> None:
        """Add what a launcher says it did."""
        latencies = report.latencies
        started = report.codes.get(outcome.STARTED, 0)
        self.counts.codes.update(report.codes)
        self.started += started
        self.attempts += report.attempts
        self.throttled += report.throttled
        self._retries.update(report.retries)
        for key, attempts in report.throttles.items():
            cause, _, scope = key.partition("/")
            self._throttles[cause, scope] += attempts
        self.latencies.merge(latencies)
        self.seconds.add(started, latencies)
        self.seconds.throttled(report.throttled)
        self._first_start = self._first_start or report.first_start

    def recount(self, codes: dict[int, int], before: dict[int, int]) -> None:
        """Take the notes themselves for the counts: a launcher that was killed noted more than it reported."""
        self.counts.codes = Counter({code: n for code, n in codes.items() if code != outcome.TO_DO})
        self.started = codes.get(outcome.STARTED, 0) - before.get(outcome.STARTED, 0)

    def progress(self, state: str, elapsed: float, in_flight: int, setting: Setting) -> Progress:
        """Return the batch as it stands."""
        rate, p50, p99 = self.seconds.last
        return Progress(
            state=state,
            count=self.counts.count,
            started=self.counts.started,
            already_running=self.counts.already_running,
            already_finished=self.counts.already_finished,
            failed=self.counts.failed,
            in_flight=in_flight,
            limit=setting.limit,
            starts_per_second=rate,
            p50=p50,
            p99=p99,
            elapsed=elapsed,
            throttled=self.throttled,
            attempts=self.attempts,
            retries=dict(+self._retries),
            errors=self.counts.errors,
            reason=setting.reason,
            done_before=self.done_before,
        )

    def result(
        self,
        seconds: float,
        setting: Setting,
        pace: float | None,
        ramp_seconds: float,
        stopped: str,
        error: CapacityError | None,
    ) -> Result:
        """Return what became of it."""
        return Result(
            counts=self.counts,
            session_started=self.started,
            seconds=seconds,
            attempts=self.attempts,
            throttled=self.throttled,
            retries=dict(+self._retries),
            throttles=dict(+self._throttles),
            latencies=self.latencies,
            series=self.seconds.series,
            limit=setting.limit,
            pace=pace,
            ramp_seconds=ramp_seconds,
            reason=setting.reason,
            stopped=stopped,
            error=error,
            first_start=self._first_start,
        )
