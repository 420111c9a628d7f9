"""What the tests against a real server ask it: which runs it holds, and to end them."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ListWorkflowExecutionsRequest, TerminateWorkflowExecutionRequest

from capacity.cluster.target import Target
from capacity.launcher import service
from capacity.launcher.batch import RUN_MEMO, Batch
from capacity.launcher.retries import RetryPolicy
from capacity.launcher.transport import Connection, connect
from capacity.observe.run import Run
from capacity.observe.session import Journaling, launch

HASTY = RetryPolicy(deadline=2.0, first_delay=0.05, maximum_delay=0.5)


def launched(batch: Batch, address: str, journal: Path | None = None, *, resume: bool = False, **options: Any) -> Run:
    """Launch a batch in an event loop of its own."""
    options = {"parallelism": 8, "policy": HASTY, "journaling": Journaling(journal, resume)} | options
    return asyncio.run(launch(batch, Target(address), **options))


async def held(connection: Connection, prefix: str) -> list[tuple[str, str]]:
    """List (workflow id, run id of capacity) of all runs whose id begins so."""
    query, token, found = f"WorkflowId STARTS_WITH '{prefix}'", b"", []
    while True:
        request = ListWorkflowExecutionsRequest(namespace="default", page_size=1000, next_page_token=token, query=query)
        page = await service.ask(connection, connection.service.ListWorkflowExecutions, request)
        for info in page.executions:
            memo = info.memo.fields.get(RUN_MEMO)
            found.append((info.execution.workflow_id, json.loads(memo.data) if memo else ""))
        token = page.next_page_token
        if not token:
            return found


def runs_by_id(address: str, prefix: str, expected: int) -> Counter[str]:
    """Count runs per workflow id once visibility has caught up: at `expected`, or when it has stood still."""

    async def ask() -> Counter[str]:
        async with connect(Target(address)) as connection:
            await service.settle(connection, f"WorkflowId STARTS_WITH '{prefix}'", expected, patience=5.0)
            return Counter(identity for identity, _ in await held(connection, prefix))

    return asyncio.run(ask())


def terminate(address: str, workflow_ids: list[str]) -> None:
    """End workflows, so that their ids are free to be started again or not."""

    async def end() -> None:
        async with connect(Target(address)) as connection:
            for identity in workflow_ids:
                request = TerminateWorkflowExecutionRequest(
                    namespace="default", workflow_execution=WorkflowExecution(workflow_id=identity)
                )
                await service.ask(connection, connection.service.TerminateWorkflowExecution, request)

    asyncio.run(end())


def wait_for(holds: Any, seconds: float = 30.0) -> None:
    """Poll until something holds; the test fails when it never does."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)
