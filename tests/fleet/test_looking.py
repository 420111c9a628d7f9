"""Finding a fleet's batches: the right one or none, and a server that is away is not an empty one."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from typing import Any
from unittest import mock

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.taskqueue.v1 import PollerInfo
from temporalio.api.workflowservice.v1 import DescribeTaskQueueResponse, DescribeWorkflowExecutionResponse
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from capacity.cluster.devserver import DevServer
from capacity.cluster.target import Target
from capacity.errors import UsageError
from capacity.fleet import Fleet
from capacity.fleet.client import FleetBatch
from capacity.fleet.conductor import RUNNING, Beat, conduct, forgotten
from capacity.fleet.looking import Seen, find, look, members, pollers
from capacity.fleet.notes import pack
from capacity.fleet.order import Ordering
from capacity.fleet.report import Report
from capacity.fleet.workflow import BatchDone, BatchOrder, LaunchBatch, Range, Standing, batch_id
from capacity.launcher import outcome
from capacity.launcher.batch import HeightRange
from capacity.launcher.controller import OpenLoop
from capacity.launcher.header import Header
from capacity.launcher.journal import Journal
from capacity.launcher.progress import STOPPED, Progress, Result
from capacity.launcher.retries import RetryPolicy
from capacity.launcher.settings import settled

AWAY = RPCError("connection refused", RPCStatusCode.UNAVAILABLE, b"")
GONE = RPCError("workflow not found for ID: x", RPCStatusCode.NOT_FOUND, b"")
STORELESS = RPCError("Namespace default is not found.", RPCStatusCode.NOT_FOUND, b"")


def refusing(error: RPCError) -> mock.MagicMock:
    """A client whose server answers nothing else."""
    client = mock.MagicMock()
    client.get_workflow_handle_for.return_value.describe = mock.AsyncMock(side_effect=error)
    client.workflow_service.describe_workflow_execution = mock.AsyncMock(side_effect=error)
    client.namespace = "default"
    return client


def test_a_server_that_is_away_is_not_one_that_knows_nothing() -> None:
    """Only an answer of the server ends the search for a batch: it may be there all the same."""
    assert [forgotten(error) for error in (AWAY, GONE, STORELESS)] == [False, True, False]
    with pytest.raises(UsageError, match="the fleet knows no batch 'x'"):
        asyncio.run(find(refusing(GONE), "x"))
    with pytest.raises(RPCError, match="connection refused"):
        asyncio.run(find(refusing(AWAY), "x"))


def test_what_an_ended_order_did_is_not_given_up_for_a_hiccup() -> None:
    """A resumed launch orders anew only where no earlier order is known; else its outcomes would be lost."""
    with Journal.in_memory(Header("", "run", 10)) as journal:
        ordering = Ordering(HeightRange(10), Target("127.0.0.1:1"), journal, {}, Fleet(), RetryPolicy())
        asyncio.run(ordering._note_ended(refusing(GONE), batch_id("run")))
        for error in (AWAY, STORELESS):
            with pytest.raises(RPCError):
                asyncio.run(ordering._note_ended(refusing(error), batch_id("run")))


def test_a_launchers_clock_does_not_say_when_a_batch_began() -> None:
    """One that is behind would put the begin after the first starts, and the server's count of it would lack these."""
    with Journal.in_memory(Header("", "run", 10)) as journal:
        launch = FleetBatch(HeightRange(10), Target("127.0.0.1:1"), journal, {}, fleet=Fleet())
        launch._add(Report(first_start=(3, time.time() - 3600)))
        first = launch._result().first_start
    assert first is not None
    assert (first[0], time.time() - first[1] < 60) == (3, True)


def test_what_a_lost_launcher_told_is_noted_though_its_range_was_recalled() -> None:
    """The batch was stopped before another had the range: what of it was started is no item to do, nor uncounted."""
    told = np.array([outcome.STARTED] * 3 + [outcome.TO_DO] * 2, np.uint8)
    with Journal.in_memory(Header("", "run", 10)) as journal:
        launch = FleetBatch(HeightRange(10), Target("127.0.0.1:1"), journal, {}, fleet=Fleet())
        one, two = (Report(codes={outcome.STARTED: 3}, attempts=3, buckets={bucket: 3}) for bucket in (7, 8))
        both = Report()
        for report in (one, two):
            both.add(report)
        last = {
            name: (pack(told), json.loads(json.dumps(report.to_json())))
            for name, report in (("0-5", one), ("5-10", two))
        }
        launch._take(Seen(Standing("running", {}, []), both, [], [], last))
        launch._take(Seen(Standing("running", {}, []), Report(), [], []))  # recalled: no longer under way
        whole = Report(codes={outcome.STARTED: 5}, attempts=5, buckets={8: 5})
        back = Range(5, 10, pack(np.full(5, outcome.STARTED, np.uint8)))
        launch._fetch(BatchDone(json.loads(json.dumps(whole.to_json())), [back], stopped=True))
        assert journal.codes().tolist() == [*told.tolist(), *[outcome.STARTED] * 5]
        result = launch._result()
        assert (result.counts.started, result.attempts, result.latencies.count) == (8, 8, 8)


def test_the_controller_of_a_batch_that_was_deleted_ends() -> None:
    """Nothing is left to be shared out: otherwise its workflow would go on for years."""
    asyncio.run(asyncio.wait_for(conduct(refusing(GONE), "capacity-batch:x", {"parallelism": 2}), 10))


def test_a_conductor_ends_with_the_order_it_conducts() -> None:
    """The rest of a batch is ordered under the same id, with a conductor of its own: two would tell launchers twice."""
    client = mock.MagicMock(namespace="default")
    found = DescribeWorkflowExecutionResponse()
    found.workflow_execution_info.status = RUNNING  # type: ignore[assignment]
    found.workflow_execution_info.first_run_id = "second"
    client.workflow_service.describe_workflow_execution = mock.AsyncMock(return_value=found)
    asyncio.run(asyncio.wait_for(conduct(client, "capacity-batch:x", {"parallelism": 2}, "first"), 10))


@pytest.mark.devserver
def test_a_launcher_that_has_a_range_is_there(devserver: DevServer) -> None:
    """One that reads its items for minutes asks for no other range meanwhile: nobody is told to start a worker."""

    async def there() -> list[tuple[int, int]]:
        client, queue = await Client.connect(devserver.address), f"q-{uuid.uuid4().hex[:8]}"
        seen = [(await members(client, queue), await pollers(client, queue))]
        async with Worker(client, task_queue=queue, workflows=[LaunchBatch]):
            while not await members(client, queue):
                await asyncio.sleep(0.05)
            seen.append((await members(client, queue), await pollers(client, queue)))
        return seen

    assert asyncio.run(asyncio.wait_for(there(), 60)) == [(0, 0), (1, 0)]


def test_a_clock_ahead_of_the_servers_hides_no_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all polls look long past the batch is looked at all the same: its starts, speed and launchers are told."""
    client = mock.MagicMock(namespace="default")
    old = PollerInfo(identity="1@a", last_access_time=Timestamp(seconds=int(time.time() - 5 - 120)))
    client.workflow_service.describe_task_queue = mock.AsyncMock(return_value=DescribeTaskQueueResponse(pollers=[old]))
    answers: list[Seen | None] = [
        None,
        Seen(
            Standing("running", {}, ["0-9.1"]),
            Report(attempts=3),
            [("0-9.1", Beat("a:1", 1, 3, 0, 2, 4, False, 4))],
            [],
        ),
        None,
    ]
    monkeypatch.setattr("capacity.fleet.client.look", mock.AsyncMock(side_effect=answers))
    with Journal.in_memory(Header("f", "r", 10)) as journal:
        said: list[Progress] = []
        launch = FleetBatch(HeightRange(10), Target("127.0.0.1:1"), journal, {}, fleet=Fleet(), on_progress=said.append)
        for _ in answers:
            asyncio.run(launch._look(client, mock.MagicMock()))
    assert [one.state.partition(";")[0] for one in said] == [
        "no launcher asks for work",
        "running",
        "waiting for the fleet's answer",
    ]
    assert launch.launchers_seen == {"a:1"}


@pytest.mark.parametrize("launchers", [[], [("0-9.1", Beat("a:1", 1, 3, 0, 2, 4, False, 4))]])
def test_a_server_that_is_away_is_waited_for(launchers: list[tuple[str, Beat]]) -> None:
    """Whether launchers were seen or not: while the server does not answer, nobody is told to start a worker."""
    client = refusing(AWAY)
    client.workflow_service.describe_task_queue = mock.AsyncMock(side_effect=AWAY)
    with Journal.in_memory(Header("f", "r", 10)) as journal:
        launch = FleetBatch(HeightRange(10), Target("127.0.0.1:1"), journal, {}, fleet=Fleet())
        launch._take(Seen(Standing("running", {}, ["0-9.1"]), Report(), launchers, []))
        asyncio.run(launch._look(client, mock.MagicMock(id="capacity-batch:r")))
    assert launch.progress().state == "waiting for the server"


def test_a_batch_that_nobody_took_up_is_not_asked() -> None:
    """Nobody would answer, and who waits for that cannot be told in time to start a worker."""
    client, handle = mock.MagicMock(namespace="default"), mock.MagicMock(id="capacity-batch:r")
    handle.query = mock.AsyncMock(side_effect=AWAY)
    asked = []
    for events in (2, 5):
        found = DescribeWorkflowExecutionResponse()
        found.workflow_execution_info.history_length = events
        client.workflow_service.describe_workflow_execution = mock.AsyncMock(return_value=found)
        assert asyncio.run(look(client, handle)) is None
        asked.append(handle.query.await_count)
    assert asked == [0, 1]


def test_the_rest_of_a_batch_is_ordered_paused_if_it_was_and_not_after_an_interrupt() -> None:
    """What took too much ended by itself: whoever had paused it did so for good, whoever interrupts wants no more."""
    orders: list[BatchOrder] = []

    async def take(_: Any, order: BatchOrder, **__: Any) -> None:
        orders.append(order)

    async def rest(paused: bool, drain: asyncio.Event | None, error: RPCError | None = None) -> FleetBatch:
        journal.note(np.arange(5), outcome.STARTED)
        launch = FleetBatch(HeightRange(10), Target("127.0.0.1:1"), journal, {}, fleet=Fleet())
        client = mock.MagicMock()
        client.start_workflow = mock.AsyncMock(side_effect=error or take)
        await launch._ordered_rest(client, BatchDone({}, [], paused=paused), drain)
        return launch

    with Journal.in_memory(Header("", "run", 10)) as journal:
        for paused in (False, True):
            asyncio.run(rest(paused, None))
        interrupted = asyncio.Event()
        interrupted.set()
        stopped = asyncio.run(rest(False, interrupted))
        refused = asyncio.run(rest(False, None, RPCError("no", RPCStatusCode.PERMISSION_DENIED, b"")))
        assert [(order.paused, order.ranges[0].first) for order in orders] == [(False, 0), (True, 0)]
        assert (stopped._result().stopped, stopped._result().error) == (STOPPED, None)
        assert refused._result().stopped == "the rest could not be ordered"
        assert "does not take the order: no" in str(refused._result().error)


def ordered(
    journal: Journal, control: dict[str, Any], server: DevServer, queue: str, policy: RetryPolicy | None = None
) -> FleetBatch:
    batch, target, fleet = HeightRange(journal.header.count), Target(server.address), Fleet(task_queue=queue)
    return FleetBatch(batch, target, journal, control, fleet=fleet, policy=policy)


@pytest.mark.devserver
def test_a_batch_that_runs_is_taken_up_as_it_was_ordered(devserver: DevServer) -> None:
    """Resumed with another rate or patience it goes on as at first, and the record says so; else nothing is said."""
    run_id = f"again-{uuid.uuid4().hex[:8]}"

    async def taken_up(journal: Journal) -> list[Result]:
        first, other = settled(OpenLoop(50.0, 9)), settled(OpenLoop(80.0, 9))
        client = await Client.connect(devserver.address)
        handle = await ordered(journal, first, devserver, run_id)._ordering.place(client)
        results = []
        for control, policy in ((first, RetryPolicy()), (other, RetryPolicy()), (first, RetryPolicy(patience=7.0))):
            again = ordered(journal, control, devserver, run_id, policy)
            assert (await again._ordering.place(client)).id == handle.id
            results.append(again._result())
            kept = (again._ordering._control, again._ordering._policy)
            assert kept == (first, RetryPolicy()), "what is left to order in parts, too"
        await handle.terminate()
        return results

    with Journal.in_memory(Header("", run_id, 10)) as journal:
        same, differs, impatient = asyncio.run(asyncio.wait_for(taken_up(journal), 60))
    assert same.warnings == ()
    assert "as it was ordered (rate 50.0):" in differs.warnings[0]
    assert "as it was ordered (patience 300.0):" in impatient.warnings[0]


@pytest.mark.devserver
def test_a_batch_that_is_all_done_is_not_ordered_again(devserver: DevServer) -> None:
    """Resumed once its workers are gone, it would wait for one to do nothing."""
    run_id = f"done-{uuid.uuid4().hex[:8]}"
    with Journal.in_memory(Header("", run_id, 10)) as journal:
        journal.note(np.arange(10), outcome.STARTED)
        result = asyncio.run(asyncio.wait_for(ordered(journal, {}, devserver, run_id).run(), 60))
        assert (result.counts.done, result.session_started, result.stopped, result.error) == (10, 0, "", None)
        with pytest.raises(UsageError, match="knows no batch"):
            asyncio.run(find_by(devserver, run_id))


async def find_by(server: DevServer, run_id: str) -> None:
    await find(await Client.connect(server.address), run_id)


@pytest.mark.devserver
def test_a_batch_that_is_terminated_from_outside_says_so(devserver: DevServer) -> None:
    """Its workflow is gone, so nothing of this order can be fetched: that is the reason given, and all is to do."""
    run_id = f"ended-{uuid.uuid4().hex[:8]}"

    async def launched(journal: Journal) -> Result:
        terminating: list[asyncio.Task[None]] = []

        async def terminate() -> None:
            client = await Client.connect(devserver.address)
            await client.get_workflow_handle(batch_id(run_id)).terminate(reason="by hand")

        def ordered(_: Progress) -> None:
            if not terminating:
                terminating.append(asyncio.create_task(terminate()))

        fleet = Fleet(task_queue=run_id)
        target = Target(devserver.address)
        return await FleetBatch(HeightRange(10), target, journal, {}, fleet=fleet, on_progress=ordered).run()

    with Journal.in_memory(Header("", run_id, 10)) as journal:
        result = asyncio.run(asyncio.wait_for(launched(journal), 60))
    assert (result.stopped, result.counts.done) == ("ended from outside", 0)
    assert "was ended from outside: by hand" in str(result.error)


@pytest.mark.devserver
def test_a_batch_is_steered_only_if_it_is_the_one_that_runs(devserver: DevServer) -> None:
    """Two batches may be two people's: both are named, and neither is ended."""

    async def ordered() -> str:
        client = await Client.connect(devserver.address)
        names = [f"steered-{uuid.uuid4().hex[:8]}" for _ in range(2)]
        order = BatchOrder("run", {}, {}, {}, 10, 10)
        handles = [
            await client.start_workflow(LaunchBatch.run, order, id=batch_id(name), task_queue=name) for name in names
        ]
        try:
            refused = ""
            while not all(name in refused for name in names):  # the listing is a moment behind
                await asyncio.sleep(0.1)
                try:
                    await find(client, None, to_steer=True)
                except UsageError as error:
                    refused = str(error)
            assert (await find(client, names[0], to_steer=True)).id == batch_id(names[0])
            return refused
        finally:
            for handle in handles:
                await handle.terminate()

    assert "batches run in namespace default" in asyncio.run(asyncio.wait_for(ordered(), 60))
