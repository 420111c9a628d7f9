"""One point by whole launches, as ``capacity launch`` makes them: with one launcher process or several.

Throughput and in flight are of the measured span; latency is of the whole launch, its ramp and a burst included, since
processes of their own tell it as one histogram. A comparison in which one side has several processes measures both
sides so.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from capacity.cluster import state
from capacity.cluster.target import Target
from capacity.errors import CapacityError, ClusterError
from capacity.experiment.local import ClusterCpu
from capacity.experiment.points import (
    BUSY,
    FEWEST,
    IN_BURST,
    MOST_RATE,
    RAMP,
    RAMP_MOST,
    TASK_QUEUE,
    Span,
    Starts,
    Taken,
    limit_exceeded,
    per_start,
)
from capacity.experiment.setting import Setting
from capacity.launcher.batch import HeightRange, StartOptions
from capacity.launcher.progress import Progress
from capacity.model.measurement import Flag, Point
from capacity.observe.history import forget
from capacity.observe.run import Run
from capacity.observe.session import Journaling, launch


@dataclass(frozen=True)
class Measured:
    """What a launch did in the measured part of it: seconds [s], starts and the mean number in flight."""

    seconds: float
    starts: int
    in_flight: float


async def measure(
    target: Target,
    setting: Setting,
    seconds: float,
    *,
    prefix: str,
    starts: Starts | None = None,
    cpu: ClusterCpu | None = None,
    allowed: Collection[str] = (),
    most: int | None = None,
    rps_limit: float | None = None,
    stop: Callable[[], bool] = lambda: False,
    one: Callable[..., Awaitable[Run]] = launch,
) -> Taken:
    """Launch until the span has been measured and return the point.

    Parameters
    ----------
    target : Target
    setting : Setting
        Starts in flight or due, of all its processes together.
    seconds : float
        How long to measure [s]; the launch takes up to `Span.longest`.
    prefix : str
        Chain of the workflow ids.
    starts : Starts, optional
        Told of the starts as they are made.
    cpu : ClusterCpu, optional
        Reads the CPU of server and database.
    allowed : collection of str
    most : int, optional
        Starts to make at most.
    rps_limit : float, optional
        What the server reports as its request limit [1/s].
    stop : callable
        Asked at each tick.
    one : callable
        Launches; `capacity.launch` but in tests.

    Raises
    ------
    CapacityError
        If the launch could not begin or ended with an error.
    """
    # The first second of several processes is not that of all of them.
    span = Span(setting.parallelism or 1, seconds, RAMP_MOST if setting.is_auto else RAMP + 1.0)
    count = int(MOST_RATE * Span.longest(seconds)) if most is None else max(1, most)
    batch = HeightRange(count, prefix, options=StartOptions(task_queue=TASK_QUEUE))
    drain, counted = asyncio.Event(), starts or Starts()
    begin: Progress | None = None
    measured: Measured | None = None
    flight: list[int] = []
    used: tuple[float | None, float | None] = (None, None)

    def tick(progress: Progress) -> None:
        nonlocal begin, measured, used
        counted.made = progress.started
        if stop():
            drain.set()
        if drain.is_set():
            return
        what = span.tick(progress.elapsed, progress.started, progress.throttled)
        if what == "begin":
            begin = progress
            flight.clear()
            if cpu is not None:
                cpu.read()
        elif begin is not None:
            flight.append(progress.in_flight)
            if what == "end":
                lasted, starts = progress.elapsed - begin.elapsed, progress.started - begin.started
                measured = Measured(lasted, starts, sum(flight) / len(flight))
                used = cpu.read() if cpu is not None else used
                drain.set()

    with tempfile.TemporaryDirectory(prefix=".compare-", dir=state.made(state.folder())) as folder:
        run = await one(
            batch,
            target,
            **setting.control,
            journaling=Journaling(Path(folder) / "journal"),
            verify=False,
            allowed=allowed,
            vitals=False,
            on_progress=tick,
            stop=drain,
        )
    forget(run)
    counted.made = run.session_scheduled
    if run.error:
        raise CapacityError(f"a launch ended early: {run.error}")
    if measured is None:
        return Taken(None, run.session_scheduled, run.server_version)
    parallelism = setting.parallelism or max(1, round(measured.in_flight))
    point = point_of(run, measured, parallelism, used, rps_limit)
    return Taken(point, run.session_scheduled, run.server_version)


def point_of(
    run: Run,
    span: Measured,
    parallelism: int,
    used: tuple[float | None, float | None] = (None, None),
    rps_limit: float | None = None,
) -> Point:
    """Return the point of a launch's measured span.

    Parameters
    ----------
    run : Run
    span : Measured
    parallelism : int
        In flight as was asked, or as was found.
    used : pair of float, optional
        CPUs that server and database used in it.
    rps_limit : float, optional
        What the server reports as its request limit [1/s].

    Raises
    ------
    ClusterError
        If no start was answered in it.
    """
    latency = run.latency_seconds
    if not span.starts or latency.mean is None or latency.p50 is None or latency.p99 is None:
        raise ClusterError(
            f"no start was answered within {span.seconds:.0f} s",
            next_step="take more seconds a run, or look at the server's log",
        )
    throughput = span.starts / span.seconds
    in_burst = not run.throttled_attempts and limit_exceeded(throughput, rps_limit)
    return Point(
        parallelism=parallelism,
        seconds=span.seconds,
        starts=span.starts,
        throughput=throughput,
        mean=latency.mean,
        p50=latency.p50,
        p99=latency.p99,
        in_flight=span.in_flight,
        launcher_cpu=run.cpu_seconds / run.session_scheduled,
        server_cpu=per_start(used[0], throughput),
        database_cpu=per_start(used[1], throughput),
        throttled=run.throttled_attempts,
        throttle_cause=IN_BURST if in_burst else run.throttle_cause,
        throttle_scope=run.throttle_scope,
        flag=_flag(run, span.starts, in_burst),
    )


def _flag(run: Run, starts: int, in_burst: bool) -> Flag | None:
    if run.failed:
        return Flag.FAILED
    if run.throttled_attempts or in_burst:
        return Flag.THROTTLED
    if starts < FEWEST:
        return Flag.TOO_SHORT
    if run.cpu_seconds >= BUSY * run.duration_seconds * run.processes:
        return Flag.LAUNCHER_BOUND
    return None
