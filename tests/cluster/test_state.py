"""The state file: written as a whole, read from another shell, one command at a time."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from capacity import files
from capacity.cluster import lifecycle, ports, postgres, processes, state
from capacity.cluster.settings import Settings
from capacity.cluster.state import ClusterState, Component
from capacity.errors import ClusterError, UsageError


@pytest.fixture(autouse=True)
def _own_state(state_folder: str) -> None:
    """Each test has a state folder of its own."""


def _cluster(pid: int, born: float) -> ClusterState:
    component = Component("temporal", pid, born, "1.32.0", {"frontend": 7233}, "some.log", stop_signal="SIGINT")
    return ClusterState("sqlite", "127.0.0.1:7233", "http://127.0.0.1:1/metrics", (component,), {"port": None}, True)


def test_what_is_written_is_read() -> None:
    """A record comes back equal to itself, and clearing it leaves none."""
    cluster = _cluster(1, 2.5)
    state.write(cluster)
    assert state.read() == cluster
    state.clear()
    assert state.read() is None


def test_a_running_cluster_is_told_from_a_stale_one() -> None:
    """The address counts only while the very process that was recorded runs."""
    own = os.getpid()
    state.write(_cluster(own, processes.created(own)))
    assert state.running_address() == "127.0.0.1:7233"
    state.write(_cluster(own, processes.created(own) - 3600.0))
    assert state.running_address() is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"schema": 99}', '{"schema": 2}', '{"schema": 2, "components": [{"pid": 1}]}']
)
def test_a_damaged_record_is_one_line(text: str) -> None:
    """Any damage names the file, and nobody takes it for a running cluster."""
    path = state.made(state.folder()) / "cluster.json"
    path.write_text(text)
    with pytest.raises(ClusterError, match="damaged or of another version") as error:
        state.read()
    assert str(path) in str(error.value)
    assert state.running_address() is None


def test_the_record_is_for_its_owner_only() -> None:
    """Nobody else may say what ``down`` ends."""
    state.write(_cluster(1, 2.5))
    path = state.folder() / "cluster.json"
    assert path.stat().st_mode & 0o077 == 0
    assert [each.name for each in path.parent.iterdir()] == ["cluster.json"]
    assert json.loads(path.read_text())["schema"] == state.SCHEMA


def test_only_one_command_at_a_time() -> None:
    """While one ``up`` or ``down`` works, another is refused; afterwards it is not."""
    probe = "from capacity.cluster import state\nwith state.exclusive(): pass"
    with state.exclusive():
        refused = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert "another 'capacity cluster' command is at work" in refused.stderr
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0


def test_a_folder_the_disk_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in the folder's place is one line with the way out."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CAPACITY_STATE_DIR", str(tmp_path / "file" / "state"))
    with pytest.raises(ClusterError, match="CAPACITY_STATE_DIR"):
        state.write(_cluster(1, 2.5))


def test_free_ports_are_different_and_low_ones_fit_16_bits() -> None:
    """Ports handed out together never meet; membership ports fit a signed 16-bit column."""
    assert len(set(ports.free(50))) == 50
    low = ports.free_low(20)
    assert len(set(low)) == 20
    assert max(low) < 2**15


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"store": "mysql"}, "store is 'mysql'; allowed: sqlite or postgres"),
        ({"shards": 0}, "shards is 0; allowed: 1 to 16384"),
        ({"max_conns": -3}, "max_conns is -3; allowed: 1 to 1000"),
    ],
)
def test_settings_out_of_range_are_named(wrong: dict[str, object], match: str) -> None:
    """What, which value, what is allowed."""
    with pytest.raises(UsageError, match=match):
        Settings(**wrong)  # type: ignore[arg-type]


def test_a_cluster_that_did_not_come_up_stays_recorded_while_a_process_of_it_lives() -> None:
    """A second Ctrl-C leaves the clean-up half-way: what still runs is for `capacity cluster down` to end."""
    me = os.getpid()
    for born, kept in ((processes.created(me), True), (-1.0, False)):
        state.write(_cluster(me, born))
        lifecycle._clear_if_ended()
        assert (state.read() is not None) is kept
    state.clear()


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_step_of_the_clock_loses_no_process(step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a clock is set, all processes began at another time of day; a recorded one is still that one."""
    began, was = psutil.Process().create_time(), psutil.boot_time()
    state.write(_cluster(os.getpid(), processes.created(os.getpid())))
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: was + step)
    assert psutil.Process().create_time() == pytest.approx(began + step, abs=1)
    assert state.running_address() == "127.0.0.1:7233"


def test_after_a_reboot_no_recorded_process_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Early in each run of a machine pids and times since boot are much the same: a stranger would be ended."""
    state.write(_cluster(os.getpid(), processes.created(os.getpid())))
    assert state.running_address() is not None
    monkeypatch.setattr(processes, "boot", lambda: "another")
    assert state.running_address() is None
    found = state.read()
    assert found is not None
    assert not any(component.alive for component in found.components)


def test_a_database_that_nobody_recorded_is_known_by_its_folder(tmp_path: Path) -> None:
    """Its pid file names it, whatever the clock says since; a process elsewhere that has its pid now is left alone."""
    data = tmp_path / "pgdata"
    data.mkdir()
    waiting = [sys.executable, "-c", "print(flush=True); input()", "-D", str(data)]
    with subprocess.Popen(waiting, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as database:
        assert database.stdout is not None
        database.stdout.readline()  # for a moment after its begin a process has no command line yet
        for pid, found in ((database.pid, (database.pid, processes.created(database.pid))), (os.getpid(), None)):
            (data / "postmaster.pid").write_text(f"{pid}\n{data}\n1\n")
            assert postgres.leftover(tmp_path) == found
        database.communicate(b"\n")


def test_a_folder_of_any_name_can_hold_the_database() -> None:
    """Its password's file is named to libpq, which splits at blanks unless told otherwise."""
    from psycopg.conninfo import conninfo_to_dict

    folder = Path("/home/me/My Projects/it's")
    assert conninfo_to_dict(postgres.connection_string(folder, 1))["passfile"] == f"{folder}/pgpass"


def test_variables_for_another_database_do_not_reach_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell's PGPASSWORD is not sent to it nor PGHOSTADDR dialled, and what would refuse it says nothing."""
    (tmp_path / "pgpass").write_text(f"{ports.HOST}:*:*:*:ours\n")
    (tmp_path / "pgpass").chmod(0o600)
    told: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            start = connection.recv(10_000)
            connection.sendall(b"R" + struct.pack("!II", 8, 3))  # the password, in clear
            told.extend((start, connection.recv(1000)[5:-1]))
            connection.sendall(b"E" + struct.pack("!I", 15) + b"SFATAL\0Mno\0\0")

    for name, value in (
        ("PGPASSWORD", "of-another"),
        ("PGHOSTADDR", "127.0.0.2"),
        ("PGOPTIONS", "-c search_path=theirs"),
        ("PGSSLMODE", "require"),
        ("PGGSSENCMODE", "require"),
        ("PGCHANNELBINDING", "require"),
        ("PGTARGETSESSIONATTRS", "standby"),
    ):
        monkeypatch.setenv(name, value)
    with socket.create_server((ports.HOST, 0)) as listener:
        serving = threading.Thread(target=serve, args=(listener,))
        serving.start()
        said = postgres.health(postgres.connection_string(tmp_path, listener.getsockname()[1]))
        if not told:
            socket.create_connection(listener.getsockname()).close()  # nobody came: let it end
        serving.join(20)
    assert said.endswith("no"), said
    assert told[1] == b"ours"
    assert b"theirs" not in told[0]


def test_a_file_is_written_where_a_link_or_a_device_leads(tmp_path: Path) -> None:
    """Neither is replaced: `--record /dev/null` of root would take it from the whole machine."""
    link, pipe = tmp_path / "latest.json", tmp_path / "pipe"
    link.symlink_to(tmp_path / "kept.json")
    files.write_whole(link, "one")
    assert (link.is_symlink(), (tmp_path / "kept.json").read_text()) == (True, "one")
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    files.write_whole(pipe, "two")
    reader.join(20)
    assert (pipe.is_fifo(), read) == (True, ["two"])
    reading, writing = os.pipe()  # as /dev/stdout before a `|`, which leads to no path
    files.write_whole(Path(f"/dev/fd/{writing}"), "three")
    assert os.read(reading, 9) == b"three"
    os.close(reading)
    os.close(writing)
