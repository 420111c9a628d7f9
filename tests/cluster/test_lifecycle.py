"""Up and down without a server: whose data a ``down`` takes, and what a disk that refuses says."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from capacity.cluster import guardian, lifecycle, postgres, processes, stack, state, temporal_binaries
from capacity.cluster.settings import STORES, Settings, checked_config
from capacity.cluster.state import ClusterState, Component
from capacity.errors import ClusterError, UsageError
from capacity.model.cluster import Cluster

SQLITE = ClusterState("sqlite", "127.0.0.1:7233", "", (), {"port": None}, False)


@pytest.fixture(autouse=True)
def data(state_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of a state folder of the test's own, not made yet."""
    monkeypatch.setattr(stack, "FOLDER_FOR_ROOT", tmp_path / "root")
    return stack.data_folder()


def _nothing(sentence: str) -> None:
    """Hears nothing."""


def _foreign(folder: Path) -> Path:
    folder.mkdir(parents=True)
    mine = folder / "mine.txt"
    mine.write_text("years of work")
    return mine


def _kept(folder: Path) -> Path:
    stack._make_reachable(folder)
    (folder / stack.MARKER).write_text('{"shards": 64, "postgresql": "16", "temporal": "1.32.0"}')
    return folder / stack.MARKER


def test_a_folder_of_somebody_else_survives_down_and_up(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder named ``postgres`` where CAPACITY_STATE_DIR points is not ours: nothing in it is deleted or changed."""
    mine = _foreign(data)
    assert lifecycle.down(_nothing) is False
    found = temporal_binaries.Binaries("server", "tool", "1.32.0")
    monkeypatch.setattr(temporal_binaries, "find_or_build", lambda say: found)
    with pytest.raises(ClusterError, match=r"no data folder of capacity and is left alone; .*CAPACITY_STATE_DIR"):
        lifecycle.up(Settings(store="postgres", port=0), _nothing)
    with pytest.raises(ClusterError, match="left alone"):
        stack._make_reachable(data)
    assert [path.name for path in data.iterdir()] == ["mine.txt"]
    assert mine.read_text() == "years of work"


def test_data_that_are_written_while_they_are_dropped_go_as_well(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed command made its data with may write on for a moment: the guardian tries again."""
    _kept(data)
    drop, refusals = stack.drop, iter([ClusterError("cannot delete pgdata/base: Directory not empty")])

    def refusing(folder: Path) -> bool:
        for each in refusals:
            raise each
        return drop(folder)

    monkeypatch.setattr(stack, "drop", refusing)
    guardian._drop(data)
    assert not data.exists()


def test_a_folder_that_only_the_state_file_names_is_no_data_folder(tmp_path: Path) -> None:
    """A state file may name any folder; ``down`` deletes what was made here only."""
    mine = _foreign(tmp_path / "home")
    state.write(ClusterState("postgres", "127.0.0.1:7233", "", (), {}, False, folder=str(mine.parent)))
    with pytest.raises(ClusterError, match="left alone"):
        lifecycle.down(_nothing)
    assert mine.exists()


def test_down_of_a_sqlite_cluster_leaves_kept_data_of_a_stack(data: Path) -> None:
    """Data kept with --keep-data are no part of a dev server; a ``down`` with no cluster up drops them, and says so."""
    marker = _kept(data)
    said: list[str] = []
    state.write(SQLITE)
    assert lifecycle.down(said.append)
    assert marker.exists()
    assert lifecycle.down(said.append, keep_data=True)
    assert marker.exists()
    assert lifecycle.down(said.append)
    assert said[-1] == f"dropped the data in {data}"
    assert not data.exists()


def test_what_an_interrupted_drop_leaves_can_be_dropped_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sign of ownership goes last."""
    _kept(data)
    (data / "pgdata").mkdir()

    def interrupted(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stack.drop(data)
    assert stack.owned(data)
    assert stack.drop(data)
    assert not data.exists()


def test_data_of_an_older_version_are_ours(data: Path) -> None:
    """A folder made before there was a sign of ownership is told by its marker and password."""
    data.mkdir(parents=True)
    for name in (stack.MARKER, "pgpass"):
        (data / name).write_text("{}")
    assert stack.drop(data)
    assert not data.exists()


def test_data_of_another_minor_version_of_temporal_are_refused(data: Path) -> None:
    """A schema of 1.32 is not run by 1.31: one line, in place of the server's own complaint."""
    _kept(data)
    database, settings = postgres.Binaries(Path("/nowhere"), "16.1"), Settings(store="postgres")
    stack._require_same_data(data, settings, database, "1.32.4")
    with pytest.raises(UsageError, match=r"have Temporal's schema 1\.32, asked for 1\.31"):
        stack._require_same_data(data, settings, database, "1.31.0")


def test_up_says_that_a_cluster_which_is_up_does_not_answer() -> None:
    """Processes that live but do not answer are no cluster to launch at: what is wrong and the way out are named."""
    own = os.getpid()
    component = Component("temporal", own, processes.created(own), "1.32.0", {}, "some.log")
    settings = Settings().recorded()
    state.write(ClusterState("sqlite", "127.0.0.1:1", "", (component,), settings, True))
    with pytest.raises(ClusterError, match=r"temporal: unreachable; .*capacity cluster down"):
        lifecycle.up(Settings(), _nothing)


@pytest.mark.parametrize("address", ["127.0.0.1", "", "127.0.0.1:x", "127.0.0.1:0"])
def test_an_address_without_a_port_is_a_damaged_record(address: str) -> None:
    """A record whose address cannot be dialled is refused where it is read."""
    state.write(ClusterState("sqlite", address, "", (), {}, False))
    with pytest.raises(ClusterError, match=r"is damaged: address"):
        state.read()


def test_a_lock_that_cannot_be_written_is_one_line() -> None:
    """A folder in its place, or another user's file, names the lock and the way out."""
    (state.folder() / "lock").mkdir()
    with pytest.raises(ClusterError, match=r"cannot write .*lock.*CAPACITY_STATE_DIR"), state.exclusive():
        pass


def test_a_write_that_fails_leaves_no_half_of_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is one line, and no part of the record stays."""

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(ClusterError, match="No space left"):
            state.write(SQLITE)
    assert not list(state.folder().iterdir())


def test_a_tool_that_is_missing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is no ``setpriv``, as on macOS, a missing program is named."""
    monkeypatch.setattr(processes, "with_parent_death_signal", list)
    with pytest.raises(ClusterError, match="cannot run initdb: No such file"):
        processes.run([str(tmp_path / "initdb")], tmp_path / "log")


def test_the_log_of_a_crash_survives_the_next_start(tmp_path: Path) -> None:
    """The first reflex, to start it again, keeps what says why it ended."""
    log = tmp_path / "server.log"
    log.write_text("out of memory")
    processes.begin_log(log)
    assert log.read_text() == ""
    assert processes.earlier(log).read_text() == "out of memory"
    processes.begin_log(log)  # an empty one says nothing
    assert processes.earlier(log).read_text() == "out of memory"
    with pytest.raises(UsageError, match="log "):
        processes.begin_log(tmp_path)
    assert log.exists()


@pytest.mark.parametrize("value", ["1e999", "[1e999]", '{"a": 1e999}', "[" * 100_000])
def test_a_value_that_no_server_can_read_is_refused(value: str) -> None:
    """An infinite number, however deep, is no JSON that a server reads back."""
    with pytest.raises(UsageError, match="dynamic configuration value"):
        checked_config({"frontend.rps": value})


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"frontend.rsp": "10"}, r"unknown dynamic configuration key 'frontend.rsp'; did you mean frontend.rps\?"),
        ({"Fronted.NamespaceRPS": "10"}, r"did you mean frontend.namespaceRPS\?"),
        ({"frontend.rps": "[[["}, r"frontend.rps is '\[\[\['; allowed: a whole number from 1"),
        ({"FRONTEND.RPS": "many"}, "frontend.rps is 'many'; allowed: a whole number"),
        ({"history.rps": "true"}, "history.rps is "),
        ({"frontend.rps": "1e5"}, "frontend.rps is '1e5'; allowed: a whole number from 1 to 2,147,483,647"),
        ({"frontend.rps": "2147483648"}, "frontend.rps is '2147483648'; allowed: a whole number"),
    ],
)
def test_a_limit_that_no_server_would_go_by_is_refused(store: str, config: dict[str, str], expected: str) -> None:
    """On either store a limit's misspelt key or value is said, not taken for a limit that is in force."""
    with pytest.raises(UsageError, match=expected):
        Settings(store=store, dynamic_config=config).recorded()


def test_the_most_that_others_write_is_a_limit() -> None:
    """2,147,483,647 starts/s are what "unlimited" is called where there is no word for it; so it is predicted with."""
    given = {"frontend.rps": "2147483647"}
    assert checked_config(given) == given
    assert Cluster.load("postgres-dev").changed({"frontend.rps": 2147483647}).limits["frontend.rps"] == 2147483647


def test_other_keys_of_a_server_are_left_to_it() -> None:
    """Keys that are like a limit's and none, in any case, and values of any kind for them are taken as they are."""
    given = {"frontend.persistenceGlobalMaxQPS": "9", "history.persistenceGlobalMaxQPS": "9", "FRONTEND.rps": "9"}
    given |= {
        "frontend.namespaceRPS.visibility": "x",
        "frontend.namespaceCount": "9",
        "matching.numTaskqueueReadPartitions": "1",
    }
    assert set(checked_config(given)) == set(given)


def test_a_disk_that_refuses_is_one_line_of_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What no room foresaw of a disk is the file and the reason, with code 1, not a traceback."""
    import capacity.cli

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/full/file")

    monkeypatch.setattr(capacity.cli, "command", lambda: full)
    assert capacity.cli.run(["table"]) == 1
    assert capsys.readouterr().err == "capacity: /full/file: No space left on device\n"
