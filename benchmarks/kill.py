"""Kill the launcher at random instants of a batch, resume it each time, and ask the server what it holds.

Usage: python benchmarks/kill.py [--kills 20] [--count 5000] [--seed 1]

A dev server with a file store is started on a free port. Prints a line for each kill (when, what the journal noted
before and after) and at the end how many runs the server holds and whether each id is there exactly once; exits 1
if not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from capacity.cluster import devserver
from capacity.cluster.target import Target
from capacity.errors import JournalError
from capacity.launcher import outcome, service
from capacity.launcher.cleaning import of_run
from capacity.launcher.header import Header
from capacity.launcher.journal import Journal
from capacity.launcher.transport import connect

LIMITS = {"frontend.rps": "100000", "frontend.namespaceRPS": "100000", "history.rps": "100000"}
PREFIX = "kill:index-block:"


def noted(journal: Path) -> int:
    """Return the starts a journal notes; 0 while there is none."""
    try:
        return Journal.peek(journal).get(outcome.STARTED, 0)
    except JournalError:
        return 0


def launcher(address: str, journal: Path, count: int, *more: str) -> list[str]:
    """Return the command that launches or goes on with the batch."""
    resume = ["--resume"] if journal.exists() else []
    options = ["--count", str(count), "--chain-id", "kill", "--address", address, "--journal", str(journal)]
    return [sys.executable, "-c", "from capacity.cli import main; main()", "launch", *options, *resume, *more]


def killed(address: str, journal: Path, count: int, chance: random.Random, share: float) -> str:
    """Launch, kill at a random instant, and say what happened; `share` of the batch is left for later kills."""
    before = noted(journal)
    process = subprocess.Popen(launcher(address, journal, count), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    began, aim = time.monotonic(), before + chance.uniform(0, 2) * count * share
    while process.poll() is None and noted(journal) < aim and time.monotonic() - began < 60:
        time.sleep(0.005)
    time.sleep(chance.uniform(0, 0.1))
    process.kill()
    ended = process.wait()
    how = "killed" if ended == -9 else f"had ended with {ended}"
    return f"{how} after {time.monotonic() - began:5.1f} s, noted {before:5,} before and {noted(journal):5,} after"


async def runs_held(address: str, journal: Path, count: int) -> Counter[str]:
    """Count the runs per workflow id that the server lists with this run's memo."""
    async with connect(Target(address)) as connection:
        query = f"WorkflowId STARTS_WITH '{PREFIX}'"
        await service.settle(connection, query, count)
        run_id = Header.read(journal).run_id
        return Counter([execution.workflow_id async for execution in of_run(connection, query, run_id)])


def main() -> int:
    """Do it, print it, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CAPACITY_STATE_DIR"] = folder
        journal = Path(folder) / "journal"
        with devserver.running(dynamic_config=LIMITS, database=Path(folder) / "temporal.db") as server:
            for number in range(asked.kills):
                said = killed(server.address, journal, asked.count, chance, 0.9 / asked.kills)
                print(f"kill {number + 1:2}: {said}", flush=True)
            last = subprocess.run(
                launcher(server.address, journal, asked.count, "--json"), capture_output=True, text=True, check=False
            )
            if last.returncode:
                print(last.stderr.strip().splitlines()[-1])
                return 1
            run = json.loads(last.stdout)
            held = asyncio.run(runs_held(server.address, journal, asked.count))
            print(f"resumed: {run['session_scheduled']:,} started, {run['scheduled']:,} noted in all")
            print(f"verified: {run['verified']:,} of {asked.count:,}")
    twice = sum(runs > 1 for runs in held.values())
    print(f"the server holds {held.total():,} runs of {len(held):,} ids; {twice} ids more than once")
    return 0 if held.total() == len(held) == asked.count and run["verified"] == asked.count else 1


if __name__ == "__main__":
    sys.exit(main())
