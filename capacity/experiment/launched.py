"""One point by whole launches, as ``capacity launch`` makes them: with one launcher process or several.

Throughput and in flight are of the measured span, from the run's seconds; latency is of the whole launch, its ramp
included, since processes of their own tell it as one histogram. A comparison in which one side has several processes
measures both sides so.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Final

from capacity.cluster import state
from capacity.cluster.target import Target
from capacity.errors import CapacityError, ClusterError
from capacity.experiment.local import ClusterCpu
from capacity.experiment.points import BUSY, FEWEST, MOST_RATE, RAMP, RAMP_MOST, TASK_QUEUE, Taken, per_start
from capacity.experiment.setting import Setting
from capacity.launcher.batch import HeightRange, StartOptions
from capacity.launcher.progress import Progress
from capacity.model.measurement import Flag, Point
from capacity.observe.history import forget
from capacity.observe.run import Run, RunSample
from capacity.observe.session import Journaling, launch

EDGE: Final = 0.05
"""How far a sample may begin before the span [s]: they come once a second, not to the millisecond."""


async def measure(
    target: Target,
    setting: Setting,
    seconds: float,
    *,
    prefix: str,
    cpu: ClusterCpu | None = None,
    allowed: Collection[str] = (),
    most: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    one: Callable[..., Awaitable[Run]] = launch,
) -> Taken:
    """Launch until `seconds` after the ramp and return the point.

    Parameters
    ----------
    target : Target
    setting : Setting
        Starts in flight or due, of all its processes together.
    seconds : float
        How long to measure [s].
    prefix : str
        Chain of the workflow ids.
    cpu : ClusterCpu, optional
        Reads the CPU of server and database.
    allowed : collection of str
    most : int, optional
        Starts to make at most.
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
    ramp = RAMP_MOST if setting.is_auto else RAMP + 1.0
    count = int(MOST_RATE * (ramp + seconds)) if most is None else max(1, most)
    batch = HeightRange(count, prefix, options=StartOptions(task_queue=TASK_QUEUE))
    drain = asyncio.Event()
    marks: dict[str, float] = {}
    used: list[tuple[float | None, float | None]] = []

    def tick(progress: Progress) -> None:
        if stop():
            drain.set()
        if drain.is_set():
            return
        if "begin" not in marks and progress.elapsed >= ramp and progress.started:
            marks["begin"] = progress.elapsed
            if cpu is not None:
                cpu.read()
        elif "begin" in marks and progress.elapsed >= marks["begin"] + seconds:
            marks["end"] = progress.elapsed
            used.append(cpu.read() if cpu is not None else (None, None))
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
    if run.error:
        raise CapacityError(f"a launch ended early: {run.error}")
    if "end" not in marks:
        return Taken(None, run.session_scheduled, run.server_version)
    point = point_of(run, marks["begin"], marks["end"], used[0])
    return Taken(point, run.session_scheduled, run.server_version)


def point_of(run: Run, begin: float, end: float, used: tuple[float | None, float | None] = (None, None)) -> Point:
    """Return the point of a launch's span.

    Parameters
    ----------
    run : Run
    begin, end : float
        The span, since the launch began [s].
    used : pair of float, optional
        CPUs that server and database used in it.

    Raises
    ------
    ClusterError
        If no start was answered in it.
    """
    inside = [s for s in run.series if s.at - s.seconds >= begin - EDGE and s.at <= end + EDGE]
    seconds, starts = sum(s.seconds for s in inside), sum(s.starts for s in inside)
    latency = run.latency_seconds
    if not starts or latency.mean is None or latency.p50 is None or latency.p99 is None:
        raise ClusterError(
            f"no start was answered within {end - begin:.0f} s",
            next_step="measure for longer with --seconds, or look at the server's log",
        )
    flight = sum(s.in_flight * s.seconds for s in inside) / seconds
    return Point(
        parallelism=max(1, run.parallelism),
        seconds=seconds,
        starts=starts,
        throughput=starts / seconds,
        mean=latency.mean,
        p50=latency.p50,
        p99=latency.p99,
        in_flight=flight,
        launcher_cpu=run.cpu_seconds / run.session_scheduled,
        server_cpu=per_start(used[0], starts / seconds),
        database_cpu=per_start(used[1], starts / seconds),
        throttled=run.throttled_attempts,
        throttle_cause=run.throttle_cause,
        throttle_scope=run.throttle_scope,
        flag=_flag(run, inside),
    )


def _flag(run: Run, inside: list[RunSample]) -> Flag | None:
    if run.failed:
        return Flag.FAILED
    if run.throttled_attempts:
        return Flag.THROTTLED
    if sum(sample.starts for sample in inside) < FEWEST:
        return Flag.TOO_SHORT
    if run.cpu_seconds >= BUSY * run.duration_seconds * run.processes:
        return Flag.LAUNCHER_BOUND
    return None
