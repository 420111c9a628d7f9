"""`capacity runs` on journals and records of runs that never were."""

from __future__ import annotations

import json
from pathlib import Path

from capacity.cluster.target import Target
from capacity.launcher.batch import HeightRange
from capacity.observe.session import Journaling
from tests.cli.conftest import Command
from tests.verdict.recorded import recorded

TARGET = Target("127.0.0.1:1")


def test_a_run_at_work_was_not_killed(in_process: Command) -> None:
    """While its launch is at work nobody is told that it was killed, or to resume it; afterwards they are."""
    ways = [("runs", "show", "last"), ("check", "last"), ("runs", "failed", "last"), ("runs", "list")]
    with Journaling().open(HeightRange(5), TARGET):
        shown, checked, failed, listed = (in_process(*words) for words in ways)
        assert json.loads(in_process("runs", "list", "--format", "json").out)[0]["running"] is True
    assert "none yet: it is still running" in shown.out
    assert "resume" not in shown.out
    assert "has no record yet: it is still running; wait for its end" in checked.error
    assert "it is still running" in failed.err
    assert " running  127.0.0.1:1" in listed.out
    shown, checked, failed, listed = (in_process(*words) for words in ways)
    assert "none: the launch was killed" in shown.out
    assert "--resume --journal" in shown.out
    assert "its launch was killed" in checked.error
    assert "running" not in failed.err + listed.out


def test_a_run_that_is_resumed_shows_its_record_so_far(in_process: Command, tmp_path: Path) -> None:
    """The record of the first launch of a batch is not taken for the last word while the second is at work."""
    with Journaling().open(HeightRange(5), TARGET) as journal:
        recorded(run_id=journal.header.run_id, journal=str(journal.path)).save(tmp_path / "r.json")
        assert "so far: it is still running" in in_process("runs", "show", tmp_path / "r.json").out
    assert "still running" not in in_process("runs", "show", tmp_path / "r.json").out
