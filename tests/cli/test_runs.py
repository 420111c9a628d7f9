"""`capacity runs` on journals and records of runs that never were."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from capacity.cluster.target import Target
from capacity.launcher import outcome
from capacity.launcher.batch import HeightRange
from capacity.launcher.items import ItemsFile
from capacity.observe.history import runs_folder
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


@pytest.fixture
def failed(state_folder: str, tmp_path: Path) -> Path:
    """The items file of a run of which an item failed."""
    items = tmp_path / "again.jsonl"
    items.write_text('{"id": "a"}\n{"id": "b"}\n')
    with Journaling().open(ItemsFile.open(items), TARGET) as journal:
        journal.note(np.array([1]), outcome.REFUSED)
    return items


def test_failed_items_are_not_written_over_their_own_file(failed: Path, in_process: Command, tmp_path: Path) -> None:
    """A file that was made by it and launched is what a later one would destroy: refused, by whatever name."""
    before = failed.read_text()
    (tmp_path / "link.jsonl").symlink_to(failed)
    for path in (failed, tmp_path / "link.jsonl"):
        done = in_process("runs", "failed", "last", "--out", path)
        assert (done.code, "would replace a file of the run's own; pass another file" in done.error) == (2, True)
    assert failed.read_text() == before


def test_failed_items_are_not_written_over_the_record_they_are_of(
    failed: Path, in_process: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the record that was named, nor the one that is remembered, nor the journal; a name is no file."""
    journal = next(runs_folder().glob("*.journal"))
    copy, kept = tmp_path / "r.json", journal.with_suffix(".json")
    for path in (copy, kept):
        recorded(run_id=journal.stem, journal=str(journal)).save(path)
    for name, out in ((copy, copy), (copy, kept), ("last", kept), (journal, kept), (copy, journal)):
        before = out.read_bytes()
        done = in_process("runs", "failed", name, "--out", out)
        assert (done.code, "would replace a file of the run's own; pass another file" in done.error) == (2, True)
        assert out.read_bytes() == before
    monkeypatch.chdir(tmp_path)
    assert in_process("runs", "failed", "last", "--out", "last").code == 0


def test_an_export_replaces_an_earlier_one_whole(failed: Path, in_process: Command, tmp_path: Path) -> None:
    """Nobody who reads the earlier file, and no disk that fills meanwhile, meets a half of the new one."""
    out, read = tmp_path / "out.jsonl", tmp_path / "read.jsonl"
    out.write_text("earlier")
    read.hardlink_to(out)
    assert in_process("runs", "failed", "last", "--out", out).code == 0
    assert (out.read_text(), read.read_text()) == ('{"id": "b"}\n', "earlier")


def test_a_run_whose_description_is_lost_can_be_cleaned(in_process: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its workflows are told by the run's id in their memo: the server is asked, and no name of the batch is needed."""
    monkeypatch.setattr(HeightRange, "describe", lambda _: {})
    Journaling().open(HeightRange(5), TARGET).close()
    assert "no server listens at 127.0.0.1:1" in in_process("runs", "clean", "last").error
