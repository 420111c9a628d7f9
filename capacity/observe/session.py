"""One launch from the guard to the record: what the command line and the notebooks call."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from capacity.cluster.guard import check_count, check_target
from capacity.cluster.profile import load_target
from capacity.cluster.target import Target
from capacity.errors import JournalError, UsageError
from capacity.fleet import Fleet
from capacity.fleet.processes import Processes, check_processes
from capacity.launcher import service, worker
from capacity.launcher.batch import Batch, fingerprint
from capacity.launcher.header import Header
from capacity.launcher.journal import Journal
from capacity.launcher.progress import Progress, Result
from capacity.launcher.retries import RetryPolicy
from capacity.launcher.scheduler import Scheduler
from capacity.launcher.settings import controller_for, settled
from capacity.launcher.tasks import end_tasks
from capacity.launcher.transport import Connection, connect
from capacity.observe.history import runs_folder
from capacity.observe.metrics import LaunchMetrics, serving
from capacity.observe.process import ProcessMeter
from capacity.observe.recording import completed, of_processes, record_of, unasked, verified, warned
from capacity.observe.run import Run
from capacity.observe.sources import Places, find
from capacity.observe.vitals import VitalsSample
from capacity.observe.watcher import LaunchWatch
from capacity.rules.environment import lookalikes

if TYPE_CHECKING:
    from capacity.fleet.client import FleetBatch

OnProgress = Callable[[Progress], None]
_Any = TypeVar("_Any")


def new_run_id() -> str:
    """Return an id that sorts by time, in any time zone, and is not used twice."""
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}-{os.urandom(3).hex()}"


@dataclass(frozen=True)
class Journaling:
    """Where the outcomes are noted.

    Parameters
    ----------
    path : Path, optional
        None: a new file in `runs_folder`, or with `resume` the newest there that belongs to the batch.
    resume : bool
        Go on with an existing journal.
    """

    path: Path | None = None
    resume: bool = False

    def open(self, batch: Batch, target: Target) -> Journal:
        """Create or open the journal of a batch."""
        mark = fingerprint(batch, target.address, target.namespace)
        if not self.resume:
            run_id = new_run_id()
            path = (self.path or runs_folder() / f"{run_id}.journal").absolute()
            header = Header(
                mark, run_id, batch.count, batch=batch.describe(), address=target.address, namespace=target.namespace
            )
            return Journal.create(path, header)
        return Journal.open(self.existing(mark), mark)

    def existing(self, mark: str) -> Path:
        """Return the path of the journal to go on with, given the fingerprint of the batch."""
        return (self.path or self._newest(mark)).absolute()

    @staticmethod
    def _newest(mark: str) -> Path:
        for path in sorted(runs_folder().glob("*.journal"), reverse=True):
            with contextlib.suppress(JournalError, OSError):
                if Header.read(path).fingerprint == mark:
                    return path
        raise JournalError(
            f"no journal in {runs_folder()} belongs to this batch on this target (fingerprint {mark})",
            next_step="pass its path with --journal, or launch without --resume",
        )


def check_launchers(processes: int, fleet: Fleet | None) -> None:
    """Refuse a number of launcher processes that makes no sense, or that a fleet's workers say themselves."""
    check_processes(processes)
    if fleet is not None and processes > 1:
        raise UsageError("processes and fleet exclude each other: its workers say how many they are")


async def launch(
    batch: Batch,
    target: Target | None = None,
    *,
    parallelism: int | str | None = None,
    rate: float | None = None,
    max_in_flight: int = 512,
    journaling: Journaling | None = None,
    with_worker: bool = False,
    verify: bool = True,
    allowed: Collection[str] = (),
    policy: RetryPolicy | None = None,
    processes: int = 1,
    fleet: Fleet | None = None,
    metrics_port: int | None = None,
    vitals: Places | bool = True,
    on_progress: OnProgress | None = None,
    on_vitals: Callable[[VitalsSample], None] | None = None,
    stop: asyncio.Event | None = None,
    abort: asyncio.Event | None = None,
) -> Run:
    """Launch a batch and return its record, which is also kept in the state folder.

    Parameters
    ----------
    batch : Batch
        For example ``HeightRange(count=2000)``.
    target : Target, optional
        Where to; None is what Temporal's environment configuration says, else the running dev cluster.
    parallelism : int or str, optional
        Starts in flight: a number, ``"4x"`` or ``"auto"`` (default).
    rate : float, optional
        Starts due per second instead, whatever the answers do [1/s].
    max_in_flight : int
        Bound of ``auto`` and `rate`.
    journaling : Journaling, optional
        Where outcomes are noted; a file of its own in the state folder by default.
    with_worker : bool
        Also run a worker process and wait for the workflows to complete.
    verify : bool
        Ask the server at the end how many runs of the batch it holds.
    allowed : collection of str
        Addresses beyond loopback that may be launched at.
    policy : RetryPolicy, optional
        Deadlines, retries and patience.
    processes : int
        Launcher processes on this machine; they share one controller and one journal.
    fleet : Fleet, optional
        A fleet (`capacity fleet worker`) that launches it in place of this process; ``Fleet()`` unless its workers were
        given a task queue or a namespace of their own.
    metrics_port : int, optional
        Port on loopback for Prometheus metrics of the run.
    vitals : Places or bool
        Where the vitals of server and PostgreSQL are read; True is what a local cluster at the target's address
        offers, False watches nothing.
    on_progress : callable, optional
        Called on the event loop ten times a second, with a fleet once a second.
    on_vitals : callable, optional
        Called with each new sample of the vitals on the event loop.
    stop, abort : asyncio.Event, optional
        End early: once what is in flight is answered, or at once.

    Returns
    -------
    Run
        Also for a batch that ended early; see `Run.error`, `Run.stopped` and `Run.complete`.

    Raises
    ------
    CapacityError
        When the launch could not begin: nothing was started then.

    Examples
    --------
    ``run = await capacity.launch(capacity.HeightRange(count=2000))`` in a notebook, with ``asyncio.run`` elsewhere;
    then ``run.scheduled`` and ``run.verified`` are 2000.
    """
    target = target or load_target()
    check_target(target, allowed)
    check_count(batch.count)
    check_launchers(processes, fleet)
    controller, asked = controller_for(parallelism, rate=rate, max_in_flight=max_in_flight)
    metrics, journaling = LaunchMetrics(), journaling or Journaling()
    async with contextlib.AsyncExitStack() as stack:
        if metrics_port is not None:
            stack.enter_context(serving(metrics, metrics_port))
        if journaling.resume:
            journal = stack.enter_context(journaling.open(batch, target))
        connection = await stack.enter_async_context(connect(target))
        server_version = await service.check(connection)
        places = Places() if isinstance(vitals, bool) else vitals
        sources = await asyncio.to_thread(find, target.address, places) if vitals else None
        working = None
        if with_worker:
            working = await stack.enter_async_context(worker.running(target, batch.options.task_queue))
        if not journaling.resume:  # last of all: a launch that cannot begin leaves no journal that a resume would find
            journal = stack.enter_context(journaling.open(batch, target))
        meter = ProcessMeter()

        def show(progress: Progress) -> None:
            meter.sample()
            watch.tick(() if isinstance(launchers, Scheduler) else launchers.pids)
            if metrics_port is not None:
                metrics.update(journal.header.run_id, progress, launchers.latencies)
            if on_progress:
                on_progress(progress)

        launchers: Scheduler | Processes | FleetBatch
        if fleet is not None:
            from capacity.fleet.client import FleetBatch  # the SDK's client, which takes longer to import than all else

            launchers = FleetBatch(
                batch, target, journal, settled(controller), fleet=fleet, policy=policy, on_progress=show
            )
            asked = f"{asked}; shared by the launchers of fleet {fleet.task_queue!r}"
        elif processes == 1:
            launchers = Scheduler(
                batch, connection, controller, journal, policy=policy, namespace_known=True, on_progress=show
            )
        else:
            launchers = Processes(
                batch, target, controller, journal, processes=processes, policy=policy, on_progress=show
            )
        elsewhere = "" if fleet is None else "the launchers are a fleet's"
        watch = await stack.enter_async_context(LaunchWatch(sources, on_vitals, elsewhere))
        started_at = datetime.datetime.now(datetime.UTC)
        result = await launchers.run(stop, abort)
        run = record_of(journal, target, batch, server_version, started_at, asked, rate, result, meter)
        run = run.model_copy(update={"vitals": await watch.end(), **of_processes(run, launchers, fleet)})
        for words in lookalikes():
            run = warned(run, words)
        record = runs_folder() / f"{run.run_id}.json"
        run.save(record)
        hurry = abort is not None and abort.is_set()
        if (verify or with_worker) and not hurry and result.error is None:
            show(replace(launchers.progress(), state="verifying"))

            def waiting(running: int, others: int) -> None:
                behind = f"; {others:,} of others run on the task queue" if others else ""
                show(replace(launchers.progress(), state=f"waiting for {running:,} workflows to complete{behind}"))

            told = waiting if with_worker else None
            run = await _counted(connection, batch, journal, result, run, told, (stop, abort))
            if working is not None and working.process.returncode is not None:
                words = f"the worker process ended before the batch: {working.last_words}"
                run = warned(run, words)
            run.save(record)
        show(replace(launchers.progress(), state="ended early" if run.not_attempted else "done"))
    return run


async def _counted(
    connection: Connection,
    batch: Batch,
    journal: Journal,
    result: Result,
    run: Run,
    waiting: Callable[[int, int], None] | None,
    interrupts: Sequence[asyncio.Event | None],
) -> Run:
    """Have the server count the batch, and with `waiting` wait for its workflows, unless the user interrupts that."""
    found = await _unless(interrupts, verified(connection, batch, journal, result, run))
    if found is None:
        return unasked(run)
    run, since = found
    if waiting is None or since is None:
        return run
    return await _unless(interrupts, completed(connection, batch, run, since, waiting)) or unasked(run)


async def _unless(events: Sequence[asyncio.Event | None], awaited: Coroutine[Any, Any, _Any]) -> _Any | None:
    """Await; None as soon as an event is set that is not yet: the user does not want to wait."""
    task = asyncio.create_task(awaited)
    told = [asyncio.create_task(event.wait()) for event in events if event is not None and not event.is_set()]
    try:
        await asyncio.wait([task, *told], return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        await end_tasks(task, *told)
