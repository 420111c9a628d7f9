"""A batch launched by a fleet, as the machine sees it from which it was ordered: look on, stop, fetch.

Invariants: the fleet holds the batch, so whoever looks on may leave and come back; the journal of the order is filled
from the results, and what it then lacks is to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.service import RPCError

from capacity.cluster.target import Target
from capacity.errors import ClusterError, RunFailedError
from capacity.fleet import Fleet
from capacity.fleet.conductor import forgotten
from capacity.fleet.looking import LastTold, Seen, connected, look, members
from capacity.fleet.merged import Merged
from capacity.fleet.order import Ordering, note, note_told
from capacity.fleet.report import Report
from capacity.fleet.workflow import BatchDone, LaunchBatch
from capacity.launcher import outcome
from capacity.launcher.batch import Batch
from capacity.launcher.controller import Setting
from capacity.launcher.journal import Journal
from capacity.launcher.latency import Latencies
from capacity.launcher.progress import AWAY, STOPPED, STOPPED_AT_ONCE, ProcessUse, Progress, Result
from capacity.launcher.retries import RetryPolicy
from capacity.launcher.tasks import end_tasks

LOOK: Final = 1.0
"""Seconds between two looks at the fleet."""
STOP_WITHIN: Final = timedelta(seconds=5)
"""Time for a server to take the order to stop."""
GONE: Final = "ended from outside"


class FleetBatch:
    """Has a fleet start the items of a batch that its journal does not yet note.

    Parameters
    ----------
    batch, target, journal
        As for `Scheduler`.
    control : dict
        ``parallelism``, ``rate``, ``max_in_flight`` for the whole fleet.
    fleet : Fleet
    policy : RetryPolicy
    on_progress : callable, optional
        Called once a second with a `Progress`, on the event loop.
    """

    def __init__(
        self,
        batch: Batch,
        target: Target,
        journal: Journal,
        control: dict[str, Any],
        *,
        fleet: Fleet,
        policy: RetryPolicy | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._batch, self._target, self._journal, self._fleet = batch, target, journal, fleet
        self._ordering = Ordering(batch, target, journal, control, fleet, policy or RetryPolicy())
        self._on_progress = on_progress
        self._before = journal.tally()
        self._merged = Merged(batch.count, self._before)
        self._total = Report()  # of the order that runs
        self._cpu_seconds, self._rss_bytes = 0.0, 0
        self._seen: Seen | None = None
        self._told: LastTold = {}  # all that is left of a range recalled from a lost launcher
        self._state = "ordering"
        self._began: float | None = None
        self._now = 0.0
        self._limit = 0  # the last one that a launcher kept to
        self._stopping = ""
        self._error: RunFailedError | None = None
        self.launchers_seen: set[str] = set()
        """Host and process of every launcher that took part."""

    @property
    def latencies(self) -> Latencies:
        """Latencies of the starts of this session, as far as they were reported."""
        return self._merged.latencies

    @property
    def pids(self) -> list[int]:
        """None: the launchers may be anywhere."""
        return []

    @property
    def use(self) -> ProcessUse:
        """What the launchers cost so far; the highest resident set is that of any of them."""
        return ProcessUse(len(self.launchers_seen), self._cpu_seconds, (self._rss_bytes,) * len(self.launchers_seen), 0)

    def progress(self) -> Progress:
        """Return the batch as it stood when it was last looked at."""
        elapsed = self._now - self._began if self._began is not None else 0.0
        in_flight = self._seen.in_flight if self._seen else 0
        return self._merged.progress(self._state, elapsed, in_flight, self._setting())

    def _setting(self) -> Setting:
        beats = [beat for _, beat in self._seen.launchers] if self._seen else []
        self._limit = sum(beat.limit for beat in beats) or self._limit
        return Setting(self._limit, reason=f"{len(beats)} launchers of the fleet at work")

    async def run(self, drain: asyncio.Event | None = None, abort: asyncio.Event | None = None) -> Result:
        """Order what is to do, look on until it is done, note the outcomes and return what became of it.

        The first interrupt ends the batch on the fleet too; the second leaves without waiting for that.
        """
        client = await connected(self._target, self._fleet)
        handle = await self._ordering.place(client)  # None: an earlier order had done it all
        self._before = self._journal.tally()
        self._merged = Merged(self._batch.count, self._before)
        while handle is not None:
            done = await self._look_on(client, handle, drain, abort)
            handle = await self._ordered_rest(client, done, drain) if done and self._fetch(done) else None
        return self._result()

    async def _ordered_rest(
        self, client: Client, done: BatchDone, drain: asyncio.Event | None
    ) -> WorkflowHandle[LaunchBatch, BatchDone] | None:
        """Order what a batch left to do when its outcomes took too much; what was done stays done without it."""
        if drain and drain.is_set():
            self._stopping = STOPPED
            return None
        try:
            return await self._ordering.place(client, rest_of=done)
        except ClusterError as error:
            self._error, self._stopping = RunFailedError(str(error)), "the rest could not be ordered"
            return None

    async def _look_on(
        self,
        client: Client,
        handle: WorkflowHandle[LaunchBatch, BatchDone],
        drain: asyncio.Event | None,
        abort: asyncio.Event | None,
    ) -> BatchDone | None:
        """Look on until an order is done, and return what it did; None when nobody waits for that."""
        answer = asyncio.create_task(self._answer(handle))
        try:
            while not answer.done() and not (abort and abort.is_set()):
                if drain and drain.is_set() and not self._stopping:
                    await self._stop(handle)
                await self._look(client, handle)
                await asyncio.wait([answer], timeout=LOOK)
            if not answer.done() and not self._stopping:  # both interrupts came within one look
                await self._stop(handle)
            done = await answer if answer.done() else None
        finally:
            await end_tasks(answer)
        if done is None:
            if not self._stopping:
                self._error = RunFailedError(
                    "the fleet could not be told to stop, and goes on", next_step="run 'capacity fleet cancel'"
                )
            self._stopping = STOPPED_AT_ONCE
        return done

    async def _answer(self, handle: WorkflowHandle[LaunchBatch, BatchDone]) -> BatchDone:
        """Wait for the end of the batch, through restarts of the server."""
        while True:
            try:
                return await handle.result()
            except WorkflowFailureError as error:
                return self._ended(f"its workflow {handle.id} was ended from outside: {error.cause or error}")
            except RPCError as error:
                if forgotten(error):
                    return self._ended(f"the server knows its workflow {handle.id} no more")
                await asyncio.sleep(LOOK)

    def _ended(self, why: str) -> BatchDone:
        """Return what is left of a batch whose workflow is gone: the journal has nothing of it."""
        self._stopping = GONE
        return BatchDone({}, [], error=why)

    async def _stop(self, handle: WorkflowHandle[LaunchBatch, BatchDone]) -> None:
        with contextlib.suppress(RPCError):  # the next look tries again
            await handle.signal(LaunchBatch.stop, rpc_timeout=STOP_WITHIN)
            self._stopping = STOPPED

    async def _look(self, client: Client, handle: WorkflowHandle[Any, Any]) -> None:
        self._now = time.monotonic()
        if (seen := await look(client, handle)) is not None:
            self._take(seen)
        else:
            self._state = await self._unanswered(client)
        if self._on_progress:
            self._on_progress(self.progress())

    async def _unanswered(self, client: Client) -> str:
        """Return what is waited for while the batch tells nothing."""
        try:
            there = await members(client, self._fleet.task_queue)
        except RPCError:
            return AWAY
        if there or (self._seen and self._seen.launchers):
            return "waiting for the fleet's answer"
        command = self._fleet.worker_command(self._target.address, self._target.namespace)
        return f"no launcher asks for work; start one: {command}"

    def _take(self, seen: Seen) -> None:
        self._seen = seen
        self._told |= seen.told
        away = any(beat.away for _, beat in seen.launchers)
        self._state = "draining" if self._stopping else AWAY if away else seen.standing.state
        self.launchers_seen |= {beat.who for _, beat in seen.launchers}
        if self._began is None and seen.total.attempts:
            self._began = self._now - max([LOOK, *(beat.at for _, beat in seen.launchers)])
            self._merged.seconds.begin(self._began)
        self._add(seen.total)
        if self._began is not None and self._merged.seconds.lasted(self._now) >= 1.0:
            limit = sum(beat.limit for _, beat in seen.launchers)
            self._merged.seconds.close(self._now, seen.in_flight, limit)

    def _add(self, total: Report) -> None:
        more = total.since(self._total)
        if more.first_start is not None:  # by this machine's clock, as all that it is compared with, or by none
            more.first_start = None if self._ordering.taken_up else (more.first_start[0], time.time())
        self._merged.add(more)
        self._cpu_seconds += more.cpu_seconds
        self._rss_bytes = max(self._rss_bytes, more.rss_bytes)
        self._total = total

    def _fetch(self, done: BatchDone) -> bool:
        """Note what an order did; return whether items are left that another order can do."""
        to_do = self._journal.tally().get(outcome.TO_DO, 0)
        self._now = time.monotonic()
        note(self._journal, done)
        lost = note_told(self._journal, self._told)
        if self._stopping != GONE:  # of a batch that is gone the last look is all that is known
            total = Report()
            for report in filter(None, [done.report, *lost]):
                total.add(Report.from_json(report))
            self._add(total)
        noted = self._journal.tally()
        self._merged.recount(noted, self._before)
        if done.stopped and not self._stopping:
            self._stopping = "stopped by another"
        if done.error:
            self._error = RunFailedError(done.error)
            self._stopping = self._stopping if self._stopping == GONE else "no item can succeed"
        self._total, self._told = Report(), {}
        return not self._stopping and 0 < noted.get(outcome.TO_DO, 0) < to_do

    def _result(self) -> Result:
        # Known to a second or two: begin and end are seen at looks.
        seconds = self._now - self._began if self._began is not None else 0.0
        if self._began is not None:
            self._merged.seconds.close(self._now, 0, self._setting().limit)
        result = self._merged.result(seconds, self._setting(), None, 0.0, self._stopping, self._error)
        return replace(result, warnings=self._ordering.warnings)
