"""The workflows of a fleet: one hands the ranges of a batch to launchers, one keeps their shares of its controller.

Invariants: an item belongs to exactly one range; a range is to do, handed out or in `outcomes`, and one that came back
unfinished is to do again with what was done of it. Only signals, ranges and their results make history: progress,
shares and heartbeats do not, so that it grows with the ranges and not with the items. What the outcomes of a batch
take grows with how mixed they are; before they outgrow what Temporal takes at once the batch ends, and whoever ordered
it orders the rest.

Nothing is imported here but the SDK and what needs no other package: Temporal's sandbox imports it again for every run.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    TimeoutError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)

from capacity.fleet.buckets import pack_buckets, unpack_buckets

HEARTBEAT_TIMEOUT = 5.0
"""Seconds without a heartbeat after which a launcher counts as lost, and its range goes to another."""
MANY_EVENTS = 8_000
MANY_BYTES = 8_000_000
"""A history of this length or size is continued as new; the server would end one of 51,200 events or 50 MB."""
MANY_OUTCOMES = 768_000
"""Bytes of outcomes with which a batch ends or an order is full; Temporal takes 2 MiB, and what launchers at work did
comes on top."""
MOST_OUTCOMES = 1_900_000
"""More of them are left out of a result: their items are to do again, by the same request ids."""
PER_RANGE = 60
"""Of which a range takes so many beside its outcomes."""
HANDED_OUT = 128
"""Ranges handed out at a time; those that no launcher has taken yet wait on the task queue."""
AGAIN = RetryPolicy(initial_interval=timedelta(seconds=0.2), backoff_coefficient=1.0)
ALWAYS = timedelta(days=3650)
_BATCH = "capacity-batch:"


@dataclass
class Range:
    """Items [first, stop) of a batch; `done` are the outcomes they have already (see `notes.pack`)."""

    first: int
    stop: int
    done: str = ""


@dataclass
class BatchOrder:
    """A batch for a fleet, and how far it is: what a run continued as new begins with.

    Parameters
    ----------
    run_id : str
        The request ids of all attempts begin with it.
    batch : dict
        `Batch.describe()`.
    policy : dict
        `RetryPolicy` as JSON values.
    control : dict
        ``parallelism``, ``rate`` and ``max_in_flight``, as `controller_for` takes them.
    ranges : list of Range
        To do before all that begins at `cursor`.
    cursor, count, size : int
        The next item that no range has had yet, the number of items, the items of a range.
    report : dict
        `Report` of all results so far.
    outcomes : list of Range
        Ranges that came back; the `done` of each has the outcomes of its items.
    paused : bool
    events, outcome_bytes : int
        A history of more events is continued as new; a batch with more bytes of outcomes ends.
    namespace : str
        Where its workflows are started; that of the launchers' target where an order of an older version has none.
    """

    run_id: str
    batch: dict[str, Any]
    policy: dict[str, Any]
    control: dict[str, Any]
    count: int
    size: int
    cursor: int = 0
    ranges: list[Range] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    outcomes: list[Range] = field(default_factory=list)
    paused: bool = False
    events: int = MANY_EVENTS
    outcome_bytes: int = MANY_OUTCOMES
    namespace: str = ""


@dataclass
class RangeOrder:
    """One range for one launcher."""

    run_id: str
    batch: dict[str, Any]
    policy: dict[str, Any]
    conductor: str
    range: Range
    namespace: str = ""


@dataclass
class RangeDone:
    """What became of a range; `left` items of it have no outcome."""

    done: str
    left: int
    report: dict[str, Any]
    error: str = ""


@dataclass
class BatchDone:
    """What became of a batch; an item that is in none of the outcomes is to do."""

    report: dict[str, Any]
    outcomes: list[Range]
    stopped: bool = False
    error: str = ""
    paused: bool = False


@dataclass
class Standing:
    """A batch as it stands: results so far, and which ranges are under way (their activity ids)."""

    state: str
    report: dict[str, Any]
    running: list[str]


def add_reports(total: dict[str, Any], more: dict[str, Any]) -> None:
    """Add one report to another, as `Report.add` does, without numpy.

    >>> total = {"attempts": 2, "codes": {"1": 2}}
    >>> add_reports(total, {"attempts": 1, "codes": {"1": 1, "3": 4}})
    >>> total
    {'attempts': 3, 'codes': {'1': 3, '3': 4}}
    """
    for key, value in more.items():
        if key == "buckets":
            buckets = unpack_buckets(total.get(key, ""))
            for index, n in unpack_buckets(value).items():
                buckets[index] = buckets.get(index, 0) + n
            total[key] = pack_buckets(buckets)
        elif isinstance(value, dict):
            mine = total.setdefault(key, {})
            for name, n in value.items():
                mine[name] = mine.get(name, 0) + n
        elif key in ("latency_max", "rss_bytes"):
            total[key] = max(total.get(key, 0), value)
        elif key in ("in_flight", "limit", "away"):
            total[key] = 0  # of a moment that is over
        elif key == "first_start":
            total[key] = total.get(key) or value
        else:
            total[key] = total.get(key, 0) + value


def bytes_of(item: Range) -> int:
    """Return what a range and its outcomes take in a payload."""
    return PER_RANGE + len(item.done)


@workflow.defn(name="LaunchBatch")
class LaunchBatch:
    """Hands out the ranges of a batch until all of them are done, it is told to stop, or its outcomes take too much."""

    @workflow.init
    def __init__(self, order: BatchOrder) -> None:
        self._order = order
        self._report = order.report
        self._outcomes: dict[int, Range] = {}
        self._outcome_bytes = 0
        for one in order.outcomes:
            self._keep(one)
        self._to_do = list(order.ranges)
        self._cursor = order.cursor
        self._running: dict[str, asyncio.Task[None]] = {}
        self._handed_out = 0
        self._paused = order.paused
        self._stopped = False
        self._error = ""
        self._conductor = f"capacity-conduct:{workflow.info().first_execution_run_id}"

    @workflow.run
    async def run(self, order: BatchOrder) -> BatchDone:
        with contextlib.suppress(WorkflowAlreadyStartedError):  # it outlives what is continued as new
            await workflow.start_child_workflow(
                "ConductBatch",
                args=[workflow.info().workflow_id, order.control],
                id=self._conductor,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            )
        while not self._ending() and (self._more() or self._running):
            if self._paused or self._long():
                await self._recall()
                if self._long() and not self._ending():
                    workflow.continue_as_new(self._state())
                await workflow.wait_condition(lambda: not self._paused or self._ending())
                continue
            while len(self._running) < HANDED_OUT and (item := self._next()):
                self._hand_out(item)
            before = len(self._running)
            await workflow.wait_condition(
                lambda: len(self._running) < before or self._paused or self._ending()  # noqa: B023
            )
        await self._recall()
        return BatchDone(self._report, self._fitting(), self._stopped, self._error, self._paused)

    def _fitting(self) -> list[Range]:
        room, outcomes = MOST_OUTCOMES, []
        for item in self._outcomes.values():
            if bytes_of(item) <= room:
                outcomes.append(item)
                room -= bytes_of(item)
        return outcomes

    def _more(self) -> bool:
        return bool(self._to_do) or self._cursor < self._order.count

    def _ending(self) -> bool:
        return self._stopped or bool(self._error) or self._outcome_bytes > self._order.outcome_bytes

    def _long(self) -> bool:
        info = workflow.info()
        return info.get_current_history_length() > self._order.events or info.get_current_history_size() > MANY_BYTES

    def _next(self) -> Range | None:
        if self._to_do:
            return self._to_do.pop(0)
        first = self._cursor
        if first >= self._order.count:
            return None
        self._cursor = min(first + self._order.size, self._order.count)
        return Range(first, self._cursor)

    def _hand_out(self, item: Range) -> None:
        self._handed_out += 1
        name = f"{item.first}-{item.stop}.{self._handed_out}"
        self._running[name] = asyncio.create_task(self._launch(name, item))

    async def _launch(self, name: str, item: Range) -> None:
        order = self._order
        try:
            done: RangeDone = await workflow.execute_activity(
                "launch_range",
                RangeOrder(order.run_id, order.batch, order.policy, self._conductor, item, order.namespace),
                activity_id=name,
                task_queue=f"{workflow.info().task_queue}-ranges",
                result_type=RangeDone,
                start_to_close_timeout=ALWAYS,
                heartbeat_timeout=timedelta(seconds=HEARTBEAT_TIMEOUT),
                retry_policy=AGAIN,
                cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            )
        except (ActivityError, asyncio.CancelledError) as error:
            self._came_back_without(item, error)
        else:
            self._came_back(item, done)
        finally:
            del self._running[name]

    def _came_back(self, item: Range, done: RangeDone) -> None:
        add_reports(self._report, done.report)
        item = Range(item.first, item.stop, done.done)
        self._keep(item)
        if done.left:
            self._to_do.append(item)
        self._error = self._error or done.error

    def _came_back_without(self, item: Range, error: BaseException) -> None:
        """Put a range back that was recalled before a launcher took it, or whose launcher is lost for good."""
        cause = getattr(error, "cause", None)
        if isinstance(cause, TimeoutError) and len(cause.last_heartbeat_details) == 3:
            _, packed, report = cause.last_heartbeat_details
            add_reports(self._report, report)
            item = Range(item.first, item.stop, packed)
            self._keep(item)
        elif isinstance(cause, ApplicationError) and not is_cancelled_exception(error):
            self._error = self._error or cause.message
        self._to_do.append(item)

    def _keep(self, item: Range) -> None:
        before = self._outcomes.get(item.first)
        self._outcome_bytes += bytes_of(item) - (bytes_of(before) if before else 0)
        self._outcomes[item.first] = item

    async def _recall(self) -> None:
        """Have every launcher drain; what they did comes back with them."""
        for task in self._running.values():
            task.cancel()
        await workflow.wait_condition(lambda: not self._running)

    def _state(self) -> BatchOrder:
        return replace(
            self._order,
            cursor=self._cursor,
            ranges=self._to_do,
            report=self._report,
            outcomes=list(self._outcomes.values()),
            paused=self._paused,
        )

    @workflow.signal
    def pause(self) -> None:
        """Have the launchers drain and wait."""
        self._paused = True

    @workflow.signal
    def resume(self) -> None:
        """Go on after a pause."""
        self._paused = False

    @workflow.signal
    def stop(self) -> None:
        """End the batch once what is in flight is answered."""
        self._stopped = True

    @workflow.query
    def standing(self) -> Standing:
        """Return how far the batch is."""
        state = "stopping" if self._stopped else "paused" if self._paused else "running"
        return Standing(state, self._report, list(self._running))


def batch_id(run_id: str) -> str:
    """Return the id of a batch's workflow.

    >>> run_id_of(batch_id("r-1")), run_id_of("r-1")
    ('r-1', 'r-1')
    """
    return f"{_BATCH}{run_id}"


def run_id_of(workflow_id: str) -> str:
    """Return the run id of a batch by that of its workflow, or as it is."""
    return workflow_id.removeprefix(_BATCH)


@workflow.defn(name="ConductBatch")
class ConductBatch:
    """Keeps one activity alive that shares the batch's controller out; it ends with the batch."""

    @workflow.run
    async def run(self, workflow_id: str, control: dict[str, Any]) -> None:
        await workflow.execute_activity(
            "conduct_batch",
            args=[workflow_id, control],
            activity_id="conduct",
            start_to_close_timeout=ALWAYS,
            heartbeat_timeout=timedelta(seconds=HEARTBEAT_TIMEOUT),
            retry_policy=AGAIN,
        )
