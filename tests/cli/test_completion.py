"""Shell completion, driven as a shell drives it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from capacity.cli import launch, run
from capacity.launcher.batch import ON_EXISTING
from capacity.model import shipped
from capacity.observe.history import runs_folder
from tests.cli.test_table import HEAVY
from tests.verdict.recorded import recorded

Complete = Callable[[str], list[str]]


@pytest.fixture
def complete(state_folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Complete:
    """What bash is offered for the last word of a line, asked for as its script asks: by the environment."""

    def ask(line: str) -> list[str]:
        words = line.split(" ")
        variables = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_CAPACITY_COMPLETE": "complete_bash"}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run([])
        assert ended.value.code == 0
        return capsys.readouterr().out.split()

    return ask


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("capacity ro", ["rollback"]),
        ("capacity cluster ", ["up", "run", "status", "down"]),
        ("capacity plan --cl", ["--cluster", "--claim"]),
        ("capacity size --form", ["--format"]),
        ("capacity plan --cluster ", [*shipped.names("clusters")]),
        ("capacity limits post", ["postgres-dev"]),
        ("capacity score ", [*shipped.names("calibrations")]),
        ("capacity what-if --calibration p", ["postgres"]),
        ("capacity table --format ", ["text", "json", "markdown", "csv"]),
        ("capacity alerts --format ", ["prometheus", "grafana"]),
        ("capacity cluster up --store ", ["sqlite", "postgres"]),
        ("capacity rollback --only k", ["kubernetes"]),
        ("capacity launch --on-existing re", ["rerun-failed", "rerun"]),
        ("capacity launch --parallelism ", ["auto", "2x", "4x", "8x"]),
        ("capacity what-if --parallelism ", ["2x", "4x", "8x"]),
        ("capacity alerts --parallelism ", ["2x", "4x", "8x"]),
        ("capacity levers --parallelism ", ["2x", "4x", "8x"]),
    ],
)
def test_names_options_and_values_are_completed(line: str, offered: list[str], complete: Complete) -> None:
    """Commands, subcommands, options, and each value that is one of a few."""
    assert sorted(complete(line)) == sorted(offered)


@pytest.mark.parametrize("line", ["capacity runs show ", "capacity check ", "capacity check last --baseline "])
def test_runs_are_completed(line: str, complete: Complete) -> None:
    """The ids of the runs of this machine, and ``last``."""
    for run_id in ("20261125-040000-abcdef", "20261125-050000-abcdef"):
        recorded(run_id=run_id).save(runs_folder() / f"{run_id}.json")
    assert complete(line) == ["last", "20261125-050000-abcdef", "20261125-040000-abcdef"]
    assert complete(f"{line}20261125-04") == ["20261125-040000-abcdef"]


def test_what_an_existing_id_may_mean_is_what_the_launcher_knows() -> None:
    """The values that the command line offers are those that a batch takes."""
    assert set(launch.ON_EXISTING) == set(ON_EXISTING)


@pytest.mark.slow
def test_bash_completes_by_the_script_that_capacity_writes(tmp_path: Path, state_folder: str) -> None:
    """Sourced in a real bash the script offers what is asked for, and neither it nor a run id imports what is heavy."""
    recorded().save(runs_folder() / "20261125-040000-abcdef.json")
    program = tmp_path / "capacity"
    held = f"print(*sorted({HEAVY!r} & set(sys.modules)), file=open({str(tmp_path / 'held')!r}, 'a'))"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nfrom capacity.cli import main\ntry:\n    main()\nfinally:\n    {held}\n"
    )
    program.chmod(0o755)
    script = """
        eval "$(_CAPACITY_COMPLETE=source_bash capacity)"
        for line in "capacity plan --cluster post" "capacity runs show 2026" "capacity fleet "; do
            IFS=' ' read -ra COMP_WORDS <<< "$line"
            [[ $line == *' ' ]] && COMP_WORDS+=("")
            COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
            COMPREPLY=()
            _capacity_completion capacity
            echo "${COMPREPLY[@]}"
        done
    """
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PATH": path, "CAPACITY_STATE_DIR": state_folder},
        check=True,
    )
    assert done.stdout.splitlines() == ["postgres-dev", "20261125-040000-abcdef", "worker status pause resume cancel"]
    assert (tmp_path / "held").read_text().split() == []
