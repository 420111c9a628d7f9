"""The fleet's workflow itself, on a real server, with launchers that are done in no time."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from capacity.cluster.devserver import DevServer
from capacity.fleet import workflow
from capacity.fleet.looking import look
from capacity.fleet.notes import pack, unpack
from capacity.fleet.workflow import (
    HANDED_OUT,
    BatchDone,
    BatchOrder,
    ConductBatch,
    LaunchBatch,
    Range,
    RangeDone,
    RangeOrder,
)
from capacity.launcher import outcome
from capacity.model.fleet_simulation import range_size

pytestmark = pytest.mark.devserver
BEAT = timedelta(seconds=0.2)
Launch = Callable[[RangeOrder], Awaitable[RangeDone]]


def done(order: RangeOrder, upto: int | None = None) -> RangeDone:
    """The items of a range up to one of them are started by this attempt."""
    count = order.range.stop - order.range.first
    codes = unpack(order.range.done, count)
    before = int((codes == outcome.STARTED).sum())
    codes[: count if upto is None else upto] = outcome.STARTED
    started = int((codes == outcome.STARTED).sum())
    report = {"codes": {str(outcome.STARTED): started - before}, "attempts": started - before}
    return RangeDone(pack(codes), count - started, report)


async def instantly(order: RangeOrder) -> RangeDone:
    return done(order)


def ran(
    server: DevServer,
    order: BatchOrder,
    launch: Launch,
    steer: Callable[[WorkflowHandle[Any, Any]], Awaitable[None]] | None = None,
) -> tuple[BatchDone, list[tuple[str, int]]]:
    """Run the workflow with such launchers: its result, and (id, events) of each of its runs."""

    @activity.defn(name="launch_range")
    async def launch_range(order: RangeOrder) -> RangeDone:
        return await launch(order)

    @activity.defn(name="conduct_batch")
    async def conduct_batch(workflow_id: str, control: dict[str, Any]) -> None:
        return None

    async def run() -> tuple[BatchDone, list[tuple[str, int]]]:
        client = await Client.connect(server.address)
        queue = f"w-{uuid.uuid4().hex[:8]}"
        batches = Worker(client, task_queue=queue, workflows=[LaunchBatch, ConductBatch], activities=[conduct_batch])
        ranges = Worker(
            client,
            task_queue=f"{queue}-ranges",
            activities=[launch_range],
            max_concurrent_activities=32,
            max_heartbeat_throttle_interval=BEAT,
        )
        async with batches, ranges:
            handle = await client.start_workflow(LaunchBatch.run, order, id=queue, task_queue=queue)
            if steer:
                await steer(handle)
            result = await handle.result()
            runs, run_id = [], handle.first_execution_run_id
            while run_id:
                events = [e async for e in client.get_workflow_handle(queue, run_id=run_id).fetch_history_events()]
                runs.append((run_id, len(events)))
                last = events[-1].workflow_execution_continued_as_new_event_attributes
                run_id = last.new_execution_run_id
        return result, runs

    return asyncio.run(asyncio.wait_for(run(), 300))


def batch(count: int, size: int | None = None, **more: Any) -> BatchOrder:
    return BatchOrder("run", {}, {}, {}, count, size or range_size(count), **more)


def held(result: BatchDone, count: int) -> None:
    """All items are started, each in exactly one range."""
    ranges = sorted(result.outcomes, key=lambda item: item.first)
    assert [item.first for item in ranges] == [0, *(item.stop for item in ranges[:-1])]
    assert ranges[-1].stop == count
    for item in ranges:
        assert set(unpack(item.done, item.stop - item.first)) == {outcome.STARTED}
    assert result.report["codes"] == {str(outcome.STARTED): count}


def test_ten_million_items_make_a_history_of_less_than_ten_thousand_events(devserver: DevServer) -> None:
    """A history grows with the ranges: a thousand for ten million items, three to six events each."""
    result, runs = ran(devserver, batch(10_000_000), instantly)
    held(result, 10_000_000)
    assert len(result.outcomes) == 1000
    assert sum(events for _, events in runs) < 10_000


def test_a_long_history_is_continued_as_new_and_nothing_is_lost(devserver: DevServer) -> None:
    """Continued several times in mid-batch, with ranges recalled unfinished: each item is started, and only once."""
    orders: list[tuple[int, int]] = []

    async def slowly(order: RangeOrder) -> RangeDone:
        orders.append((order.range.first, order.range.stop))
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            return done(order, (order.range.stop - order.range.first) // 2)
        return done(order)

    result, runs = ran(devserver, batch(15_000, 50, events=300), slowly)
    held(result, 15_000)
    assert len(runs) > 2
    assert max(events for _, events in runs) < 300 + 128 * 8, "a run ends soon after it is found long"
    assert len(orders) >= 300


def test_a_batch_ends_before_its_outcomes_outgrow_what_temporal_takes(devserver: DevServer) -> None:
    """It hands out no more, and what it did comes back, also what is under way; the rest can be ordered."""

    async def in_turn(order: RangeOrder) -> RangeDone:
        await asyncio.sleep(order.range.first / 200)
        return done(order)

    result, runs = ran(devserver, batch(100_000, 10, outcome_bytes=200), in_turn)
    assert (len(runs), result.stopped, result.error) == (1, False, "")
    assert 4 <= len(result.outcomes) < HANDED_OUT, "4 ranges of 62 bytes are more than 200"
    assert result.report["codes"] == {str(outcome.STARTED): 10 * len(result.outcomes)}


def test_a_result_is_never_more_than_temporal_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What many launchers at work bring back on top may be too much: those items are to do again, by the same ids."""
    monkeypatch.setattr(workflow, "MOST_OUTCOMES", 200)
    batch = LaunchBatch.__new__(LaunchBatch)
    batch._outcomes = {n: Range(n, n + 1, done) for n, done in enumerate(["=1", "x" * 100, "=1", "=1"])}
    assert [item.first for item in batch._fitting()] == [0, 2, 3]


def test_a_range_that_comes_back_unfinished_is_handed_out_with_what_is_done(devserver: DevServer) -> None:
    """A launcher that shuts down returns a part; the next one gets the rest, with the outcomes so far."""
    seen: list[int] = []

    async def in_parts(order: RangeOrder) -> RangeDone:
        already = int((unpack(order.range.done, 10) == outcome.STARTED).sum())
        seen.append(already)
        return done(order, min(already + 4, 10))

    result, _ = ran(devserver, batch(10, 10), in_parts)
    held(result, 10)
    assert seen == [0, 4, 8]


def test_a_launcher_that_fails_is_replaced_and_a_hopeless_batch_ends(devserver: DevServer) -> None:
    """An error in passing is tried again; one that no launcher can mend ends the batch with its words."""
    failed: list[int] = []

    seen: list[str] = []

    async def flaky(order: RangeOrder) -> RangeDone:
        if order.range.first not in failed or not seen:
            failed.append(order.range.first)
            raise RuntimeError("a disk is full")
        return done(order)

    async def look_on(handle: WorkflowHandle[Any, Any]) -> None:
        client = await Client.connect(devserver.address)
        while not seen:
            found = await look(client, handle)
            seen.extend(found.failing if found else [])
            await asyncio.sleep(0.1)

    result, _ = ran(devserver, batch(60, 20), flaky, look_on)
    held(result, 60)
    assert set(failed) == {0, 20, 40}
    assert "a disk is full" in seen[0], "whoever looks on sees why nothing goes on"

    async def hopeless(order: RangeOrder) -> RangeDone:
        raise ApplicationError("host-1: items file x has changed", non_retryable=True)

    ended, _ = ran(devserver, batch(60, 20), hopeless)
    assert ended.error == "host-1: items file x has changed"
    assert ended.outcomes == []


def test_a_batch_is_stopped_with_what_is_in_flight_drained(devserver: DevServer) -> None:
    """Stopped, it asks every launcher back and keeps what they did; ranges nobody had taken stay to do."""
    begun = asyncio.Event()

    async def waits(order: RangeOrder) -> RangeDone:
        begun.set()
        try:
            while True:
                activity.heartbeat()  # by its answer a launcher learns that it is asked back
                await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            return done(order, 3)

    async def stop(handle: WorkflowHandle[Any, Any]) -> None:
        await begun.wait()
        await handle.signal(LaunchBatch.stop)

    result, _ = ran(devserver, batch(1000, 10), waits, stop)
    assert result.stopped
    started = result.report["codes"][str(outcome.STARTED)]
    assert 3 <= started <= 32 * 3
    assert started % 3 == 0


def test_a_stop_while_a_long_history_is_recalled_is_not_lost(devserver: DevServer) -> None:
    """A run that is about to be continued as new ends there: the next run would know nothing of the stop."""
    begun, recalled, told = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def drains(order: RangeOrder) -> RangeDone:
        if order.range.first < 100:
            await begun.wait()
            return done(order)
        begun.set()
        try:
            while True:
                activity.heartbeat()
                await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            recalled.set()
            await told.wait()
            return done(order, 3)

    async def stop(handle: WorkflowHandle[Any, Any]) -> None:
        await recalled.wait()
        await handle.signal(LaunchBatch.stop)
        told.set()

    result, runs = ran(devserver, batch(1000, 10, events=50), drains, stop)
    assert (result.stopped, len(runs)) == (True, 1)
    assert 0 < result.report["codes"][str(outcome.STARTED)] < 1000
