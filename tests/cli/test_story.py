"""The story of the README's second half, run as it stands there: baseline, candidate, checklist, verdict, rollback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from capacity.cluster.devserver import DevServer
from capacity.observe.run import Run
from capacity.rules import PoolRules, available_cpus, parallelism

README = Path(__file__).parents[2] / "README.md"
FOUR_X = parallelism(available_cpus().count).value
TWO_X = parallelism(available_cpus().count, rules=PoolRules(multiplier=2)).value


def commands() -> list[str]:
    """The lines of shell between the README's two marks; one that ends with a backslash goes on in the next."""
    story = README.read_text(encoding="utf-8").split("<!-- story -->")[1].split("<!-- /story -->")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```", story, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", "").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def step_of(line: str) -> str:
    """The command a line runs, or a word of the shell."""
    found = re.findall(r"capacity ([a-z]+)", line)
    return found[-1] if found else line.split()[0]


def test_the_story_is_told_with_commands_there_are() -> None:
    """Every line is a command of ours, in the order baseline, candidate, checklist, verdict, rollback."""
    steps = ["cluster", "launch", "launch", "check", "compare", "rollback", "launch", "rollback", "cluster", "unset"]
    assert [step_of(line) for line in commands()] == steps


@pytest.mark.devserver
@pytest.mark.timeout(900)
def test_the_story_end_to_end(devserver: DevServer, state_folder: str, tmp_path: Path) -> None:
    """Run in order in one shell, each command ends as the README says, and the rolled-back launch has 2x in its record.

    `check` may find what the original called a failure, a p99 above 50 ms; it then says so and exits with 1.
    """
    told = commands()
    script = "".join(f'{line}\necho "@@ $?"\n' for line in told) + "env\n"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "SCHEDULER_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", f"trap 'capacity cluster down >/dev/null 2>&1' EXIT\n{script}"],
        cwd=tmp_path,
        env=kept | {"CAPACITY_STATE_DIR": state_folder, "COLUMNS": "80", "PATH": path},
        capture_output=True,
        text=True,
        timeout=800,
    )
    parts = re.split(r"^@@ (\d+)$", done.stdout, flags=re.MULTILINE)
    shown, codes = parts[:-1:2], [int(code) for code in parts[1::2]]
    names = [step_of(line) for line in told]
    assert "SCHEDULER_" not in parts[-1]  # a later launch of this shell is not held to the setting
    assert len(codes) == len(told), done.stdout + done.stderr
    for line, name, text, code in zip(told, names, shown, codes, strict=True):
        if name == "check":
            assert code == (1 if re.search(r"^FAIL: ", text, re.MULTILINE) else 0), text
            assert re.search(r"^pass +verified by the server", text, re.MULTILINE), text
            assert "baseline run:" in text
        else:
            assert code == 0, (line, text, done.stderr)
        assert max(map(len, text.replace(state_folder, "").splitlines()), default=0) <= 80, text
    runs = {name: Run.load(tmp_path / f"{name}.json") for name in ("baseline", "candidate", "back")}
    assert {name: run.parallelism for name, run in runs.items()} == {
        "baseline": TWO_X,
        "candidate": FOUR_X,
        "back": TWO_X,
    }
    assert all(run.complete and run.verified == run.count for run in runs.values())
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    for figure in ("throughput", "p99"):
        low, high = verdict[f"{figure}_interval"]
        assert 0 < low <= verdict[f"{figure}_ratio"] <= high
    assert verdict["verdict"] in " ".join(shown[names.index("compare")].split())
    assert "Traceback" not in done.stderr
