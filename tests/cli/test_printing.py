"""What every command's output has in common: texts as they stand, and an output that takes nothing more."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from capacity import __version__
from capacity.cli import launching, run
from capacity.cli.launching import report
from capacity.cli.measuring import write
from capacity.cli.options import Format
from capacity.errors import CapacityError, UsageError
from capacity.launcher.batch import StartOptions
from capacity.model import shipped
from capacity.observe.history import past_run, runs_folder
from capacity.observe.run import Run
from tests.cli.conftest import Command, arguments_of
from tests.verdict.recorded import recorded

ODD = "/tmp/[x]/[/boom] :x: [red]j"


def test_a_record_is_shown_as_it_stands(state_folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A path or an error that looks like markup or an emoji is neither taken out nor a traceback."""
    kept = recorded(journal=ODD, error=ODD)
    kept.save(runs_folder() / f"{kept.run_id}.json")
    assert run(["runs", "show", "last"]) == 0
    assert ODD in capsys.readouterr().out
    report(kept, as_json=False)
    assert ODD in capsys.readouterr().out


def test_a_dry_run_shows_names_as_they_stand(in_process: Command) -> None:
    """The same for a workflow type, which may be called anything."""
    done = in_process("launch", "--dry-run", "--count", 1, "--address", "127.0.0.1:1", "--workflow-type", "My[/x] :x:")
    assert (done.code, "1 x My[/x] :x: on" in done.out) == (0, True)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(unbuffered: str) -> None:
    """Output that nobody can take is said in one line with exit code 1, buffered by the interpreter or not."""
    with Path("/dev/full").open("w") as full:
        environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run(
            arguments_of(("table",)), stdout=full, stderr=subprocess.PIPE, text=True, env=environment, timeout=60
        )
    assert (done.returncode, done.stderr) == (1, "capacity: No space left on device\n")


def test_a_reader_that_leaves_is_no_error() -> None:
    """What is cut short by `head` says nothing."""
    reading, writing = os.pipe()
    os.close(reading)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        arguments_of(("table",)), stdout=writing, stderr=subprocess.PIPE, text=True, env=environment, timeout=60
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    "words",
    [
        ("sweep", "--note", b"caf\xe9"),
        ("sweep", "--out", b"caf\xe9.json"),
        ("launch", "--count", "5", b"--memo=a=\xe9"),
    ],
)
def test_a_word_that_no_record_can_hold_is_refused(words: tuple[str | bytes, ...], state_folder: str) -> None:
    """A note in another encoding than UTF-8 is refused before anything is measured, wherever it was typed."""
    given = [*arguments_of(()), *words]
    done = subprocess.run(given, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "\\udce9" in done.stderr
    assert done.stderr.endswith(" is not UTF-8; type it, or name the file, in UTF-8\n")


@pytest.fixture
def unread() -> Iterator[int]:
    """A pipe that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


def test_words_that_nobody_takes_cost_nothing(unread: int) -> None:
    """A warning that cannot be told ends no command, and what it prints is whole."""
    environment = os.environ | {"SCHEDULER_BATCH_MAX_PARALLELISM": "3"}
    done = [
        subprocess.run(arguments_of(("plan",)), stdout=subprocess.PIPE, stderr=taken, env=environment, timeout=60)
        for taken in (subprocess.PIPE, unread)
    ]
    assert b"warning" in done[0].stderr
    assert (done[1].returncode, done[1].stdout) == (0, done[0].stdout)


@pytest.mark.peer
def test_a_launch_outlives_whoever_watched_it(
    stub: Callable[..., tuple[str, int]], state_folder: str, unread: int
) -> None:
    """Whoever cuts the progress short with `head` still gets the batch, its record and the summary."""
    words = ("launch", "--count", 20, "--address", stub()[0], "--no-verify")
    done = subprocess.run(arguments_of(words), stdout=subprocess.PIPE, stderr=unread, timeout=60)
    assert (done.returncode, b"20 started" in done.stdout) == (0, True)
    assert past_run("last").record is not None


@pytest.mark.peer
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_record_is_written_before_it_is_told(
    stub: Callable[..., tuple[str, int]], state_folder: str, tmp_path: Path
) -> None:
    """A summary that nobody can take costs no record where one was asked for."""
    words = ("launch", "--count", 20, "--address", stub()[0], "--no-verify", "--record", tmp_path / "r.json")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(arguments_of(words), stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 1
    assert Run.load(tmp_path / "r.json").scheduled == 20


def test_a_closed_output_is_no_error() -> None:
    """With standard output closed a command has nowhere to print and ends as it would."""
    words = " ".join(map(shlex.quote, arguments_of(("table",))))
    done = subprocess.run(["sh", "-c", f"{words} >&-"], stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_the_locale_has_not_is_told_by_its_number(capacity: Command, tmp_path: Path) -> None:
    """A letter that the terminal cannot show is an escape, not a traceback; as JSON it is the same letter."""
    described = tmp_path / "c.toml"
    described.write_text(shipped.path("clusters", "postgres-dev").read_text().replace("PostgreSQL dev stack", "käse😀"))
    assert "k\\u00e4se\\ud83d\\ude00" in capacity("limits", described, PYTHONIOENCODING="ascii").out
    kept = recorded(journal="/tmp/µ")
    kept.save(tmp_path / "r.json")
    done = capacity("runs", "show", tmp_path / "r.json", "--format", "json", PYTHONIOENCODING="ascii")
    assert json.loads(done.out)["journal"] == "/tmp/µ"


def test_a_result_that_cannot_be_written_is_no_misuse(tmp_path: Path) -> None:
    """After hours of measuring exit code 2 would be wrong: the result was printed, and that is said."""
    with pytest.raises(CapacityError, match="the result stands above") as raised:
        write(tmp_path / "gone" / "c.json", "{}", Format.JSON)
    assert not isinstance(raised.value, UsageError)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The first thing to say in a report of a defect."""
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"capacity {__version__}\n"


def test_a_long_file_is_said_to_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody waits without a word for a minute; for a short file there is no need of one."""
    items = tmp_path / "items.csv"
    items.write_text("id\na\nb\n")
    for long, said in ((8, ""), (7, f"reading {items}, 7 B, to count its items\n")):
        monkeypatch.setattr(launching, "LONG", long)
        assert launching.batch(None, None, None, items, None, StartOptions()).count == 2
        assert capsys.readouterr().err == said
