"""A batch launched by a fleet, as the machine sees it from which it was ordered: order, look on, stop, fetch.

Invariants: the fleet holds the batch, so whoever looks on may leave and come back; the journal of the order is filled
from the results, and what it then lacks is to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from capacity.cluster.target import Target
from capacity.errors import CapacityError, ClusterError, RunFailedError, UsageError
from capacity.fleet.conductor import Beat, beats_of, describe, details
from capacity.fleet.merged import Merged
from capacity.fleet.notes import pack, unpack
from capacity.fleet.report import Report
from capacity.fleet.workflow import (
    TASK_QUEUE,
    BatchDone,
    BatchOrder,
    LaunchBatch,
    Range,
    Standing,
    batch_id,
    range_size,
)
from capacity.launcher import outcome, worker
from capacity.launcher.batch import Batch
from capacity.launcher.controller import Setting
from capacity.launcher.journal import Journal
from capacity.launcher.latency import Latencies
from capacity.launcher.progress import ProcessUse, Progress, Result
from capacity.launcher.retries import RetryPolicy

if TYPE_CHECKING:
    from temporalio.client import Client, WorkflowHandle

LOOK: Final = 1.0
"""Seconds between two looks at the fleet."""
ORDER_WITHIN: Final = 20.0
"""Seconds for which an order is tried again."""
TIMEOUT: Final = 5.0


@dataclass(frozen=True)
class Fleet:
    """Which fleet: its task queue, and the namespace of its own workflows where that is not the batch's."""

    task_queue: str = TASK_QUEUE
    namespace: str | None = None


@dataclass(frozen=True)
class Seen:
    """A fleet's batch at one moment.

    Parameters
    ----------
    standing : Standing
    total : Report
        Everything so far, ranges under way included.
    launchers : list of (str, Beat)
        Range and newest heartbeat of each launcher at work.
    """

    standing: Standing
    total: Report
    launchers: list[tuple[str, Beat]]

    @property
    def in_flight(self) -> int:
        """Attempts in flight in the whole fleet."""
        return sum(beat.in_flight for _, beat in self.launchers)


async def look(client: Client, handle: WorkflowHandle[Any, Any]) -> Seen | None:
    """Return how a batch stands, or None when no answer comes in time: without workers nobody answers a query.

    Heartbeats are read before the results: a range that ends in between is then counted once, with the results.
    """
    from datetime import timedelta

    from temporalio.client import WorkflowQueryFailedError
    from temporalio.service import RPCError

    found = await describe(client, handle.id)
    if found is None:
        return None
    try:
        standing = await handle.query(LaunchBatch.standing, rpc_timeout=timedelta(seconds=TIMEOUT))
    except (RPCError, WorkflowQueryFailedError):
        return None
    running = set(standing.running)
    total = Report.from_json(standing.report) if standing.report else Report()
    for one in found.pending_activities:
        if one.activity_id in running and len(said := details(one)) == 3:
            total.add(Report.from_json(said[2]))
    beats = [(name, beat) for name, beat in beats_of(found) if name in running]
    return Seen(standing, total, beats)


async def pollers(client: Client, task_queue: str = TASK_QUEUE) -> int:
    """Return how many launchers have asked for ranges in the last seconds."""
    from temporalio.api.enums.v1 import TaskQueueType
    from temporalio.api.taskqueue.v1 import TaskQueue
    from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest

    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=f"{task_queue}-ranges"),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
    )
    found = await client.workflow_service.describe_task_queue(request)
    recent = time.time() - 90
    return len({one.identity for one in found.pollers if one.last_access_time.seconds >= recent})


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
        Called twice a second with a `Progress`, on the event loop.
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
        self._batch, self._target, self._journal, self._control = batch, target, journal, control
        self._fleet, self._policy, self._on_progress = fleet, policy or RetryPolicy(), on_progress
        self._before = journal.tally()
        self._merged = Merged(batch.count, self._before)
        self._total = Report()
        self._seen: Seen | None = None
        self._state = "ordering"
        self._began: float | None = None
        self._now = 0.0
        self._limit = 0  # the last one that a launcher kept to
        self._stopping = ""
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
        rss = (self._total.rss_bytes,) * len(self.launchers_seen)
        return ProcessUse(len(self.launchers_seen), self._total.cpu_seconds, rss, 0)

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
        handle = await self._ordered(client)
        answer = asyncio.create_task(self._answer(handle))
        try:
            while not answer.done() and not (abort and abort.is_set()):
                if drain and drain.is_set() and not self._stopping:
                    await self._stop(handle)
                await self._look(client, handle)
                await asyncio.wait([answer], timeout=LOOK)
            done = await answer if answer.done() else None
        finally:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
        if done is None:
            self._stopping = "stopped at once by the user"
        else:
            self._fetch(done)
        return self._result(done)

    async def _answer(self, handle: WorkflowHandle[LaunchBatch, BatchDone]) -> BatchDone:
        """Wait for the end of the batch, through restarts of the server."""
        from temporalio.client import WorkflowFailureError
        from temporalio.service import RPCError, RPCStatusCode

        while True:
            try:
                return await handle.result()
            except WorkflowFailureError as error:
                reason = f"its workflow {handle.id} was ended from outside: {error.cause or error}"
                return BatchDone({}, [], error=reason)
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    return BatchDone({}, [], error=f"the server knows its workflow {handle.id} no more")
                await asyncio.sleep(LOOK)

    async def _stop(self, handle: WorkflowHandle[LaunchBatch, BatchDone]) -> None:
        from temporalio.service import RPCError

        with contextlib.suppress(RPCError):  # the next look tries again
            await handle.signal(LaunchBatch.stop)
            self._stopping = "stopped by the user"

    async def _ordered(self, client: Client) -> WorkflowHandle[LaunchBatch, BatchDone]:
        """Order the batch, and try again for a while where the server refuses in passing."""
        from temporalio.service import RPCError, RPCStatusCode

        passing = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.RESOURCE_EXHAUSTED)
        until = time.monotonic() + ORDER_WITHIN
        while True:
            try:
                return await self._order(client)
            except RPCError as error:
                if error.status not in passing or time.monotonic() > until:
                    raise ClusterError(
                        f"{self._target.address} does not take the order: {error.message}",
                        next_step="see the server's log; nothing was started",
                    ) from None
                await asyncio.sleep(LOOK)

    async def _order(self, client: Client) -> WorkflowHandle[LaunchBatch, BatchDone]:
        """Start the batch's workflow, or take up the one that runs; fetch what an ended one did."""
        from temporalio.common import WorkflowIDConflictPolicy

        run_id = self._journal.header.run_id
        await self._fetch_ended(client, batch_id(run_id))
        order = order_of(self._batch, self._journal, self._control, self._policy)
        return await client.start_workflow(
            LaunchBatch.run,
            order,
            id=batch_id(run_id),
            task_queue=self._fleet.task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            memo={"capacity": {"count": self._batch.count, "before": self._journal_done()}},
        )

    def _journal_done(self) -> int:
        return self._batch.count - self._before.get(outcome.TO_DO, 0)

    async def _fetch_ended(self, client: Client, workflow_id: str) -> None:
        """Note what an earlier order of this journal did, if it ended while nobody looked on."""
        found = await describe(client, workflow_id)
        if found is None or found.workflow_execution_info.status == 1:
            return
        handle = client.get_workflow_handle_for(LaunchBatch.run, workflow_id)
        try:
            note(self._journal, await handle.result())
        except Exception as error:  # terminated or failed: its items are to do
            if isinstance(error, CapacityError):
                raise
        self._before = self._journal.tally()
        self._merged = Merged(self._batch.count, self._before)

    async def _look(self, client: Client, handle: WorkflowHandle[Any, Any]) -> None:
        self._now = time.monotonic()
        if not (self._seen and self._seen.launchers) and not await self._anyone(client):
            self._state = (
                f"no launcher asks for work; start one: capacity fleet worker --address {self._target.address}"
            )
            self._tell()
            return
        seen = await look(client, handle)
        if seen is not None:
            self._take(seen)
        else:
            self._state = "waiting for the fleet's answer"
        self._tell()

    async def _anyone(self, client: Client) -> bool:
        from temporalio.service import RPCError

        try:
            return await pollers(client, self._fleet.task_queue) > 0
        except RPCError:
            return False

    def _take(self, seen: Seen) -> None:
        self._seen = seen
        away = any(beat.away for _, beat in seen.launchers)
        self._state = "draining" if self._stopping else "waiting for the server" if away else seen.standing.state
        self.launchers_seen |= {beat.who for _, beat in seen.launchers}
        if self._began is None and seen.total.attempts:
            self._began = self._now - max([LOOK, *(beat.at for _, beat in seen.launchers)])
            self._merged.seconds.begin(self._began)
        self._merged.add(seen.total.since(self._total))
        self._total = seen.total
        if self._began is not None and self._merged.seconds.lasted(self._now) >= 1.0:
            limit = sum(beat.limit for _, beat in seen.launchers)
            self._merged.seconds.close(self._now, seen.in_flight, limit)

    def _tell(self) -> None:
        if self._on_progress:
            self._on_progress(self.progress())

    def _fetch(self, done: BatchDone) -> None:
        self._now = time.monotonic()
        total = Report.from_json(done.report) if done.report else Report()
        self._merged.add(total.since(self._total))
        self._total = total
        note(self._journal, done)
        self._merged.recount(self._journal.tally(), self._before)
        if done.stopped and not self._stopping:
            self._stopping = "stopped by another"

    def _result(self, done: BatchDone | None) -> Result:
        error = RunFailedError(done.error) if done is not None and done.error else None
        if error is not None:
            self._stopping = "no item can succeed"
        seconds = self._now - self._began if self._began is not None else 0.0
        if self._began is not None:
            self._merged.seconds.close(self._now, 0, self._setting().limit)
        return self._merged.result(seconds, self._setting(), None, 0.0, self._stopping, error)


def order_of(batch: Batch, journal: Journal, control: dict[str, Any], policy: RetryPolicy) -> BatchOrder:
    """Return the order for what a journal does not note yet."""
    size = range_size(batch.count)
    order = BatchOrder(
        journal.header.run_id, batch.describe(), asdict(policy), control, batch.count, size, report={}, outcomes=[]
    )
    if journal.tally().get(outcome.TO_DO, 0) == batch.count:
        return order
    order.cursor = batch.count
    codes = journal.codes()
    for first in range(0, batch.count, size):
        part = codes[first : first + size]
        if not part.all():
            order.ranges.append(Range(first, first + part.size, pack(part)))
    return order


def note(journal: Journal, done: BatchDone) -> None:
    """Note in a journal what a fleet did."""
    for item in done.outcomes:
        codes = unpack(item.done, item.stop - item.first)
        for code in np.unique(codes):
            if code != outcome.TO_DO:
                journal.note(item.first + np.flatnonzero(codes == code), int(code))
    journal.sync()


async def find(client: Client, wanted: str | None) -> WorkflowHandle[LaunchBatch, BatchDone]:
    """Return the batch of a run id; without one that which was ordered last.

    Raises
    ------
    UsageError
        If there is none.
    """
    from temporalio.service import RPCError

    if wanted is not None:
        handle = client.get_workflow_handle_for(LaunchBatch.run, batch_id(wanted.removeprefix("capacity-batch:")))
        try:
            await handle.describe()
        except RPCError as error:
            raise UsageError(
                f"the fleet knows no batch {wanted!r}: {error.message}", next_step="see 'capacity fleet status'"
            ) from None
        return handle
    async for one in client.list_workflows("WorkflowType = 'LaunchBatch'"):
        return client.get_workflow_handle_for(LaunchBatch.run, one.id)
    raise UsageError("no batch was ordered from a fleet here", next_step="order one: capacity launch --fleet --count N")


async def connected(target: Target, fleet: Fleet) -> Client:
    """Return the SDK's client for a fleet on a target, or say in one line why there is none."""
    from temporalio.service import RPCError

    try:
        return await worker.sdk_client(replace(target, namespace=fleet.namespace or target.namespace))
    except (RPCError, RuntimeError) as error:
        raise ClusterError(
            f"{target.address} does not answer the fleet: {error}", next_step="check --address, and the server's log"
        ) from None
