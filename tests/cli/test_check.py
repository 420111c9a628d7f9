"""`capacity check` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capacity.cli import run
from capacity.cluster import devserver as embedded
from capacity.cluster.devserver import DevServer
from capacity.cluster.state import ClusterState
from capacity.observe.history import runs_folder
from capacity.observe.run import Run
from tests.cli.conftest import Command
from tests.verdict.recorded import recorded

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def kept(state_folder: str) -> Run:
    """A healthy run in the state folder."""
    record = recorded()
    record.save(runs_folder() / f"{record.run_id}.json")
    return record


def written(folder: Path, text: str) -> str:
    file = folder / "mine.toml"
    file.write_text(text)
    return str(file)


def state_of(data: dict[str, list[dict[str, object]]], key: str) -> object:
    return next(row["state"] for row in data["checks"] if row["key"] == key)


def test_a_run_is_named_as_runs_accepts_it(kept: Run, tmp_path: Path, capsys: Capture) -> None:
    """By its id, its beginning, as the last, and by path: the same checklist each time."""
    path = tmp_path / "r.json"
    kept.save(path)
    said = []
    for name in (kept.run_id, kept.run_id[:10], "last", str(path)):
        assert run(["check", name]) == 0
        said.append(capsys.readouterr().out)
    assert len(set(said)) == 1
    assert kept.run_id in said[0]


def test_the_exit_code_is_the_verdict(kept: Run, tmp_path: Path, capsys: Capture) -> None:
    """A failed critical check exits 1; as a warning it exits 0; what is not measured exits 1 with --strict only."""
    critical = written(tmp_path, "[start_p99]\nlimit = 0.001\n")
    assert run(["check", "last", "--thresholds", critical]) == 1
    assert "FAIL: p99 of a start 8 ms" in capsys.readouterr().out
    mild = written(tmp_path, '[start_p99]\nlimit = 0.001\nseverity = "warning"\n')
    assert run(["check", "last", "--thresholds", mild]) == 0
    assert run(["check", "last", "--strict"]) == 1  # nothing was predicted
    assert "NOT A PASS" in capsys.readouterr().out


def test_strict_passes_what_is_all_measured(kept: Run, tmp_path: Path, capsys: Capture) -> None:
    """With a cluster to predict from, and a share this run reaches, every critical check passes even strictly."""
    easy = written(tmp_path, "[throughput_predicted]\nlimit = 0.01\n")
    words = ["check", "last", "--cluster", "postgres-dev", "--thresholds", easy, "--strict"]
    assert run(words) == 0, capsys.readouterr().out
    assert "PASS: all 9 critical checks hold" in capsys.readouterr().out


def test_both_throughputs_stand_in_the_text(kept: Run, capsys: Capture) -> None:
    """The original's 150,000/s and the share of the prediction, in 80 columns."""
    run(["check", "last", "--cluster", "devserver"])
    out = capsys.readouterr().out
    assert ">= 150,000/s, 10 s" in out
    assert "80% of the prediction" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("format", "begin"),
    [("text", "Checklist of run"), ("markdown", "# Checklist"), ("json", "{"), ("html", "<!doctype html>")],
)
def test_the_formats(kept: Run, capsys: Capture, format: str, begin: str) -> None:
    """Text, Markdown, JSON and a page of HTML."""
    assert run(["check", "last", "--format", format]) == 0
    out = capsys.readouterr().out
    assert out.startswith(begin)
    if format == "json":
        assert {"verdict", "sentence", "checks", "run_id"} <= set(json.loads(out))


def test_a_baseline_measures_what_needs_one(kept: Run, tmp_path: Path, capsys: Capture) -> None:
    """Memory overhead is not measured alone, and measured beside a smaller run."""
    path = tmp_path / "baseline.json"
    recorded(parallelism=64, rss_bytes_max=95_000_000).save(path)
    run(["check", "last", "--format", "json"])
    alone = json.loads(capsys.readouterr().out)
    run(["check", "last", "--baseline", str(path), "--format", "json"])
    beside = json.loads(capsys.readouterr().out)
    assert (state_of(alone, "memory_overhead"), state_of(beside, "memory_overhead")) == ("not measured", "pass")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nowhere"], "no runs match 'nowhere'"),
        (["last", "--baseline", "nowhere"], "no runs match 'nowhere'"),
        (["last", "--thresholds", "/nowhere.toml"], "cannot read thresholds /nowhere.toml"),
        (["last", "--cluster", "nowhere"], "cluster 'nowhere'"),
        (["last", "--cluster", "helm-default", "--calibration", "nowhere"], "nowhere"),
        (["last", "--cluster", "temporal-cloud", "--calibration", "postgres"], "its CPUs are not known"),
        (["last", "--format", "pdf"], "pdf"),
    ],
)
def test_wrong_input_is_one_line(kept: Run, capsys: Capture, words: list[str], expected: str) -> None:
    """Each mistake is one line with its value, and code 2."""
    assert run(["check", *words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert expected in line


@pytest.mark.parametrize("words", [["FILE"], ["last", "--baseline", "FILE"]])
def test_a_file_of_something_else_is_no_run(kept: Run, tmp_path: Path, capsys: Capture, words: list[str]) -> None:
    """A file that is neither record nor journal is refused by its name."""
    other = tmp_path / "hostname"
    other.write_text("vm\n")
    assert run(["check", *(str(other) if word == "FILE" else word for word in words)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "hostname is neither the record of a run nor its journal; see 'capacity runs list'" in line


def test_a_killed_run_has_no_record_to_check(capsys: Capture, state_folder: str) -> None:
    """A journal without a record is refused with the way to resume it."""
    from capacity.launcher.header import Header
    from capacity.launcher.journal import Journal

    path = runs_folder() / "20261125-050000-000000.journal"
    path.parent.mkdir(parents=True, exist_ok=True)
    Journal.create(path, Header("f" * 16, "20261125-050000-000000", 5, batch={}, address="a:1", namespace="n")).close()
    assert run(["check", "last"]) == 2
    assert "has no record: its launch was killed" in capsys.readouterr().err


@pytest.mark.devserver
def test_64_in_flight_on_a_real_server_cross_the_originals_p99(
    capacity: Command, devserver: DevServer, tmp_path: Path
) -> None:
    """On a dev server 64 in flight take longer than 50 ms at p99, a critical failure; a limit of a minute holds.

    The same run is verified and counts starts alone, so its throughput is held to be real on these two counts.
    """
    record = tmp_path / "run.json"
    words = ("--address", devserver.address, "--chain-id", "check64", "--parallelism", 64, "--record", record)
    done = capacity("launch", "--count", 600, *words)
    assert done.code == 0, done.err
    checked = capacity("check", record, "--format", "json")
    assert checked.code == 1, checked.out + checked.err
    data = json.loads(checked.out)
    assert data["verdict"] == "fail"
    assert state_of(data, "start_p99") == "fail"
    for key in ("start_p99_expected", "batch_duration"):
        assert state_of(data, key) == "fail"
    for key in ("verified", "starts_only", "failed", "throttled"):
        assert state_of(data, key) == "pass"
    minute = written(tmp_path, "[start_p99]\nlimit = 60\n")
    again = json.loads(capacity("check", record, "--format", "json", "--thresholds", minute).out)
    assert state_of(again, "start_p99") == "pass"


WATCHED = ("postgres_cpu", "connections", "tasks", "launcher_cpu", "create_p99")


@pytest.mark.stack
def test_a_real_stack_is_held_to_its_limits(capacity: Command, stack: ClusterState, tmp_path: Path) -> None:
    """Sixteen seconds at 50/s on PostgreSQL measure every figure of server, database and launcher that a limit is for.

    But for those that a server measures once a minute, which need a longer run and are not measured in this one.
    Held to limits far above what this machine can reach each passes, to limits far below it each fails. The original's
    150,000/s are crossed for real.
    """
    record = tmp_path / "run.json"
    places = ("--server-metrics", stack.metrics_url, "--postgres", stack.postgres)
    words = ("--address", stack.address, "--chain-id", "checkstack", "--rate", 50, "--record", record)
    done = capacity("launch", "--count", 800, *words, *places)
    assert done.code == 0, done.err

    def held_to(limit: str, share: str) -> dict[str, list[dict[str, object]]]:
        limits = dict.fromkeys(("tasks", "create_p99", "start_p99"), limit)
        limits |= {"postgres_cpu": share, "connections": share, "launcher_cpu": limit, "throughput_predicted": "0.01"}
        text = "".join(f"[{key}]\nlimit = {value}\n" for key, value in limits.items())
        again = capacity(
            "check", record, "--cluster", "postgres-dev", "--thresholds", written(tmp_path, text), "--format", "json"
        )
        found: dict[str, list[dict[str, object]]] = json.loads(again.out)
        assert again.code == (1 if found["verdict"] == "fail" else 0)
        return found

    far, near = held_to("1e6", "1.0"), held_to("1e-6", "1e-6")
    assert {state_of(near, key) for key in ("server_goroutines", "sql_pool")} == {"not measured"}
    for key in (*WATCHED, "start_p99"):
        assert (state_of(far, key), state_of(near, key)) == ("pass", "fail"), key
    assert (state_of(far, "throughput_predicted"), state_of(far, "throughput")) == ("pass", "fail")
    assert far["predicted_starts_per_second"] <= 50  # type: ignore[operator]
    assert (far["verdict"], near["verdict"]) == ("pass", "fail")


@pytest.mark.devserver
def test_refusals_and_failures_are_crossed_for_real(capacity: Command, devserver: DevServer, tmp_path: Path) -> None:
    """A namespace of 10/s refuses attempts, and ids that exist fail where that was asked: both limits are crossed."""
    record = tmp_path / "run.json"
    with embedded.running(dynamic_config={"frontend.namespaceRPS": "10"}) as server:
        words = ("launch", "--address", server.address, "--parallelism", 16)
        assert capacity(*words, "--count", 10).code == 0
        assert capacity(*words, "--count", 60, "--on-existing", "fail", "--record", record).code == 1
    done = capacity("check", record, "--format", "json")
    assert done.code == 1
    data = json.loads(done.out)
    assert (state_of(data, "failed"), state_of(data, "throttled")) == ("fail", "fail")


@pytest.mark.devserver
def test_the_same_batch_again_has_no_throughput(capacity: Command, devserver: DevServer, tmp_path: Path) -> None:
    """A batch that runs already is refused as a throughput, however fast it was answered."""
    record = tmp_path / "run.json"
    words = ("launch", "--count", 100, "--address", devserver.address, "--chain-id", "checkagain", "--parallelism", 8)
    assert capacity(*words).code == 0
    assert capacity(*words, "--record", record).code == 0
    done = capacity("check", record, "--format", "json")
    assert done.code == 1
    data = json.loads(done.out)
    assert state_of(data, "starts_only") == "fail"
    assert state_of(data, "throughput") == "not measured"
