"""`runs clean` ends the workflows of one run, and of no other."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from real_server import launched

from capacity.cluster.devserver import DevServer
from capacity.cluster.target import Target
from capacity.launcher import cleaning, service
from capacity.launcher.batch import HeightRange
from capacity.launcher.cleaning import clean, of_run
from capacity.launcher.transport import Connection, connect

pytestmark = pytest.mark.devserver


async def running(connection: Connection, prefix: str, expected: int) -> int:
    query = f"WorkflowId STARTS_WITH '{prefix}' AND ExecutionStatus = 'Running'"
    for _ in range(60):  # visibility lags behind what the batch operation did
        found = await service.count(connection, query)
        if found == expected:
            break
        await asyncio.sleep(0.25)
    return found


def test_just_the_workflows_of_one_run_are_ended(devserver: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two runs with interleaved ids in one prefix, cleaning the first ends its 300 and leaves the second's 40.

    It takes three batch operations of the server, one after the other, of which it allows one at a time.
    """
    monkeypatch.setattr(cleaning, "CHUNK", 120)
    name = f"k{uuid.uuid4().hex[:8]}"
    other = launched(HeightRange(40, name, 130), devserver.address)
    mine = launched(HeightRange(340, name), devserver.address)
    assert (mine.scheduled, mine.already_running) == (300, 40)
    told: list[int] = []

    async def end() -> tuple[int, int, list[str]]:
        async with connect(Target(devserver.address)) as connection:
            query = f"WorkflowId STARTS_WITH '{name}:'"
            found = [execution async for execution in of_run(connection, query, mine.run_id)]
            ended = await clean(connection, found, on_progress=told.append)
            await running(connection, f"{name}:", 40)
            kept = [
                e.workflow_id
                async for e in of_run(connection, f"{query} AND ExecutionStatus = 'Running'", other.run_id)
            ]
            left = [e async for e in of_run(connection, f"{query} AND ExecutionStatus = 'Running'", mine.run_id)]
            return ended, len(left), kept

    ended, left, kept = asyncio.run(end())
    assert (ended, left) == (300, 0)
    assert sorted(kept) == sorted(f"{name}:index-block:{height}" for height in range(130, 170))
    assert told == sorted(told)
    assert told[-1] == 300


def test_deleting_leaves_no_trace_of_a_run(devserver: DevServer) -> None:
    """With delete the run's workflows are gone from the server, closed ones included, and the others stay."""
    name = f"d{uuid.uuid4().hex[:8]}"
    other = launched(HeightRange(10, name, 100), devserver.address)
    mine = launched(HeightRange(20, name), devserver.address)

    async def delete() -> tuple[int, int]:
        async with connect(Target(devserver.address)) as connection:
            query = f"WorkflowId STARTS_WITH '{name}:'"
            found = [execution async for execution in of_run(connection, query, mine.run_id)]
            deleted = await clean(connection, found, delete=True)
            await service.settle(connection, query, 31, patience=1.0)
            for _ in range(60):
                if await service.count(connection, query) == 10:
                    break
                await asyncio.sleep(0.25)
            left = [e async for e in of_run(connection, query, other.run_id)]
            return deleted, len(left)

    assert asyncio.run(delete()) == (20, 10)
    assert other.verified == 10


def test_a_foreign_memo_of_the_same_name_is_no_obstacle(devserver: DevServer) -> None:
    """A workflow of somebody else whose memo has our field with other content is passed over."""
    from temporalio.client import Client

    name = f"f{uuid.uuid4().hex[:8]}"
    run = launched(HeightRange(3, name), devserver.address)

    async def listed() -> list[str]:
        client = await Client.connect(devserver.address)
        memo = {"capacity_run": b"\xff not json"}
        await client.start_workflow("Anything", id=f"{name}:foreign", task_queue="nobody", memo=memo)
        async with connect(Target(devserver.address)) as connection:
            query = f"WorkflowId STARTS_WITH '{name}:'"
            await service.settle(connection, query, 4)
            return [execution.workflow_id async for execution in of_run(connection, query, run.run_id)]

    assert sorted(asyncio.run(listed())) == [f"{name}:index-block:{height}" for height in range(3)]
