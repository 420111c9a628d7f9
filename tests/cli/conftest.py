"""Running the command line as a user does: a process of its own, its exit code, its two streams."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Finished:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line in which it said what was wrong."""
        assert "Traceback" not in self.err
        lines = [line for line in self.err.splitlines() if line.startswith("capacity: ")]
        assert len(lines) == 1, self.err
        return lines[0]


Command = Callable[..., Finished]


def arguments_of(words: tuple[object, ...]) -> list[str]:
    return [sys.executable, "-m", "capacity", *map(str, words)]


@pytest.fixture
def in_process(state_folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The same within the process of the tests: for what is refused before anything begins, in a tenth of the time."""
    from capacity.cli import run as command

    def run(*words: object, **environment: str) -> Finished:
        for name in [name for name in os.environ if name.startswith(("TEMPORAL_", "SCHEDULER_"))]:
            monkeypatch.delenv(name)
        for name, value in ({"CAPACITY_STATE_DIR": state_folder, "COLUMNS": "80"} | environment).items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        code = command([*map(str, words)])
        said = capsys.readouterr()
        return Finished(code, said.out, said.err)

    return run


@pytest.fixture
def capacity(state_folder: str) -> Command:
    """``capacity("launch", "--count", 5)`` runs the command with a state folder of the test's own."""

    def run(*words: object, **environment: str) -> Finished:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "SCHEDULER_"))}
        done = subprocess.run(
            arguments_of(words),
            capture_output=True,
            text=True,
            timeout=240,
            env=kept | {"CAPACITY_STATE_DIR": state_folder, "COLUMNS": "80"} | environment,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return run
