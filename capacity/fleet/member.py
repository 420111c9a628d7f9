"""A launcher of a fleet: a worker process that takes ranges of batches, and its share of the work of the workflows.

It is started fresh, takes its target from standard input, so that no secret stands on a command line, and ends with
its standard input: what it has in flight is drained then and its range goes back unfinished.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from capacity.errors import CapacityError, UsageError
from capacity.fleet.child import rss_bytes
from capacity.fleet.conductor import MARGIN, SOON, Beat, conduct, told_shares
from capacity.fleet.notes import RangeNotes
from capacity.fleet.report import Report, Reporter
from capacity.fleet.sharing import Told
from capacity.fleet.workflow import ConductBatch, LaunchBatch, RangeDone, RangeOrder
from capacity.launcher import worker
from capacity.launcher.batch import Batch
from capacity.launcher.controller import Pace
from capacity.launcher.header import Header
from capacity.launcher.progress import Progress
from capacity.launcher.rebuild import read, reading
from capacity.launcher.retries import RetryPolicy
from capacity.launcher.scheduler import Scheduler
from capacity.launcher.tasks import end_tasks
from capacity.launcher.transport import Connection, connect
from capacity.model.fleet_records import STANDARD

BEAT = 1.0
"""Seconds between heartbeats; more in a large fleet, since each is a write to the one workflow of the batch (see
`Machinery.beat`)."""
ASK = 1.0
"""Seconds between looks at its share."""
ASK_WHEN_PACED = 2.0
"""The same in a throttled namespace, which throttles these too."""
KEPT = 8
"""Batches it keeps open, so that those launched at the same time are not read anew for each range."""
DRAIN_WITHIN = timedelta(seconds=20)


@dataclass
class _Part:
    """What a launcher did of a batch over all its ranges, since two of its beats may be of two of them; its share."""

    began: float
    controller: Told
    answered: int = 0
    throttled: int = 0


class Member:
    """The activities of one launcher process."""

    def __init__(self, client: Client, connection: Connection) -> None:
        self._client, self._connection = client, connection
        # Containers of one host may have its name and the same pid.
        self._who = f"{socket.gethostname()}:{os.getpid()}-{os.urandom(2).hex()}"
        self._batches: dict[str, asyncio.Task[Batch]] = {}
        self._parts: dict[str, _Part] = {}
        self._beat = BEAT

    @activity.defn(name="conduct_batch")
    async def conduct_batch(self, workflow_id: str, control: dict[str, Any]) -> None:
        """Share out a batch's controller."""
        ours = activity.info().workflow_id or ""
        await conduct(self._client, workflow_id, control, ours.rpartition(":")[2])

    @activity.defn(name="launch_range")
    async def launch_range(self, order: RangeOrder) -> RangeDone:
        """Launch one range; recalled, it drains and returns what it did."""
        said = activity.info().heartbeat_details  # of a launcher that was lost with it
        packed, before = said[1:] if len(said) == 3 else (order.range.done, None)
        try:
            self._check(order.namespace)
            # While it reads the batch it has nothing to say of its own, and hands on what that launcher had said.
            batch = await self._batch(order.batch, (None, packed, before) if before is not None else ())
            policy, total = RetryPolicy(**order.policy), Report.from_json(before) if before is not None else Report()
            notes = RangeNotes(Header("", order.run_id, batch.count), order.range.first, order.range.stop, packed)
        except (CapacityError, TypeError) as refused:  # tried again it would be no better
            raise ApplicationError(f"{self._who}: {refused}", non_retryable=True) from None
        except asyncio.CancelledError:  # recalled while it read its items
            if before is None:
                raise
            notes = RangeNotes(Header("", order.run_id, order.range.stop), order.range.first, order.range.stop, packed)
            return RangeDone(packed, notes.left, before)
        # Nothing is started before it is told how much; then a range goes on with the share and pace of the last.
        part = self._parts.get(order.conductor) or _Part(time.monotonic(), Told(pace=Pace(MARGIN)))
        self._parts, controller = {order.conductor: part}, part.controller
        reporter = Reporter(notes.tally(), time.perf_counter())
        beat_at = 0.0
        cpu = time.process_time()

        def show(_: Progress) -> None:
            nonlocal beat_at, cpu
            report = reporter.report(scheduler, time.perf_counter())
            report.cpu_seconds, report.rss_bytes = time.process_time() - cpu, rss_bytes()
            cpu = time.process_time()
            total.add(report)
            part.answered += report.answered
            part.throttled += report.throttled
            if time.monotonic() - beat_at >= self._beat:
                beat_at = time.monotonic()
                beat = Beat(
                    self._who,
                    beat_at - part.began,
                    part.answered,
                    part.throttled,
                    total.in_flight,
                    total.limit,
                    total.away,
                    controller.share.limit,
                )
                activity.heartbeat(asdict(beat), notes.pack(), total.to_json())

        scheduler = Scheduler(
            batch,
            self._connection,
            controller,
            notes,
            bodies=batch.bodies(order.run_id, notes.is_done, order.range.first, order.range.stop),
            policy=policy,
            namespace_known=True,
            seed=order.range.first,
            on_progress=show,
        )
        drain = asyncio.Event()
        launching = asyncio.create_task(scheduler.run(drain))
        others = [
            asyncio.create_task(self._follow(order.conductor, controller)),
            asyncio.create_task(_drain_at_shutdown(drain)),
        ]
        try:
            try:
                result = await asyncio.shield(launching)
            except asyncio.CancelledError:
                drain.set()
                result = await launching
        finally:
            await end_tasks(*others)
        error = str(result.error) if result.error and result.stopped != "no server answered" else ""
        return RangeDone(notes.pack(), notes.left, total.to_json(), error)

    def _check(self, namespace: str) -> None:
        """Refuse an order for another namespace than the one this launcher was started for."""
        mine = self._connection.target.namespace
        if namespace not in ("", mine):
            raise UsageError(
                f"it launches into namespace {mine!r}, the batch is for {namespace!r}",
                next_step=f"start its worker with --namespace {namespace}",
            )

    async def _batch(self, description: dict[str, Any], told: Sequence[Any]) -> Batch:
        """Return a batch, read but once; meanwhile the heartbeats tell this."""
        key = json.dumps(description, sort_keys=True)
        if key not in self._batches:
            if len(self._batches) >= KEPT:
                del self._batches[next(iter(self._batches))]
            self._batches[key] = reading(description)
        try:
            return await read(self._batches[key], lambda: activity.heartbeat(*told), BEAT)
        except Exception:  # the file may be there again for the next range
            self._batches.pop(key, None)
            raise

    async def _follow(self, conductor: str, controller: Told) -> None:
        """Keep to the share the conductor gives this launcher; at first look soon, then ever less often."""
        wait = SOON if controller.share.limit == 0 else ASK
        while True:
            given = await told_shares(self._client, conductor)
            if given is not None and self._who in given:
                controller.share = given[self._who]
                self._beat = STANDARD.beat(len(given))
            await asyncio.sleep(wait if controller.pace.rate is None else ASK_WHEN_PACED)
            wait = min(1.5 * wait, ASK)


async def _drain_at_shutdown(drain: asyncio.Event) -> None:
    await activity.wait_for_worker_shutdown()
    drain.set()


async def serve() -> None:
    """Take ranges until standard input ends."""
    target, task_queue = worker.unpack(sys.stdin.buffer.readline())
    own = sys.stdin.buffer.readline().decode().strip()
    client = await worker.sdk_client(replace(target, namespace=own or target.namespace))
    await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    async with connect(target) as connection:
        member = Member(client, connection)
        batches = Worker(
            client,
            task_queue=task_queue,
            workflows=[LaunchBatch, ConductBatch],
            activities=[member.conduct_batch],
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=2),
            max_heartbeat_throttle_interval=timedelta(seconds=SOON),
            default_heartbeat_throttle_interval=timedelta(seconds=SOON),
        )
        ranges = Worker(
            client,
            task_queue=f"{task_queue}-ranges",
            activities=[member.launch_range],
            max_concurrent_activities=1,
            max_heartbeat_throttle_interval=timedelta(seconds=BEAT),
            default_heartbeat_throttle_interval=timedelta(seconds=BEAT),
            graceful_shutdown_timeout=DRAIN_WITHIN,
            disable_eager_activity_execution=True,
        )
        async with batches, ranges:
            print("ready", flush=True)
            await worker.input_ended()


def main() -> None:
    """Serve until standard input ends."""
    worker.to_its_end(serve())


if __name__ == "__main__":
    main()
