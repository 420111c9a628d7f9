"""`capacity rollback` as a user runs it, and its settings on a real launch."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from capacity.cli import run
from capacity.cluster.devserver import DevServer
from capacity.observe.history import runs_folder
from capacity.observe.run import Run
from capacity.rules import PoolRules, available_cpus, parallelism
from tests.cli.conftest import Command, arguments_of
from tests.verdict.recorded import recorded

Capture = pytest.CaptureFixture[str]
CPUS = available_cpus().count
FOUR_X = parallelism(CPUS).value
TWO_X = parallelism(CPUS, rules=PoolRules(multiplier=2)).value


@pytest.fixture(autouse=True)
def no_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCHEDULER_MAX_PARALLELISM", raising=False)


def printed(capsys: Capture, *words: str) -> dict[str, Any]:
    assert run(["rollback", "--format", "json", *words]) == 0
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    return data


def test_json_has_before_after_and_every_way(capsys: Capture) -> None:
    """On 32 CPUs from 4x to 2x: 128, 64, five ways and how to verify."""
    data = printed(capsys, "--to", "2x", "--cpus", "32")
    assert (data["from"], data["parallelism_before"], data["parallelism_after"]) == ("4x", 128, 64)
    assert list(data["ways"]) == ["environment", "systemd", "kubernetes", "go", "python"]
    assert data["ways"]["environment"]["setting"] == "export SCHEDULER_MAX_PARALLELISM=64"
    assert len(data["verify"]) == 6


def test_text_fits_80_columns_and_warns_of_what_does_nothing(capsys: Capture) -> None:
    """The text has each setting, the way to verify it and the name to the letter."""
    assert run(["rollback", "--to", "2x", "--cpus", "32"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    for words in ("Environment", "systemd", "Kubernetes", "Go code", "Python code", "Verify", "to the letter"):
        assert words in out


def test_back_to_what_a_run_had(capsys: Capture, state_folder: str) -> None:
    """A run named as its record says how many it had in flight."""
    record = recorded(parallelism=48)
    record.save(runs_folder() / f"{record.run_id}.json")
    assert printed(capsys, "last", "--cpus", "32")["parallelism_after"] == 48


def test_a_run_at_a_rate_is_no_way_back(capsys: Capture, state_folder: str) -> None:
    """The 512 that it might have had in flight are none that anybody chose."""
    record = recorded(parallelism=512)
    record = record.model_copy(update={"controller": record.controller.model_copy(update={"rate": 300.0})})
    record.save(runs_folder() / f"{record.run_id}.json")
    assert run(["rollback", "last"]) == 2
    assert "was launched at a rate of 300/s, with no number in flight" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "where to go back to is not said"),
        (["last", "--to", "2x"], "both RUN and --to"),
        (["--to", "auto"], "--to is 'auto'"),
        (["--to", "2x", "--from", "fast"], "--from is 'fast'"),
        (["--to", "2x", "--cpus", "0"], "--cpus is 0"),
        (["--to", "2x", "--pid", "0"], "--pid is 0"),
        (["--to", "2x", "--pid", "many"], "'many'"),
        (["nowhere"], "no runs match"),
        (["--to", "2x", "--only", "cron"], "'cron' is not one of"),
        (["--to", "2x", "--only", "go", "--log", "-"], "--only prints a setting alone"),
        (["--to", "2x", "--log", "/nowhere.log"], "log /nowhere.log: No such file"),
    ],
)
def test_wrong_input_is_one_line(capsys: Capture, state_folder: str, words: list[str], expected: str) -> None:
    """Each mistake is one line with its value, and code 2."""
    assert run(["rollback", *words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert expected in line


def test_one_setting_alone_is_to_the_letter(capsys: Capture) -> None:
    """--only prints what is to be written and nothing else, so that a shell or kubectl can read it."""
    for name, way in printed(capsys, "--to", "2x", "--cpus", "32")["ways"].items():
        assert run(["rollback", "--to", "2x", "--cpus", "32", "--only", name]) == 0
        assert capsys.readouterr().out == way["setting"] + "\n"


def test_a_schedulers_own_log_proves_it(capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Exit code 0 once the log's last batch has the wanted number, 1 before, from a file and from standard input."""
    line = "level=info msg=done scheduled=5000 failed=0 parallelism={}\n"
    (tmp_path / "s.log").write_text(line.format(128))
    words = ["rollback", "--to", "2x", "--cpus", "32", "--log"]
    assert run([*words, str(tmp_path / "s.log")]) == 1
    assert "NOT the 64 wanted: the setting did not reach it" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr(sys, "stdin", io.StringIO(line.format(128) + line.format(64)))
    assert run([*words, "-", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["log"]["parallelism"], found["log"]["honoured"]) == (64, True)
    record = recorded(parallelism=64)
    record.save(tmp_path / "run.json")
    assert run([*words, str(tmp_path / "run.json")]) == 0
    (tmp_path / "s.log").write_text("nothing\n")
    assert run([*words, str(tmp_path / "s.log")]) == 1
    assert "no line tells how many are in flight" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [("64", 0), ("128", 1)])
def test_the_drop_ins_own_check_asks_the_process(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: str, code: int
) -> None:
    """The last command of the drop-in sees what the unit's process was given, whichever file set it."""
    command = printed(capsys, "--to", "2x", "--cpus", "32")["ways"]["systemd"]["commands"][-1]
    process = subprocess.Popen(["sleep", "60"], env={**os.environ, "SCHEDULER_MAX_PARALLELISM": number})
    try:
        systemctl = tmp_path / "systemctl"
        systemctl.write_text(f'#!/bin/sh\n[ "$*" = "show scheduler -p MainPID --value" ] && echo {process.pid}\n')
        systemctl.chmod(0o755)
        path = os.pathsep.join((str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]))
        done = subprocess.run(["sh", "-c", command], env={**os.environ, "PATH": path}, capture_output=True, timeout=60)
    finally:
        process.kill()
        process.wait()
    assert done.returncode == code, done.stderr


# -- each printed way, done --------------------------------------------------------------------------------------------


def launching(server: DevServer, chain: str, *more: object) -> str:
    words = ("launch", "--address", server.address, "--chain-id", chain, "--parallelism", "4x", *more)
    return " ".join(f"'{word}'" for word in arguments_of(words))


def shell(script: str, state_folder: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "SCHEDULER_"))}
    environment = kept | {"CAPACITY_STATE_DIR": state_folder}
    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.devserver
def test_the_printed_environment_rolls_a_4x_launcher_back(
    devserver: DevServer, capsys: Capture, state_folder: str, tmp_path: Path
) -> None:
    """A 4x launch has 4x in its record before, and 2x after the printed line; the misspelt name changes nothing."""
    assert TWO_X < FOUR_X  # else nothing could be seen
    setting = printed(capsys, "--to", "2x")["ways"]["environment"]["setting"]
    misspelt = setting.replace("SCHEDULER_MAX", "SCHEDULER_BATCH_MAX")
    seen = []
    for i, line in enumerate(("true", setting, misspelt)):
        record = tmp_path / f"{i}.json"
        shell(f"{line}; exec {launching(devserver, f'roll{i}', '--count', 40, '--record', record)}", state_folder)
        seen.append(Run.load(record).parallelism)
    assert seen == [FOUR_X, TWO_X, FOUR_X]


@pytest.mark.devserver
def test_the_printed_code_rolls_back(devserver: DevServer, capsys: Capture, state_folder: str) -> None:
    """The printed Python line, run as it is, launches with 2x, and its record says so."""
    import capacity
    from capacity.cluster.target import Target

    code = printed(capsys, "--to", "2x")["ways"]["python"]["setting"]
    names: dict[str, Any] = {
        "asyncio": asyncio,
        "capacity": capacity,
        "batch": capacity.HeightRange(40, "rollcode"),
        "target": Target(devserver.address),
    }
    exec(code, names)
    assert names["run"].parallelism == TWO_X
    assert names["run"].complete


@pytest.mark.devserver
def test_the_printed_verification_shows_it(
    devserver: DevServer, capsys: Capture, state_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The printed dry run, run as it is in a shell, names the variable and the number, and starts nothing."""
    data = printed(capsys, "--to", "2x")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "SCHEDULER_"))}
    environment = kept | {"TEMPORAL_ADDRESS": devserver.address}
    done = subprocess.run(["sh", "-c", data["verify"][0]], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"{TWO_X} in flight: SCHEDULER_MAX_PARALLELISM {TWO_X}" in done.stdout
    assert "nothing was started" in done.stdout


@contextmanager
def launched(
    server: DevServer, state_folder: str, *more: object, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """A launcher that runs until it is interrupted."""
    words = ("launch", "--address", server.address, "--chain-id", f"pid{os.urandom(3).hex()}", "--parallelism", "4x")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "SCHEDULER_"))}
    process = subprocess.Popen(
        arguments_of((*words, "--count", 100_000, *more)),
        env=kept | {"CAPACITY_STATE_DIR": state_folder} | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.devserver
def test_a_running_launcher_is_checked_for_it(devserver: DevServer, capacity: Command, state_folder: str) -> None:
    """--pid says of a running 4x launcher that it is not back, and of one with the variable that it is.

    What it says of the second is what that launcher's own metrics say, and its own record at its end.
    """
    with launched(devserver, state_folder, SCHEDULER_BATCH_MAX_PARALLELISM=str(TWO_X)) as process:
        done = capacity("rollback", "--to", "2x", "--pid", process.pid)
    assert done.code == 1
    assert f"NOT the {TWO_X} wanted" in " ".join(done.out.split())
    assert "SCHEDULER_BATCH_MAX_PARALLELISM is set, but only SCHEDULER_MAX_PARALLELISM is read" in done.err
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    more = ("--metrics-port", port)
    with launched(devserver, state_folder, *more, SCHEDULER_MAX_PARALLELISM=str(TWO_X)) as process:
        assert process.stderr is not None
        process.stderr.readline()  # its first progress: it launches
        done = capacity("rollback", "--to", "2x", "--pid", process.pid, "--format", "json")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    found = json.loads(done.out)["process"]
    assert (done.code, found["honoured"], found["parallelism"]) == (0, True, TWO_X)
    assert found["served"] == TWO_X
    last = json.loads(capacity("runs", "show", "last", "--format", "json").out)
    assert last["parallelism"] == TWO_X
