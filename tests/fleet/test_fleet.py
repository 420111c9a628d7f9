"""A fleet on a real dev server: exact whoever is lost, in step with the cluster, and steered by signals."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet_server import Waits, Worker, capacity, register, worker
from real_server import HASTY, runs_by_id, wait_for

from capacity.cluster import devserver as embedded
from capacity.cluster.devserver import DevServer
from capacity.cluster.target import Target
from capacity.fleet import Fleet
from capacity.fleet import order as order_module
from capacity.fleet.order import order_of
from capacity.fleet.workflow import HEARTBEAT_TIMEOUT, BatchOrder, bytes_of
from capacity.launcher import outcome
from capacity.launcher.batch import HeightRange
from capacity.launcher.journal import Journal
from capacity.launcher.progress import Progress
from capacity.observe.run import Run
from capacity.observe.session import Journaling, launch
from tests.conftest import LIMITS

pytestmark = pytest.mark.devserver
AT_80_A_SECOND: dict[str, object] = {"parallelism": None, "rate": 80.0, "max_in_flight": 9}
"""So that a batch lasts as long on any machine."""


@pytest.fixture(scope="module")
def fleet(devserver: DevServer) -> Iterator[Worker]:
    """Two launchers on the shared dev server."""
    with worker(devserver.address, 2) as running:
        running.wait_ready(2)
        yield running


def named() -> str:
    return f"g{uuid.uuid4().hex[:8]}"


def ordered(batch: HeightRange, address: str, journal: Path | None = None, **options: object) -> Run:
    """Have a fleet launch a batch."""
    resume = bool(options.pop("resume", False))
    given = {"parallelism": 8, "policy": HASTY, "fleet": Fleet(), "journaling": Journaling(journal, resume)} | options
    return asyncio.run(asyncio.wait_for(launch(batch, Target(address), **given), 240))  # type: ignore[arg-type]


def exactly(address: str, name: str, count: int) -> None:
    held = runs_by_id(address, f"{name}:index-block:", count)
    assert (len(held), set(held.values())) == (count, {1})


def test_a_fleet_launches_a_batch_and_the_record_is_that_of_one_launcher(
    devserver: DevServer, fleet: Worker, tmp_path: Path
) -> None:
    """Counts, latencies, series and journal add up over ranges and launchers; finished ids are not run again."""
    name = named()
    run = ordered(HeightRange(800, name), devserver.address, tmp_path / "j")
    assert (run.scheduled, run.failed, run.not_attempted, run.verified) == (800, 0, 0, 800)
    assert run.attempts == run.latencies().count == sum(sample.starts for sample in run.series) == 800
    assert run.processes == 2
    assert run.vitals
    assert all(sample.launcher is None and "a fleet's" in sample.missing["launcher"] for sample in run.vitals)
    assert Journal.peek(tmp_path / "j") == {outcome.STARTED: 800}
    exactly(devserver.address, name, 800)
    again = ordered(HeightRange(800, name), devserver.address)
    assert (again.scheduled, again.already_running, again.failed) == (0, 800, 0)


def test_a_fleet_is_paused_goes_on_and_is_cancelled(devserver: DevServer, fleet: Worker, tmp_path: Path) -> None:
    """Paused nothing is started; the status says so; cancelled it ends drained, and resumed it is complete."""
    name, journal, count = named(), tmp_path / "j", 1600  # enough that a command of seconds finds it unfinished
    at: list[int] = []
    seen: list[str] = []
    done: list[Run] = []

    def watch(progress: Progress) -> None:
        at.append(progress.done)
        seen.append(progress.state)

    def go() -> None:
        batch = HeightRange(count, name)
        done.append(ordered(batch, devserver.address, journal, on_progress=watch, **AT_80_A_SECOND))

    where = ("--address", devserver.address)
    launching = threading.Thread(target=go)
    launching.start()
    wait_for(lambda: at and at[-1] > 150, 90)
    assert capacity("fleet", "pause", *where).returncode == 0
    wait_for(lambda: "paused" in seen, 90)
    wait_for(lambda: json.loads(capacity("fleet", "status", *where, "--format", "json").stdout)["in_flight"] == 0, 90)
    status = json.loads(capacity("fleet", "status", *where, "--format", "json").stdout)
    time.sleep(1.5)
    still = json.loads(capacity("fleet", "status", *where, "--format", "json").stdout)
    assert (status["state"], still["done"]) == ("paused", status["done"])
    assert 150 < status["done"] < count
    assert capacity("fleet", "resume", *where).returncode == 0
    wait_for(lambda: at[-1] > status["done"] + 100, 90)
    assert capacity("fleet", "cancel", *where).returncode == 0
    launching.join(120)
    (run,) = done
    assert run.stopped == "stopped by another"
    assert 0 < run.not_attempted < count
    assert run.attempts == run.scheduled
    refused = capacity("fleet", "pause", *where)
    assert (refused.returncode, "has ended" in refused.stderr) == (2, True)
    second = ordered(HeightRange(count, name), devserver.address, journal, resume=True, parallelism=16)
    assert (second.scheduled, second.verified, second.session_scheduled) == (count, count, run.not_attempted)
    exactly(devserver.address, name, count)


def test_two_interrupts_at_once_end_the_batch_on_the_fleet_too(devserver: DevServer, fleet: Worker) -> None:
    """Both within one look: the launch leaves at once, and the fleet has been told to stop before it does."""
    stop, abort = asyncio.Event(), asyncio.Event()

    def watch(progress: Progress) -> None:
        if progress.done > 50:
            stop.set()
            abort.set()

    batch = HeightRange(2000, named())
    run = ordered(batch, devserver.address, on_progress=watch, stop=stop, abort=abort, **AT_80_A_SECOND)
    assert (run.stopped, run.error) == ("stopped at once by the user", None)
    wait_for(lambda: "has ended" in capacity("fleet", "pause", "--address", devserver.address).stderr, 60)
    assert run.not_attempted > 0


def test_a_batch_whose_outcomes_take_too_much_is_ordered_in_parts(
    devserver: DevServer, fleet: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tens of millions of mixed outcomes are more than a payload holds; the record is that of one batch."""
    orders: list[BatchOrder] = []

    def small(*args: Any) -> BatchOrder:
        orders.append(order_of(*args, outcome_bytes=60))
        return orders[-1]

    monkeypatch.setattr(order_module, "order_of", small)
    name = named()
    run = ordered(HeightRange(2_100, name), devserver.address)
    assert len(orders) >= 2
    assert all(sum(map(bytes_of, order.ranges[:-1])) <= 60 for order in orders), "one more is where it is full"
    assert (run.scheduled, run.session_scheduled, run.verified, run.failed, run.stopped) == (2_100, 2_100, 2_100, 0, "")
    assert run.attempts == run.latencies().count == 2_100
    exactly(devserver.address, name, 2_100)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_whoever_ordered_a_batch_may_die_and_come_back(
    devserver: DevServer, fleet: Worker, tmp_path: Path, number: signal.Signals
) -> None:
    """Killed, or its terminal gone: the fleet goes on, and a resumed launch gets the whole result."""
    name, journal = named(), tmp_path / "j"
    command = [sys.executable, "-m", "capacity", "launch", "--fleet", "--count", "700", "--chain-id", name]
    command += ["--rate", "80", "--max-in-flight", "9", "--address", devserver.address, "--json"]
    command += ["--journal", str(journal)]
    ordering = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert ordering.stderr is not None
    for line in ordering.stderr:
        if " of 700" in line and not line.startswith("0 "):
            break
    ordering.send_signal(number)
    assert ordering.wait(30) == -number
    ordering.stderr.close()
    assert Journal.peek(journal) == {outcome.TO_DO: 700}
    back = subprocess.run([*command, "--resume"], capture_output=True, text=True)
    run = json.loads(back.stdout)
    assert (run["scheduled"], run["failed"], run["not_attempted"], run["verified"]) == (700, 0, 0, 700)
    exactly(devserver.address, name, 700)


def test_without_a_worker_the_launch_says_so_and_goes_on_when_one_comes(devserver: DevServer) -> None:
    """Within 10 s it tells which command starts one; the batch then runs without being ordered again."""
    name, queue, said = named(), f"q-{uuid.uuid4().hex[:8]}", threading.Event()
    states: list[str] = []

    def watch(progress: Progress) -> None:
        states.append(progress.state)
        if "capacity fleet worker" in progress.state:
            said.set()

    done: list[Run] = []
    launching = threading.Thread(
        target=lambda: done.append(
            ordered(HeightRange(150, name), devserver.address, fleet=Fleet(queue), on_progress=watch)
        )
    )
    launching.start()
    assert said.wait(10)
    command = f"capacity fleet worker --address {devserver.address} --fleet-queue {queue}"
    assert any(state.endswith(command) for state in states)
    with worker(devserver.address, 1, "--fleet-queue", queue):
        launching.join(120)
    assert (done[0].scheduled, done[0].verified) == (150, 150)


def test_a_fleet_in_a_namespace_that_is_not_there_says_so_and_ends(devserver: DevServer) -> None:
    """Its launchers would be ready and take nothing, for ever: the command ends with the server's reason instead."""
    done = capacity("fleet", "worker", "--address", devserver.address, "--fleet-namespace", "nowhere")
    assert done.returncode == 1
    assert "does not stay" in done.stderr
    assert "nowhere" in done.stderr


def test_launchers_that_are_killed_lose_nothing(devserver: DevServer) -> None:
    """A launcher is killed every few seconds and its worker starts another: every id has exactly one run.

    No range waits for longer than the heartbeat timeout and 5 s until another launcher has it. The next launcher is
    spared until something was done, for on a slow machine nothing may have been in those few seconds.
    """
    name, queue, over = named(), f"q-{uuid.uuid4().hex[:8]}", threading.Event()
    done = 0
    killed: list[int] = []

    def watch(progress: Progress) -> None:
        nonlocal done
        done = progress.done

    def kill(fleet: Worker) -> None:
        since = 0
        while not over.wait(4.0 if killed else 0.1):
            with contextlib.suppress(IndexError):
                if done > since + 100:
                    victim = fleet.launchers()[0]
                    victim.kill()
                    killed.append(victim.pid)
                    since = done

    with worker(devserver.address, 3, "--fleet-queue", queue) as fleet, Waits(devserver.address, Fleet(queue)) as waits:
        fleet.wait_ready(3)
        killing = threading.Thread(target=kill, args=(fleet,))
        killing.start()
        try:
            batch = HeightRange(900, name)
            run = ordered(batch, devserver.address, fleet=Fleet(queue), on_progress=watch, **AT_80_A_SECOND)
        finally:
            over.set()
            killing.join()
        wait_for(lambda: len(fleet.launchers()) == 3, 60)
    assert len(killed) >= 2
    assert (run.scheduled, run.failed, run.not_attempted, run.verified) == (900, 0, 0, 900)
    assert run.processes >= 3
    assert waits.looks > 0
    assert waits.longest <= HEARTBEAT_TIMEOUT + 5
    exactly(devserver.address, name, 900)


def test_a_server_that_restarts_in_mid_batch_costs_no_item(devserver: DevServer, tmp_path: Path) -> None:
    """Killed and started again on the same file, the server gets the rest of the batch; no id has two runs."""
    name, database, went_on = named(), tmp_path / "temporal.db", threading.Event()
    done: list[Run] = []
    at: list[int] = [0]

    def watch(progress: Progress) -> None:
        at[0] = progress.done
        if progress.done > 120:
            went_on.set()

    with contextlib.ExitStack() as servers:
        server = servers.enter_context(embedded.running(dynamic_config=LIMITS, database=database))
        with worker(server.address, 2) as fleet:
            fleet.wait_ready(2)
            launching = threading.Thread(
                target=lambda: done.append(
                    ordered(HeightRange(700, name), server.address, on_progress=watch, **AT_80_A_SECOND)
                )
            )
            launching.start()
            assert went_on.wait(90)
            servers.close()
            time.sleep(2)
            port = int(server.address.rpartition(":")[2])
            again = servers.enter_context(embedded.running(port=port, dynamic_config=LIMITS, database=database))
            assert again.address == server.address
            launching.join(200)
        assert done, f"stands at {at[0]}"
        assert (done[0].scheduled, done[0].failed, done[0].not_attempted) == (700, 0, 0)
        exactly(again.address, name, 700)


def test_a_throttled_namespace_is_not_asked_for_more_by_a_fleet() -> None:
    """Four launchers in auto against 50/s: nothing is lost, and together they get what is allowed, refused little.

    How near they come is measured at 200/s by `benchmarks/fleet.py throttled`, and simulated in `test_pacing.py`: a
    quarter of 50/s is few starts a second for a launcher to learn from.

    The fleet's own workflows are in a namespace of their own: in the throttled one they would be refused first.
    """
    name = named()
    with embedded.running(dynamic_config={**LIMITS, "frontend.namespaceRPS": "50"}) as server:
        register(server.address, "fleet")
        with worker(server.address, 4, "--fleet-namespace", "fleet") as fleet:
            fleet.wait_ready(4)
            run = ordered(HeightRange(2800, name), server.address, parallelism="auto", fleet=Fleet(namespace="fleet"))
    assert (run.scheduled, run.failed, run.not_attempted) == (2800, 0, 0)
    assert (run.throttle_cause, run.throttle_scope) == ("RPS_LIMIT", "NAMESPACE")
    refused = next(sample.at for sample in run.series if sample.throttled)  # from here on the burst is used up
    # Not the end either: launchers without a range have left, and the others hear of their shares seconds later.
    steady = [sample for sample in run.series if sample.at > refused + 8][:-12]
    assert len(steady) > 30  # of fewer, what a burst gives or a pause between two ranges takes is too large a part
    rate = sum(sample.starts for sample in steady) / sum(sample.seconds for sample in steady)
    throttled = sum(sample.throttled for sample in steady)
    assert 0.85 * 50 <= rate <= 1.05 * 50
    assert throttled <= 0.1 * sum(sample.starts for sample in steady)
