"""`capacity alerts` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from capacity.cli import run
from capacity.verdict.alert_rules import rules
from capacity.verdict.thresholds import thresholds

Capture = pytest.CaptureFixture[str]


def names(text: str) -> list[str]:
    return [rule["alert"] for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def test_prometheus_rules_are_the_default(capsys: Capture) -> None:
    """Without options all rules that need no prediction are printed as YAML."""
    assert run(["alerts"]) == 0
    assert names(capsys.readouterr().out) == [rule.name for rule in rules(thresholds())]


def test_a_cluster_adds_the_rule_on_its_prediction(capsys: Capture) -> None:
    """With a cluster the share of its predicted throughput is a rule with a number between 0 and the original's."""
    assert run(["alerts", "--cluster", "postgres-dev", "--parallelism", "64"]) == 0
    out = capsys.readouterr().out
    assert "CapacityThroughputBelowPrediction" in names(out)
    [rule] = [r for g in yaml.safe_load(out)["groups"] for r in g["rules"] if r["alert"].endswith("BelowPrediction")]
    assert 0 < float(rule["expr"].rsplit("<", 1)[1]) < 150_000


def test_the_rule_on_a_prediction_is_of_the_machine_it_names(capsys: Capture) -> None:
    """4x counts the CPUs of --cpus, wherever it is printed; the rule says how many are in flight, where, and why."""
    printed = {}
    for cpus in ("1", "16"):
        assert run(["alerts", "--cluster", "postgres-dev", "--cpus", cpus]) == 0
        out = capsys.readouterr().out
        [rule] = [
            r for g in yaml.safe_load(out)["groups"] for r in g["rules"] if r["alert"].endswith("BelowPrediction")
        ]
        printed[cpus] = rule
    assert printed["1"]["expr"] != printed["16"]["expr"]
    said = "of PostgreSQL dev stack with 64 in flight (16 CPUs x 4 = 64)."
    assert printed["16"]["annotations"]["description"].endswith(said)


def test_the_dashboard_is_json(capsys: Capture) -> None:
    """--format grafana prints a dashboard with a variable for the data source."""
    assert run(["alerts", "--format", "grafana"]) == 0
    board = json.loads(capsys.readouterr().out)
    assert board["templating"]["list"][0]["type"] == "datasource"
    assert len(board["panels"]) == 8


def test_the_users_limits_are_the_rules(tmp_path: Path, capsys: Capture) -> None:
    """A limit of the user's own stands in the printed rule."""
    file = tmp_path / "mine.toml"
    file.write_text("[postgres_cpu]\nlimit = 0.7\n")
    assert run(["alerts", "--thresholds", str(file)]) == 0
    assert "> 0.7" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--format", "nagios"], "nagios"),
        (["--thresholds", "/nowhere.toml"], "cannot read thresholds"),
        (["--calibration", "devserver"], "--calibration needs a cluster"),
        (["--cluster", "nowhere"], "nowhere"),
        (["--cluster", "temporal-cloud"], "its CPUs are not known"),
        (["--cluster", "postgres-dev", "--cpus", "8", "--parallelism", "64"], "--cpus does not go with"),
        (["--cpus", "8"], "--cpus needs a cluster"),
        (["--cluster", "devserver", "--parallelism", "auto"], "--parallelism is 'auto'"),
        (["--parallelism", "4x"], "--parallelism needs a cluster"),
        (["--format", "grafana", "--cluster", "nosuch"], "--cluster does not go with --format grafana"),
    ],
)
def test_wrong_input_is_one_line(capsys: Capture, words: list[str], expected: str) -> None:
    """Each mistake is one line with its value, and code 2."""
    assert run(["alerts", *words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert expected in line
