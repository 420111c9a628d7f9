"""A sweep: points in random order on fresh clusters or on an existing one, and what else is measured beside them.

Invariant: whatever ends a sweep early, the points taken so far are kept.
"""

from __future__ import annotations

import asyncio
import datetime
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from capacity import files
from capacity.cluster.guard import starts_left
from capacity.cluster.target import Target
from capacity.errors import CapacityError, ClusterError, UsageError
from capacity.experiment import points, store
from capacity.experiment.extras import measure_extras
from capacity.experiment.local import ClusterCpu, LocalCluster, Quiet
from capacity.experiment.memory import MANY_ITEMS, launcher_memory
from capacity.experiment.plan import Planned, groups
from capacity.experiment.subject import conditions, ours, subject, tell_left
from capacity.experiment.wanted import Wanted
from capacity.model.measurement import Conditions, Measurements, Point

DESCRIBED: Final = {"sqlite": "devserver", "postgres": "postgres-dev"}
"""By store, the shipped cluster that a calibration measured on it is of."""


@dataclass(frozen=True)
class Swept:
    """What a sweep brought: its measurements, why it ended early if it did, and what it left on the target.

    Parameters
    ----------
    measurements : Measurements
    stopped : bool
        Whether the user ended it.
    error : CapacityError, optional
        What ended it.
    left : int
        Workflows it left on an existing cluster; their ids begin with `prefix`.
    prefix : str
    """

    measurements: Measurements
    stopped: bool
    error: CapacityError | None
    left: int
    prefix: str


class Sweep:
    """One sweep under way.

    Parameters
    ----------
    wanted : Wanted
    on_point : callable
        Told of each point as soon as it is there.
    say : callable
        Told, in sentences, what else happens.
    stop : callable
        Asked often; when it returns True the point under way is dropped and the sweep ends.
    """

    def __init__(
        self,
        wanted: Wanted,
        *,
        on_point: Callable[[Point], None] = lambda _: None,
        say: Callable[[str], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._wanted = wanted
        self._on_point = on_point
        self._say = say
        self._stop = stop
        self._prefix = f"sweep-{secrets.token_hex(4)}"
        self._began = datetime.datetime.now(datetime.UTC)
        self._points: list[Point] = []
        self._conditions: Conditions | None = None
        self._extras: dict[str, Any] = {}
        self._started = 0
        self._here = 0  # of these on the cluster at hand

    def run(self) -> Swept:
        """Take the points; blocks, and must not be called on an event loop.

        Raises
        ------
        CapacityError
            If it failed before the first point; what fails later is told in what is returned.
        KeyboardInterrupt
            If it was stopped before the first point.
        """
        stopped, error = False, None
        try:
            self._run()
        except KeyboardInterrupt:
            stopped = True
        except (CapacityError, OSError) as raised:
            error = ours(raised)
        if self._conditions is None or not self._points:
            tell_left(self._say, self._started, self._wanted, self._prefix)
            raise error or KeyboardInterrupt
        measurements = Measurements(
            conditions=self._conditions,
            points=tuple(self._points),
            seed=self._wanted.seed,
            measured_at=self._began.isoformat(timespec="seconds"),
            note=self._wanted.note,
            **self._extras,
        )
        left = self._started if self._wanted.target is not None else 0
        return Swept(measurements, stopped or self._stop(), error, left, self._prefix)

    def _run(self) -> None:
        shares = groups(self._wanted.points, self._wanted.freshness)
        for share in shares:
            if self._stop():
                return
            with subject(self._wanted, self._say) as (target, cluster):
                self._here = 0
                quiet = Quiet(ClusterCpu(cluster).read)
                self._take(share, target, cluster, quiet)
                if self._wanted.extras and share is shares[-1]:
                    self._measure_extras(target, cluster, quiet)

    def _take(self, share: list[Planned], target: Target, cluster: LocalCluster, quiet: Quiet) -> None:
        cpu, limit = ClusterCpu(cluster), store.rps_limit(cluster.metrics_url)
        for planned in share:
            quiet.wait(self._stop)
            if self._stop():
                return
            before = self._here
            taken = self._measured(
                target,
                planned.parallelism,
                self._wanted.seconds,
                prefix=f"{self._prefix}-{planned.order}",
                cpu=cpu,
                most=starts_left(self._started),
                rps_limit=limit,
            )
            if self._conditions is None:
                self._conditions = conditions(self._wanted, target, cluster, taken.server_version)
            if taken.point is not None:
                place = {"repeat": planned.repeat, "order": planned.order, "holdout": planned.holdout}
                point = taken.point.model_copy(update={**place, "open_workflows": before})
                self._points.append(point)
                self._on_point(point)
            elif not self._stop():
                starts_left(self._started)  # says so if the cap on starts is what ended it
                raise ClusterError(f"the launch with {planned.parallelism} in flight ended before it was measured")

    def _measure_extras(self, target: Target, cluster: LocalCluster, quiet: Quiet) -> None:
        def run(parallelism: int, name: str, most: int | None) -> points.Taken:
            quiet.wait(self._stop)
            caps = [cap for cap in (most, starts_left(self._started)) if cap is not None]
            seconds = self._wanted.seconds if most is None else 120.0
            prefix = f"{self._prefix}-{name}"
            taken = self._measured(target, parallelism, seconds, prefix=prefix, most=min(caps, default=None))
            quiet.wait(self._stop)
            return taken

        def memory() -> object:
            left = starts_left(self._started)
            if left is not None and left < MANY_ITEMS:
                raise CapacityError(
                    f"CAPACITY_MAX_STARTS leaves {left:,} starts",
                    allowed=f"launches of up to {MANY_ITEMS:,} items, each ended after some seconds",
                )
            return launcher_memory(target, cluster, f"{self._prefix}-memory", self._count, self._stop)

        if not self._stop():
            self._say("measuring memory, store times and storage")
            self._extras = measure_extras(cluster, run, memory, self._say, self._stop)

    def _measured(self, target: Target, parallelism: int, seconds: float, **options: Any) -> points.Taken:
        """Measure, and count what was started even where that ends with an error."""
        starts = points.Starts()
        options |= {"starts": starts, "allowed": self._wanted.allowed, "stop": self._stop}
        try:
            return asyncio.run(points.measure(target, parallelism, seconds, **options))
        finally:
            self._count(starts.made)

    def _count(self, started: int) -> None:
        self._here += started
        self._started += started


def save(measurements: Measurements, path: Path) -> None:
    """Write what a sweep brought, whole or not at all.

    Raises
    ------
    UsageError
        If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(path, measurements.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise UsageError(
            f"out {path}: {error.strerror}", next_step="pass a file you may write to with --out"
        ) from error
