"""Looking at a fleet and the batches it holds, from wherever the server can be reached."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client, WorkflowHandle, WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from capacity.cluster.target import Target
from capacity.errors import ClusterError, UsageError
from capacity.fleet import TASK_QUEUE, Fleet
from capacity.fleet.conductor import Beat, beats_of, describe, details
from capacity.fleet.report import Report
from capacity.fleet.workflow import BatchDone, LaunchBatch, Standing, batch_id, run_id_of
from capacity.launcher import worker

TIMEOUT: Final = 5.0
"""Deadline of a query [s]."""
ASKED_WITHIN: Final = 90.0
"""A poll lasts a minute: who asked within this time still asks [s], where this machine's clock is the server's."""
ORDERED: Final = 2
"""Events of a batch that no launcher has taken up: it was started, and its first task waits."""


LastTold = dict[str, tuple[str, dict[str, Any]]]
"""By range, as ``first-stop``, what its launcher told last: packed outcomes, and its report as JSON values."""


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
    failing : list of str
        Ranges whose last attempt failed, with its reason.
    told : LastTold
    """

    standing: Standing
    total: Report
    launchers: list[tuple[str, Beat]]
    failing: list[str]
    told: LastTold = field(default_factory=dict)

    @property
    def in_flight(self) -> int:
        """Attempts in flight in the whole fleet."""
        return sum(beat.in_flight for _, beat in self.launchers)


async def look(client: Client, handle: WorkflowHandle[Any, Any]) -> Seen | None:
    """Return how a batch stands, or None when no answer comes in time: without workers nobody answers a query.

    A batch that nobody has taken up yet is not asked at all. No clock but the server's has a say in that.
    Heartbeats are read before the results: a range that ends in between is then counted once, with the results.
    """
    found = await describe(client, handle.id)
    if found is None or found.workflow_execution_info.history_length <= ORDERED:
        return None
    try:
        standing = await handle.query(LaunchBatch.standing, rpc_timeout=timedelta(seconds=TIMEOUT))
    except (RPCError, WorkflowQueryFailedError):
        return None
    running = set(standing.running)
    total = Report.from_json(standing.report) if standing.report else Report()
    told: LastTold = {}
    for one in found.pending_activities:
        if one.activity_id in running and len(said := details(one)) == 3:
            total.add(Report.from_json(said[2]))
            told[one.activity_id.partition(".")[0]] = said[1], said[2]
    beats = [(name, beat) for name, beat in beats_of(found) if name in running]
    failing = [
        f"range {one.activity_id.partition('.')[0]}, attempt {one.attempt}: before, {one.last_failure.message}"
        for one in found.pending_activities
        if one.activity_id in running and one.last_failure.message
    ]
    return Seen(standing, total, beats, failing, told)


async def pollers(client: Client, task_queue: str = TASK_QUEUE) -> int:
    """Return how many launchers have asked for ranges in the last seconds."""
    return await _asked(client, f"{task_queue}-ranges", TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY)


async def members(client: Client, task_queue: str = TASK_QUEUE) -> int:
    """Return how many launchers are there, those included that have a range: they still ask for workflow tasks."""
    return await _asked(client, task_queue, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW)


async def _asked(client: Client, task_queue: str, kind: TaskQueueType.ValueType) -> int:
    request = DescribeTaskQueueRequest(
        namespace=client.namespace, task_queue=TaskQueue(name=task_queue), task_queue_type=kind
    )
    found = await client.workflow_service.describe_task_queue(request)
    recent = time.time() - ASKED_WITHIN
    return len({one.identity for one in found.pollers if one.last_access_time.seconds >= recent})


async def find(client: Client, wanted: str | None, *, to_steer: bool = False) -> WorkflowHandle[LaunchBatch, BatchDone]:
    """Return the batch of a run id; without one that which was ordered last, to steer it the only one that runs.

    Raises
    ------
    UsageError
        If there is none, or more than one to steer.
    RPCError
        If the server cannot tell.
    """
    if wanted is not None:
        handle = client.get_workflow_handle_for(LaunchBatch.run, batch_id(run_id_of(wanted)))
        try:
            await handle.describe()
        except RPCError as error:
            if error.status not in (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT):
                raise
            raise UsageError(
                f"the fleet knows no batch {wanted!r}: {error.message}", next_step="see 'capacity fleet status'"
            ) from None
        return handle
    batches = "WorkflowType = 'LaunchBatch'"
    if to_steer:
        running = [one.id async for one in client.list_workflows(f"{batches} AND ExecutionStatus = 'Running'")]
        if len(running) > 1:
            raise UsageError(
                f"{len(running)} batches run in namespace {client.namespace}",
                allowed=", ".join(sorted(map(run_id_of, running))),
                next_step="say which",
            )
        if running:
            return client.get_workflow_handle_for(LaunchBatch.run, running[0])
    async for one in client.list_workflows(batches):
        return client.get_workflow_handle_for(LaunchBatch.run, one.id)
    raise UsageError("no batch was ordered from a fleet here", next_step="order one: capacity launch --fleet --count N")


async def connected(target: Target, fleet: Fleet) -> Client:
    """Return the SDK's client for a fleet on a target, or say in one line why there is none."""
    try:
        return await worker.sdk_client(replace(target, namespace=fleet.namespace_for(target.namespace)))
    except (RPCError, RuntimeError) as error:
        raise ClusterError(
            f"{target.address} does not answer the fleet: {_reason(error)}",
            next_step="check --address, and the server's log",
        ) from None


def _reason(error: Exception) -> str:
    """Return the SDK's reason in a few words: the innermost message of what it prints of its own errors."""
    inner = re.findall(r'message: "([^"]+)"', str(error))
    return inner[-1] if inner else str(error)[:120]
