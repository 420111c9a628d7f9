"""Several launcher processes of one machine on a real dev server: exact whatever happens to one of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import deque
from pathlib import Path
from unittest import mock

import psutil
import pytest
from fake_frontend import FakeFrontend
from real_server import HASTY, launched, runs_by_id, wait_for

from capacity.cluster.devserver import DevServer
from capacity.cluster.target import Target
from capacity.errors import ClusterError, UsageError
from capacity.fleet import Fleet
from capacity.fleet.launcher import Launcher
from capacity.fleet.processes import Processes
from capacity.launcher import outcome
from capacity.launcher.batch import HeightRange
from capacity.launcher.controller import Fixed
from capacity.launcher.header import Header
from capacity.launcher.journal import Journal
from capacity.launcher.progress import STOPPED, Progress, Result
from capacity.observe.run import Run
from capacity.observe.session import launch

pytestmark = pytest.mark.devserver
CHILD = "capacity.fleet.child"


def named() -> str:
    return f"f{uuid.uuid4().hex[:8]}"


def launchers(parent: int) -> list[psutil.Process]:
    """The launcher processes that a process has started and that are still there."""
    found = []
    for child in psutil.Process(parent).children():
        with contextlib.suppress(psutil.Error):
            if CHILD in child.cmdline():
                found.append(child)
    return found


def test_two_processes_launch_one_batch(devserver: DevServer, tmp_path: Path) -> None:
    """One result, one journal: counts, latencies and the record are those of a batch, costs those of all processes."""
    name = named()
    run = launched(HeightRange(600, name), devserver.address, tmp_path / "j", processes=2, parallelism=6)
    assert (run.scheduled, run.failed, run.not_attempted, run.verified) == (600, 0, 0, 600)
    assert run.attempts == 600
    assert run.latencies().count == 600
    assert sum(sample.starts for sample in run.series) == 600
    assert (run.processes, len(run.process_rss_bytes_max), run.parallelism) == (2, 2, 6)
    assert min(run.process_rss_bytes_max) > 20 * 2**20
    assert run.rss_bytes_max > sum(run.process_rss_bytes_max)
    assert Journal.peek(tmp_path / "j") == {outcome.STARTED: 600}
    vitals = [sample.launcher for sample in run.vitals if sample.launcher]
    assert max(one.rss_bytes for one in vitals) > run.process_rss_bytes_max[0] * 2
    assert launchers(os.getpid()) == []


def test_killed_processes_are_replaced_and_their_items_are_started_once(
    devserver: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL for one launcher process, then for all four at once: every id has one run, and the record says so."""
    start, name = Processes._start, named()
    killed: list[int] = []
    ready: list[Processes] = []

    async def noted(processes: Processes) -> None:
        await start(processes)
        ready.append(processes)

    def watch(progress: Progress) -> None:
        for before, share, count in ((0, 0.1, 1), (1, 0.4, 4)):
            if len(killed) == before and progress.done > share * progress.count and len(ready) == 4 + before:
                killed.extend(ready[0].pids[:count])
                for pid in ready[0].pids[:count]:
                    os.kill(pid, signal.SIGKILL)

    monkeypatch.setattr(Processes, "_start", noted)
    batch = HeightRange(1000, name)
    run = launched(batch, devserver.address, processes=4, parallelism=4, on_progress=watch)
    assert len(killed) == 5
    assert (run.scheduled, run.failed, run.not_attempted, run.verified) == (1000, 0, 0, 1000)
    assert any("5 launcher processes died" in warning for warning in run.warnings), (run.warnings, killed)
    held = runs_by_id(devserver.address, f"{name}:index-block:", 1000)
    assert (len(held), set(held.values())) == (1000, {1})


def test_while_a_process_is_replaced_the_others_go_on(devserver: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may read its items for minutes: meanwhile all that is in flight is the other's, and progress is told."""
    start, begun, killed = Processes._start, [], []
    told: list[Progress] = []
    found: list[list[int]] = []

    async def slow_third(processes: Processes) -> None:
        begun.append(1)
        if len(begun) > 2:
            at_least, deadline = told[-1].done + 100, time.monotonic() + 60
            while told[-1].done < at_least:
                assert time.monotonic() < deadline, "progress stands still"
                await asyncio.sleep(0.05)
            found.append([one.share.limit for one in processes._launchers])
        await start(processes)

    def watch(progress: Progress) -> None:
        told.append(progress)
        if progress.done > 100 and not killed:
            killed.append(launchers(os.getpid())[0])
            killed[-1].kill()

    monkeypatch.setattr(Processes, "_start", slow_third)
    run = launched(HeightRange(800, named()), devserver.address, processes=2, parallelism=8, on_progress=watch)
    assert (run.scheduled, run.verified, len(begun)) == (800, 800, 3)
    assert found == [[8]]


def test_a_process_that_cannot_be_replaced_ends_the_launch_with_its_record(
    devserver: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no other process begins, what was started stands in the record, with the reason and the rest to do."""
    start, begun, killed = Processes._start, [], []

    async def no_third(processes: Processes) -> Launcher:
        begun.append(1)
        if len(begun) > 2:
            raise OSError("no memory is left")
        return await start(processes)

    def watch(progress: Progress) -> None:
        if progress.done > 100 and not killed:
            killed.append(launchers(os.getpid())[0])
            killed[-1].kill()

    monkeypatch.setattr(Processes, "_start", no_third)
    run = launched(HeightRange(1000, named()), devserver.address, processes=2, on_progress=watch)
    assert "no other begins in its place: no memory is left" in str(run.error)
    assert run.stopped == "launcher processes die"
    assert 100 < run.scheduled < 1000
    assert run.scheduled + run.not_attempted == 1000


def test_an_interrupted_batch_is_drained_and_goes_on_with_another_number(devserver: DevServer, tmp_path: Path) -> None:
    """Stopped with three processes, resumed with one: the journal is the same, nothing is started twice."""
    name = named()

    async def interrupted() -> Run:
        stop = asyncio.Event()

        def watch(progress: Progress) -> None:
            if progress.done > 120:
                stop.set()

        options = {"parallelism": 6, "processes": 3, "policy": HASTY, "stop": stop, "on_progress": watch}
        from capacity.observe.session import Journaling

        journaling = Journaling(tmp_path / "j")
        return await launch(HeightRange(1500, name), Target(devserver.address), journaling=journaling, **options)

    first = asyncio.run(interrupted())
    assert first.interrupted
    assert 120 < first.scheduled < 1500
    assert first.attempts == first.scheduled, "what was in flight was answered and noted"
    second = launched(HeightRange(1500, name), devserver.address, tmp_path / "j", resume=True, parallelism=16)
    assert (second.scheduled, second.verified) == (1500, 1500)
    assert second.session_scheduled == 1500 - first.scheduled


def test_children_of_a_killed_launch_end_and_what_they_noted_stays(devserver: DevServer, tmp_path: Path) -> None:
    """After SIGKILL for the parent no launcher process goes on; resumed, the batch is complete and exact."""
    name, journal = named(), tmp_path / "j"
    command = [sys.executable, "-m", "capacity", "launch", "--count", "1000", "--chain-id", name, "--parallelism", "6"]
    command += ["--processes", "2", "--address", devserver.address, "--journal", str(journal)]
    parent = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: journal.exists() and Journal.peek(journal).get(outcome.STARTED, 0) > 100)
    children = launchers(parent.pid)
    assert len(children) == 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    time.sleep(0.2)
    noted = Journal.peek(journal)[outcome.STARTED]
    done = subprocess.run([*command, "--resume", "--json"], capture_output=True, check=True)
    run = json.loads(done.stdout)
    assert (run["scheduled"], run["verified"], run["session_scheduled"]) == (1000, 1000, 1000 - noted)
    held = runs_by_id(devserver.address, f"{name}:index-block:", 1000)
    assert (len(held), set(held.values())) == (1000, {1})


def test_a_batch_no_item_of_which_can_succeed_ends_in_one_line(state_folder: str) -> None:
    """What one process finds hopeless ends the launch of all, with the server's reason."""

    async def refused() -> Run:
        async with FakeFrontend({item: ["denied"] for item in range(200)}).serving() as frontend:
            options = {"processes": 2, "parallelism": 4, "verify": False, "vitals": False}
            return await launch(HeightRange(200), Target(frontend.address), **options)

    run = asyncio.run(refused())
    assert "PERMISSION_DENIED" in (run.error or "")
    assert (run.scheduled, run.failed, run.not_attempted) == (0, 0, 200)
    assert launchers(os.getpid()) == []


def test_the_seconds_of_a_batch_end_with_its_last_answer(devserver: DevServer, tmp_path: Path) -> None:
    """The time the processes take to end is not the batch's: otherwise a short one looks slow."""
    slow = 2.0
    ended: list[float] = []
    end = Launcher.end

    async def late(launcher: Launcher) -> None:
        await asyncio.sleep(slow)
        ended.append(slow)
        await end(launcher)

    began = time.monotonic()
    with mock.patch.object(Launcher, "end", late):
        run = launched(HeightRange(100, named()), devserver.address, tmp_path / "j", processes=2, parallelism=4)
    assert (run.scheduled, len(ended)) == (100, 2)
    assert run.duration_seconds < time.monotonic() - began - 2 * slow
    assert max(sample.at for sample in run.series) == pytest.approx(run.duration_seconds, abs=0.1)
    assert sum(sample.starts for sample in run.series) == 100


def test_a_launcher_is_idle_only_when_it_has_done_all_it_was_given() -> None:
    """A range that is on its way while its launcher says that it is done is not forgotten."""
    journal = Journal.in_memory(Header("", "run", 100))
    fleet = Processes(HeightRange(100), Target("127.0.0.1:1"), Fixed(2), journal, processes=1)
    launcher = Launcher(mock.MagicMock())
    fleet._launchers = [launcher]
    fleet._feed(launcher)
    fleet._heard(launcher, {"idle": 0})
    assert not fleet._all_done()
    fleet._heard(launcher, {"idle": 1})
    assert fleet._all_done()


def test_processes_that_do_not_begin_tell_no_progress() -> None:
    """No clock was started: the launch would be said to have lasted since the machine began."""
    told: list[Progress] = []
    with Journal.in_memory(Header("", "run", 100)) as journal:
        fleet = Processes(
            HeightRange(100), Target("127.0.0.1:1"), Fixed(2), journal, processes=2, on_progress=told.append
        )
        with (
            mock.patch.object(Launcher, "start", side_effect=ClusterError("a launcher process did not begin")),
            pytest.raises(ClusterError, match="did not begin"),
        ):
            asyncio.run(fleet.run(asyncio.Event()))
    assert told == []


def test_an_interrupt_does_not_wait_for_processes_that_begin() -> None:
    """They read their items first, for minutes perhaps: the one that is ready is ended, the other is not awaited."""
    ready = mock.MagicMock(gone=False, seen=None, in_flight=0, idle=True, away=False, ranges=deque(), waiting=0)
    ended = []

    async def end() -> None:
        ended.append(ready)

    ready.end = end
    begun = []

    async def start(*_: object) -> mock.MagicMock:
        begun.append(1)
        if len(begun) > 1:
            try:
                await asyncio.sleep(3600)
            finally:
                ended.append("reading")
        return ready

    async def run() -> Result:
        drain = asyncio.Event()
        asyncio.get_running_loop().call_later(0.3, drain.set)
        ready.tell = lambda _: setattr(ready, "gone", True)
        fleet = Processes(HeightRange(100), Target("127.0.0.1:1"), Fixed(2), journal, processes=2)
        return await asyncio.wait_for(fleet.run(drain), 20)

    journal = Journal.in_memory(Header("", "run", 100))
    with mock.patch.object(Launcher, "start", start):
        result = asyncio.run(run())
    assert (result.stopped, result.attempts, result.counts.done) == (STOPPED, 0, 0)
    assert ended == ["reading", ready]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"processes": 0}, "processes is 0; allowed: 1 to 64"),
        ({"processes": 65}, "processes is 65; allowed: 1 to 64"),
        ({"processes": 2, "fleet": Fleet("x")}, "processes and fleet exclude each other"),
    ],
)
def test_numbers_of_processes_that_make_no_sense_are_refused(options: dict[str, object], words: str) -> None:
    """Refused before anything is dialled: nothing listens at port 1."""
    with pytest.raises(UsageError) as refused:
        asyncio.run(launch(HeightRange(10), Target("127.0.0.1:1"), **options))  # type: ignore[arg-type]
    assert words in str(refused.value)
