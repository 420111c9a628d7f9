"""What a dev cluster left on the disk: the state file, the stack's marker, PostgreSQL's own pid file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import ODD_WORDS, bytes_of, fuzzed, json_files, only_ours

from capacity.cluster import lifecycle, postgres, processes, stack, state
from capacity.cluster.settings import Settings
from capacity.experiment.local import of_state
from capacity.observe.sources import Places, find

COMPONENT = {
    "name": "temporal",
    "pid": 2**22 + 5,
    "created": 1.7e9,
    "version": "1",
    "ports": {"frontend": 7233},
    "log": "/nowhere/log",
    "stop_signal": "SIGTERM",
}
STATE: dict[str, Any] = {
    "store": "sqlite",
    "address": "127.0.0.1:7233",
    "metrics_url": "http://127.0.0.1:9090/metrics",
    "schema": state.SCHEMA,
    "components": [COMPONENT],
    "settings": {"shards": 1, "dynamic_config": {"a.b": "1"}},
    "ready": True,
    "folder": "/nowhere",
    "postgres": None,
}
MARKER = {"shards": 64, "postgresql": "16", "temporal": "1.32.0"}


@fuzzed(30)
@given(json_files(STATE))
def test_any_state_file_is_a_cluster_or_refused(state_folder: str, content: bytes) -> None:
    """What another shell left is a cluster that can be looked at and ended, or one line; nobody else is ended."""
    (Path(state_folder) / "cluster.json").write_bytes(content)
    with only_ours():
        cluster = state.read()
        assert cluster is not None
        assert not cluster.alive
        assert all(component.pid > 0 for component in cluster.components)
        stack.stop(cluster)
        of_state(cluster).cpu_count  # noqa: B018 - what is claimed is that it can be asked
        find("127.0.0.1:7233", Places())
        lifecycle._require_same(cluster, Settings(port=1).recorded())
    assert state.running_address() is None


def test_the_state_that_is_damaged_here_is_valid(state_folder: str) -> None:
    """Without damage it is read: else all would be refused for one and the same reason."""
    (Path(state_folder) / "cluster.json").write_text(json.dumps(STATE))
    assert state.read() is not None


@pytest.mark.parametrize("pid", [0, -1, -1000, 2**40])
def test_a_pid_that_is_a_group_or_none_is_refused(state_folder: str, pid: int) -> None:
    """A signal to pid 0 or below goes to groups of processes: no state file brings that about."""
    wrong = {**STATE, "components": [{**COMPONENT, "pid": pid}]}
    (Path(state_folder) / "cluster.json").write_text(json.dumps(wrong))
    with pytest.raises(state.ClusterError, match="pid is"):
        state.read()
    assert not processes.alive(pid, 1.7e9)


def test_a_state_file_that_is_a_folder_is_one_line(state_folder: str) -> None:
    """A folder where the state file should be is named."""
    (Path(state_folder) / "cluster.json").mkdir()
    with pytest.raises(state.ClusterError, match="cannot read"):
        state.read()


@fuzzed(30)
@given(json_files(MARKER))
def test_any_marker_of_kept_data_fits_or_is_refused(tmp_path: Path, content: bytes) -> None:
    """Data kept from an earlier stack fit what is asked for, or one line says what they are."""
    (tmp_path / stack.MARKER).write_bytes(content)
    with only_ours():
        stack._require_same_data(
            tmp_path, Settings(store="postgres"), postgres.Binaries(Path("/nowhere"), "16.1"), "1.32.0"
        )


@fuzzed()
@given(
    bytes_of(st.lists(st.one_of(ODD_WORDS, st.sampled_from(["1", "-5", "1e999", "nan"])), max_size=4).map("\n".join))
)
def test_any_pid_file_names_a_process_or_none(tmp_path: Path, content: bytes) -> None:
    """A pid file of PostgreSQL that says anything else than a process that runs there names none."""
    (tmp_path / "pgdata").mkdir(exist_ok=True)
    (tmp_path / "pgdata" / "postmaster.pid").write_bytes(content)
    (tmp_path / "pgpass").write_bytes(content)
    assert postgres.leftover(tmp_path) is None
    with only_ours():
        assert isinstance(postgres.password(tmp_path), str)
