"""A soak: the same batches again and again in one process, and what that process and the server hold after each round.

A round is one batch alone and then several at once. A reading is taken when nothing is in flight and Python's collector
has run, so that whatever it shows more than the last one was kept. Invariants: launches go the way a user's do, with
journal and record, in a folder of the soak's own that ends with it; no start goes beyond ``CAPACITY_MAX_STARTS``.
"""

from __future__ import annotations

import asyncio
import gc
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from capacity.cluster import processes, state
from capacity.cluster.guard import check_count, check_target
from capacity.cluster.target import Target
from capacity.errors import CapacityError, UsageError
from capacity.experiment.local import LocalCluster
from capacity.experiment.points import TASK_QUEUE
from capacity.experiment.subject import ours, subject, tell_left
from capacity.experiment.wanted import Wanted
from capacity.launcher.batch import HeightRange, StartOptions
from capacity.launcher.progress import Progress
from capacity.launcher.tasks import end_tasks
from capacity.observe.history import forget
from capacity.observe.process import rss_bytes
from capacity.observe.run import Run
from capacity.observe.session import Journaling, launch

SETTLED: Final = 0.2
"""Seconds after a round in which what it left to do ends."""
MOST_CONCURRENT: Final = 64


@dataclass(frozen=True)
class Reading:
    """What is held after a round, nothing in flight.

    Parameters
    ----------
    at : float
        Since the soak began [s].
    starts, failed : int
        So far.
    rss : int
        Resident set of this process [bytes].
    tasks, threads, descriptors : int
        Of this process.
    server_rss : int, optional
        Resident set of a local server [bytes].
    """

    at: float
    starts: int
    failed: int
    rss: int
    tasks: int
    threads: int
    descriptors: int
    server_rss: int | None = None


@dataclass(frozen=True)
class Plan:
    """What a soak does.

    Parameters
    ----------
    minutes : float
    concurrent : int
        Batches at once.
    batch : int
        Starts of a batch.
    parallelism : int or str
        Starts in flight of each batch.
    """

    minutes: float = 5.0
    concurrent: int = 8
    batch: int = 500
    parallelism: int | str = 4

    def __post_init__(self) -> None:
        if not 0 < self.minutes <= 7 * 24 * 60:
            raise UsageError(f"minutes is {self.minutes:g}", allowed="above 0, up to a week")
        if not 1 <= self.concurrent <= MOST_CONCURRENT:
            raise UsageError(f"concurrent is {self.concurrent}", allowed=f"1 to {MOST_CONCURRENT}")
        if not 1 <= self.batch <= 1_000_000:
            raise UsageError(f"batch is {self.batch}", allowed="1 to 1,000,000")


@dataclass(frozen=True)
class Soaked:
    """What a soak brought.

    Parameters
    ----------
    readings : tuple of Reading
    store : str
    stopped : bool
        Whether the user ended it.
    error : CapacityError, optional
        What ended it.
    left : int
        Workflows it left on an existing cluster; their ids begin with `prefix`.
    prefix : str
    """

    readings: tuple[Reading, ...]
    store: str
    stopped: bool
    error: CapacityError | None
    left: int
    prefix: str


class Soaking:
    """One soak under way.

    Parameters
    ----------
    wanted : Wanted
        The cluster.
    plan : Plan
    on_reading : callable
        Told of each reading.
    say : callable
        Told, in sentences, what else happens.
    stop : callable
        Asked between ticks; when it returns True the round under way is drained and the soak ends.
    one : callable, optional
        Launches a batch; by default as ``capacity launch`` does.
    """

    def __init__(
        self,
        wanted: Wanted,
        plan: Plan,
        *,
        on_reading: Callable[[Reading], None] = lambda _: None,
        say: Callable[[str], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
        one: Callable[..., Awaitable[Run]] = launch,
    ) -> None:
        self._wanted, self._plan, self._one = wanted, plan, one
        self._on_reading, self._say, self._stop = on_reading, say, stop
        self._prefix = f"soak-{secrets.token_hex(4)}"
        self._readings: list[Reading] = []
        self._starts = self._failed = 0
        self._under_way: dict[str, int] = {}
        self._began = 0.0

    def run(self) -> Soaked:
        """Soak; blocks, and must not be called on an event loop.

        Raises
        ------
        CapacityError
            If it failed before the first round was through; what fails later is told in what is returned.
        KeyboardInterrupt
            If it was stopped before the first round was through.
        """
        error: CapacityError | None = None
        store, stopped = "unknown", False
        try:
            with subject(self._wanted, self._say) as (target, cluster):
                store = cluster.store
                check_target(target, self._wanted.allowed)
                asyncio.run(self._rounds(target, cluster))
        except KeyboardInterrupt:
            stopped = True
        except (CapacityError, OSError) as raised:
            error = ours(raised)
        started = self._starts + sum(self._under_way.values())
        if not self._readings:
            tell_left(self._say, started, self._wanted, self._prefix)
            raise error or KeyboardInterrupt
        left = started if self._wanted.target is not None else 0
        return Soaked(tuple(self._readings), store, stopped or self._stop(), error, left, self._prefix)

    async def _rounds(self, target: Target, cluster: LocalCluster) -> None:
        drain = asyncio.Event()
        watching = asyncio.create_task(self._watch(drain))
        self._began = time.monotonic()
        try:
            with tempfile.TemporaryDirectory(prefix=".soak-", dir=state.made(state.folder())) as folder:
                number = 0
                while not drain.is_set() and (number < 1 or self._elapsed < 60 * self._plan.minutes):
                    number += 1
                    await self._round(number, target, Path(folder), drain)
                    await asyncio.sleep(SETTLED)
                    if not drain.is_set():
                        self._read(cluster)
        finally:
            await end_tasks(watching)

    async def _round(self, number: int, target: Target, folder: Path, drain: asyncio.Event) -> None:
        check_count(self._starts + (1 + self._plan.concurrent) * self._plan.batch)
        await self._launch(f"{self._prefix}-{number}-0", target, folder, drain)
        if drain.is_set():
            return
        first: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for place in range(1, self._plan.concurrent + 1):
                    group.create_task(self._launch(f"{self._prefix}-{number}-{place}", target, folder, drain))
        except* CapacityError as failed:
            first = failed
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
        if first is not None:  # one, whatever the number of batches; raised above, Python 3.11.2 makes it a group again
            raise first from None

    async def _launch(self, chain: str, target: Target, folder: Path, drain: asyncio.Event) -> None:
        batch = HeightRange(self._plan.batch, chain, options=StartOptions(task_queue=TASK_QUEUE))

        def under_way(progress: Progress) -> None:
            self._under_way[chain] = progress.started

        run = await self._one(
            batch,
            target,
            parallelism=self._plan.parallelism,
            journaling=Journaling(folder / f"{chain}.journal"),
            verify=False,
            allowed=self._wanted.allowed,
            vitals=False,
            stop=drain,
            on_progress=under_way,
        )
        self._under_way.pop(chain, None)
        self._starts += run.scheduled
        self._failed += run.failed
        (folder / f"{chain}.journal").unlink(missing_ok=True)
        forget(run)
        if run.error:
            raise CapacityError(f"a batch ended early: {run.error}")

    def _read(self, cluster: LocalCluster) -> None:
        gc.collect()  # a finished launch leaves circles of objects, which the collector by itself lets lie for long
        process = psutil.Process()
        known = cluster.server is not None and processes.alive(*cluster.server)
        reading = Reading(
            at=self._elapsed,
            starts=self._starts,
            failed=self._failed,
            rss=int(process.memory_info().rss),
            tasks=len(asyncio.all_tasks()),
            threads=process.num_threads(),
            descriptors=process.num_fds(),
            server_rss=rss_bytes(cluster.server[0]) if cluster.server is not None and known else None,
        )
        self._readings.append(reading)
        self._on_reading(reading)

    async def _watch(self, drain: asyncio.Event) -> None:
        while not self._stop():
            await asyncio.sleep(0.1)
        drain.set()

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._began
