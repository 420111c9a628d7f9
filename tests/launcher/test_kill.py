"""Launchers killed without a word: resumed, they leave every id on the server exactly once."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from real_server import runs_by_id

from capacity.cluster.devserver import DevServer
from capacity.launcher import outcome
from capacity.launcher.journal import Journal

pytestmark = pytest.mark.devserver
COUNT = 1200


def command(address: str, journal: Path, *more: str) -> list[str]:
    script = "from capacity.cli import main; main()"
    resume = ["--resume"] if journal.exists() else []
    options = ["--count", str(COUNT), "--chain-id", "kill", "--parallelism", "8", "--address", address]
    return [sys.executable, "-c", script, "launch", *options, "--journal", str(journal), *resume, *more]


def test_a_launcher_killed_at_random_instants_starts_each_id_once(devserver: DevServer, tmp_path: Path) -> None:
    """After 6 SIGKILLs at random instants and a resume, the server holds exactly N runs, each id once."""
    chance, journal, done = random.Random(5), tmp_path / "j", 0
    for _ in range(6):
        process = subprocess.Popen(
            command(devserver.address, journal), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and not (journal.exists() and before(journal) > done):
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.5))
        process.kill()
        assert process.wait() in (-signal.SIGKILL, 0)
        assert before(journal) >= done
        done = before(journal)
    assert done > 0
    last = subprocess.run(command(devserver.address, journal, "--json"), capture_output=True, check=True)
    run = json.loads(last.stdout)
    assert (run["scheduled"], run["failed"], run["not_attempted"], run["verified"]) == (COUNT, 0, 0, COUNT)
    assert run["session_scheduled"] < COUNT
    held = runs_by_id(devserver.address, "kill:index-block:", COUNT)
    assert (len(held), set(held.values())) == (COUNT, {1})


def before(journal: Path) -> int:
    """Items that a journal notes as started, looked at from outside."""
    return Journal.peek(journal).get(outcome.STARTED, 0)
