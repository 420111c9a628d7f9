"""`capacity limits`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from capacity.cli import run
from capacity.model import shipped
from capacity.model.calibration import Calibration
from capacity.model.cluster import Cluster
from capacity.model.prediction import predict
from capacity.notebook.explore_ceilings import ceilings_of

Capture = pytest.CaptureFixture[str]
CLUSTERS = shipped.names("clusters")


def limits_json(capsys: Capture, *arguments: str) -> dict[str, Any]:
    assert run(["limits", "--format", "json", *arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    assert isinstance(result, dict)
    return result


def test_text_is_a_table_lowest_first_and_a_verdict(capsys: Capture) -> None:
    """Piped, the ceilings are aligned columns without control codes, the binding one first, the verdict last."""
    assert run(["limits", "devserver", "--set", "frontend.namespaceRPS=100"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Temporal dev server"
    assert lines[1].split("  ")[0] == "starts/s"
    assert lines[2] == "     100  namespace limit      frontend.namespaceRPS 100          up to 313"
    text = " ".join(lines)
    verdict = text.index("The limit is 100 starts/s, set by namespace limit (frontend.namespaceRPS): ")
    assert verdict < text.index("A burst of 200 starts passes before it bites")
    assert verdict > text.index("delays what follows a start")
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in text


@pytest.mark.parametrize("name", ["devserver", "postgres-dev"])
def test_a_start_costs_what_the_named_calibration_says(name: str, capsys: Capture) -> None:
    """The limits and what the explorer draws for the same cluster are the same stations with the same numbers."""
    found = {c["starts_per_second"] for c in limits_json(capsys, name)["ceilings"]} - {None}
    cluster = Cluster.load(name)
    drawn = [across.rate for across in ceilings_of(cluster, Calibration.named(name.removesuffix("-dev")))]
    assert sorted({round(rate, 6) for rate in found} & set(drawn)) == drawn


def test_a_connection_is_in_use_beyond_the_answer(tmp_path: Path, capsys: Capture) -> None:
    """Four connections of a cluster by the shipped calibration: 4 over the use that its sweep measured beside the lock,
    2.05 times as long, as `plan` has it; by a sweep that did not measure it the cost is called typical."""
    changes = ["--set", "max_conns=4", "--set", "cores=200"]
    measured = Calibration.named("postgres")
    unmeasured = Calibration.of(measured.measurements.model_copy(update={"times": None}), "blind")
    (tmp_path / "blind.json").write_text(unmeasured.model_dump_json())
    described = shipped.path("clusters", "postgres-dev").read_text()
    (tmp_path / "blind.toml").write_text(described.replace('calibration = "postgres"', 'calibration = "./blind.json"'))
    for name, calibration, says in (
        ("postgres-dev", measured, "calibration postgres, measured on 2 CPUs"),
        (str(tmp_path / "blind.toml"), unmeasured, "typical, measured on a 2-core PostgreSQL stack, not on yours"),
    ):
        [found] = [c for c in limits_json(capsys, name, *changes)["ceilings"] if c["key"] == "max_conns"]
        assert found["starts_per_second"] == pytest.approx(4 / (2.05 * calibration.demands.lock), rel=0.01)
        assert found["source"] == says
        cluster = Cluster.load(name).changed({"max_conns": 4, "cores": 200})
        planned = predict(calibration, (128,), cluster=cluster, draws=0)
        assert planned.binding == ("connections",)
        assert planned.throughput.value[0] == pytest.approx(found["starts_per_second"], rel=0.1)


def test_a_database_that_no_sweep_told_apart_is_not_free(tmp_path: Path, capsys: Capture) -> None:
    """Fitted without the CPU of server and database, what each needs is not known: neither is without limit."""
    swept = Calibration.named("postgres").measurements
    without = tuple(p.model_copy(update={"server_cpu": None, "database_cpu": None}) for p in swept.points)
    measured = Calibration.of(swept.model_copy(update={"points": without}), "remote")
    (tmp_path / "remote.json").write_text(measured.model_dump_json())
    described = shipped.path("clusters", "helm-default").read_text()
    (tmp_path / "mine.toml").write_text(f'calibration = "remote.json"\n{described}')
    found = {c["key"]: c["status"] for c in limits_json(capsys, str(tmp_path / "mine.toml"))["ceilings"]}
    assert found["server_cores"] == found["database_cores"] == "not known from configuration"


def test_a_calibration_that_cannot_be_read_leaves_the_ceilings(tmp_path: Path, capsys: Capture) -> None:
    """Most ceilings need none: they are told as without one, the JSON whole, with one line that says why."""
    text = shipped.path("clusters", "postgres-dev").read_text()
    assert 'calibration = "postgres"' in text
    for name, named in (("lost", 'calibration = "./gone.json"'), ("plain", "")):
        (tmp_path / f"{name}.toml").write_text(text.replace('calibration = "postgres"', named))
    assert run(["limits", str(tmp_path / "lost.toml"), "--format", "json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["ceilings"] == limits_json(capsys, str(tmp_path / "plain.toml"))["ceilings"]
    [line] = said.err.splitlines()
    assert line.startswith(f"capacity: warning: cannot read calibration {tmp_path}/gone.json: No such file")
    assert line.endswith("; without it, a start is taken to cost what it did where this package was made")


def test_what_cannot_be_raised_is_not_to_be_raised(capsys: Capture) -> None:
    """The number of shards is that of a new cluster, a power of two; of SQLite there is but one connection."""
    said = limits_json(capsys, "helm-default", "--set", "shards=1")["verdict"]
    assert "It takes a new cluster with 8 shards (5.57 times) to reach 1,236 starts/s" in said
    assert ": 1 shard, a start holds it for 4.5 ms." in said
    assert "It takes a store other than SQLite" in limits_json(capsys, "devserver")["verdict"]


def test_another_store_is_named_with_what_it_takes(capsys: Capture) -> None:
    """What the verdict names reaches the number it names; PostgreSQL with the one connection of SQLite does not."""
    said = limits_json(capsys, "devserver")
    assert "a store other than SQLite, with 2 shards and 3 connections (1.39 times) to reach 435" in said["verdict"]
    reached = said["ceilings"][0]["raised"]["starts_per_second"]
    changed = ("--set", "store=postgres", "--set", "shards=2", "--set", "max_conns=3")
    assert limits_json(capsys, "devserver", *changed)["ceilings"][0]["starts_per_second"] == pytest.approx(reached)
    alone = limits_json(capsys, "devserver", "--set", "store=postgres")["ceilings"][0]
    assert alone["starts_per_second"] < said["ceilings"][0]["starts_per_second"]


@pytest.mark.parametrize("name", CLUSTERS)
def test_every_shipped_cluster_fits_80_columns(name: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """On an 80-column terminal no line is wider and no cell is broken."""
    for variable, value in {"FORCE_COLOR": "1", "COLUMNS": "80", "TERM": "xterm", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(variable, value)
    assert run(["limits", name]) == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines[2:] if line.startswith(" ") and not re.match(r" *~?[0-9,]+  [a-zA-Z]", line)] == []


def test_it_is_about_the_development_stack_by_default(capsys: Capture) -> None:
    """Without a name it describes the PostgreSQL stack that `cluster up` starts."""
    assert limits_json(capsys)["cluster"] == limits_json(capsys, "postgres-dev")["cluster"]


def test_a_file_is_read_like_a_shipped_name(capsys: Capture) -> None:
    """A path does what the name does."""
    assert limits_json(capsys, str(shipped.path("clusters", "helm-default"))) == limits_json(capsys, "helm-default")


@pytest.mark.parametrize("name", CLUSTERS)
def test_json_is_strict_and_says_what_binds(name: str, capsys: Capture) -> None:
    """No NaN or Infinity; the binding key is the first ceiling's; what has no number is null with a status."""
    assert run(["limits", name, "--format", "json"]) == 0

    def refused(constant: str) -> None:
        raise AssertionError(constant)

    result = json.loads(capsys.readouterr().out, parse_constant=refused)
    assert result["binding"] == result["ceilings"][0]["key"]
    assert {c["status"] for c in result["ceilings"] if c["starts_per_second"] is None} <= {
        "not known from configuration",
        "no limit",
    }


def test_set_changes_fields_and_dynamic_configuration(capsys: Capture) -> None:
    """--set takes both kinds of key, as whole number, number, boolean or text."""
    result = limits_json(
        capsys, "postgres-dev", "--set", "cores=64", "--set", "history.rps=700", "--set", "network_delay=0.01",
        "--set", "launcher_shares_cores=false", "--set", "note=a test",
    )  # fmt: skip
    described = result["cluster"]
    assert (described["cores"], described["limits"]["history.rps"], described["network_delay"]) == (64, 700, 0.01)
    assert (described["launcher_shares_cores"], described["note"]) == (False, "a test")
    assert (result["binding"], result["ceilings"][0]["starts_per_second"]) == ("history.rps", 700)


def test_markdown_is_a_table_with_the_reason_of_each(capsys: Capture) -> None:
    """Markdown has a column more: why."""
    assert run(["limits", "temporal-cloud", "--format", "markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "| starts/s | what limits | set by | raising buys | why |",
        "|---:|---|---|---|---|",
        "| 500 | Cloud actions | actions_per_second 500 | up to 2,000 | a start is one action |",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.toml"], "cluster 'nowhere.toml': no such file; allowed: a TOML file, or one of devserver, "),
        (["postgres-dve"], "did you mean postgres-dev?"),
        (["--set", "cores"], "--set is 'cores'; allowed: KEY=VALUE"),
        (["--set", "=4"], "--set is '=4'"),
        (["--set", "cores=2", "--set", "cores=8"], "--set gives cores twice; pass it once"),
        (["--set", "core=4"], "unknown key 'core'; did you mean cores?"),
        (["--set", "frontend.rsp=4"], "unknown key 'frontend.rsp'; did you mean frontend.rps?"),
        (["--set", "cores=0"], "cores is 0; allowed: a whole number from 1"),
        (["--set", "cores=many"], "cores is 'many'; allowed: a whole number from 1"),
        (["--set", "server_cores=4"], "cores and server_cores are both set"),
        (["--set", "history.rps=-3"], "history.rps is -3; allowed: a whole number from 1"),
        (["--format", "xml"], "xml"),
    ],
)
def test_misuse_gets_one_line_and_exit_code_2(arguments: list[str], said: str, capsys: Capture) -> None:
    """Whatever is wrong is said in one line, with what is allowed."""
    assert run(["limits", *arguments]) == 2
    error = capsys.readouterr().err
    assert (error.count("\n"), said in error) == (1, True), error


def test_a_broken_file_names_its_line(tmp_path: Path, capsys: Capture) -> None:
    """A file that is not TOML is named with the line of the mistake."""
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\ncores = = 2\n', encoding="utf-8")
    assert run(["limits", str(file)]) == 2
    assert re.search(r"mine\.toml is not TOML: .*line 2", capsys.readouterr().err)


def test_the_help_lists_the_shipped_clusters(capsys: Capture) -> None:
    """--help names every shipped description."""
    assert run(["limits", "--help"]) == 0
    out = " ".join(re.sub(r"[│\n]", " ", capsys.readouterr().out).split())
    assert [name for name in CLUSTERS if name not in out] == []
