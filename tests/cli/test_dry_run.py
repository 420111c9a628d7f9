"""`capacity launch --dry-run` with a journal, a worker or a rate: it says what that launch would do, or refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from capacity.cluster.target import Target
from capacity.launcher import outcome
from capacity.launcher.batch import HeightRange
from capacity.observe.session import Journaling
from tests.cli.conftest import Command

BATCH = HeightRange(9, "mainnet", 100)
WORDS = ("launch", "--count", 9, "--from-height", 100, "--address", "127.0.0.1:1", "--dry-run")


def noted(indices: list[int], path: Path | None = None) -> Path:
    """The journal of a launch that was killed, with these items done."""
    with Journaling(path).open(BATCH, Target("127.0.0.1:1")) as journal:
        journal.note(np.array(indices, dtype=np.int64), outcome.STARTED)
        assert journal.path is not None
        return journal.path


@pytest.mark.parametrize("named", [False, True])
def test_a_resume_is_shown_with_what_is_left(in_process: Command, tmp_path: Path, named: bool) -> None:
    """The journal it would go on with, how many items are left, the first and the last of them; no note changes."""
    in_process("runs", "list")  # names the state folder
    path = noted([0, 1, 4, 8], tmp_path / "j" if named else None)
    before = path.read_bytes()
    done = in_process(*WORDS, "--resume", *(("--journal", path) if named else ()), "--rate", "1", "--json")
    told = json.loads(done.out)
    assert told["journal"] == f"{path}: 4 done, 5 left"
    assert told["duration"] == "5 s at the 1/s asked for"
    assert told["first_request"]["workflowId"] == "mainnet:index-block:102"
    assert told["last_request"]["workflowId"] == "mainnet:index-block:107"
    assert told["first_request"]["requestId"].startswith(path.stem if not named else "2")
    assert path.read_bytes() == before


def test_a_path_in_a_pipe_is_whole(in_process: Command, tmp_path: Path) -> None:
    """Where no terminal is, no line break divides a path, as a terminal's last column does, and no blanks follow it."""
    path = tmp_path / f"a-{'j' * 60}"
    dry = in_process(*WORDS, "--journal", path, "--task-queue", "q" * 90).out
    assert f" {path}\n" in dry
    assert f'"{"q" * 90}"' in dry
    noted([0], path)
    shown = in_process("runs", "show", path).out
    assert f" {path}\n" in shown
    assert [line for line in (dry + shown).splitlines() if line != line.rstrip()] == []


def test_a_resume_of_a_batch_that_is_done_would_send_nothing(in_process: Command) -> None:
    """Every item has its outcome: no request is shown."""
    in_process("runs", "list")
    noted(list(range(9)))
    told = json.loads(in_process(*WORDS, "--resume", "--json").out)
    assert told["duration"] == "none: all is done"
    assert "first_request" not in told


def test_a_journal_that_the_launch_would_refuse_is_refused(in_process: Command, tmp_path: Path) -> None:
    """None there, another batch's, one in use, one that exists, a place for none: each in the launch's words."""
    in_process("runs", "list")
    assert "no journal in" in in_process(*WORDS, "--resume").error
    path = noted([], tmp_path / "j")
    other = (*WORDS, "--chain-id", "other", "--resume", "--journal", path)
    assert "belongs to another batch" in in_process(*other).error
    assert "exists; pass --resume" in in_process(*WORDS, "--journal", path).error
    assert "exists; pass --resume" in in_process(*WORDS, "--journal", "/").error
    assert "cannot create journal" in in_process(*WORDS, "--journal", path / "below").error
    with Journaling(path, resume=True).open(BATCH, Target("127.0.0.1:1")):
        assert "in use by another launch" in in_process(*WORDS, "--resume", "--journal", path).error
    assert in_process(*WORDS, "--journal", tmp_path / "a" / "b").code == 0
    assert not (tmp_path / "a").exists()


def test_a_worker_is_shown(in_process: Command) -> None:
    """--worker has the launch wait for what it started."""
    told = json.loads(in_process(*WORDS, "--worker", "--json").out)
    assert told["worker"] == "one, here; waits until what was started has completed"
    assert "worker" not in json.loads(in_process(*WORDS, "--json").out)


@pytest.mark.parametrize(("rate", "bound"), [("300", False), ("2400", False), ("5000", True)])
def test_a_limit_that_a_rate_does_not_reach_is_left_out(in_process: Command, rate: str, bound: bool) -> None:
    """A batch that is due at 300/s takes that long, however much a namespace takes by default."""
    words = ("launch", "--count", 1_000_000, "--address", "127.0.0.1:1", "--dry-run", "--json", "--rate", rate)
    told = json.loads(in_process(*words).out)["duration"]
    assert ("frontend.namespaceRPS" in told) is bound
