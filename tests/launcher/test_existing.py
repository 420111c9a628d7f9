"""Ids that exist, on a real server: what each policy does with running, completed and failed workflows."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import numpy as np
import pytest
from real_server import launched, runs_by_id, terminate
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest

from capacity.cluster.devserver import DevServer
from capacity.cluster.target import Target
from capacity.launcher import outcome, service
from capacity.launcher.batch import HeightRange, StartOptions
from capacity.launcher.journal import Journal
from capacity.launcher.transport import connect

pytestmark = pytest.mark.devserver


def chain() -> str:
    """A chain id no other test has."""
    return f"c{uuid.uuid4().hex[:10]}"


def outcomes(run: object) -> tuple[int, int, int, int, int]:
    names = ("scheduled", "already_running", "already_finished", "failed", "not_attempted")
    return tuple(getattr(run, name) for name in names)  # type: ignore[return-value]


def test_a_second_launch_of_a_range_starts_nothing(devserver: DevServer) -> None:
    """The same range again is N already running, none scheduled, at a rate of zero, and verified all the same."""
    batch = HeightRange(200, chain())
    first, second = (launched(batch, devserver.address) for _ in range(2))
    assert outcomes(first) == (200, 0, 0, 0, 0)
    assert outcomes(second) == (0, 200, 0, 0, 0)
    assert (second.starts_per_second, second.session_scheduled, second.latency_seconds.p50) == (0.0, 0, None)
    assert (first.verified, second.verified) == (200, 200)
    assert (first.complete, second.complete) == (True, True)
    assert set(runs_by_id(devserver.address, batch.id_prefix, 200).values()) == {1}


def test_overlapping_ranges_start_only_what_is_new(devserver: DevServer) -> None:
    """Of a range that overlaps an earlier one only the new part is scheduled and counted in the rate."""
    name = chain()
    launched(HeightRange(60, name), devserver.address)
    run = launched(HeightRange(100, name, from_height=30), devserver.address)
    assert outcomes(run) == (70, 30, 0, 0, 0)
    assert run.starts_per_second * run.duration_seconds == pytest.approx(70)


@pytest.mark.parametrize(
    ("on_existing", "expected", "runs"),
    [
        ("skip", (0, 5, 10, 0, 0), (1, 1, 1)),
        ("rerun-failed", (5, 5, 5, 0, 0), (1, 1, 2)),
        ("rerun", (10, 5, 0, 0, 0), (1, 2, 2)),
        ("fail", (0, 0, 0, 15, 0), (1, 1, 1)),
    ],
)
def test_each_policy_reruns_what_it_says(
    devserver: DevServer, on_existing: str, expected: tuple[int, ...], runs: tuple[int, ...]
) -> None:
    """Of 5 running, 5 completed and 5 terminated workflows each policy starts exactly those it names again."""
    name, queue = chain(), f"q-{uuid.uuid4().hex[:8]}"
    target = Target(devserver.address)

    async def five_of_each() -> None:
        done = HeightRange(5, name, 5, StartOptions(task_queue=queue))
        from capacity.observe.session import launch

        run = await launch(done, target, parallelism=5, with_worker=True)
        assert run.completed == 5

    asyncio.run(five_of_each())
    launched(HeightRange(5, name, 0), devserver.address)
    launched(HeightRange(5, name, 10), devserver.address)
    terminate(devserver.address, [f"{name}:index-block:{height}" for height in range(10, 15)])
    batch = HeightRange(15, name, options=StartOptions(on_existing=on_existing))
    run = launched(batch, devserver.address, verify=False)
    assert outcomes(run) == expected
    assert run.errors == ({"ALREADY_EXISTS": 15} if on_existing == "fail" else {})
    held = runs_by_id(devserver.address, batch.id_prefix, 5 * sum(runs))
    assert [held[batch.workflow_id(i)] for i in range(15)] == [count for count in runs for _ in range(5)]


@pytest.mark.parametrize("on_existing", ["skip", "rerun-failed", "rerun", "fail"])
def test_a_start_whose_note_was_lost_is_recognised_after_its_workflow_has_closed(
    devserver: DevServer, tmp_path: Path, on_existing: str
) -> None:
    """Sent again with the same request id after the workflow ended, a start is ours and is not run a second time."""
    batch = HeightRange(6, chain(), options=StartOptions(on_existing=on_existing))
    path = tmp_path / "j"
    launched(batch, devserver.address, path)
    terminate(devserver.address, [batch.workflow_id(i) for i in range(3)])
    with Journal.open(path) as journal:
        journal.note(np.arange(6), outcome.TO_DO)
    run = launched(batch, devserver.address, path, resume=True)
    assert outcomes(run) == (6, 0, 0, 0, 0)
    assert set(runs_by_id(devserver.address, batch.id_prefix, 6).values()) == {1}


def test_a_workflow_gets_the_input_memo_and_priority_it_was_given(devserver: DevServer) -> None:
    """What the server holds is what was asked for, read back by its own API."""
    batch = HeightRange(1, chain(), 42, StartOptions("Type", "queue-x", memo={"why": "test"}, priority_key=2))
    run = launched(batch, devserver.address)

    async def describe() -> object:
        async with connect(Target(devserver.address)) as connection:
            execution = WorkflowExecution(workflow_id=batch.workflow_id(0))
            request = DescribeWorkflowExecutionRequest(namespace="default", execution=execution)
            return await service.ask(connection, connection.service.DescribeWorkflowExecution, request)

    answer = asyncio.run(describe())
    info = answer.workflow_execution_info  # type: ignore[attr-defined]
    assert (info.type.name, info.task_queue, info.priority.priority_key) == ("Type", "queue-x", 2)
    assert info.memo.fields["why"].data == b'"test"'
    assert info.memo.fields["capacity_run"].data == f'"{run.run_id}"'.encode()
