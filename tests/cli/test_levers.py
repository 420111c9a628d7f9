"""`capacity levers` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capacity.cluster import state
from capacity.cluster.temporal_server import VISIBILITY
from capacity.experiment import local, store
from capacity.experiment.local import LocalCluster
from capacity.experiment.pressure import STOCK_QUERIES
from capacity.experiment.setting import setting_of

from .conftest import Command


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "no cluster is running"),
        (("--store", "sqlite"), "allowed: postgres"),
        (("--store", "postgres", "--no-load"), "--no-load and --store exclude each other"),
        (("--no-load", "--parallelism", "64"), "--parallelism does not go with --no-load"),
        (("--store", "postgres", "--seconds", "0"), "seconds is 0"),
        (("--store", "postgres", "--parallelism", "0"), "--parallelism"),
        (("--address", "127.0.0.1:1"), "the database of the cluster at 127.0.0.1:1 is not known here"),
        (("--sql", "--format", "json"), "--sql and --format json exclude each other"),
        (("--calibration", "nothing"), "no calibration 'nothing' is shipped"),
        (("--comparison", "/nowhere.json"), "comparison /nowhere.json"),
    ],
)
def test_misuse_is_one_line(in_process: Command, words: tuple[str, ...], expected: str) -> None:
    """What is wrong with a request is said before anything is started, with exit code 2."""
    done = in_process("levers", *words)
    assert done.code == 2
    assert expected in done.error
    assert done.out == ""


def test_a_file_that_is_no_comparison(in_process: Command, tmp_path: Path) -> None:
    """A file of something else is refused by its name."""
    (tmp_path / "c.json").write_text("[]")
    done = in_process("levers", "--store", "postgres", "--comparison", tmp_path / "c.json")
    assert (done.code, "is not the JSON of a comparison" in done.error) == (2, True)


def indexes(here: LocalCluster) -> set[str]:
    assert here.postgres is not None
    with store.connected(here.postgres, VISIBILITY) as connection:
        rows = connection.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'executions_visibility'")
        return {row[0] for row in rows}


@pytest.mark.stack
def test_a_running_stack(capacity: Command, stack_programs: None, tmp_path: Path) -> None:
    """The running stack is measured, what takes a start's time and what would lessen it is told within 80 columns, and
    nothing is dropped. What ``unused-indexes=dropped``, a side of a comparison, then drops is what was printed.
    """
    compared = {"baseline": "8", "candidate": "8,unused-indexes=dropped", "throughput_ratio": 1.08}
    compared |= {"throughput_interval": [1.02, 1.14]}
    (tmp_path / "c.json").write_text(json.dumps(compared))
    up = capacity("cluster", "up", "--store", "postgres", "--port", 0)
    assert up.code == 0, up.err
    try:
        done = capacity("levers", "--seconds", 2, "--comparison", tmp_path / "c.json")
        sql = capacity("levers", "--seconds", 2, "--sql")
        here = local.found(state.running_address() or "")
        before = indexes(here)
        setting_of("unused-indexes=dropped").prepare(here)
        after = indexes(here)
    finally:
        capacity("cluster", "down")
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 80
    for words in ("Where a start's time goes", "INSERT INTO", "unused indexes", "DROP INDEX CONCURRENTLY"):
        assert words in done.out
    assert "confirmed: 8,unused-indexes=dropped +8% [+2, +14]" in " ".join(done.out.split())
    statements = sql.out.splitlines()
    assert all(line.startswith("DROP INDEX CONCURRENTLY IF EXISTS") and line.endswith(";") for line in statements)
    named = {line.split('"')[3] for line in statements}
    assert len(named) >= 60
    assert named <= before
    assert after == before - named
    assert after >= STOCK_QUERIES
