"""What a record says about each figure that has a limit.

Invariants: what was not watched is not measured, with the reason, and never 0; a limit with a window is crossed when
every sample of some such stretch is beyond it, as Prometheus' `for` has it: one such stretch fails the run, while to
pass it most of it (`COVERED`) must have been measured; of what a server measures once a minute, most of it from the
first such reading on. Of samples that a long watch joined the lowest value counts, for as long as it was measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from capacity.observe.joining import lowest
from capacity.observe.run import Run
from capacity.verdict.thresholds import Threshold

COVERED: Final = 0.8
"""Share of the run that must have been measured for a pass."""
FEWEST: Final = 100
"""Starts below which a p99 is only the largest of a few."""
MANY: Final = 10_000
"""Starts from which on 1 kB kept by each (10 MB) stands out from a process's warm-up of a few MB."""
SAME_SIZE: Final = 0.1
"""How far two batches may differ for their memory to be compared."""

_UNWATCHED: Final = "the run was not watched: it was launched without vitals"

Point = tuple[float, float | None]
"""Length of a sample [s], and its value; None where it was not measured."""


@dataclass(frozen=True)
class Measured:
    """One figure of a run.

    Parameters
    ----------
    value : float or None
        The figure; None when it was not measured, or not long enough.
    why : str
        Why it is None, or how it came about.
    covered : float
        Share of the run that it stands for, 0 to 1.
    """

    value: float | None
    why: str = ""
    covered: float = 1.0


def measured(threshold: Threshold, run: Run, baseline: Run | None = None) -> Measured:
    """Return the figure of a threshold: the worst that was held for its window, or that of the whole run."""
    return _FIGURES[threshold.figure](threshold, run, baseline)


def held(points: Sequence[Point], window: float, bound: str) -> Measured:
    """Return the worst value that was reached or passed by every sample of a stretch.

    Parameters
    ----------
    points : sequence of (float, float or None)
        Samples in the order of time.
    window : float
        Length of the stretch [s].
    bound : str
        ``at most``: the worst is the highest; ``at least``: the lowest.

    Examples
    --------
    >>> held([(1.0, 0.9), (1.0, 1.0), (1.0, 0.5)], 2, "at most").value
    0.9
    >>> held([(1.0, 0.9)], 2, "at most")
    Measured(value=None, why='measured for 1 s without a break, 2 s are needed', covered=1.0)
    """
    worst: float | None = None
    longest, least, most = 0.0, (min if bound == "at most" else max), (max if bound == "at most" else min)
    for begin in range(len(points)):
        length, inside = 0.0, math.inf if bound == "at most" else -math.inf
        for seconds, value in points[begin:]:
            if value is None:
                break
            length, inside = length + seconds, least(inside, value)
            if length >= 0.98 * window:  # a sample a second is a little shorter or longer than that
                worst = inside if worst is None else most(worst, inside)
                break
        longest = max(longest, length)
    there = sum(seconds for seconds, value in points if value is not None)
    covered = there / max(sum(seconds for seconds, _ in points), 1e-9)
    if worst is None:
        return Measured(None, f"measured for {_down(longest)} s without a break, {window:g} s are needed", covered)
    return Measured(worst, covered=covered)


def _down(seconds: float) -> str:
    """Return seconds that were too few, so that they never read as enough.

    >>> _down(9.97), _down(59.99), _down(1.0)
    ('9.9', '59.9', '1')
    """
    return f"{math.floor(seconds * 10) / 10:g}"


def rates(run: Run) -> list[Point]:
    """Return starts per second of each sample, without the ramp and the last, partial sample."""
    begin = max(1.0, run.controller.ramp_seconds)
    steady = [s for s in run.series[:-1] if s.at - s.seconds >= begin - 0.05 and s.seconds > 0]
    return [(sample.seconds, sample.starts / sample.seconds) for sample in steady]


def _throughput(threshold: Threshold, run: Run, _: Run | None) -> Measured:
    if run.session_scheduled == 0:
        return Measured(None, "nothing was started in this run")
    there = run.already_running + run.already_finished
    if there > 0.1 * (there + run.session_scheduled):
        return Measured(None, f"{there:,} items were already there, and took time of the starts")
    return held(rates(run), threshold.window, threshold.bound)


def _vital(
    component: str, name: str, *, once_a_minute: bool = False
) -> Callable[[Threshold, Run, Run | None], Measured]:
    def figure(threshold: Threshold, run: Run, _: Run | None) -> Measured:
        if not run.vitals:
            return Measured(None, _UNWATCHED, 0.0)
        points: list[Point] = []
        before, waiting, late = 0.0, once_a_minute, False
        for sample in run.vitals:
            length, before = max(sample.at - before, 0.0), sample.at
            found = lowest(sample, threshold.figure)
            share = min(found.samples / sample.samples, 1.0) if found else 0.0
            if found is not None:
                points.append((share * length, found.value))
            if share < 1:
                # A server that answers has its first reading within a minute.
                early = waiting and getattr(sample, component) is not None
                late = late or early
                points += [] if early else [((1 - share) * length, None)]
            waiting = waiting and found is None
        if all(value is None for _, value in points):
            return Measured(None, _reason(run, component, name), 0.0)
        worst = held(points, threshold.window, threshold.bound)
        late = late and worst.value is not None
        return replace(worst, why="measured once a minute, so from its first reading on") if late else worst

    return figure


def _reason(run: Run, component: str, name: str) -> str:
    names = {"postgres": "PostgreSQL", "server": "the server", "launcher": "the launcher"}
    for key in (f"{component}.{name}", component):
        for sample in reversed(run.vitals):
            if key in sample.missing:
                reason = sample.missing[key]
                return reason if reason.startswith(names[component]) else f"{names[component]}: {reason}"
    if component == "postgres":
        return "PostgreSQL was not watched: the launch was not told where it is, or there is none"
    return f"{names[component]} was not watched, or does not say"


def _launcher_cpu(threshold: Threshold, run: Run, _: Run | None) -> Measured:
    """Return the CPUs of one launcher process: each has one loop, and several may use as many CPUs."""
    found = _vital("launcher", "cpus_used")(threshold, run, None)
    if run.processes <= 1 or not found.value:
        return found
    return replace(found, value=found.value / run.processes, why=f"of each of {run.processes} processes")


def _start_p99(_: Threshold, run: Run, __: Run | None) -> Measured:
    if run.session_scheduled < FEWEST:
        return Measured(None, f"{run.session_scheduled:,} starts are too few, {FEWEST} are needed")
    return Measured(run.latency_seconds.p99)


def _duration(_: Threshold, run: Run, __: Run | None) -> Measured:
    if run.session_scheduled == 0:
        return Measured(None, "nothing was started in this run")
    if run.not_attempted:
        return Measured(None, f"the batch did not end: {run.not_attempted:,} items were not attempted")
    return Measured(run.duration_seconds, f"{run.session_scheduled:,} starts")


def _failed(_: Threshold, run: Run, __: Run | None) -> Measured:
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in run.errors.items())
    return Measured(float(run.failed), kinds)


def _throttled(_: Threshold, run: Run, __: Run | None) -> Measured:
    if not run.attempts:
        return Measured(None, "nothing was attempted in this run")
    cause = f"{run.throttle_cause}, scope {run.throttle_scope}" if run.throttled_attempts else ""
    return Measured(run.throttled_attempts / run.attempts, cause)


def _memory_overhead(_: Threshold, run: Run, baseline: Run | None) -> Measured:
    if baseline is None:
        return Measured(None, "needs a run to compare with, its baseline")
    if abs(baseline.count - run.count) > SAME_SIZE * run.count:
        return Measured(None, f"the baseline has {baseline.count:,} items, this run {run.count:,}")
    if baseline.processes != run.processes:
        return Measured(None, f"the baseline has {baseline.processes} launcher processes, this run {run.processes}")
    if baseline.controller.rate is not None or run.controller.rate is not None:
        return Measured(None, "a launch at a rate has no fixed number in flight")
    if baseline.parallelism >= run.parallelism:
        return Measured(
            None, f"the baseline has {baseline.parallelism} in flight, not fewer than the {run.parallelism} here"
        )
    flights = f"{run.parallelism} in flight over {baseline.parallelism}"
    return Measured(float(run.rss_bytes_max - baseline.rss_bytes_max), flights)


def _memory_per_start(threshold: Threshold, run: Run, _: Run | None) -> Measured:
    """Return the slope of resident set over starts in the second half of the run, after the warm-up."""
    points = [(sample.at, sample.launcher.rss_bytes) for sample in run.vitals if sample.launcher is not None]
    if not points:
        why = _reason(run, "launcher", "rss_bytes") if run.vitals else _UNWATCHED
        return Measured(None, why, 0.0)
    if not run.series:
        return Measured(None, "the run has no series", 0.0)
    if run.duration_seconds < threshold.window:
        return Measured(None, f"the run took {_down(run.duration_seconds)} s, {threshold.window:g} s are needed")
    at, starts = np.array([(s.at, s.starts) for s in run.series]).T
    late = [(when, rss) for when, rss in points if at[-1] / 2 <= when <= at[-1]]
    moments, rss = np.array(late, dtype=float).reshape(-1, 2).T
    done = np.interp(moments, at, np.cumsum(starts))
    later = int(done[-1] - done[0]) if done.size >= 10 else 0
    if later < MANY:
        return Measured(None, f"{later:,} starts in its second half, {MANY:,} are needed: see 'capacity soak'")
    return Measured(float(np.polyfit(done - done[0], rss, 1)[0]), "in the second half of the run")


_FIGURES: Final[dict[str, Callable[[Threshold, Run, Run | None], Measured]]] = {
    "starts_per_second": _throughput,
    "postgres_cpu": _vital("postgres", "cpus_used"),
    "start_p99": _start_p99,
    "tasks": _vital("launcher", "tasks"),
    "memory_overhead": _memory_overhead,
    "duration": _duration,
    "connections": _vital("postgres", "connections"),
    "failed": _failed,
    "throttled": _throttled,
    "launcher_cpu": _launcher_cpu,
    "memory_per_start": _memory_per_start,
    "create_p99": _vital("server", "create_p99"),
    "sql_pool": _vital("server", "sql_pools", once_a_minute=True),
    "server_goroutines": _vital("server", "goroutines", once_a_minute=True),
}
