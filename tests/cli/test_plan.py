"""`capacity plan`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capacity.cli import run
from capacity.model.calibration import Calibration
from tests.model.conftest import measurements_of

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def no_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCHEDULER_MAX_PARALLELISM", raising=False)


def plan_json(capsys: Capture, *arguments: str) -> dict[str, object]:
    assert run(["plan", "--format", "json", *arguments]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert isinstance(plan, dict)
    return plan


def test_json_has_both_sizes_with_their_reasons(capsys: Capture) -> None:
    """The JSON of a 16-CPU machine with batches of 1,000 holds every documented key."""
    assert plan_json(capsys, "--cpus", "16", "--batch", "1000") == {
        "parallelism": 64,
        "parallelism_reason": "16 CPUs x 4 = 64",
        "queue_size": 64000,
        "queue_reason": "64 in flight x batch of 1,000 = 64,000",
        "reported_pool_size": 64,
        "cpus": 16,
        "cpus_source": "as given",
        "multiplier": 4,
        "override": None,
        "batch": 1000,
        "warnings": [],
    }


def test_without_cpus_it_says_what_was_detected(capsys: Capture) -> None:
    """Without --cpus the source says how this process was counted."""
    assert "by affinity" in str(plan_json(capsys)["cpus_source"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--cpus", "64", "--multiplier", "2"], 128),
        (["--cpus", "64", "--override", "1024"], 512),
        (["--cpus", "64", "--override", "1"], 1),
        (["--cpus", "64", "--override", "0"], 256),
        (["--cpus", "1000"], 512),
    ],
)
def test_multiplier_and_override_are_honoured(arguments: list[str], expected: int, capsys: Capture) -> None:
    """Each option reaches the rules."""
    assert plan_json(capsys, *arguments)["parallelism"] == expected


def test_the_variable_sets_it_and_is_named(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """SCHEDULER_MAX_PARALLELISM counts and the reason says that it did."""
    monkeypatch.setenv("SCHEDULER_MAX_PARALLELISM", "48")
    plan = plan_json(capsys, "--cpus", "64")
    assert (plan["parallelism"], plan["parallelism_reason"]) == (48, "SCHEDULER_MAX_PARALLELISM 48")


def test_a_look_alike_is_warned_about_in_both_forms(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name that the original's code read is warned about, in JSON and on standard error."""
    monkeypatch.setenv("SCHEDULER_BATCH_MAX_PARALLELISM", "64")
    (warning,) = plan_json(capsys, "--cpus", "8")["warnings"]  # type: ignore[misc]
    assert run(["plan", "--cpus", "8"]) == 0
    assert capsys.readouterr().err == f"capacity: warning: {warning}\n"


def test_text_shows_each_number_with_its_reason(capsys: Capture) -> None:
    """The text lists CPUs, parallelism, queue and the reported pool size."""
    assert run(["plan", "--cpus", "256", "--batch", "10"]) == 0
    assert capsys.readouterr().out == (
        "CPUs                  256  as given\n"
        "Parallelism           512  256 CPUs x 4 = 1,024, cut to the maximum of 512\n"
        "Queue size          5,120  512 in flight x batch of 10 = 5,120\n"
        "Reported pool size     10  the smaller of parallelism and batch\n"
    )


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--cpus", "0"),
        ("--cpus", "-4"),
        ("--cpus", "2.5"),
        ("--cpus", "many"),
        ("--multiplier", "0"),
        ("--multiplier", "4x"),
        ("--override", "-1"),
        ("--override", "1e3"),
        ("--batch", "0"),
        ("--batch", "-1"),
        ("--batch", "99999999999"),
    ],
)
def test_a_bad_value_gets_one_line_with_the_value(option: str, text: str, capsys: Capture) -> None:
    """Misuse exits with 2 and one line that names the option and shows the value."""
    assert run(["plan", option, text]) == 2
    error = capsys.readouterr().err
    assert (error.count("\n"), option.lstrip("-") in error, text in error) == (1, True, True)


def test_a_bad_variable_gets_one_line_with_the_value(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """SCHEDULER_MAX_PARALLELISM=lots is refused, not ignored."""
    monkeypatch.setenv("SCHEDULER_MAX_PARALLELISM", "lots")
    assert run(["plan"]) == 2
    assert "SCHEDULER_MAX_PARALLELISM is 'lots'" in capsys.readouterr().err


@pytest.fixture
def calibration(tmp_path: Path) -> str:
    """A file of the raw sweep on PostgreSQL, fitted."""
    path = tmp_path / "quiet.json"
    Calibration.of(measurements_of("quiet"), "quiet").save(path)
    return str(path)


def test_with_a_cluster_it_says_what_it_gives(calibration: str, capsys: Capture) -> None:
    """The screen of a 32-CPU plan fits a terminal of 80 columns and 40 lines and names what binds."""
    words = ["plan", "--cpus", "32", "--batch", "750000", "--cluster", "postgres-dev", "--calibration", calibration]
    assert run(words) == 0
    lines = capsys.readouterr().out.splitlines()
    predicted = lines[4:]
    assert max(map(len, predicted)) <= 80
    assert len(lines) <= 40
    assert any(line.startswith("Binds") and "2 CPUs" in line for line in lines)


@pytest.mark.parametrize(
    "words",
    [
        ["plan", "--cpus", "4", "--cluster", "devserver", "--calibration", "postgres"],
        ["what-if", "devserver", "--set", "cores=4", "--parallelism", "8", "--calibration", "postgres"],
        ["size", "--target", "100", "--cluster", "devserver", "--calibration", "postgres"],
        ["limits", "mine.toml"],
    ],
    ids=lambda words: words[0],
)
def test_a_calibration_of_another_store_is_warned_of(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """What a start costs on PostgreSQL says little of SQLite: one line on standard error, the result as ever."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text('store = "sqlite"\ncores = 2\ncalibration = "postgres"\n')
    assert run(words) in (0, 1)
    said = capsys.readouterr()
    assert said.out
    assert said.err == (
        "capacity: warning: calibration postgres was measured on postgres, the cluster is on sqlite, where a start "
        "costs otherwise\n"
    )
    assert run(["plan", "--cpus", "4", "--cluster", "devserver"]) == 0
    assert capsys.readouterr().err == ""


def test_json_holds_the_prediction_and_the_claim(calibration: str, capsys: Capture) -> None:
    """What the screen says is there for programs, with intervals."""
    plan = plan_json(capsys, "--cpus", "32", "--cluster", "postgres-dev", "--calibration", calibration, "--claim")
    predicted = plan["predicted"]
    assert isinstance(predicted, dict)
    assert predicted["throughput_low"] <= predicted["throughput"] <= predicted["throughput_high"]
    assert predicted["binding"] == "CPUs"
    assert isinstance(plan["claim"], dict)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--claim"], "--claim needs a cluster"),
        (["--cluster", "postgres-def"], "postgres-dev"),
        (["--cluster", "helm-default"], "names no calibration"),
        (["--cluster", "temporal-cloud"], "its CPUs are not known"),
        (["--cluster", "postgres-dev", "--calibration", "no-such"], "no calibration 'no-such' is shipped"),
        (["--cluster", "postgres-dev", "--calibration", "no/such.json"], "cannot read calibration no/such.json"),
        (["--cluster", "temporal-cloud", "--calibration", "postgres"], "its CPUs are not known"),
    ],
)
def test_a_cluster_that_is_not_there_is_one_line(arguments: list[str], said: str, capsys: Capture) -> None:
    """Each mistake is refused in one line that says what is there."""
    assert run(["plan", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


# A fleet.

FLEET = ["--count", "100000000", "--fleet", "40", "--cluster", "postgres-dev"]


def test_count_is_another_name_of_batch(capsys: Capture) -> None:
    """Both options set the starts of the batch."""
    assert plan_json(capsys, "--cpus", "4", "--count", "77") == plan_json(capsys, "--cpus", "4", "--batch", "77")


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--parallelism", "1024", "--lose-every", "600"],
        ["--rate", "100"],
        ["--set", "cores=100000", "--set", "shards=131072", "--set", "max_conns=100000", "--parallelism", "1500"],
    ],
)
def test_a_fleet_is_one_screen(more: list[str], calibration: str, capsys: Capture) -> None:
    """It fits 80 columns and 40 lines, and says who binds, how long, memory, history and visibility."""
    assert run(["plan", *FLEET, "--calibration", calibration, *more]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 40
    assert lines[0] == "100,000,000 starts by 40 launcher processes on PostgreSQL dev stack"
    for head in ("takes", "starts/s", "launcher CPU", "memory", "ranges", "history", "visibility", "Binds", "Enough"):
        assert sum(line.startswith(f"{head} ") for line in lines) == 1


def test_a_fleet_says_what_it_assumes(calibration: str, capsys: Capture) -> None:
    """The hand-over that nobody has measured is among what is assumed."""
    assert run(["plan", *FLEET, "--calibration", calibration]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "Assumed a hand-over between ranges takes 50 ms, " in words
    assert "2 CPUs, to 256 in flight" in words


def test_a_fleet_is_json_too(calibration: str, capsys: Capture) -> None:
    """The same figures for programs, and the same twice."""
    words = [*FLEET, "--calibration", calibration, "--parallelism", "auto", "--rate", "100"]
    plan = plan_json(capsys, *words)
    assert (plan["count"], plan["fleet"], plan["ranges"], plan["binds"]) == (100_000_000, 40, 1000, "rate")
    assert plan["seconds"] == pytest.approx(1e6, rel=1e-3)
    assert plan == plan_json(capsys, *words)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fleet", "0"], "fleet is 0; allowed: 1 to 100,000"),
        (["--fleet", "100001"], "fleet is 100001; allowed: 1 to 100,000"),
        (["--fleet", "2.5"], "'2.5' is not a whole number"),
        (["--fleet", "2", "--count", "0"], "--count is 0; allowed: 1 to 2,000,000,000"),
        (["--fleet", "2", "--rate", "nan"], "rate is nan; allowed: more than 0 starts per second"),
        (["--fleet", "2", "--rate", "inf"], "rate is inf"),
        (["--fleet", "2", "--rate", "-1"], "rate is -1"),
        (["--fleet", "2", "--rate", "fast"], "'fast'"),
        (["--fleet", "2", "--parallelism", "4x"], "--parallelism is '4x'; allowed: auto, or a whole number"),
        (["--fleet", "2", "--parallelism", "0"], "--parallelism is '0'; allowed: auto, or a whole number from 1"),
        (["--fleet", "2", "--parallelism", "9999"], "parallelism is 9999; allowed: auto, or 1 to 1,024"),
        (["--fleet", "2", "--lose-every", "0.1"], "lose-every is 0.1; allowed: 1 second or more"),
        (["--fleet", "2", "--cpus", "4"], "--cpus does not go with --fleet"),
        (["--fleet", "2", "--multiplier", "8"], "--multiplier does not go with --fleet"),
        (["--fleet", "2", "--claim"], "--claim does not go with --fleet"),
        (["--rate", "5"], "--rate needs --fleet"),
        (["--parallelism", "5"], "--parallelism needs --fleet"),
        (["--lose-every", "5"], "--lose-every needs --fleet"),
    ],
)
def test_a_fleet_that_makes_no_sense_is_one_line(arguments: list[str], said: str, capsys: Capture) -> None:
    """Each mistake is refused in one line with its value and what is allowed."""
    count = [] if "--count" in arguments else ["--count", "2000"]
    assert run(["plan", "--cluster", "postgres-dev", *count, *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_a_fleet_needs_a_cluster(capsys: Capture) -> None:
    """Without one there is nothing to simulate: one line, as for the claim."""
    assert run(["plan", "--fleet", "4"]) == 2
    assert "--fleet needs a cluster; pass --cluster postgres-dev" in capsys.readouterr().err
