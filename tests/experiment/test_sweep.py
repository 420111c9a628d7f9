"""Sweeps of real clusters: the embedded server, an existing one, PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from capacity.cluster import devserver as embedded
from capacity.cluster.devserver import DevServer
from capacity.cluster.target import Target
from capacity.errors import CapacityError, ClusterError, GuardRefusalError, UsageError
from capacity.experiment import memory as memory_of_launches
from capacity.experiment import points, subject
from capacity.experiment.blocks import Comparing
from capacity.experiment.extras import measure_extras
from capacity.experiment.local import LocalCluster
from capacity.experiment.points import Starts, Taken, measure
from capacity.experiment.setting import setting_of
from capacity.experiment.sweep import Sweep, save
from capacity.experiment.wanted import Wanted
from capacity.model.measurement import Flag, Measurements, Point


def programs() -> set[int]:
    """Pids of servers and databases that this process started."""
    names = ("temporal", "temporal-server", "postgres")
    return {child.pid for child in psutil.Process().children(recursive=True) if child.name() in names}


@pytest.fixture(autouse=True)
def _own_state(state_folder: str) -> None:
    """Journals and clusters go to a folder of the test's own."""


@pytest.mark.devserver
def test_points_of_an_embedded_server(devserver: DevServer, state_folder: str) -> None:
    """A server of the sweep's own is measured, its CPU told, and nothing of it is left."""
    before, told = programs(), list[Point]()
    wanted = Wanted([1, 8], seconds=2, repeats=1, holdout=[4], extras=False, note="short", seed=3)
    swept = Sweep(wanted, on_point=told.append).run()
    taken = swept.measurements.points
    assert (swept.error, swept.stopped, swept.left) == (None, False, 0)
    assert list(taken) == told
    assert {(point.parallelism, point.holdout) for point in taken} == {(1, False), (8, False), (4, True)}
    for point in taken:
        assert point.flag is None
        assert point.throughput * point.mean == pytest.approx(point.parallelism, rel=0.2)
        assert point.starts == pytest.approx(point.throughput * point.seconds)
        assert 0 < point.p50 <= point.p99
        assert point.launcher_cpu is not None
        assert point.server_cpu is not None
        assert 0 < point.launcher_cpu < point.server_cpu
        assert point.server_cpu * point.throughput <= (os.cpu_count() or 1) * 1.05
        assert point.database_cpu is None
    held = [point.open_workflows for point in sorted(taken, key=lambda point: point.order)]
    assert held[0] == 0
    assert held == sorted(set(held))
    conditions = swept.measurements.conditions
    assert (conditions.store, conditions.shards, conditions.max_conns, conditions.fresh) == ("sqlite", 1, 1, "round")
    assert conditions.cluster_cpus == len(os.sched_getaffinity(0))
    assert conditions.launcher_shares_cpus
    assert conditions.dynamic_config["frontend.rps"] == "1000000"
    assert conditions.server_version.startswith("1.")
    assert (swept.measurements.note, swept.measurements.seed) == ("short", 3)
    assert programs() == before
    assert not [path for path in Path(state_folder).rglob("*") if path.is_file()]


@pytest.mark.devserver
def test_a_server_with_a_low_cap_is_said_to_be_throttled(devserver: DevServer) -> None:
    """A point outlasts the token bucket's burst, tells the cap, its cause and scope, and is left out of a fit."""
    with embedded.running(dynamic_config={"frontend.namespaceRPS": "40"}) as capped:
        taken = asyncio.run(measure(Target(capped.address), 8, 5.0, prefix="capped"))
    assert taken.point is not None
    assert taken.point.flag is Flag.THROTTLED
    assert (taken.point.throttle_cause, taken.point.throttle_scope) == ("RPS_LIMIT", "NAMESPACE")
    assert taken.point.throttled > 0
    assert taken.point.throughput == pytest.approx(40, rel=0.15)


@pytest.mark.devserver
def test_a_sweep_that_is_stopped_keeps_its_points(devserver: DevServer) -> None:
    """The point under way is dropped, those before are there."""
    told: list[Point] = []
    wanted = Wanted([1, 2, 4], seconds=1, repeats=2, store=None, target=Target(devserver.address), extras=False)
    swept = Sweep(wanted, on_point=told.append, stop=lambda: len(told) == 2).run()
    assert swept.stopped
    assert swept.measurements.points == tuple(told)
    assert len(told) == 2
    assert swept.left >= sum(point.starts for point in told)
    assert swept.measurements.conditions.fresh == "no"


@pytest.mark.devserver
def test_a_cap_on_starts_ends_a_sweep_with_its_points(devserver: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """CAPACITY_MAX_STARTS is never exceeded; what was measured before is kept and the reason told."""
    target, told = Target(devserver.address), list[Point]()

    def cap(point: Point) -> None:
        if not told:  # more than a point takes with its warm-up, less than all points take
            monkeypatch.setenv("CAPACITY_MAX_STARTS", str(5 * point.starts))
        told.append(point)

    swept = Sweep(Wanted([1, 2], seconds=1, repeats=5, store=None, target=target, extras=False), on_point=cap).run()
    assert isinstance(swept.error, GuardRefusalError)
    assert "CAPACITY_MAX_STARTS" in str(swept.error)
    assert swept.measurements.points == tuple(told)
    assert swept.left <= int(os.environ["CAPACITY_MAX_STARTS"])


@pytest.mark.devserver
def test_store_times_and_memory_of_an_existing_server(devserver: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dev server's page and a launcher's record give holds, requests per start and memory, whatever key is set."""
    monkeypatch.setattr(memory_of_launches, "SECONDS", 1.5)
    monkeypatch.setenv("TEMPORAL_API_KEY", "of another server")
    target, said = Target(devserver.address), list[str]()
    swept = Sweep(Wanted([2], seconds=2, repeats=1, store=None, target=target), say=said.append).run()
    times, memory = swept.measurements.times, swept.measurements.memory
    assert times is not None
    assert times.shard_hold is not None
    assert times.mean is not None
    assert 0 < times.shard_hold < times.mean  # what holds the shard is part of the answer's way
    assert times.connection_hold is None  # of SQLite's only one the wait cannot be told apart
    assert 1 <= times.persistence_requests["history"] < 30
    assert memory is not None
    assert memory.base > 20 << 20
    assert 0 <= memory.per_in_flight < 1 << 20
    assert memory.per_item == pytest.approx(1.0, abs=0.5)
    assert swept.measurements.storage is None


def test_memory_that_is_not_measured_is_said(state_folder: str) -> None:
    """A target with a key is not launched at by a process of its own, and the reason is told."""
    said: list[str] = []
    target = Target("127.0.0.1:1", api_key="s3cret")

    def memory() -> object:
        return memory_of_launches.launcher_memory(target, LocalCluster("sqlite"), "m", lambda _: None)

    assert "memory" not in measure_extras(
        LocalCluster("sqlite"), lambda *_: Taken(None, 0, ""), memory, said.append, bool
    )
    assert said == ["memory not measured: the target has TLS, a key or headers, which no process of its own is given"]


def test_an_interrupt_waits_for_what_cleans_up() -> None:
    """A signal that comes while a cluster is ended is not lost, and comes once it is gone."""
    done: list[str] = []

    def clean_up() -> None:
        with subject._uninterrupted():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            done.append("cleaned up")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process of the background may ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            clean_up()
        assert done == ["cleaned up"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("store", "names"),
    [
        pytest.param("sqlite", {"temporal"}, marks=pytest.mark.devserver),
        pytest.param("postgres", {"temporal-server", "postgres"}, marks=pytest.mark.stack),
    ],
)
def test_a_cluster_ends_with_a_command_that_is_killed(
    store: str, names: set[str], request: pytest.FixtureRequest, state_folder: str
) -> None:
    """Not even SIGKILL of a command leaves the servers it started, or their data."""
    request.getfixturevalue("devserver" if store == "sqlite" else "stack_programs")
    words = ("soak", "--minutes", "9", "--batch", "5", "--store", store)
    quiet = subprocess.DEVNULL
    command = subprocess.Popen([sys.executable, "-m", "capacity", *words], stdout=quiet, stderr=quiet)
    serving: list[psutil.Process] = []
    try:
        while {each.name() for each in serving} != names and command.poll() is None:
            time.sleep(0.1)
            with contextlib.suppress(psutil.NoSuchProcess):
                serving = [each for each in psutil.Process(command.pid).children(recursive=True) if listens(each)]
    finally:
        command.kill()
        command.wait()
    assert {each.name() for each in serving} == names
    _, left = psutil.wait_procs(serving, timeout=60)
    assert left == []
    while any(each.name.startswith(".sweep") for each in Path(state_folder).iterdir()):
        time.sleep(0.1)  # its end is up to the test's own timeout


def test_data_that_are_being_made_end_with_a_command_that_is_killed(tmp_path: Path, state_folder: str) -> None:
    """SIGKILL while PostgreSQL's data are made, which root has outside the state folder, leaves none of them."""
    data = tmp_path / "roots"
    killed = f"""
import os, pathlib, signal
from capacity.cluster import stack
from capacity.experiment.subject import subject
from capacity.experiment.wanted import Wanted

def make(*_):
    stack._make_reachable(stack.data_folder())
    (stack.data_folder() / "pgdata").mkdir()
    os.kill(os.getpid(), signal.SIGKILL)

stack.data_folder, stack.running = lambda: pathlib.Path({str(data)!r}), make
subject(Wanted([1], store="postgres"), print).__enter__()
"""
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == -signal.SIGKILL
    while any(each.name.startswith(".sweep") for each in Path(state_folder).iterdir()):
        time.sleep(0.1)  # its end is up to the test's own timeout
    assert not data.exists()


def listens(process: psutil.Process) -> bool:
    try:
        return any(each.status == psutil.CONN_LISTEN for each in process.net_connections())
    except psutil.Error:
        return False


@pytest.mark.devserver
def test_a_server_that_dies_during_a_sweep(devserver: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The points before its end are kept, and the reason is told."""
    monkeypatch.setattr(points, "PATIENCE", 1.0)
    with embedded.running(dynamic_config={}) as server:
        wanted = Wanted([2], seconds=1, repeats=3, store=None, target=Target(server.address), extras=False)
        swept = Sweep(wanted, on_point=lambda _: os.kill(server.pid, signal.SIGKILL)).run()
    assert len(swept.measurements.points) == 1
    assert isinstance(swept.error, ClusterError)
    assert server.address in str(swept.error) or "no server answered" in str(swept.error)
    assert not swept.stopped


@pytest.mark.parametrize("error", [ClusterError("no server answers any more"), OSError(28, "No space left on device")])
def test_what_a_load_that_fails_had_started_is_told(
    monkeypatch: pytest.MonkeyPatch, state_folder: str, error: Exception
) -> None:
    """It stays on the cluster like that of the loads before it; the points before it are kept, whatever ended them."""
    taken = Taken(
        Point(parallelism=2, seconds=1.0, starts=50, throughput=50.0, mean=0.04, p50=0.04, p99=0.1), 60, "1.0"
    )

    def after(runs: int) -> Callable[..., Awaitable[Taken]]:
        async def measure(*_: Any, starts: Starts, **__: Any) -> Taken:
            nonlocal runs
            starts.made, runs = 60, runs - 1
            if runs < 0:
                starts.made = 7
                raise error
            return taken

        return measure

    wanted = Wanted([2], seconds=1, store=None, target=Target("127.0.0.1:1"), cluster_cores=2, extras=False)
    monkeypatch.setattr(points, "measure", after(1))
    swept = Sweep(wanted).run()
    assert (len(swept.measurements.points), swept.left) == (1, 67)
    assert str(error.args[-1]) in str(swept.error)
    monkeypatch.setattr(points, "measure", after(0))
    told: list[str] = []
    with pytest.raises(CapacityError):
        Sweep(wanted, say=told.append).run()
    assert any("7 workflows stay open" in words for words in told)
    monkeypatch.setattr(points, "measure", after(3))
    compared = Comparing(wanted, setting_of("2"), setting_of("4"), 2).run()
    assert (len(compared.blocks), compared.left) == (1, 187)


def test_a_server_that_is_not_there(state_folder: str) -> None:
    """Without a first point there is nothing to keep: the error is the whole result."""
    wanted = Wanted([1], seconds=1, store=None, target=Target("127.0.0.1:1"), cluster_cores=2, extras=False)
    with pytest.raises(ClusterError, match=r"no server listens at 127\.0\.0\.1:1"):
        Sweep(wanted).run()


def test_a_cluster_whose_cpus_cannot_be_seen_must_say_them(state_folder: str) -> None:
    """A prediction for other CPUs needs theirs: it is asked for before anything is sent to whoever listens there."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        wanted = Wanted([1], seconds=1, store=None, target=Target(address), extras=False)
        with pytest.raises(UsageError, match="--cluster-cores"):
            Sweep(wanted).run()
        connection, _ = listening.accept()
        with connection:
            assert connection.recv(1) == b""


def test_measurements_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """What is saved loads back; what cannot be written is one clear line and leaves nothing."""
    path = tmp_path / "new" / "m.json"
    measurements = Measurements.model_validate(
        {"conditions": {"cluster_cpus": 2, "launcher_shares_cpus": True}, "points": (), "note": "n"}
    )
    save(measurements, path)
    assert Measurements.model_validate_json(path.read_text()) == measurements
    assert [each.name for each in path.parent.iterdir()] == ["m.json"]
    with pytest.raises(UsageError, match=r"^out .*new"):
        save(measurements, tmp_path / "new")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["new"]


@pytest.mark.stack
@pytest.mark.timeout(300)  # a busy machine takes a minute to make the stack
def test_postgres_with_storage_and_the_cpu_of_both(
    stack_programs: None, state_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stack of the sweep's own: CPU of server and database apart, bytes and statements per start, nothing left."""
    from capacity.experiment import extras, sweep

    monkeypatch.setattr(extras, "STORAGE_STARTS", 600)
    monkeypatch.setattr(sweep, "launcher_memory", lambda *_: None)  # takes long, and has a test of its own
    before = programs()
    cpu = min(os.sched_getaffinity(0))
    wanted = Wanted([4], seconds=3, repeats=1, store="postgres", shards=8, cluster_cpus=frozenset({cpu}))
    swept = Sweep(wanted).run()
    (point,) = swept.measurements.points
    assert point.server_cpu is not None
    assert point.database_cpu is not None
    assert 0.0005 < point.database_cpu < 0.05
    assert 0.0005 < point.server_cpu < 0.05
    assert (point.server_cpu + point.database_cpu) * point.throughput <= 1.05
    conditions = swept.measurements.conditions
    assert (conditions.store, conditions.shards, conditions.max_conns, conditions.cluster_cpus) == (
        "postgres",
        8,
        40,
        1,
    )
    assert conditions.launcher_shares_cpus == (os.cpu_count() == 1)
    assert conditions.database_version
    storage, times = swept.measurements.storage, swept.measurements.times
    assert storage is not None
    assert storage.starts == 600
    assert 2_000 < storage.main < 12_000
    assert 12_000 < storage.visibility < 40_000
    assert storage.wal is not None
    assert storage.wal > storage.main
    assert storage.visibility_indexes is not None
    assert storage.visibility_indexes > 50
    assert "executions_visibility" in storage.statements[0].query
    assert sum(statement.share for statement in storage.statements) <= 1 + 1e-9
    assert times is not None
    assert times.shard_hold is not None
    assert times.connection_hold is not None
    assert times.mean is not None
    assert 0 < times.shard_hold < times.connection_hold
    assert times.starts >= 30
    assert programs() == before
    assert not (Path(state_folder) / "postgres").exists()
    assert not [path for path in Path(state_folder).iterdir() if path.name.startswith(".")]
