"""`capacity size` and `capacity what-if` as a user meets them: text in 80 columns, JSON, exit codes, misuse."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from capacity.cli import run
from capacity.model.calibration import Calibration

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Calibrations of the raw sweeps as files, by name."""
    source = Path(__file__).parents[1] / "model" / "conftest.py"
    spec = importlib.util.spec_from_file_location("raw_sweeps", source)
    assert spec is not None
    assert spec.loader is not None
    sweeps = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sweeps)
    folder, made = tmp_path_factory.mktemp("calibrations"), {}
    for name in ("quiet", "devserver"):
        Calibration.of(sweeps.measurements_of(name), name).save(folder / f"{name}.json")
        made[name] = str(folder / f"{name}.json")
    return made


def sized(capsys: Capture, calibration: str, *arguments: str, code: int = 0) -> dict[str, Any]:
    assert run(["size", "--calibration", calibration, "--format", "json", *arguments]) == code
    result = json.loads(capsys.readouterr().out)
    assert isinstance(result, dict)
    return result


@pytest.mark.parametrize(
    "arguments",
    [
        ["--target", "2000", "--p99", "0.05"],
        ["--target", "200000"],
        ["--batch", "750000", "--within", "600", "--retention-days", "3"],
        ["--target", "2000", "--p99", "0.001"],
        ["--target", "0.5"],
    ],
)
def test_text_fits_80_columns(arguments: list[str], files: dict[str, str], capsys: Capture) -> None:
    """No line is wider than a terminal, whatever was asked."""
    run(["size", "--calibration", files["quiet"], *arguments])
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out


def test_every_figure_has_what_forces_it(files: dict[str, str], capsys: Capture) -> None:
    """Cores, database cores, shards, connections, hosts, launchers, in flight: each a line with its reason."""
    assert run(["size", "--calibration", files["quiet"], "--target", "2000", "--p99", "0.05"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "The smallest cluster for 2,000 starts/s at p99 50 ms"
    reasons = {
        "server cores": "of CPU a start, at most 80%",
        "database cores": "a start, at most 80%",
        "shards": "lock held",
        "connections": "one in use",
        "frontends": "frontend.rps 2,400 each",
        "history hosts": "history.persistenceMaxQPS 9,000 each",
        "launcher processes": "of CPU a start in a busy loop",
        "in flight": "2,000/s x",
    }
    for name, reason in reasons.items():
        line = next(line for line in lines if line.startswith(name))
        assert reason in line, line
    assert any(line.startswith("Cheaper plans that miss") for line in lines)
    assert any(line.startswith("Storage") for line in lines)


def test_json_says_what_text_says(files: dict[str, str], capsys: Capture) -> None:
    """The same figures, with intervals, missed plans and the cluster's description."""
    found = sized(capsys, files["quiet"], "--batch", "750000", "--within", "600")
    assert found["feasible"] is True
    assert found["target"] == 1250
    assert all(figure["low"] <= figure["value"] <= figure["high"] for figure in found["figures"])
    cores = {figure["key"]: figure["value"] for figure in found["figures"]}
    assert found["cluster"]["server_cores"] == cores["server_cores"]
    assert found["cluster"]["limits"]["frontend.rps"] == 2400
    assert {"change", "throughput", "p99", "reason"} == set(found["missed"][0])
    assert found["storage"]["measured"] is False


def test_infeasible_is_a_result_with_code_1(files: dict[str, str], capsys: Capture) -> None:
    """The reason is on standard output, in text and in JSON; nothing is on standard error."""
    assert run(["size", "--calibration", files["quiet"], "--target", "2000", "--p99", "0.001"]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("Cannot be had: 2,000 starts/s at p99 1 ms\np99 ")
    assert printed.err == ""
    found = sized(capsys, files["quiet"], "--target", "2000", "--p99", "0.001", code=1)
    assert (found["feasible"], found["figures"], found["cluster"]) == (False, [], None)
    assert "more than 1 ms" in found["reason"]


def test_the_dev_server_and_the_cloud_have_limits_of_their_own(files: dict[str, str], capsys: Capture) -> None:
    """SQLite's one connection; 500 actions a second."""
    assert "SQLite has one connection" in sized(capsys, files["devserver"], "--target", "3000", code=1)["reason"]
    cloud = sized(capsys, files["quiet"], "--target", "2000", "--cluster", "temporal-cloud", code=1)
    assert "400% of actions_per_second 500" in cloud["reason"]


def test_configured_rates_come_from_the_cluster_named(files: dict[str, str], capsys: Capture) -> None:
    """At the raised limits of the development stack one frontend is enough for 2,000/s; by default two are needed."""
    of = {}
    for name, words in {"default": [], "raised": ["--cluster", "postgres-dev"]}.items():
        found = sized(capsys, files["quiet"], "--target", "2000", *words)
        of[name] = {figure["key"]: figure["value"] for figure in found["figures"]}
    assert (of["default"]["frontends"], of["raised"]["frontends"]) == (2, 1)
    assert of["default"]["server_cores"] == of["raised"]["server_cores"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no target is given"),
        (["--target", "5", "--batch", "7", "--within", "1"], "--target and --batch are both given"),
        (["--batch", "7"], "batch without within"),
        (["--target", "many"], "'many' is not a number"),
        (["--target", "nan"], "'nan' is not a number"),
        (["--target", "-5"], "--target is -5 starts/s; allowed: 0.001 to 1,000,000"),
        (["--target", "5", "--p99", "0"], "p99 is 0; allowed"),
        (["--target", "5", "--headroom", "1"], "headroom is 1; allowed: 0.01 to 0.9"),
        (["--target", "5", "--cluster", "postgres-dve"], "did you mean postgres-dev?"),
        (["--target", "5", "--batch", "1.5"], "1.5"),
        (["--target", "5", "--format", "xml"], "xml"),
    ],
)
def test_misuse_gets_one_line_and_exit_code_2(
    arguments: list[str], said: str, files: dict[str, str], capsys: Capture
) -> None:
    """Whatever is wrong is said in one line, with what is allowed."""
    assert run(["size", "--calibration", files["quiet"], *arguments]) == 2
    error = capsys.readouterr().err
    assert (error.count("\n"), said in error) == (1, True), error


def test_a_calibration_that_is_not_there_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    """A missing or damaged file says which, and how to make one."""
    assert run(["size", "--target", "5", "--calibration", str(tmp_path / "none.json")]) == 2
    assert "make one with 'capacity sweep" in capsys.readouterr().err
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    assert run(["size", "--target", "5", "--calibration", str(tmp_path / "bad.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_what_if_doubles_each_resource_by_default(files: dict[str, str], capsys: Capture) -> None:
    """A row per resource beside now, in 80 columns, and which buys most."""
    assert run(["what-if", "postgres-dev", "--parallelism", "64", "--calibration", files["quiet"]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "PostgreSQL dev stack, 64 in flight"
    starts = [line.split("  ")[0] for line in lines[2:7]]
    assert starts == ["now", "cores 2 -> 4", "shards 64 -> 128", "max_conns 40 -> 80", "launcher_processes 1 -> 2"]
    assert lines[7].startswith("With 64 in flight, cores 2 -> 4 buys most: +")
    assert max(map(len, lines)) <= 80


def test_what_if_sets_each_and_all(files: dict[str, str], capsys: Capture) -> None:
    """Each --set is a row, and all of them together one more; JSON has the same rows."""
    words = ["--set", "cores=8", "--set", "shards=1", "--parallelism", "64", "--calibration", files["quiet"]]
    assert run(["what-if", "postgres-dev", *words, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["change"] for row in found["rows"]] == [
        "now",
        "cores 2 -> 8",
        "shards 64 -> 1",
        "cores 2 -> 8, shards 64 -> 1",
    ]
    _, cores, shard, both = (row["throughput"] for row in found["rows"])
    assert shard < both < cores
    assert run(["what-if", "postgres-dev", *words]) == 0
    assert "all together" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "cores"], "--set is 'cores'"),
        (["--set", "core=4"], "did you mean cores?"),
        (["--parallelism", "0"], "--parallelism is '0'"),
        (["--parallelism", "513"], "parallelism is 513; allowed: 1 to 512"),
        (["temporal-cloud"], "Temporal Cloud, default limits: its CPUs are not known"),
    ],
)
def test_what_if_misuse_gets_one_line(arguments: list[str], said: str, files: dict[str, str], capsys: Capture) -> None:
    """As everywhere: what, which value, what is allowed."""
    assert run(["what-if", "--calibration", files["quiet"], *arguments]) == 2
    error = capsys.readouterr().err
    assert (error.count("\n"), said in error) == (1, True), error


def test_a_start_costs_what_the_named_cluster_says(capsys: pytest.CaptureFixture[str]) -> None:
    """Sized for the dev server it is SQLite on shared cores, as with that calibration named; without one PostgreSQL."""

    def needed(*words: str) -> dict[str, Any]:
        assert run(["size", "--target", "200", "--format", "json", *words]) == 0
        return {figure["key"]: figure["value"] for figure in json.loads(capsys.readouterr().out)["figures"]}

    assert needed("--cluster", "devserver") == needed("--cluster", "devserver", "--calibration", "devserver")
    assert "cores" in needed("--cluster", "devserver")
    assert "database_cores" in needed()
