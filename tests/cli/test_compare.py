"""`capacity compare` as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from capacity.cli.compare import report
from capacity.cluster.devserver import DevServer
from capacity.experiment.blocks import Block
from capacity.model.measurement import Flag, Point
from capacity.verdict.comparison import compare

from .conftest import Command, arguments_of


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("2x", "processes=0"), "setting 'processes=0': processes is '0'; allowed: processes=1 to 64"),
        (("2x", "many"), "setting is 'many'"),
        (("2x", "0x"), "the multiplier is 0"),
        (("2x", "4x", "--blocks", "1"), "blocks is 1; allowed: 2 to 200"),
        (("2x", "4x", "--seconds", "0"), "seconds is 0; allowed: 1 to 600"),
        (("2x", "4x", "--cpus", "0"), "--cpus"),
        (("2x", "4x", "--store", "mysql"), "'mysql' is not one of 'sqlite', 'postgres'"),
        (("2x", "shards=8"), "only with the store postgres"),
        (("2x", "unused-indexes=dropped"), "only with the store postgres"),
        (("2x", "4x", "--shards", "8"), "shards is given; allowed: only with the store postgres"),
        (("2x", "history.rps=9", "--address", "127.0.0.1:1"), "is not restarted with other keys"),
        (("2x", "4x", "--address", "127.0.0.1:1", "--store", "sqlite"), "exclude each other"),
        (("2x", "4x", "--cluster-cores", "4"), "add --address HOST:PORT"),
        (("2x", "4x", "--address", "temporal.prod.example:7233"), "--allow-target"),
        (("2x", "4x", "--out", "/nowhere/at/all.json"), "--out /nowhere/at/all.json cannot be written"),
        (("2x", "4x", "--parallelism", "banana"), "--parallelism does not go with 2x and 4x; both say how many"),
        (("2x", "history.rps=9", "--parallelism", "banana"), "--parallelism is 'banana'; allowed: 64, 4x or auto"),
        (("2x",), "Missing argument 'CANDIDATE'"),
    ],
)
def test_misuse_is_one_line(in_process: Command, words: tuple[str, ...], expected: str) -> None:
    """What is wrong with a request is said before anything is measured, with exit code 2."""
    done = in_process("compare", *words)
    assert done.code == 2
    assert expected in done.error
    assert done.out == ""


@pytest.mark.devserver
def test_a_short_comparison(capacity: Command, devserver: DevServer, tmp_path: Path) -> None:
    """2 against 128 in flight: lines as blocks come, the JSON of the issue on standard output and in the file."""
    out = tmp_path / "c.json"
    words = ("2x", "64x", "--cpus", 2, "--blocks", 2, "--seconds", 1, "--format", "json", "--out", out)
    done = capacity("compare", *words)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert json.loads(out.read_text()) == found
    assert {"throughput_ratio", "throughput_interval", "p99_ratio", "p99_interval", "verdict"} <= found.keys()
    assert found["p99_ratio"] > 3
    assert len(found["blocks"]) == 2
    assert {block["candidate"]["parallelism"] for block in found["blocks"]} == {128}
    assert "2 blocks of 2x (4 in flight) and 64x (128 in flight), 1 s each" in " ".join(done.err.split())
    assert "2/2" in done.err
    assert max(map(len, done.err.splitlines())) <= 80


@pytest.mark.devserver
def test_an_interrupt_keeps_whole_blocks(devserver: DevServer, state_folder: str) -> None:
    """One interrupt ends the comparison: exit code 130, the verdict of the blocks so far, no server left."""
    child = subprocess.Popen(
        arguments_of(("compare", "1", "2", "--seconds", "1", "--blocks", "50")),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"CAPACITY_STATE_DIR": state_folder},
    )  # fmt: skip
    assert child.stderr is not None
    seen = ""
    while "  2/50" not in seen and (line := child.stderr.readline()):
        seen += line
    servers = [process.pid for process in psutil.Process(child.pid).children() if process.name() == "temporal"]
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, seen + err
    assert "Traceback" not in err
    assert "of 50 blocks, which are kept" in err
    assert "2: throughput" in out
    assert len(servers) == 1
    assert not psutil.pid_exists(servers[0])


def test_the_widest_report_fits_80_columns() -> None:
    """Long names, large rates and long latencies stay within the terminal, notes included."""
    wide = Point(
        parallelism=512, seconds=5, starts=10, throughput=99999.4, mean=80, p50=90, p99=999.9, server_cpu=0.0999,
        database_cpu=0.0999, throttled=4, throttle_cause="PERSISTENCE_STORAGE_LIMIT", flag=Flag.THROTTLED,
    )  # fmt: skip
    block = Block(index=0, baseline_first=True, baseline=wide, candidate=wide)
    name = "64,history.shardIOConcurrency=4"
    lines = report(compare([block, block.model_copy(update={"index": 1})], name, f"auto,{name}", ["x" * 60] * 2))
    assert max(map(len, lines)) <= 80, lines
