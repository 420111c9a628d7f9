"""The way back: each printed setting gives the parallelism it promises, and a process is checked for it."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from capacity.errors import CapacityError, UsageError
from capacity.launcher.settings import controller_for
from capacity.rules import environment_override, parallelism, pool_plan
from capacity.rules.flight import flight_of
from capacity.verdict import running
from capacity.verdict.logged import logged
from capacity.verdict.rollback import rollback
from tests.conftest import Require
from tests.verdict.recorded import recorded

CASES = [("2x", 32, 64), ("2x", 1, 2), ("64", 32, 64), ("1", 32, 1), ("1024", 8, 512), ("8x", 128, 512)]


def variable(text: str) -> dict[str, str]:
    """The variables that a piece of text sets, as NAME=VALUE."""
    return dict(re.findall(r"\b(SCHEDULER\w*)=(\w+)", text))


@pytest.mark.parametrize(("to", "cpus", "value"), CASES)
def test_the_setting_is_what_the_rules_give(to: str, cpus: int, value: int) -> None:
    """Environment, drop-in and patch carry the number of the rules, and reading it back gives that parallelism."""
    found = rollback(flight_of(to), cpus=cpus)
    assert found.after.value == value
    drop_in = configparser.ConfigParser()
    drop_in.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have capitals
    drop_in.read_string(found.way("systemd").setting)
    patch = yaml.safe_load(found.way("kubernetes").setting)
    [container] = patch["spec"]["template"]["spec"]["containers"]
    settings = [
        variable(found.way("environment").setting),
        variable(drop_in["Service"]["Environment"]),
        {each["name"]: each["value"] for each in container["env"]},
    ]
    for each in settings:
        assert all(isinstance(text, str) for text in each.values())  # Kubernetes refuses a number here
        assert environment_override(each).warnings == ()
        assert pool_plan(cpus, environment=each).parallelism.value == value


@pytest.mark.parametrize(("to", "cpus", "value"), CASES)
def test_the_python_line_is_python_and_asks_for_it(to: str, cpus: int, value: int) -> None:
    """The printed call parses, and what it passes as parallelism comes to the promised number."""
    call = ast.parse(rollback(flight_of(to), cpus=cpus).way("python").setting)
    [wanted] = [
        k.value for n in ast.walk(call) if isinstance(n, ast.Call) for k in n.keywords if k.arg == "parallelism"
    ]
    passed = ast.literal_eval(wanted)
    asked = flight_of(str(passed)).on(cpus)
    assert asked.value == value


@pytest.mark.parametrize("to", ["2x", "64"])
def test_what_made_it_128_does_not_outlast_the_way_back(to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where 128 was set by the variable or by `systemctl edit`, the Python line and the drop-in still come to 64."""
    found = rollback(flight_of(to), cpus=32)
    monkeypatch.setenv("SCHEDULER_MAX_PARALLELISM", "128")
    [passed] = re.findall("parallelism=(.*?)[)]", found.way("python").setting)
    assert controller_for(ast.literal_eval(passed))[0].limit == 64
    assert found.way("go").commands[0].startswith("unset SCHEDULER_MAX_PARALLELISM")
    assert max("override.conf", "50-memory.conf", Path(found.way("systemd").where).name) == "zz-parallelism.conf"


@pytest.mark.peer
@pytest.mark.parametrize("to", ["2x", "3"])
def test_the_go_code_compiles_and_gives_it(to: str, tmp_path: Path, require: Require) -> None:
    """The printed function, built by a real Go, gives the rules' number, and the variable wins over it."""
    go = shutil.which("go") or shutil.which("go", path=str(Path(sys.executable).parent))
    require(go is not None, "Go")
    found = rollback(flight_of(to), cpus=os.cpu_count())
    body = found.way("go").setting
    imports = '"fmt"\n"os"\n"strconv"\n' + ('"runtime"\n' if "runtime." in body else "")
    source = f"package main\nimport (\n{imports})\n{body}\nfunc main() {{ fmt.Println(parallelism()) }}\n"
    (tmp_path / "main.go").write_text(source)
    (tmp_path / "go.mod").write_text("module rollback\n\ngo 1.21\n")
    program = tmp_path / "rollback"
    subprocess.run([str(go), "build", "-o", str(program), "."], cwd=tmp_path, check=True, timeout=240)

    def printed(**environment: str) -> int:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SCHEDULER_")}
        return int(subprocess.run([program], env=kept | environment, capture_output=True, check=True).stdout)

    usable = len(os.sched_getaffinity(0))  # what Go counts as its CPUs
    assert printed() == flight_of(to).on(usable).value
    assert printed(SCHEDULER_MAX_PARALLELISM="5") == 5
    assert printed(SCHEDULER_MAX_PARALLELISM="1024") == 512
    assert printed(SCHEDULER_BATCH_MAX_PARALLELISM="5") == flight_of(to).on(usable).value


def test_before_and_after_are_the_rules_on_the_named_cpus() -> None:
    """On 32 CPUs 4x is 128 and 2x is 64, each with its reason."""
    found = rollback(flight_of("2x"), source=flight_of("4x"), cpus=32)
    assert (found.before.value, found.after.value) == (128, 64)
    assert found.before.reason == "32 CPUs x 4 = 128"
    assert "64 is 2x on 32 CPUs" in " ".join(found.notes)


def test_the_way_back_tells_what_the_originals_code_read() -> None:
    """Its document's variable did nothing there: the notes name the one its code read, and the code that reads ours."""
    [note] = [note for note in rollback(flight_of("2x"), cpus=32).notes if "SCHEDULER_BATCH_MAX_PARALLELISM" in note]
    assert "code read SCHEDULER_BATCH_MAX_PARALLELISM" in note
    assert "change it to the Go code here, or set the name that it reads" in note


@pytest.mark.parametrize(
    ("source", "to", "cpus", "told"), [("4x", "2x", 32, False), ("2x", "4x", 32, True), ("8x", "4x", 200, True)]
)
def test_what_takes_nothing_back_is_told(source: str, to: str, cpus: int, told: bool) -> None:
    """Going up, or from one number to the same (both are cut to 512), is named before all else."""
    found = rollback(flight_of(to), source=flight_of(source), cpus=cpus)
    assert ("this is no way back" in found.notes[0]) is told


@pytest.mark.parametrize("text", ["auto", "0", "0x", "-4", "2.5x", "", "x", "64 ", "٤"])
def test_only_a_number_or_a_multiplier_is_a_way_back(text: str) -> None:
    """What is neither is refused by value; spaces around it do not matter."""
    if text.strip() == "64":
        assert flight_of(text).number == 64
        return
    with pytest.raises(UsageError, match="--to is"):
        flight_of(text, "--to")


# -- the running process -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "arguments", "uses"),
    [
        ({}, ["scheduler"], 128),
        ({"SCHEDULER_MAX_PARALLELISM": "64"}, ["scheduler"], 64),
        ({"SCHEDULER_MAX_PARALLELISM": "0"}, ["scheduler"], 128),
        ({"SCHEDULER_MAX_PARALLELISM": "9999"}, ["scheduler"], 512),
        ({"SCHEDULER_BATCH_MAX_PARALLELISM": "64"}, ["scheduler"], 128),
        ({"SCHEDULER_MAX_PARALLELISM": "64"}, ["capacity", "launch", "--parallelism", "4x"], 64),
        ({"SCHEDULER_MAX_PARALLELISM": "64"}, ["capacity", "launch", "--parallelism=100"], 100),
        ({}, ["capacity", "launch", "--parallelism", "2x"], 64),
        ({}, ["capacity", "launch"], None),
        ({"SCHEDULER_MAX_PARALLELISM": "64"}, ["capacity", "launch"], 64),
        ({"SCHEDULER_MAX_PARALLELISM": "64"}, ["capacity", "launch", "--parallelism", "auto"], None),
        ({"SCHEDULER_MAX_PARALLELISM": "64"}, ["capacity", "launch", "--rate", "300"], None),
    ],
)
def test_what_a_process_uses_on_32_cpus(environment: dict[str, str], arguments: list[str], uses: int | None) -> None:
    """The variable by its exact name, a number on the command line over it, else the CPU rule; auto has no number."""
    found = running.honoured(7, environment, arguments, 64, 32)
    assert (found.parallelism.value if found.parallelism else None) == uses
    assert found.honoured is (uses == 64)
    assert ("300 starts/s are due" in found.sentence()) is ("--rate" in arguments)
    assert ("auto: it finds" in found.sentence()) is (uses is None and "--rate" not in arguments)


@pytest.mark.parametrize(
    ("words", "served", "back"),
    [
        ((), 64, False),
        (("--parallelism", "auto"), 64, False),
        (("--rate", "300"), 64, False),
        (("--parallelism", "2x"), 64, True),
        (("--parallelism", "2x"), 48, False),
    ],
)
def test_a_launch_that_happens_to_have_the_number_is_not_back(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], served: int, back: bool
) -> None:
    """By its metrics a launch is back only where a number was set: auto and a rate have another one a moment later."""
    monkeypatch.setattr(running, "served", lambda _: served)
    found = running.honoured(7, {}, ["capacity", "launch", "--metrics-port", "9000", *words], 64, 32)
    assert (found.served, found.honoured) == (served, back)
    assert ("no number was set" in found.sentence()) is (found.parallelism is None)


def test_the_originals_variable_is_caught() -> None:
    """SCHEDULER_BATCH_MAX_PARALLELISM, which the original's code read, is named as what changes nothing."""
    found = running.honoured(7, {"SCHEDULER_BATCH_MAX_PARALLELISM": "64"}, ["scheduler"], 64, 32)
    assert not found.honoured
    assert "SCHEDULER_BATCH_MAX_PARALLELISM is set" in found.warnings[0]
    assert "NOT the 64 wanted" in found.sentence()


@contextmanager
def sleeping(**environment: str) -> Iterator[int]:
    """A real process with these variables."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SCHEDULER_")}
    process = subprocess.Popen(["sleep", "60"], env=kept | environment)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def test_a_real_process_is_read() -> None:
    """The environment a process was started with is read from it, and its CPUs are those of its affinity."""
    with sleeping(SCHEDULER_MAX_PARALLELISM="3", OTHER="a=b") as pid:
        found = running.running(pid, 3)
        assert running.read_environment(pid)["OTHER"] == "a=b"
    assert (found.honoured, found.variable) == (True, "3")
    with sleeping(SCHEDULER_MAX_PARALELISM="3") as pid:
        found = running.running(pid, 3, cpus=32)
    assert (found.honoured, found.parallelism, len(found.warnings)) == (False, parallelism(32), 1)


def test_a_variable_that_is_no_number_is_named_with_its_process() -> None:
    """A process with an unusable value is one line, not a guess."""
    with (
        sleeping(SCHEDULER_MAX_PARALLELISM="many") as pid,
        pytest.raises(CapacityError, match=f"process {pid}: .*many"),
    ):
        running.running(pid, 3)


def test_a_process_that_is_gone_is_one_line() -> None:
    """A pid without a process is misuse, by its number."""
    with sleeping() as pid:
        pass
    with pytest.raises(UsageError, match=f"--pid is {pid}: no such process"):
        running.running(pid, 3)


@pytest.mark.slow
def test_a_process_that_has_ended_but_is_still_listed_is_one_line() -> None:
    """A process that ended and was not waited for has no environment, which is not one without the variable."""
    process = subprocess.Popen(["true"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read()  # until it has ended
    try:
        with pytest.raises(UsageError, match="has ended, or belongs to the kernel"):
            running.running(process.pid, 3, cpus=2)
    finally:
        process.wait()
        process.stdout.close()


def test_without_proc_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where there is no /proc the refusal names it."""
    monkeypatch.setattr(running, "PROC", tmp_path / "proc")
    with pytest.raises(UsageError, match="needs /proc"):
        running.running(1, 3)


def test_what_may_not_be_read_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment that cannot be read says why, and as whom to ask."""
    (tmp_path / "7" / "environ").mkdir(parents=True)
    (tmp_path / "7" / "cmdline").write_text("scheduler")
    monkeypatch.setattr(running, "PROC", tmp_path)
    with pytest.raises(CapacityError, match=r"cannot read the environment of process 7: .*as root"):
        running.running(7, 3, cpus=2)


# -- the scheduler's own log -------------------------------------------------------------------------------------------

DONE = 'msg="Batch workflow scheduling completed" chain_id=1 scheduled={} failed={} parallelism={}'
JSON_LINE = '{{"msg":"Batch workflow scheduling completed","scheduled":{},"failed":{},"parallelism":{}}}'


@pytest.mark.parametrize("form", [DONE, JSON_LINE])
@pytest.mark.parametrize(
    ("batches", "line", "value"),
    [
        ([(1000, 0, 64)], 1, 64),
        ([(1000, 0, 128), (1000, 0, 64)], 2, 64),
        ([(1000, 0, 64), (1000, 0, 128)], 2, 128),
        ([(1000, 0, 64), (64, 0, 64)], 1, 64),  # a batch of 64 hides a pool of 128: it does not tell
        ([(1000, 0, 64), (60, 40, 100)], 2, 100),  # a batch of 100 with 100 in flight refutes 64
        ([(1000, 0, 64), (10, 0, 10)], 1, 64),
        ([(10, 90, 64)], 1, 64),
    ],
)
def test_the_last_line_that_tells_counts(form: str, batches: list[tuple[int, int, int]], line: int, value: int) -> None:
    """Of a log the last batch larger than the pool tells; its number is cut to the batch, as the original's was."""
    found = logged(["started", *(form.format(*batch) for batch in batches), "idle"], 64, "s.log")
    assert (found.line - 1, found.parallelism, found.honoured) == (line, value, value == 64)
    assert ("as wanted" in found.sentence()) is (value == 64)


@pytest.mark.parametrize("indent", [1, None])
@pytest.mark.parametrize(("words", "set_"), [({"wanted": 64}, True), ({"wanted": "auto"}, False), ({"rate": 9}, False)])
def test_a_record_that_ends_with_the_number_by_chance_is_not_back(
    words: dict[str, Any], set_: bool, indent: int | None
) -> None:
    """The last limit of a run on auto or at a rate is none that was set, whether or not it is the wanted one."""
    asked = controller_for(**words)[1]
    run = recorded(parallelism=64)
    run = run.model_copy(update={"controller": run.controller.model_copy(update={"asked": asked})})
    found = logged(run.model_dump_json(indent=indent).splitlines(), 64)
    assert (found.parallelism, found.honoured, found.number_set) == (64, set_, set_)
    assert ("no number was set" in found.sentence()) is not set_


def test_a_batch_that_does_not_tell_takes_no_number_back() -> None:
    """A later record of a batch on auto, too small to tell, leaves the number that an earlier line has set as it is."""
    small = '{"parallelism": 10, "scheduled": 10, "failed": 0, "controller": {"asked": "auto: the knee"}}'
    assert logged([DONE.format(1000, 0, 64), small], 64).honoured


@pytest.mark.parametrize("lines", [[], ["no number here"], [DONE.format(5, 0, 5)], ["max_parallelism=64"]])
def test_a_log_that_does_not_tell_proves_nothing(lines: list[str]) -> None:
    """Without a telling line nothing is said to be honoured: one line, and what to look for."""
    with pytest.raises(CapacityError, match="no line tells how many are in flight"):
        logged(lines, 64)
