"""The help of every command, its example, and the flags that commands have in common."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from capacity.cli import app
from capacity.observe.history import runs_folder
from tests.cli.conftest import Command
from tests.verdict.recorded import recorded

Found = tuple[str, Any]


def commands(command: Any, name: str = "capacity") -> Iterator[Found]:
    """Every command and subcommand with its full name."""
    yield name, command
    for word, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{name} {word}")


ALL = dict(commands(typer.main.get_command(app)))
EXAMPLES = sorted(
    {example for command in ALL.values() for example in re.findall(r"^ *Example: (.+)$", command.help, re.MULTILINE)}
)
WITHOUT_A_SERVER = re.compile(
    "capacity (table|plan|limits|size|what-if|score|alerts|rollback|check|runs (list|show)) ?"
)
OF_ONE_COMMAND = {
    "--cpus": "table takes several",
    "--format": "alerts prints rules or a dashboard, watch an object a sample",
    "--fleet": "plan simulates as many processes, launch uses the fleet that is there",
    "--parallelism": "sweep takes several, plan those of a fleet, a model has no auto",
    "--out": "some write what they print too, some in its place",
    "--seconds": "watch looks on, the others measure",
    "--store": "levers reads PostgreSQL only",
    "--processes": "size says how many are needed, the others how many to run here",
}
"""Options that mean more than one thing, and why."""


@pytest.mark.parametrize("name", ALL)
def test_help_fits_80_columns_and_shows_an_example(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line is wider, nothing is cut with an ellipsis, a listed command has one line, and there is an example."""
    monkeypatch.setenv("COLUMNS", "80")
    ALL[name].main(["--help"], prog_name=name, standalone_mode=False)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    assert [line for line in out.partition("Commands")[2].splitlines() if line.startswith("│  ")] == []
    assert f"Example: {name}" in out


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_can_be_typed(example: str) -> None:
    """Every command, option and value of it is one that there is."""
    words = shlex.split(example.partition(">")[0])
    name = next(" ".join(words[:n]) for n in (3, 2) if " ".join(words[:n]) in ALL)
    ALL[name].make_context(name, words[len(name.split()) :])


@pytest.mark.parametrize("example", [*filter(WITHOUT_A_SERVER.match, EXAMPLES)])
def test_an_example_without_a_server_works(
    example: str, in_process: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with 0, prints something and nothing wider than 80 columns, code and rules left aside."""
    monkeypatch.chdir(tmp_path)
    if "last" in example.split():
        record = recorded(rate=500)  # more than is predicted of the cluster of the example
        record.save(runs_folder() / f"{record.run_id}.json")
    Path("scheduler.log").write_text("scheduled=1000 failed=0 parallelism=64\n")
    words = shlex.split(example.partition(">")[0])[1:]
    done = in_process(*words)
    assert (done.code, bool(done.out)) == (0, True), done.err
    if words[0] != "alerts" and "json" not in words:
        assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize("example", [each for each in EXAMPLES if each.startswith("capacity launch")])
def test_a_launchs_example_is_a_launch(
    example: str, in_process: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --dry-run it says what it would send, as text and as JSON; what --resume goes on with is not there yet."""
    monkeypatch.chdir(tmp_path)
    Path("items.csv").write_text("id,order\nfirst,1\n")
    words = [word for word in shlex.split(example)[1:] if word != "--resume"]
    assert "nothing was started" in in_process(*words, "--dry-run").out
    old, new = (in_process(*words, "--dry-run", *form) for form in (("--json",), ("--format", "json")))
    assert re.sub("[0-9]{8}-[0-9]{6}-[0-9a-f]{6}", "", old.out) == re.sub("[0-9]{8}-[0-9]{6}-[0-9a-f]{6}", "", new.out)
    last = "first" if "--items" in words else f"mainnet:index-block:{int(words[words.index('--count') + 1]) - 1}"
    assert f'"workflowId": "{last}"' in new.out


def test_a_flag_means_the_same_in_every_command() -> None:
    """One name, one metavar and one help text, but for the few that mean something else in one command."""
    texts: dict[str, set[tuple[str | None, str | None]]] = defaultdict(set)
    for command in ALL.values():
        for parameter in command.params:
            for name in parameter.opts:
                texts[name].add((parameter.metavar, parameter.help) if name[:2] == "--" else (parameter.metavar, None))
    assert {name for name, found in texts.items() if len(found) > 1} == set(OF_ONE_COMMAND)


def test_a_namespace_is_reached_in_the_same_ways() -> None:
    """Whatever talks to a namespace takes profile, key, certificates and what the guard is to allow."""
    options = [{name for each in command.params for name in each.opts} for command in ALL.values()]
    ways = {"--address", "--profile", "--api-key", "--tls", "--tls-ca", "--tls-cert", "--tls-key", "--tls-server-name"}
    ways |= {"--allow-target"}
    assert [ways - found for found in options if "--namespace" in found and ways - found] == []


def test_past_runs_are_listed_whole(in_process: Command) -> None:
    """No column is cut, however long an address; a target that does not fit goes over the edge, the counts do not."""
    address = "temporal-frontend.staging.example.com:7233"
    record = recorded(seconds=300, rate=333333, address=address)
    record.save(runs_folder() / f"{record.run_id}.json")
    head, line = in_process("runs", "list").out.splitlines()
    assert head.split("  ")[-1] == "target"
    assert line.split() == [record.run_id, "99,999,900", "99,999,900", "0", "0", "333,333", address]


def test_what_prints_a_result_prints_it_as_json() -> None:
    """--format json, wherever a person might pipe; what prints none is named here."""
    without = {
        name.removeprefix("capacity ")
        for name, command in ALL.items()
        if not hasattr(command, "commands")
        and "--format" not in {name for each in command.params for name in each.opts}
    }
    steering = {
        "cluster up",
        "cluster run",
        "cluster down",
        "fleet worker",
        "fleet pause",
        "fleet resume",
        "fleet cancel",
    }
    assert without == steering | {"runs clean", "runs failed"}  # the last prints JSON lines anyway


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("table",), 0),
        (("size", "--target", "2000", "--p99", "0.0001"), 1),
        (("cluster", "status"), 1),
        (("cluster", "down"), 0),
        (("runs", "list"), 0),
        (("runs", "show", "last"), 2),
        (("runs", "list", "--format", "xml"), 2),
        (("launch",), 2),
        (("launch", "--count", "abc"), 2),
        (("soak", "--minutes", "abc"), 2),
        (("levers", "--parallelism", "513"), 2),
        (("what-if", "--parallelism", "many"), 2),
        (("nothing",), 2),
    ],
)
def test_exit_codes(words: tuple[str, ...], code: int, in_process: Command) -> None:
    """0 done, 1 a verdict of no or something missing, 2 misuse; an error is one line on standard error."""
    done = in_process(*words)
    assert done.code == code
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) == (1 if code == 2 or words == ("cluster", "status") else 0)
