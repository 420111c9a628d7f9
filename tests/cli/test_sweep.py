"""`capacity sweep` as a user runs it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from capacity.cli import sweep, sweep_text
from capacity.cli.options import Format
from capacity.cluster import devserver as embedded
from capacity.cluster.devserver import DevServer
from capacity.cluster.target import Target
from capacity.errors import CapacityError
from capacity.experiment.sweep import Swept
from capacity.experiment.wanted import Wanted
from capacity.model.calibration import Calibration
from capacity.model.measurement import Conditions, Flag, LauncherMemory, Measurements, Point, Storage, StoreTimes

from .conftest import Command, arguments_of

WIDTH = 80


def point(parallelism: int = 4, **changed: object) -> Point:
    values: dict[str, object] = {"parallelism": parallelism, "seconds": 6.0, "starts": 600, "throughput": 100.0}
    values |= {"mean": 0.04, "p50": 0.03, "p99": 0.2, "in_flight": 4.0, "server_cpu": 0.003, "database_cpu": 0.0025}
    return Point.model_validate(values | changed)


def swept(*points: Point, left: int = 0, **more: object) -> Swept:
    conditions = Conditions(cluster_cpus=2, launcher_shares_cpus=True)
    measurements = Measurements.model_validate({"conditions": conditions, "points": points, **more})
    return Swept(measurements, False, None, left, "sweep-0123abcd")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--parallelism", ""), "--parallelism is empty"),
        (("--parallelism", "1,,2"), "--parallelism holds ''"),
        (
            ("--parallelism", "4x"),
            "--parallelism holds '4x'; allowed: whole numbers from 1 to 512, separated by commas",
        ),
        (("--parallelism", "0"), "--parallelism holds '0'; allowed: whole numbers from 1 to 512"),
        (("--parallelism", "1,513"), "--parallelism holds '513'; allowed: whole numbers from 1 to 512"),
        (("--holdout", "x"), "--holdout holds 'x'; allowed: whole numbers from 1 to 512"),
        (("--parallelism", "2,2"), "parallelism holds 2 twice"),
        (("--parallelism", "1,2", "--holdout", "2,4"), "--holdout and --parallelism share 2"),
        (("--holdout", ""), "--holdout is empty"),
        (("--holdout", "1,2,4,8,16,32,64,128"), "parallelism is empty"),
        (("--seconds", "0"), "seconds is 0; allowed: 1 to 600"),
        (("--seconds", "nan"), "seconds is nan"),
        (("--repeats", "0"), "repeats is 0"),
        (("--store", "mysql"), "'mysql' is not one of 'sqlite', 'postgres'"),
        (("--shards", "4"), "shards is given; allowed: only with the store postgres"),
        (("--store", "postgres", "--shards", "0"), "shards is 0"),
        (("--store", "postgres", "--max-conns", "9999"), "--max-conns is 9999"),
        (("--cluster-cpus", "4096"), "cluster-cpus is 4096"),
        (("--cluster-cpus", "a"), "--cluster-cpus holds 'a'"),
        (("--address", "127.0.0.1:1", "--cluster-cpus", "0"), "cluster-cpus is given with an existing cluster"),
        (("--address", "127.0.0.1:1", "--cluster-cores", "0"), "cluster-cores is 0"),
        (("--address", "127.0.0.1:1", "--store", "sqlite"), "--store sqlite and --address exclude each other"),
        (("--address", "127.0.0.1:1", "--fresh", "point"), "--fresh does not go with an existing cluster"),
        (("--cluster-cores", "4"), "add --address HOST:PORT"),
        (("--address", "here"), "'here' is not HOST:PORT"),
        (("--address", "temporal.prod.example:7233"), "--allow-target"),
        (("--out", "/nowhere/at/all.json"), "--out /nowhere/at/all.json cannot be written"),
        (("--out", "/"), "--out / cannot be written"),
    ],
)
def test_misuse_is_one_line(in_process: Command, words: tuple[str, ...], expected: str) -> None:
    """What is wrong with a request is said before anything is measured, with exit code 2."""
    done = in_process("sweep", *words)
    assert done.code == 2
    assert expected in done.error
    assert done.out == ""


def test_a_cap_of_no_starts(in_process: Command) -> None:
    """CAPACITY_MAX_STARTS=0 allows no sweep either."""
    done = in_process("sweep", "--address", "127.0.0.1:1", "--cluster-cores", "2", CAPACITY_MAX_STARTS="0")
    assert (done.code, "CAPACITY_MAX_STARTS" in done.error) == (2, True)


@pytest.mark.devserver
def test_a_short_sweep(capacity: Command, devserver: DevServer, tmp_path: Path) -> None:
    """The time is said first, a line comes for each point, then the medians, and the file has what was printed."""
    out = tmp_path / "m.json"
    words = ("--parallelism", "1,4", "--holdout", "2", "--seconds", "1", "--repeats", "1", "--points-only")
    done = capacity("sweep", *words, "--out", out, "--note", "as a user")
    assert done.code == 0, done.err
    measurements = Measurements.model_validate_json(out.read_text())
    assert done.err.startswith("3 points of 1 s in 1 round on an embedded server")
    assert "3/3" in done.err
    assert f"written to {out}" in done.out
    assert sorted((each.parallelism, each.holdout) for each in measurements.points) == [
        (1, False),
        (2, True),
        (4, False),
    ]
    for each in measurements.points:
        assert f"{each.throughput:,.0f} (" in done.out
    assert max(map(len, (*done.out.replace(str(out), "").splitlines(), *done.err.splitlines()))) <= WIDTH
    assert (measurements.note, measurements.conditions.store) == ("as a user", "sqlite")


@pytest.mark.devserver
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_an_interrupt_keeps_the_points(devserver: DevServer, state_folder: str, number: int) -> None:
    """One interrupt ends the sweep: exit code 130, the points so far in the file, no server left."""
    child = subprocess.Popen(
        arguments_of(("sweep", "--parallelism", "1,2,4", "--seconds", "1", "--repeats", "9")),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"CAPACITY_STATE_DIR": state_folder},
    )  # fmt: skip
    assert child.stderr is not None
    seen = ""
    while "  2/27 " not in seen and (line := child.stderr.readline()):
        seen += line
    servers = [process.pid for process in psutil.Process(child.pid).children() if process.name() == "temporal"]
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, seen + err
    assert "Traceback" not in err
    (path,) = Path(state_folder, "sweeps").iterdir()
    kept = Measurements.model_validate_json(path.read_text()).points
    assert 2 <= len(kept) < 27
    assert f"interrupted after {len(kept)} of 27 points, which are kept" in err
    assert str(path) in out
    assert len(servers) == 1
    assert not psutil.pid_exists(servers[0])


@pytest.mark.devserver
def test_an_existing_server_that_throttles(capacity: Command, devserver: DevServer) -> None:
    """The cap is named, its points are told to be left out, and how to end what was left on the server is said."""
    with embedded.running(dynamic_config={"frontend.namespaceRPS": "20"}) as capped:
        words = ("--parallelism", "8", "--seconds", "3", "--repeats", "1", "--points-only")
        done = capacity("sweep", "--address", capped.address, *words)
    assert done.code == 0, done.err
    assert "throttled (RPS_LIMIT, NAMESPACE): this is the cap, not the cluster" in " ".join(done.err.split())
    assert "1 throttled" in done.out
    assert f"--address {capped.address} --namespace default" in done.out
    assert "--query \"WorkflowId STARTS_WITH 'sweep-" in done.out
    assert max(map(len, done.err.splitlines())) <= WIDTH


def test_medians_are_of_the_points_without_a_flag() -> None:
    """A throttled point does not pull the median, but is counted; where all have a flag they are shown."""
    good = [point(4, throughput=rate) for rate in (100.0, 110.0, 130.0)]
    bad = point(4, throughput=20.0, flag=Flag.THROTTLED)
    text = "\n".join(sweep_text.report(swept(*good, bad, point(8, throughput=7.0, flag=Flag.TOO_SHORT))))
    assert "110 (100 to 130)" in text
    assert "3 of 4" in text
    assert "7 (7 to 7)" in text
    assert "1 throttled, 1 too short" in text


def test_the_widest_report_fits_80_columns() -> None:
    """Large rates, long latencies and all that can be measured stay within the terminal."""
    wide = point(512, throughput=99999.4, p50=90.0, p99=99.0, server_cpu=0.09999, database_cpu=0.09999, holdout=True)
    statement = {"query": "INSERT INTO executions_visibility " + "x" * 200, "calls_per_start": 1, "share": 0.61}
    result = swept(
        wide,
        *[wide.model_copy(update={"flag": flag}) for flag in Flag],
        left=1_000_000,
        storage=Storage(
            main=3300, visibility=21800, wal=31000, starts=2000, visibility_indexes=74,
            statements=[statement | {"seconds_per_start": 0.001}],
        ),
        times=StoreTimes(shard_hold=0.003, connection_hold=0.004),
        memory=LauncherMemory(base=90e6, per_in_flight=7000, per_item=1.0),
    )  # fmt: skip
    lines: list[str] = []
    shown = sweep_text.Lines(100, lines.append)
    for each in result.measurements.points:
        shown.show(each)
    report = sweep_text.report(result)
    assert [line for line in (*lines, *report) if len(line) > WIDTH] == []
    assert "61% of the database's statement time goes to INSERT INTO executions_visibility" in " ".join(report)


def test_json_is_the_file_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--format json` prints what was written, for `jq` and the like; as text there are tables, and where it is."""
    path = tmp_path / "s.json"
    wanted = Wanted(parallelisms=(4,), store="sqlite")
    sweep._finish(swept(point()), wanted, path, Format.JSON)
    assert capsys.readouterr().out == path.read_text()
    sweep._finish(swept(point()), wanted, path, Format.TEXT)
    out = capsys.readouterr().out
    assert "not fitted" in out
    assert out.endswith(f"written to {path}\n")


@pytest.mark.parametrize(
    ("store", "used"),
    [("sqlite", "plan --cluster devserver "), ("postgres", "plan --cluster postgres-dev "), ("unknown", "")],
)
def test_the_use_of_a_fit_is_told_by_its_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], store: str, used: str
) -> None:
    """Also at a running cluster a shipped one is named, and none where nobody knows the store."""
    measured = Calibration.named("devserver").measurements
    measured = measured.model_copy(update={"conditions": measured.conditions.model_copy(update={"store": store})})
    wanted = Wanted(parallelisms=(4,), store=None, target=Target("127.0.0.1:7233"))
    sweep._finish(Swept(measured, False, None, 0, ""), wanted, tmp_path / "s.json", Format.TEXT)
    out = capsys.readouterr().out
    assert (used in out, "use it:" in out, "its errors:" in out) == (True, bool(used), True)


def test_sweeps_begun_at_once_have_files_of_their_own(state_folder: str) -> None:
    """A file in the state folder is of one sweep, also where two begin within a second."""
    wanted = Wanted(parallelisms=(4,), store="sqlite")
    assert len({sweep._out(None, wanted) for _ in range(3)}) == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("form", [Format.JSON, Format.TEXT])
def test_a_sweep_that_cannot_be_printed_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Format) -> None:
    """An output that takes nothing costs the words about a sweep, not its file."""
    path = tmp_path / "s.json"
    with io.TextIOWrapper(io.FileIO("/dev/full", "w"), write_through=True) as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(OSError, match="No space left"):
            sweep._finish(swept(point()), Wanted(parallelisms=(4,), store="sqlite"), path, form)
    assert Measurements.model_validate_json(path.read_text()).points == (point(),)


def test_a_sweep_that_cannot_be_written_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A disk that is full by then costs the file, not what was measured, and is no misuse."""
    wanted = Wanted(parallelisms=(4,), store="sqlite")
    for form in (Format.JSON, Format.TEXT):
        with pytest.raises(CapacityError, match="the result stands above") as raised:
            sweep._finish(swept(point()), wanted, tmp_path / "gone" / "s.json", form)
        assert raised.value.exit_code == 1
        out = capsys.readouterr().out
        printed, _ = json.JSONDecoder().raw_decode(out, out.index("{"))
        assert Measurements.model_validate(printed).points == (point(),)


def test_what_stays_on_a_cluster_is_told_with_its_namespace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command that ends it is for the namespace that was measured."""
    wanted = Wanted(parallelisms=(4,), store=None, target=Target("127.0.0.1:7233", "shop"))
    sweep._finish(swept(point(), left=7), wanted, tmp_path / "s.json", Format.TEXT)
    assert "--address 127.0.0.1:7233 --namespace shop" in capsys.readouterr().out
    sweep._finish(swept(point(), left=7), wanted, tmp_path / "s.json", Format.JSON)
    piped = capsys.readouterr()
    assert "--namespace shop" in piped.err  # who pipes the result is told beside it
    assert piped.out == (tmp_path / "s.json").read_text()


@pytest.mark.parametrize("flag", list(Flag))
def test_every_flag_is_told_in_words(flag: Flag) -> None:
    """A point that is left out says so, whatever the reason."""
    said = sweep_text.why(point(flag=flag))
    assert said.endswith("left out of a fit")
    assert len(said) > len("left out of a fit") + 10
