"""One launch from the guard to the record, on a real server."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

import pytest

from capacity.cli.launching import exit_code
from capacity.cluster.devserver import DevServer
from capacity.cluster.target import Target
from capacity.errors import ClusterError, GuardRefusalError, InterruptedRunError, JournalError, UsageError
from capacity.launcher import service
from capacity.launcher.batch import HeightRange, StartOptions
from capacity.launcher.header import Header
from capacity.launcher.progress import Progress
from capacity.launcher.retries import RetryPolicy
from capacity.launcher.spawn import Spawned
from capacity.observe.run import STOPPED_WAITING, Run
from capacity.observe.session import Journaling, launch, runs_folder

pytestmark = pytest.mark.devserver
PATIENT = RetryPolicy(attempts=30)


@pytest.fixture(autouse=True)
def _own_state(state_folder: str) -> None:
    """Journals and records go to a folder of the test's own."""


def a_batch(count: int = 40) -> HeightRange:
    return HeightRange(count, f"s{uuid4().hex[:8]}")


def a_queue() -> StartOptions:
    """Of the test's own: on that of the others a worker would first have to complete all that they left."""
    return StartOptions(task_queue=f"q-{uuid4().hex[:8]}")


def launched(batch: HeightRange, server: DevServer, **options: Any) -> Run:
    options = {"parallelism": 4, "policy": PATIENT} | options
    return asyncio.run(launch(batch, Target(server.address), **options))


def stopped_early(batch: HeightRange, server: DevServer, **options: Any) -> Run:
    """Launch, and stop once something is started."""
    stop = asyncio.Event()

    def watch(progress: Progress) -> None:
        if progress.started:
            stop.set()

    return launched(batch, server, stop=stop, on_progress=watch, **options)


def test_journal_and_record_are_kept_where_nothing_was_asked(devserver: DevServer) -> None:
    """A launch leaves a journal and a record named after it in the state folder, and the record loads back."""
    run = launched(a_batch(), devserver)
    assert run.journal == str(runs_folder() / f"{run.run_id}.journal")
    assert Header.read(Path(run.journal)).run_id == run.run_id
    assert Run.load(runs_folder() / f"{run.run_id}.json") == run


def test_a_stopped_launch_is_resumed_from_the_newest_journal_of_its_batch(devserver: DevServer) -> None:
    """Without a path, resume finds this batch's journal; outcomes are of all sessions, rates of the last."""
    batch = a_batch(600)
    first = stopped_early(batch, devserver)
    assert first.interrupted
    assert 0 < first.scheduled < 600
    assert first.scheduled + first.not_attempted == 600
    launched(a_batch(5), devserver)
    told: list[Progress] = []
    options: dict[str, Any] = {"parallelism": 8, "on_progress": told.append}
    second = launched(batch, devserver, journaling=Journaling(resume=True), **options)
    assert {progress.done_before for progress in told} == {first.scheduled}, "their time is no part of this session's"
    assert (second.run_id, second.journal) == (first.run_id, first.journal)
    assert (second.scheduled, second.not_attempted, second.verified) == (600, 0, 600)
    assert second.session_scheduled == 600 - first.scheduled
    assert second.starts_per_second * second.duration_seconds == pytest.approx(second.session_scheduled)
    assert second.latencies().count == second.session_scheduled


def test_resuming_what_was_never_launched_is_refused(devserver: DevServer) -> None:
    """Without a journal of this batch the refusal says so, instead of starting it anew."""
    with pytest.raises(JournalError, match=r"no journal in .* belongs to this batch"):
        launched(a_batch(), devserver, journaling=Journaling(resume=True))


def test_resuming_a_finished_batch_starts_nothing(devserver: DevServer) -> None:
    """A journal with nothing left to do costs no attempt, and the batch is still verified."""
    batch = a_batch()
    launched(batch, devserver)
    again = launched(batch, devserver, journaling=Journaling(resume=True))
    assert (again.attempts, again.session_scheduled, again.starts_per_second) == (0, 0, 0.0)
    assert (again.scheduled, again.verified, again.complete) == (40, 40, True)


@pytest.mark.parametrize("left", [160, 0])
def test_a_clock_set_right_between_two_sessions_loses_no_item(devserver: DevServer, left: int) -> None:
    """A first session an hour ahead of the server's clock: all that it started is found when it is taken up again.

    Whether the second one starts something, which tells the clock of now, or nothing at all.
    """
    batch = a_batch(40 + left)
    ahead = partial(Header, created=time.time() + 3600)
    with mock.patch("capacity.observe.session.Header", ahead):
        first = (stopped_early if left else launched)(batch, devserver, verify=False)
    again = launched(batch, devserver, journaling=Journaling(resume=True), parallelism=16)
    assert 0 < first.scheduled <= again.scheduled
    assert (again.scheduled, again.verified, again.warnings) == (40 + left, 40 + left, [])


def test_the_count_is_the_servers(devserver: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch whose journal says 40 but of which the server holds 39 is not verified and not complete."""
    from capacity.launcher.cleaning import clean, of_run
    from capacity.launcher.transport import connect

    batch = a_batch()
    run = launched(batch, devserver)
    assert run.verification() == "verified 40 of 40"

    async def delete_one() -> None:
        async with connect(Target(devserver.address)) as connection:
            query = f"WorkflowId = '{batch.workflow_id(7)}'"
            await clean(connection, [found async for found in of_run(connection, query, run.run_id)], delete=True)
            while await service.count(connection, query):
                await asyncio.sleep(0.05)

    asyncio.run(delete_one())
    monkeypatch.setattr(service, "settle", partial(service.settle, patience=0.5))
    again = launched(batch, devserver, journaling=Journaling(resume=True))
    assert again.verification() == "verified 39 of 40"
    assert not again.complete


def test_the_wait_for_completion_ends_with_an_interrupt(devserver: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workflows that never complete hold nobody: the first interrupt ends the wait, what was counted stays."""
    stop = asyncio.Event()

    async def never(*_: Any, on_count: Any, **__: Any) -> int:
        on_count(40, 0)
        await asyncio.Event().wait()
        return 40

    def watch(progress: Progress) -> None:
        if progress.state.startswith("waiting for"):
            stop.set()

    monkeypatch.setattr(service, "completed", never)
    run = launched(replace(a_batch(), options=a_queue()), devserver, with_worker=True, stop=stop, on_progress=watch)
    assert (run.scheduled, run.verified, run.completed, run.stopped) == (40, 40, None, STOPPED_WAITING)
    with pytest.raises(InterruptedRunError):
        exit_code(run)


def test_runs_of_another_launch_are_not_counted_as_completed(
    devserver: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the server holds more with such ids than were started, no more than these have completed."""
    settle = service.settle

    async def more(*words: Any) -> int:
        return await settle(*words) + 7

    monkeypatch.setattr(service, "settle", more)
    run = launched(replace(a_batch(), options=a_queue()), devserver, with_worker=True)
    assert (run.verified, run.completed, run.complete) == (40, 40, True)
    assert any("7 more runs" in warning for warning in run.warnings)


def test_unverified_says_so(devserver: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server was not asked for its count the record claims none; a look-alike of the override is named."""
    monkeypatch.setenv("SCHEDULER_BATCH_MAX_PARALLELISM", "64")
    run = launched(a_batch(), devserver, verify=False)
    assert run.verified is None
    assert run.verification() == "not verified: the server was not asked"
    assert any("SCHEDULER_BATCH_MAX_PARALLELISM is set, but only" in warning for warning in run.warnings)
    assert run.complete


def test_the_record_says_how_it_was_controlled_and_what_it_cost(devserver: DevServer) -> None:
    """Parallelism, controller, CPU, memory, latency and series are those of the run."""
    run = launched(a_batch(60), devserver, parallelism=3)
    assert (run.parallelism, run.controller.limit) == (3, 3)
    assert "3 in flight: parallelism 3" in run.controller.asked
    assert run.cpu_seconds > 0
    assert run.rss_bytes_max > 10 << 20
    latency = run.latency_seconds
    assert 0 < (latency.p50 or 0) <= (latency.p90 or 0) <= (latency.p99 or 0) <= (latency.max or 0)
    assert sum(sample.starts for sample in run.series) == 60
    assert run.attempts == 60 + sum(run.retries.values())


def test_progress_is_told_at_ticks_and_ends_with_the_final_counts(devserver: DevServer) -> None:
    """Progress never counts backwards, comes at most ten times a second, and the last one is the record's."""
    told: list[Progress] = []
    run = launched(a_batch(200), devserver, on_progress=told.append)
    assert [p.done for p in told] == sorted(p.done for p in told)
    assert all(p.done + p.not_attempted == 200 for p in told)
    assert (told[-1].state, told[-1].done) == ("done", 200)
    assert len([p for p in told if p.state == "running"]) <= run.duration_seconds / 0.1 + 1


def test_a_target_that_is_no_dev_cluster_is_refused_before_it_is_dialled(state_folder: str) -> None:
    """The guard comes first: no connection, no journal."""
    with pytest.raises(GuardRefusalError, match=r"10\.255\.255\.1:7233"):
        asyncio.run(launch(a_batch(), Target("10.255.255.1:7233")))
    assert not list(Path(state_folder).rglob("*.journal"))


def test_a_launch_that_cannot_begin_leaves_no_journal(devserver: DevServer, state_folder: str) -> None:
    """Where its metrics cannot be served or its worker does not start, there is nothing to resume."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        with pytest.raises(UsageError, match="metrics port"):
            launched(a_batch(), devserver, metrics_port=holder.getsockname()[1])
    with (
        mock.patch.object(Spawned, "start", side_effect=ClusterError("the worker did not start")),
        pytest.raises(ClusterError, match="worker"),
    ):
        launched(replace(a_batch(), options=a_queue()), devserver, with_worker=True)
    assert not list(Path(state_folder).rglob("*.journal"))


def test_a_batch_over_the_cap_is_refused(devserver: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """CAPACITY_MAX_STARTS caps a launch, by count, before anything is started."""
    monkeypatch.setenv("CAPACITY_MAX_STARTS", "39")
    with pytest.raises(UsageError, match="39"):
        launched(a_batch(40), devserver)
    assert launched(a_batch(39), devserver).complete


def test_a_rate_is_kept(devserver: DevServer) -> None:
    """In the open loop starts are due on schedule: 30 at 20/s take no less than the schedule needs."""
    run = launched(a_batch(30), devserver, parallelism=None, rate=20.0)
    assert run.duration_seconds >= 29 / 20
    assert run.starts_per_second <= 30 / (29 / 20)


def test_another_target_does_not_share_the_journal(devserver: DevServer, tmp_path: Path) -> None:
    """The journal of a batch on one address is refused for the same batch on another."""
    batch, path = a_batch(), tmp_path / "j"
    launched(batch, devserver, journaling=Journaling(path))
    port = devserver.address.partition(":")[2]
    other = replace(Target(devserver.address), address=f"localhost:{port}")
    with pytest.raises(JournalError, match="belongs to another batch"):
        asyncio.run(launch(batch, other, journaling=Journaling(path, resume=True)))
