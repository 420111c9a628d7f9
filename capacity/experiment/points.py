"""One point: a closed loop at a fixed parallelism, ramp and drain left out.

Throughput, latency, in flight and CPU are taken over one and the same span, between two ticks of the scheduler: their
counters are read at its begin and at its end, so that nothing is added to a start. The starts are the scheduler's own.
Source of the check: J. D. C. Little, "A Proof for the Queuing Formula: L = lambda W", Operations Research 9 (1961).
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from capacity.cluster import state
from capacity.cluster.guard import check_target
from capacity.cluster.target import Target
from capacity.errors import ClusterError
from capacity.experiment.local import ClusterCpu
from capacity.launcher import service
from capacity.launcher.batch import HeightRange, StartOptions, fingerprint
from capacity.launcher.controller import Controller, Fixed, OpenLoop
from capacity.launcher.header import Header
from capacity.launcher.journal import Journal
from capacity.launcher.knee import Auto
from capacity.launcher.latency import Latencies
from capacity.launcher.progress import Progress, Result
from capacity.launcher.retries import RetryPolicy
from capacity.launcher.scheduler import Scheduler
from capacity.launcher.transport import connect
from capacity.model.measurement import Flag, Point

RAMP: Final = 1.0
"""Seconds left out at the beginning, or more, until each place in flight was answered twice."""
RAMP_MOST: Final = 5.0
"""Seconds left out at most."""
PACED: Final = 2.0
"""Seconds after the first refusal until the scheduler has found what the cluster admits."""
FEWEST: Final = 30
"""Starts without which a point says nothing."""
BUSY: Final = 0.9
"""Share of a CPU from which on the launcher's one loop is what binds."""
LITTLE: Final = 0.10
"""How far throughput x mean latency may be from the mean in flight, as a fraction."""
PATIENCE: Final = 15.0
"""Seconds to wait for a server that does not answer any more."""
TASK_QUEUE: Final = "capacity-sweep"
"""Nobody polls it: the workflows stay as they were started."""
MOST_RATE: Final = 50_000
"""Starts per second that no launcher process exceeds [1/s]: sizes the batch."""


@dataclass(frozen=True)
class Taken:
    """What became of a point: itself (None when stopped early), all starts it made, and who answered."""

    point: Point | None
    started: int
    server_version: str


class Span:
    """Decides at each tick whether the measured span begins or ends.

    A refusal begins it anew once the burst is over and the pace found: what is measured then is the cap.

    Parameters
    ----------
    parallelism : int
        Starts in flight.
    seconds : float
        How long to measure [s].
    ramp : float
        Seconds left out at least.
    """

    def __init__(self, parallelism: int, seconds: float, ramp: float = RAMP) -> None:
        self._answers = 2 * parallelism
        self._seconds = seconds
        self._ramp = ramp
        self._refused_at: float | None = None
        self.began: float | None = None

    def tick(self, elapsed: float, started: int, throttled: int) -> str:
        """Return ``begin``, ``end`` or nothing.

        Parameters
        ----------
        elapsed : float
            Since the first attempt [s].
        started, throttled : int
            Starts and refusals so far.
        """
        if throttled and self._refused_at is None:
            self._refused_at, self.began = elapsed, None
        if self.began is None:
            if self._refused_at is not None:
                ready = elapsed >= self._refused_at + PACED
            else:
                ready = elapsed >= self._ramp and (started >= self._answers or elapsed >= RAMP_MOST)
            self.began = elapsed if ready else None
            return "begin" if ready else ""
        return "end" if elapsed - self.began >= self._seconds else ""

    @staticmethod
    def longest(seconds: float) -> float:
        """Return how long a run can take before it drains [s]: throttled at the very end of its span."""
        return RAMP_MOST + seconds + PACED + seconds + 1.0


@dataclass(frozen=True)
class Mark:
    """Counters at one moment."""

    at: float
    started: int
    counts: npt.NDArray[np.int64]
    total: float
    maximum: float
    cpu: float
    loop_cpu: float

    @classmethod
    def now(cls, progress: Progress, latencies: Latencies) -> Mark:
        counts = latencies.counts.copy()
        cpu = time.process_time(), time.thread_time()  # the tick runs in the loop's own thread
        return cls(progress.elapsed, progress.started, counts, latencies.total, latencies.maximum, *cpu)


def latencies_between(begin: Mark, end: Mark) -> Latencies:
    """Return the latencies that came between two marks."""
    between = Latencies()
    between.counts = end.counts - begin.counts
    between.total = end.total - begin.total
    between.maximum = end.maximum
    return between


def flag_of(
    *,
    starts: int,
    seconds: float,
    mean: float,
    in_flight: float,
    loop_cpu: float,
    throttled: bool = False,
    failed: int = 0,
) -> Flag | None:
    """Return why a point says nothing of the cluster's own capacity; None if it does.

    Parameters
    ----------
    starts, failed : int
        Starts answered in the span, failures of the whole run.
    seconds, mean : float
        Length of the span and mean latency [s].
    in_flight : float
        Mean number in flight, as sampled.
    loop_cpu : float
        CPU time of the launcher's loop in the span [s].
    throttled : bool
        Whether the cluster's caps took part.

    Examples
    --------
    >>> flag_of(starts=1000, seconds=10, mean=0.08, in_flight=8.0, loop_cpu=1.0) is None
    True
    >>> print(flag_of(starts=1000, seconds=10, mean=0.05, in_flight=8.0, loop_cpu=1.0).value)
    in flight, throughput and latency disagree
    """
    if failed:
        return Flag.FAILED
    if throttled:
        return Flag.THROTTLED
    if starts < FEWEST:
        return Flag.TOO_SHORT
    if loop_cpu >= BUSY * seconds:
        return Flag.LAUNCHER_BOUND
    # Starts that straddle an edge of the span count whole or not at all, each by up to one latency.
    tolerance = max(LITTLE, mean / seconds)
    if abs(starts / seconds * mean - in_flight) > tolerance * max(in_flight, 1e-9):
        return Flag.LITTLE
    return None


def limit_exceeded(throughput: float, limit: float | None) -> bool:
    """Tell whether a throughput lasts only as long as a token bucket's burst, by the limit the server reports [1/s]."""
    return limit is not None and limit > 0 and throughput > limit


IN_BURST: Final = "RPS_LIMIT, not yet felt: within its burst"
"""Why a point is throttled that was refused nothing."""


@dataclass
class Starts:
    """How many starts a measurement has made, known also where it fails: they stay on a cluster that is not ours."""

    made: int = 0


async def measure(
    target: Target,
    parallelism: int,
    seconds: float,
    *,
    prefix: str,
    starts: Starts | None = None,
    cpu: ClusterCpu | None = None,
    allowed: Collection[str] = (),
    most: int | None = None,
    rps_limit: float | None = None,
    stop: Callable[[], bool] = lambda: False,
    controller: Controller | None = None,
) -> Taken:
    """Run a closed loop, or what a controller decides, and return its point.

    Parameters
    ----------
    target : Target
        Where to.
    parallelism : int
        Starts in flight.
    seconds : float
        How long to measure [s]; the run takes up to `Span.longest`.
    prefix : str
        Chain of the workflow ids; none of them may exist.
    starts : Starts, optional
        Told of the starts as they are made.
    cpu : ClusterCpu, optional
        Reads the CPU of server and database; None: not on this machine.
    allowed : collection of str
        Addresses beyond loopback that may be launched at.
    most : int, optional
        Starts to make at most; None is as many as fit.
    rps_limit : float, optional
        What the server reports as its request limit [1/s].
    stop : callable
        Asked at each tick.
    controller : Controller, optional
        In place of the fixed parallelism; the point then has the mean number in flight for its own.

    Raises
    ------
    CapacityError
        If the target is refused, cannot be reached, or answered no start at all.
    """
    check_target(target, allowed)
    count = int(MOST_RATE * Span.longest(seconds)) if most is None else max(1, most)
    batch = HeightRange(count, prefix, options=StartOptions(task_queue=TASK_QUEUE))
    header = Header(fingerprint(batch, target.address, target.namespace), prefix, count)
    controller = controller or Fixed(parallelism)
    fixed = isinstance(controller, Fixed)
    # An open loop may have far more places than starts; what finds its own limit needs time for it.
    places = parallelism if fixed else 1
    span = Span(places, seconds, RAMP_MOST if isinstance(controller, Auto) else RAMP)
    drain = asyncio.Event()
    marks: dict[str, Mark] = {}
    sampled: list[int] = []
    used: tuple[float | None, float | None] = (None, None)

    counted = starts or Starts()

    def tick(progress: Progress) -> None:
        nonlocal used
        counted.made = progress.started
        if stop():
            drain.set()
        if drain.is_set():
            return
        what = span.tick(progress.elapsed, progress.started, progress.throttled)
        if span.began is not None and what != "begin":
            sampled.append(progress.in_flight)
        if what == "begin":
            sampled.clear()
            if cpu is not None:
                cpu.read()
            marks["begin"] = Mark.now(progress, scheduler.latencies)
        elif what == "end":
            marks["end"] = Mark.now(progress, scheduler.latencies)
            used = cpu.read() if cpu is not None else used
            drain.set()

    async with contextlib.AsyncExitStack() as stack:
        connection = await stack.enter_async_context(connect(target))
        server_version = await service.check(connection)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".sweep-", dir=state.made(state.folder())))
        journal = stack.enter_context(Journal.create(Path(folder) / "journal", header))
        policy = RetryPolicy(patience=PATIENCE)
        scheduler = Scheduler(
            batch, connection, controller, journal, policy=policy, namespace_known=True, on_progress=tick
        )
        result = await scheduler.run(drain)
    counted.made = result.session_started
    if result.error is not None:
        raise result.error
    if "end" not in marks:
        return Taken(None, result.session_started, server_version)
    point = _point(parallelism, marks["begin"], marks["end"], sampled, used, result, rps_limit)
    if not fixed:
        point = point.model_copy(update={"parallelism": max(1, round(point.in_flight or 1))})
    if isinstance(controller, OpenLoop) and point.flag is Flag.LITTLE:
        point = point.model_copy(update={"flag": None})  # its latency is from the intended moment, waiting included
    return Taken(point, result.session_started, server_version)


def _point(
    parallelism: int,
    begin: Mark,
    end: Mark,
    sampled: list[int],
    used: tuple[float | None, float | None],
    result: Result,
    rps_limit: float | None,
) -> Point:
    seconds, starts = end.at - begin.at, end.started - begin.started
    if not starts:
        raise ClusterError(
            f"no start was answered within {seconds:.0f} s at {parallelism} in flight",
            next_step="take more seconds a run, or look at the server's log",
        )
    latencies = latencies_between(begin, end)
    throughput, in_flight = starts / seconds, sum(sampled) / len(sampled)
    in_burst = not result.throttled and limit_exceeded(throughput, rps_limit)
    return Point(
        parallelism=parallelism,
        seconds=seconds,
        starts=starts,
        throughput=throughput,
        mean=latencies.mean,
        p50=latencies.quantile(0.5),
        p99=latencies.quantile(0.99),
        in_flight=in_flight,
        launcher_cpu=(end.cpu - begin.cpu) / starts,
        server_cpu=per_start(used[0], throughput),
        database_cpu=per_start(used[1], throughput),
        throttled=result.throttled,
        throttle_cause=IN_BURST if in_burst else result.throttle_cause,
        throttle_scope=result.throttle_scope,
        flag=flag_of(
            starts=starts,
            seconds=seconds,
            mean=latencies.mean,
            in_flight=in_flight,
            loop_cpu=end.loop_cpu - begin.loop_cpu,
            throttled=result.throttled > 0 or in_burst,
            failed=result.counts.failed,
        ),
    )


def per_start(cpus: float | None, throughput: float) -> float | None:
    """Return CPU seconds per start [s] from CPUs in use and starts per second; None stays None.

    >>> per_start(1.5, 250.0), per_start(None, 250.0)
    (0.006, None)
    """
    return None if cpus is None else cpus / throughput
