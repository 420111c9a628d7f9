"""`capacity cluster up --store postgres` as a user meets it, and every way it can go wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from capacity.cluster import processes, stack, state

from .conftest import Command

pytestmark = pytest.mark.stack

Result = subprocess.CompletedProcess[str]
Cluster = Callable[..., Result]
COMMAND = [sys.executable, "-c", "import sys; from capacity.cli import main; main(sys.argv[1:])", "cluster"]
UP = ("up", "--store", "postgres", "--port", "0", "--shards", "1")


@pytest.fixture
def cluster(state_folder: str, stack_programs: None) -> Iterator[Cluster]:
    """Runs ``capacity cluster ...`` on a state folder of its own and ends what is left."""

    def run(*arguments: str) -> Result:
        return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=200)

    yield run
    run("down")


def _one_line(result: Result) -> str:
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_up_twice_status_keep_and_drop(cluster: Cluster) -> None:
    """One life of a stack: up, up again, down with the data kept, up on the same data, down without a trace."""
    first = cluster(*UP)
    assert first.returncode == 0, first.stderr
    found = state.read()
    assert found is not None
    again = cluster(*UP)
    assert (again.returncode, state.read()) == (0, found)
    assert "already up" in again.stderr
    other = cluster("up", "--store", "postgres", "--shards", "2")
    assert (other.returncode, "shards is 1, asked for 2" in _one_line(other)) == (2, True)
    assert other.stderr.count("is ") == 2
    status = json.loads(cluster("status", "--format", "json").stdout)
    assert {each["name"]: each["health"] for each in status["components"]} == {
        "postgresql": "SERVING",
        "temporal-server": "SERVING",
    }
    assert all(each["version"][0].isdigit() for each in status["components"])
    _make_table(found.postgres)

    assert "the data stay in" in cluster("down", "--keep-data").stderr
    assert not any(component.alive for component in found.components)
    refused = cluster("up", "--store", "postgres", "--port", "0", "--shards", "2")
    assert (refused.returncode, "have shards 1, asked for 2" in _one_line(refused)) == (2, True)
    assert cluster(*UP).returncode == 0
    kept = state.read()
    assert kept is not None
    assert kept.postgres is not None
    with psycopg.connect(kept.postgres) as connection:
        assert connection.execute("SELECT note FROM kept").fetchone() == ("still here",)
    assert cluster("status").returncode == 0

    assert cluster("down").returncode == 0
    ports = [port for component in (*found.components, *kept.components) for port in component.ports.values()]
    assert not any(component.alive for component in kept.components)
    assert not any(map(_listens, ports))
    assert not stack.data_folder().exists()
    assert state.read() is None


def _make_table(dsn: str | None) -> None:
    assert dsn is not None
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 'still here'::text AS note")


@pytest.mark.parametrize("components", [0, 1, 2])
def test_killed_half_way_the_next_up_works(components: int, cluster: Cluster) -> None:
    """SIGKILL before, between and after the starts of the components: what is left is cleaned up by the next ``up``."""
    starting = subprocess.Popen([*COMMAND, *UP], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pgdata = stack.data_folder() / "pgdata"
    while not (pgdata.exists() if components == 0 else _recorded() >= components):
        assert starting.poll() is None
        time.sleep(0.005)
    starting.kill()
    starting.wait()
    left = state.read()
    again = cluster(*UP)
    assert again.returncode == 0, again.stderr
    assert cluster("status").returncode == 0
    if left is not None:
        assert not any(component.alive for component in left.components)
        assert "did not finish; cleaning up" in again.stderr


def _recorded() -> int:
    found = state.read()
    return len(found.components) if found else 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_half_way_it_cleans_up_itself(number: signal.Signals, cluster: Cluster) -> None:
    """Ctrl-C during the start leaves no process, no data and no record."""
    starting = subprocess.Popen([*COMMAND, *UP], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while _recorded() < 1:
        assert starting.poll() is None
    left = state.read()
    starting.send_signal(number)
    _, said = starting.communicate(timeout=60)
    assert starting.returncode == 130
    assert "Traceback" not in said
    assert left is not None
    assert not any(component.alive for component in left.components)
    assert state.read() is None
    assert not stack.data_folder().exists()


@pytest.mark.parametrize("name", ["postgresql", "temporal-server"])
def test_a_component_that_was_killed_is_named_and_replaced(name: str, cluster: Cluster) -> None:
    """Status names who ended; the next ``up`` restarts the stack on its data."""
    cluster(*UP)
    found = state.read()
    assert found is not None
    _make_table(found.postgres)
    (victim,) = [component for component in found.components if component.name == name]
    os.kill(victim.pid, signal.SIGKILL)
    while processes.alive(victim.pid, victim.created):
        time.sleep(0.01)
    status = cluster("status")
    assert status.returncode == 1
    assert f"{name} {victim.version}: ended" in status.stdout
    again = cluster(*UP)
    assert again.returncode == 0, again.stderr
    assert f"{name} (pid {victim.pid}) ended by itself" in again.stderr
    new = state.read()
    assert new is not None
    assert new.postgres is not None
    with psycopg.connect(new.postgres) as connection:
        assert connection.execute("SELECT note FROM kept").fetchone() == ("still here",)


def test_a_broken_data_folder_is_one_line_and_stays_for_its_owner(cluster: Cluster) -> None:
    """PostgreSQL's last words and the log are named; data are dropped by ``down`` only."""
    cluster(*UP)
    cluster("down", "--keep-data")
    broken = stack.data_folder() / "pgdata" / "global" / "pg_control"
    broken.write_bytes(b"\0" * broken.stat().st_size)
    result = cluster(*UP)
    assert result.returncode == 1
    assert "PostgreSQL ended at start: " in _one_line(result)
    assert "postgresql.log" in result.stderr
    assert state.read() is None
    assert broken.exists()
    assert cluster("down").returncode == 0
    assert not stack.data_folder().exists()
    assert cluster(*UP).returncode == 0


def test_a_taken_port_is_refused_before_anything_starts(cluster: Cluster) -> None:
    """The holder is named, and no data folder is made."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        result = cluster("up", "--store", "postgres", "--port", str(port))
    assert result.returncode == 1
    assert f"port {port} is in use by pid {os.getpid()}" in _one_line(result)
    assert not stack.data_folder().exists()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("--pg-option", "nonsense"), "'nonsense' has no value"),
        (("--shards", "0"), "shards is 0"),
        (("--max-conns", "-1"), "--max-conns is -1"),
        (("--db", "t.db"), "only with the store sqlite"),
    ],
)
def test_misuse_is_one_line_before_anything_starts(
    arguments: tuple[str, ...], match: str, in_process: Command, stack_programs: None
) -> None:
    """What, which value, what is allowed; exit code 2."""
    result = in_process("cluster", *UP, *arguments)
    assert (result.code, match in result.error) == (2, True), result.error
    assert state.read() is None
    assert not stack.data_folder().exists()


@pytest.mark.parametrize(
    ("arguments", "code", "match"),
    [
        (("--pg-option", "nonsense=1"), 1, 'FATAL: unrecognized configuration parameter "nonsense"'),
        (("--dynamic-config", "limit.maxIDLength=many"), 2, "value type is not int"),
    ],
)
def test_what_a_component_refuses_is_one_line_and_leaves_nothing(
    arguments: tuple[str, ...], code: int, match: str, cluster: Cluster, state_folder: str
) -> None:
    """Its own words of what is wrong; no process, record or data stay."""
    result = cluster(*UP, *arguments)
    assert result.returncode == code
    assert match in " ".join(_one_line(result).split())
    assert state.read() is None
    assert not stack.data_folder().exists()


@pytest.mark.parametrize("option", ["--shards", "--max-conns", "--pg-option"])
def test_settings_of_the_stack_are_refused_with_sqlite(option: str, in_process: Command) -> None:
    """An option that would do nothing is misuse."""
    result = in_process("cluster", "up", option, "0" if option != "--pg-option" else "a=b")
    assert (result.code, "add --store postgres" in result.error) == (2, True)


def test_the_state_file_is_for_its_owner(cluster: Cluster, state_folder: str) -> None:
    """Nobody else may read or change what ``down`` will end and delete."""
    cluster(*UP)
    assert (Path(state_folder) / "cluster.json").stat().st_mode & 0o077 == 0
