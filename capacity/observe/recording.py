"""What a launch becomes: its record, and in it how many runs the server itself counts."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from capacity.cluster.target import Target
from capacity.errors import CapacityError
from capacity.fleet import Fleet
from capacity.fleet.processes import Processes
from capacity.launcher import outcome, service
from capacity.launcher.batch import Batch
from capacity.launcher.journal import Journal
from capacity.launcher.progress import Counts, Result
from capacity.launcher.scheduler import Scheduler
from capacity.launcher.transport import Connection
from capacity.observe.process import ProcessMeter
from capacity.observe.run import STOPPED_WAITING, ControllerState, LatencySummary, Run, RunSample

if TYPE_CHECKING:
    from capacity.fleet.client import FleetBatch

ASKED: Final = 8
"""Items of an earlier session that the server is asked for: the first ones of a batch are started first."""
EARLY: Final = 5.0
"""Seconds by which what is not exact is taken to be earlier."""


def record_of(
    journal: Journal,
    target: Target,
    batch: Batch,
    server_version: str,
    started_at: datetime.datetime,
    asked: str,
    rate: float | None,
    result: Result,
    meter: ProcessMeter,
) -> Run:
    """Return the record of a launch: what was asked, what became of it and what this process used."""
    counts: Counts = result.counts
    warnings = [*result.warnings]
    if journal.damaged:
        warnings.append(
            f"{journal.damaged:,} notes of the journal were damaged or missing: their items were sent again"
        )
    return Run(
        run_id=journal.header.run_id,
        started_at=started_at.isoformat(timespec="milliseconds"),
        address=target.address,
        namespace=target.namespace,
        server_version=server_version,
        batch=batch.describe(),
        count=batch.count,
        scheduled=counts.started,
        session_scheduled=result.session_started,
        already_running=counts.already_running,
        already_finished=counts.already_finished,
        failed=counts.failed,
        not_attempted=counts.not_attempted,
        duration_seconds=result.seconds,
        starts_per_second=result.session_started / result.seconds if result.seconds > 0 else 0.0,
        sustained_starts_per_second=result.series.sustained(result.ramp_seconds),
        latency_seconds=LatencySummary.of(result.latencies),
        latency_histogram=result.latencies.encode(),
        parallelism=result.limit,
        controller=ControllerState(
            asked=asked,
            limit=result.limit,
            pace=result.pace,
            reason=result.reason,
            ramp_seconds=result.ramp_seconds,
            rate=rate,
        ),
        attempts=result.attempts,
        throttled_attempts=result.throttled,
        throttle_cause=result.throttle_cause,
        throttle_scope=result.throttle_scope,
        retries=result.retries,
        errors=counts.errors,
        cpu_seconds=meter.cpu_seconds,
        rss_bytes_max=meter.rss_bytes_max,
        journal=str(journal.path) if journal.path else None,
        stopped=result.stopped,
        error=str(result.error) if result.error else None,
        warnings=warnings,
        series=[
            RunSample.model_validate({k: None if v != v else v for k, v in vars(sample).items()})
            for sample in result.series.samples
        ],
    )


def of_processes(run: Run, launchers: Scheduler | Processes | FleetBatch, fleet: Fleet | None) -> dict[str, Any]:
    """Return what the record of a run says of its launcher processes."""
    if isinstance(launchers, Scheduler):
        return {}
    use, warnings = launchers.use, list(run.warnings)
    update: dict[str, Any] = {
        "processes": use.processes,
        "process_rss_bytes_max": list(use.rss_bytes_max),
        "cpu_seconds": run.cpu_seconds + use.cpu_seconds,
        "rss_bytes_max": run.rss_bytes_max + sum(sorted(use.rss_bytes_max)[use.lost :]),
    }
    if use.lost:
        warnings.append(f"{use.lost} launcher processes died; what they had not noted was sent again by others")
    if fleet and run.throttle_scope == "NAMESPACE" and fleet.namespace_for(run.namespace) == run.namespace:
        warnings.append(
            "the fleet's own calls share the limit of the starts' namespace and are refused before these: launchers "
            "hear late of their shares; start them and order with a --fleet-namespace of their own"
        )
    return update | {"warnings": warnings}


async def verified(
    connection: Connection, batch: Batch, journal: Journal, result: Result, run: Run
) -> tuple[Run, float | None]:
    """Ask the server how many runs of the batch it holds.

    Returns
    -------
    Run
        With `verified`, and warnings.
    float, optional
        When the batch began by the server's clock, rather too early [Unix time, s]; None where it could not be asked.
    """
    warnings = list(run.warnings)
    try:
        since = await _began_by_its_clock(connection, batch, journal, result)
        found = 0
        if run.scheduled:
            found = await service.settle(connection, service.batch_query(batch, since), run.scheduled)
    except (CapacityError, ValueError) as error:  # ValueError: the first item of a file is not there any more
        return warned(run, f"the server could not be asked for the count: {error}"), None
    if found > run.scheduled:
        warnings.append(f"the server holds {found - run.scheduled:,} more runs with such ids, types and task queue")
    existing = run.already_running + run.already_finished
    return run.model_copy(update={"verified": min(found, run.scheduled) + existing, "warnings": warnings}), since


async def completed(
    connection: Connection, batch: Batch, run: Run, since: float, on_count: Callable[[int, int], None]
) -> Run:
    """Wait until the batch's workflows have completed, and count them; others with such ids are not waited for."""
    started = (run.verified or 0) - run.already_running - run.already_finished
    try:
        running = await service.completed(connection, batch, since, on_count=on_count)
    except CapacityError as error:
        return warned(run, f"how many workflows completed could not be asked: {error}")
    return run.model_copy(update={"completed": max(0, started - running)})


def unasked(run: Run) -> Run:
    """Return the record of a run whose count by the server the user did not wait for.

    What ended it before, with items left, stays its reason.
    """
    stopped = run.stopped if run.stopped and run.not_attempted else STOPPED_WAITING
    return warned(run, STOPPED_WAITING).model_copy(update={"stopped": stopped})


def warned(run: Run, words: str) -> Run:
    """Return the record of a run with one more warning."""
    return run.model_copy(update={"warnings": [*run.warnings, words]})


async def _began_by_its_clock(connection: Connection, batch: Batch, journal: Journal, result: Result) -> float:
    """Return when the run began, by the server's clock and rather too early than too late [Unix time, s].

    The server's count is then of runs that are at least as young as this. The journal has it by this machine's clock,
    which an earlier session may have had wrong: what the server itself says of items of that session comes before it.
    """
    began = journal.header.created
    if result.first_start is None:
        began -= EARLY  # nothing was started in this session that would tell the server's clock
    else:
        first, answered = result.first_start
        began -= await service.clock_offset(connection, batch.workflow_id(first), answered)
    if result.counts.started > result.session_started:
        firsts = [batch.workflow_id(index) for index in journal.first(outcome.STARTED, ASKED)]
        asked = (service.started_at(connection, each) for each in firsts)
        found = await asyncio.gather(*asked, return_exceptions=True)  # some may be deleted, or past their retention
        earliest = min((each for each in found if isinstance(each, float)), default=began)
        began = began if earliest >= began else earliest - EARLY
    return began
