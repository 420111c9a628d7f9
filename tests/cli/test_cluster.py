"""`capacity cluster` as a user meets it: another process, its output and its exit code."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from capacity.cluster import devserver, processes

from .conftest import Command

pytestmark = pytest.mark.devserver

Result = subprocess.CompletedProcess[str]
Cluster = Callable[..., Result]
COMMAND = [sys.executable, "-c", "import sys; from capacity.cli import main; main(sys.argv[1:])", "cluster"]


@pytest.fixture
def program(require: Callable[[bool, str], None]) -> None:
    """The embedded server's program is here."""
    try:
        devserver.find_binary()
    except Exception:
        require(False, "temporal program")


@pytest.fixture
def cluster(state_folder: str, program: None) -> Iterator[Cluster]:
    """Runs ``capacity cluster ...`` on a state folder of its own and ends what is left."""

    def run(*arguments: str) -> Result:
        return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=120)

    yield run
    run("down")


def _state(folder: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((Path(folder) / "cluster.json").read_text())
    return found


def _one_line(result: Result) -> str:
    assert result.stderr.count("\n") == 1, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


def test_up_status_down(cluster: Cluster, state_folder: str) -> None:
    """A cluster comes up, is seen healthy from another shell, and goes without leaving a process."""
    assert cluster("up", "--port", "0").returncode == 0
    seen = cluster("status", "--format", "json")
    status = json.loads(seen.stdout)
    (component,) = status["components"]
    assert (seen.returncode, status["up"], component["health"]) == (0, True, "SERVING")
    born = processes.created(component["pid"])
    assert str(component["ports"]["frontend"]) in cluster("status").stdout
    assert cluster("down").returncode == 0
    assert not processes.alive(component["pid"], born)
    assert not (Path(state_folder) / "cluster.json").exists()


def test_up_twice_is_said_and_is_fine(cluster: Cluster, state_folder: str) -> None:
    """The second ``up`` finds the first one's server; with other settings it is misuse and changes nothing."""
    cluster("up", "--port", "0", "--dynamic-config", "frontend.rps=100000")
    before = _state(state_folder)
    again = cluster("up", "--port", "0", "--dynamic-config", "frontend.rps=100000")
    assert again.returncode == 0
    assert "already up" in again.stderr
    other = cluster("up", "--dynamic-config", "frontend.rps=5")
    assert other.returncode == 2
    assert "other settings" in _one_line(other)
    assert _state(state_folder) == before


def test_a_taken_port_is_refused_with_its_holder(cluster: Cluster) -> None:
    """The error names who listens there and the way out."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        result = cluster("up", "--port", str(port))
    assert result.returncode == 1
    assert f"port {port} is in use by pid {os.getpid()}" in _one_line(result)
    assert "--port 0" in result.stderr


def test_a_server_that_was_killed_is_said_and_replaced(cluster: Cluster, state_folder: str) -> None:
    """A stale record is not taken for a cluster: status fails, up says so and starts a new one."""
    cluster("up", "--port", "0")
    os.kill(_pid(state_folder), signal.SIGKILL)
    stale = cluster("status")
    assert stale.returncode == 1
    assert "ended" in stale.stdout
    again = cluster("up", "--port", "0")
    assert again.returncode == 0
    assert "ended by itself; cleaning up" in again.stderr
    assert cluster("status").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_up_ended_half_way_leaves_nothing(number: signal.Signals, cluster: Cluster, state_folder: str) -> None:
    """Killed between the server's start and its readiness, ``up`` or the next command cleans up."""
    starting = subprocess.Popen([*COMMAND, "up", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not (Path(state_folder) / "cluster.json").exists():
        assert starting.poll() is None
    pid = _pid(state_folder)
    born = processes.created(pid)
    starting.send_signal(number)
    starting.communicate(timeout=60)
    cluster("down")
    assert not processes.alive(pid, born)
    assert not (Path(state_folder) / "cluster.json").exists()


def test_a_damaged_state_file_is_one_line(cluster: Cluster, state_folder: str) -> None:
    """The file is named; nothing is guessed from it."""
    path = Path(state_folder) / "cluster.json"
    path.write_text('{"schema": 1, "components": [')
    for command in ("status", "up", "down"):
        result = cluster(command)
        assert result.returncode == 1
        assert str(path) in _one_line(result)
    path.unlink()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_run_ends_its_server_when_interrupted(number: signal.Signals, cluster: Cluster, state_folder: str) -> None:
    """In the foreground Ctrl-C (or SIGTERM, or SIGHUP) is the ordinary end: exit 0, no process left."""
    foreground = subprocess.Popen([*COMMAND, "run", "--port", "0"], stdout=subprocess.PIPE, text=True)
    assert foreground.stdout is not None
    assert "127.0.0.1:" in foreground.stdout.readline()
    assert "Ctrl-C" in foreground.stdout.readline()
    pid = _pid(state_folder)
    born = processes.created(pid)
    foreground.send_signal(number)
    foreground.communicate(timeout=60)
    assert foreground.returncode == 0
    assert not processes.alive(pid, born)


def test_run_says_when_its_server_dies(cluster: Cluster, state_folder: str) -> None:
    """A server that ends by itself ends the command with its log."""
    foreground = subprocess.Popen(
        [*COMMAND, "run", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert foreground.stdout is not None
    foreground.stdout.readline()
    os.kill(_pid(state_folder), signal.SIGKILL)
    _, said = foreground.communicate(timeout=60)
    assert foreground.returncode == 1
    assert "ended by itself" in said
    assert ".log" in said


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["up", "--dynamic-config", "frontend.rps"], "'frontend.rps' has no value"),
        (["up", *(f"--dynamic-config=frontend.rps={n}" for n in (1, 2))], "--dynamic-config gives frontend.rps twice"),
        (["up", "--port", "70000"], "port is 70000"),
        (["up", "--port", "-5"], "port is -5"),
        (["up", "--port", "0", "--db", "/nowhere/t.db"], "/nowhere/t.db"),
    ],
)
def test_misuse_is_one_line(arguments: list[str], match: str, in_process: Command, program: None) -> None:
    """What, which value, what is allowed; exit code 2."""
    result = in_process("cluster", *arguments)
    assert result.code == 2
    assert match in result.error


def test_without_a_cluster_status_says_so(cluster: Cluster) -> None:
    """Nothing up is exit code 1 with the command that changes it; JSON says it as data."""
    assert "capacity cluster up" in _one_line(cluster("status"))
    result = cluster("status", "--format", "json")
    assert (result.returncode, json.loads(result.stdout)) == (1, {"up": False})


def _pid(folder: str) -> int:
    components = _state(folder)["components"]
    assert isinstance(components, list)
    return int(components[0]["pid"])
