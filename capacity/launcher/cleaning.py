"""End or delete just the workflows that one run started, by the server's own batch operation."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Callable
from typing import Final
from uuid import uuid4

from temporalio.api.batch.v1 import BatchOperationDeletion, BatchOperationTermination
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import BatchOperationState
from temporalio.api.workflowservice.v1 import (
    DescribeBatchOperationRequest,
    ListWorkflowExecutionsRequest,
    StartBatchOperationRequest,
)

from capacity.cluster.target import Target
from capacity.errors import ClusterError
from capacity.launcher.batch import RUN_MEMO
from capacity.launcher.service import ask
from capacity.launcher.transport import Connection

CHUNK: Final = 1000
"""Executions of one batch operation: `frontend.maxExecutionCountBatchOperation` of the server."""
SERVER_RATE: Final = 50.0
"""Executions per second of a batch operation: `worker.batcherRPS` of the server."""
PATIENCE: Final = 60.0
"""For a server that refuses in passing [s]: of batch operations it has one at a time, and hears late of its end."""


def left_behind(left: int, target: Target, prefix: str) -> list[str]:
    """Return in lines how to end by hand workflows that stay on a cluster; their ids begin with a prefix.

    >>> print(*left_behind(2, Target("127.0.0.1:7233"), "sweep-1a"), sep="\\n")
    2 workflows stay open on the cluster. To end them:
      temporal workflow terminate --yes --reason done \\
        --address 127.0.0.1:7233 --namespace default \\
        --query "WorkflowId STARTS_WITH 'sweep-1a'"
    """
    return [
        f"{left:,} workflows stay open on the cluster. To end them:",
        "  temporal workflow terminate --yes --reason done \\",
        f"    --address {target.address} --namespace {shlex.quote(target.namespace)} \\",
        f"    --query \"WorkflowId STARTS_WITH '{prefix}'\"",
    ]


async def of_run(
    connection: Connection, query: str, run_id: str, *, on_progress: Callable[[int], None] | None = None
) -> AsyncIterator[WorkflowExecution]:
    """Yield the workflows among those a query finds whose memo names the run; tell how many were looked at."""
    token, mine, looked_at = b"", json.dumps(run_id).encode(), 0
    while True:
        request = ListWorkflowExecutionsRequest(
            namespace=connection.target.namespace, page_size=CHUNK, next_page_token=token, query=query
        )
        page = await ask(connection, connection.service.ListWorkflowExecutions, request, patience=PATIENCE)
        for info in page.executions:
            memo = info.memo.fields.get(RUN_MEMO)
            if memo is not None and memo.data == mine:
                yield info.execution
        looked_at += len(page.executions)
        if on_progress:
            on_progress(looked_at)
        token = page.next_page_token
        if not token:
            return
        await asyncio.sleep(0.1)  # visibility has a rate limit of its own


async def clean(
    connection: Connection,
    executions: list[WorkflowExecution],
    *,
    delete: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> int:
    """End (or delete) workflows; return how many the server says it did."""
    done = 0
    for start in range(0, len(executions), CHUNK):
        done += await _one(connection, executions[start : start + CHUNK], delete, done, on_progress)
    return done


async def _one(
    connection: Connection,
    executions: list[WorkflowExecution],
    delete: bool,
    before: int,
    on_progress: Callable[[int], None] | None,
) -> int:
    namespace, job = connection.target.namespace, f"capacity-{uuid4()}"
    request = StartBatchOperationRequest(
        namespace=namespace, job_id=job, reason="capacity runs clean", executions=executions
    )
    if delete:
        request.deletion_operation.CopyFrom(BatchOperationDeletion(identity="capacity"))
    else:
        request.termination_operation.CopyFrom(BatchOperationTermination(identity="capacity"))
    await ask(connection, connection.service.StartBatchOperation, request, patience=PATIENCE)
    while True:
        describe = DescribeBatchOperationRequest(namespace=namespace, job_id=job)
        state = await ask(connection, connection.service.DescribeBatchOperation, describe, patience=PATIENCE)
        if on_progress:
            on_progress(before + int(state.complete_operation_count))
        if state.state == BatchOperationState.BATCH_OPERATION_STATE_COMPLETED:
            return int(state.complete_operation_count)
        if state.state == BatchOperationState.BATCH_OPERATION_STATE_FAILED:
            raise ClusterError(
                f"the server's batch operation {job} failed after {state.complete_operation_count:,} workflows",
                next_step=f"see 'temporal batch describe --job-id {job}'",
            )
        await asyncio.sleep(0.25)
